//! Interned names and the interpreter's own functions, looked up once at import.

use std::sync::OnceLock;

use pyo3::ffi;

use crate::ffi::{Owned, Raised, Result};

macro_rules! names {
    (strings { $($string:ident),* $(,)? } imports { $($import:ident = $module:literal . $attribute:literal),* $(,)? }
     keywords { $($keyword:ident = ($($word:ident),*)),* $(,)? }) => {
        /// Every name that native code looks up or compares with, and every foreign function that it calls.
        #[allow(missing_docs, reason = "each field is the name it holds")]
        pub struct Names { $(pub $string: Owned,)* $(pub $import: Owned,)* $(pub $keyword: Owned,)* }

        impl Names {
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
        add_done_callback, addr, buffer_updated, call_exception_handler, call_soon, callback, callbacks, cancel, cancelled,
        cause, client_connected, coder, connection_lost, connection_made, context, coro, data_received, datagram_received, delay, done,
        eof_received, error_received, exception, fd, fileno, future, get_buffer, getpeername, getsockname, handle, key, make,
        message, method, name, pause_writing, protocol, remove_done_callback, result, resume_writing, server, set_exception,
        set_result, signum, socket, source_traceback, time, transport, waiter, when, write, family, r#type, proto, extra,
        peername, sockname, sock, nbytes, buf, data, address, bufsize, flags, enabled, factory, backlog, protocol_factory,
        is_closing, close, default, high, low, start_reading, _attach, _detach, _create_task_slow, _asyncio_future_blocking,
        __context__, add_note, detach, loop_, closed, gettimeout, args, _loop, is_reading, _accept_failed,
        _report_fault, eager_start, call, n, recv, recv_into, recvfrom, recvfrom_into, send, sendto, connect, accept,
        setblocking, cast, register, errno, __name__, msg, get_debug,
    }
    imports {
        set_running_loop = "asyncio.events"."_set_running_loop",
        get_running_loop_or_none = "asyncio.events"."_get_running_loop",
        handle_class = "asyncio"."Handle",
        timer_handle_class = "asyncio"."TimerHandle",
        future_class = "asyncio"."Future",
        task_class = "asyncio"."Task",
        invalid_state_error = "asyncio"."InvalidStateError",
        cancelled_error = "asyncio"."CancelledError",
        transport_class = "asyncio"."Transport",
        datagram_transport_class = "asyncio"."DatagramTransport",
        protocol_class = "asyncio"."Protocol",
        buffered_protocol_class = "asyncio"."BufferedProtocol",
        socket_class = "socket"."socket",
        raw_socket_class = "_socket"."socket",
        coroutine_class = "collections.abc"."Coroutine",
        format_exception_hint = "builtins"."repr",
    }
    keywords {
        context_keyword = (context),
        loop_keyword = (loop_),
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
