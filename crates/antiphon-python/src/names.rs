//! Interned names and the interpreter's own functions, looked up once at import.

use std::sync::OnceLock;

use pyo3::ffi;

use crate::ffi::{Owned, Raised, Result};

macro_rules! names {
    (strings { $($string:ident),* $(,)? } imports { $($import:ident = $module:literal . $attribute:literal),* $(,)? }
     keywords { $($keyword:ident = ($($word:ident),*)),* $(,)? }) => {
        /// Every name that native code looks up or compares with, and every foreign function that it calls.
        #[allow(missing_docs, non_snake_case, reason = "each field is the name it holds")]
        #[cfg_attr(Py_3_14, allow(dead_code, reason = "some are what older releases' calls need"))]
        pub struct Names { $(pub $string: Owned,)* $(pub $import: Owned,)* $(pub $keyword: Owned,)* }

        impl Names {
            #[allow(non_snake_case, reason = "as above")]
            fn load() -> Result<Self> {
                $(let $string = intern(stringify!($string).trim_start_matches("r#"))?;)*
                $(let $import = import($module, $attribute)?;)*
                $(let $keyword = Owned::tuple([$($word.clone()),*])?;)*
                Ok(Self { $($string,)* $($import,)* $($keyword,)* })
            }
        }
    };
}

names! {
    strings {
        accept, addr, address, _attach, buf, buffer_updated, bufsize, call_later, cancel, cancelled,
        cast, close, cls, co_flags, connect, connection_lost, connection_made, context, _create_task_slow, data,
        data_received, datagram_received, default, detach, _detach, done, eof_received, errno, error_received,
        extra, family, fileno, _force_close, get_buffer, get_debug, get_extra_info,
        _get_running_loop, get_write_buffer_size, getpeername, getsockname, gettimeout, gi_code, high, is_closing, loop_, low, msg,
        n, __dict__, __name__, name, nbytes, _on_timeout, pause_reading, pause_writing, peername, pipe, proto,
        protocol, recv, recv_into, recvfrom, recvfrom_into, register, resume_reading, resume_writing,
        _drain_helper, _get_close_waiter, _replace_transport, _source_traceback, can_write_eof, clear,
        client_connected_cb, create_future, exception, extend, feed_data, feed_eof, limit, read, reader,
        readline, readuntil, separator, set_transport, sslcontext, stream_reader, transport, write_eof,
        writelines,
        send, sendto, server, set_exception, set_result, _set_running_loop, setblocking, sock, socket, sockname, Task, throw,
        time, r#type, value, waiter, write,
        CANCELLED, call_exception_handler, call_soon, create_task, FINISHED, future, _get_event_loop, get_event_loop, message,
        PENDING, source_traceback,
        ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, __get__, __round__, _asyncio_awaited_by, _asyncio_future_blocking, _cancel_message,
        _get_loop, _handle_timeout, _log_destroy_pending, _make_cancelled_error, _on_task_done,
        add_done_callback, arg, call_at, cancelling, coro, coro_or_future,
        current_task, delay, et, exc, exc_tb, exc_type, exc_val, exceptions, fs, fut,
        future_add_to_awaited_by, future_discard_from_awaited_by, iscoroutine, isfuture,
        release, remove_done_callback, result, return_exceptions, return_when, task, tb,
        timeout, uncancel, when,
        acquire, append, empty, _format, full, _get, get_nowait, immediate, _init, item, locked, notify, pop, popleft,
        predicate, _put, put_nowait, qsize, wait, _wakeup_next,
        eager_start, file, get_loop, is_running, _loop,
        _abort, add_note, function, like, __aenter__, __aexit__, __init__, _is_base_error, __repr__, _runs_by_asyncios_rules,
    }
    imports {
        events_module = "asyncio"."events",
        base_future_class = "_asyncio"."Future",
        base_task_class = "_asyncio"."Task",
        future_repr = "asyncio.base_futures"."_future_repr",
        get_running_loop = "asyncio.events"."get_running_loop",
        tasks_namespace = "asyncio.tasks"."__dict__",
        handle_class = "asyncio"."Handle",
        timer_handle_class = "asyncio"."TimerHandle",
        future_class = "asyncio"."Future",
        task_class = "asyncio"."Task",
        invalid_state_error = "asyncio"."InvalidStateError",
        cancelled_error = "asyncio"."CancelledError",
        transport_class = "asyncio"."Transport",
        read_transport_class = "asyncio"."ReadTransport",
        datagram_transport_class = "asyncio"."DatagramTransport",
        incomplete_read_error = "asyncio"."IncompleteReadError",
        limit_overrun_error = "asyncio"."LimitOverrunError",
        protocol_class = "asyncio"."Protocol",
        stream_reader_class = "asyncio.streams"."StreamReader",
        buffered_protocol_class = "asyncio"."BufferedProtocol",
        socket_class = "socket"."socket",
        raw_socket_class = "_socket"."socket",
        broken_barrier_error = "asyncio"."BrokenBarrierError",
        heappop = "heapq"."heappop",
        heappush = "heapq"."heappush",
        queue_empty = "asyncio"."QueueEmpty",
        queue_full = "asyncio"."QueueFull",
        coroutine_class = "collections.abc"."Coroutine",
        coroutines_module = "asyncio"."coroutines",
        futures_module = "asyncio"."futures",
        tasks_module = "asyncio"."tasks",
        task_group_class = "asyncio.taskgroups"."TaskGroup",
        exception_group = "builtins"."ExceptionGroup",
        isawaitable = "inspect"."isawaitable",
    }
    keywords {
        loop_keyword = (loop_),
        context_keyword = (context),
        msg_keyword = (msg),
        name_keyword = (name),
        name_context_keywords = (name, context),
    }
}

static NAMES: OnceLock<Names> = OnceLock::new();

/// The names; the module is loaded before any native code that asks for them can run.
#[inline(always)]
pub fn names() -> &'static Names {
    match NAMES.get() {
        Some(names) => names,
        None => not_loaded(),
    }
}

#[cold]
fn not_loaded() -> ! {
    unreachable!("antiphon._antiphon is used before its import has finished")
}

/// Fills the table; called by the module's initialisation.
pub fn load() -> Result<()> {
    if NAMES.get().is_none() {
        let _ = NAMES.set(Names::load()?);
    }
    Ok(())
}

/// An interned string.
pub fn intern(text: &str) -> Result {
    // `loop` is a keyword of Rust, not of Python.
    let text = if text == "loop_" { "loop" } else { text };
    let string = Owned::str(text)?;
    let mut pointer = string.into_ptr();
    // SAFETY: F1; interning replaces the reference in place and leaves an owned one.
    unsafe {
        ffi::PyUnicode_InternInPlace(&mut pointer);
        Owned::from_new(pointer)
    }
}

/// `module.attribute`.
pub fn import(module: &str, attribute: &str) -> Result {
    let name = Owned::str(module)?;
    // SAFETY: F1; gives a new reference or null.
    let module = unsafe { Owned::from_new(ffi::PyImport_Import(name.as_ptr()))? };
    module.attr(&Owned::str(attribute)?).map_err(|Raised| Raised)
}
