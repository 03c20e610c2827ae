//! `WritePipeTransport`: the end that data is written to.
//!
//! A write goes to the kernel at once; only what it does not take is queued. (Not joined with others of the same turn, as a
//! stream's are: other processes may write to the same pipe, and up to `PIPE_BUF` bytes of one write stay together.) That
//! the readers are gone shows as an event of reading on the writing end (pipe(7): `EPOLLERR`), so a pipe or socket is
//! watched for reading from the beginning to the end.
//!
//! Source: CPython Lib/asyncio/unix_events.py (`_UnixWritePipeTransport`).

use std::ffi::c_int;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use pyo3::ffi;

use super::end::{Parts, PipeEnd, PipeTransport, common_type};
use crate::ffi::instance::DictionarySlot;
use crate::ffi::raise::{os_error_object, value_error};
use crate::ffi::{Args, GilCell, Instance, Owned, Payload, Result, call};
use crate::io_table::Direction;
use crate::names::{import, names};
use crate::transport::flow::{FlowControl, tell_writer};
use crate::transport::queue::{Done, Sent, WriteQueue, frozen};
use crate::transport::stream::{FORGIVEN_WRITES, is, set};
use crate::{method, method_noargs, method_one, unary_slot};

/// High-water mark of a fresh transport, in bytes.
const DEFAULT_HIGH: usize = 64 * 1024;

/// The payload of `WritePipeTransport`.
pub struct WritePipe {
    end: PipeEnd,
    queue: GilCell<WriteQueue>,
    flow: FlowControl,
    /// Whether the loss of the readers can be seen.
    sees_readers_go: bool,
    /// How many writes came after the pipe was lost or closed.
    lost_writes: AtomicU32,
    /// The kernel took no more: it is watched for room.
    blocked: AtomicBool,
}

static WRITE_PIPE: OnceLock<usize> = OnceLock::new();

impl Payload for WritePipe {
    /// `asyncio.BaseTransport.__slots__` has one name, `_extra`.
    type BaseSlots = [usize; 1];
    type Dictionary = DictionarySlot;
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        WRITE_PIPE.get().map_or(std::ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }
}

impl PipeTransport for WritePipe {
    fn end(&self) -> &PipeEnd {
        &self.end
    }

    fn start(this: &Instance<Self>) -> Result<()> {
        if this.sees_readers_go && !this.is_ended() { this.watch_pipe(Direction::Read) } else { Ok(()) }
    }

    fn before_lost(_: &Instance<Self>) -> Result<()> {
        Ok(())
    }

    fn traverse_rest(&self, visit: &mut dyn FnMut(&Owned) -> c_int) -> c_int {
        self.queue.with(|queue| queue.iter().map(visit).find(|status| *status != 0).unwrap_or(0))
    }

    fn clear_rest(&self) {
        drop(self.queue.with(WriteQueue::take_all));
    }
}

/// Makes the transport and queues the beginning of its life. On failure the pipe stays the caller's.
pub fn open(parts: Parts) -> Result {
    let (fd, kind) = parts.inspect()?;
    if !matches!(kind, libc::S_IFIFO | libc::S_IFSOCK | libc::S_IFCHR) {
        return Err(value_error("Pipe transport is only for pipes, sockets and character devices"));
    }
    let made = Instance::create(WritePipe {
        end: parts.into_end(fd)?,
        queue: GilCell::new(WriteQueue::default()),
        flow: FlowControl::new(DEFAULT_HIGH),
        sees_readers_go: kind != libc::S_IFCHR,
        lost_writes: AtomicU32::new(0),
        blocked: AtomicBool::new(false),
    })?;
    // SAFETY: just made with this payload.
    unsafe { Instance::<WritePipe>::from_ptr(made.as_ptr()) }.begin_soon();
    Ok(made)
}

impl Instance<WritePipe> {
    fn queued_bytes(&self) -> usize {
        self.queue.with(|queue| queue.len_bytes())
    }

    fn write(&self, data: &Owned) -> Result<()> {
        let chunk = frozen(data)?;
        // SAFETY: an exact `bytes` object.
        if unsafe { ffi::PyBytes_Size(chunk.as_ptr()) } == 0 {
            return Ok(());
        }
        if is(&self.end.closing) {
            return self.write_to_lost();
        }
        self.queue.with(|queue| queue.push(chunk));
        if !is(&self.blocked) {
            self.flush()?;
        }
        self.maybe_pause_protocol()
    }

    /// asyncio forgives a few writes to a lost pipe, then logs each.
    #[cold]
    fn write_to_lost(&self) -> Result<()> {
        if self.lost_writes.fetch_add(1, Ordering::Relaxed) >= FORGIVEN_WRITES {
            call(&import("antiphon.reports", "write_to_lost_pipe")?, [])?;
        }
        Ok(())
    }

    /// Writes what is queued: it is new, or there is room again.
    pub fn flush(&self) -> Result<()> {
        let fd = self.pipe_fd();
        if fd < 0 || self.queue.with(|queue| queue.is_empty()) {
            return Ok(());
        }
        let mut done = Done::default();
        let sent = self.queue.with(|queue| queue.write(fd, &mut done));
        drop(done);
        match sent {
            Sent::All => self.drained(),
            Sent::Blocked => self.wait_for_room(),
            Sent::Failed(error) => self.write_failed(&error),
        }
    }

    fn wait_for_room(&self) -> Result<()> {
        if !self.blocked.swap(true, Ordering::Relaxed) {
            self.watch_pipe(Direction::Write)?;
        }
        self.maybe_resume_protocol()
    }

    fn drained(&self) -> Result<()> {
        if self.blocked.swap(false, Ordering::Relaxed) {
            self.unwatch_pipe(Direction::Write);
        }
        self.maybe_resume_protocol()?;
        // The protocol may have written again when it was resumed.
        if is(&self.end.closing) && self.queue.with(|queue| queue.is_empty()) {
            self.end_pipe(None);
        }
        Ok(())
    }

    #[cold]
    fn write_failed(&self, error: &io::Error) -> Result<()> {
        let unsent = self.queue.with(WriteQueue::take_all);
        drop(unsent);
        self.pipe_failed("transport_failed", "Fatal write error on pipe transport", error)
    }

    /// The descriptor was closed under this transport, and the loop has given its number to somebody else.
    pub fn lose(&self, reason: Owned) {
        drop(self.queue.with(WriteQueue::take_all));
        self.lose_number(reason);
    }

    /// The readers are gone (or a socket's peer sent something, which nobody here would ever read).
    pub fn on_peer_closed(&self) -> Result<()> {
        if self.is_ended() {
            return Ok(());
        }
        self.log_pipe("log_info", "%r was closed by peer")?;
        let unsent = self.queue.with(WriteQueue::take_all);
        let broken =
            (!unsent.is_empty()).then(|| os_error_object(&io::Error::from_raw_os_error(libc::EPIPE)));
        drop(unsent);
        self.end_pipe(broken);
        Ok(())
    }

    fn maybe_pause_protocol(&self) -> Result<()> {
        if self.flow.must_pause(self.queued_bytes()) {
            self.tell_protocol(&names().pause_writing)
        } else {
            Ok(())
        }
    }

    fn maybe_resume_protocol(&self) -> Result<()> {
        if self.flow.must_resume(self.queued_bytes()) {
            self.tell_protocol(&names().resume_writing)
        } else {
            Ok(())
        }
    }

    fn tell_protocol(&self, method: &Owned) -> Result<()> {
        match self.pipe_protocol() {
            Some(protocol) => tell_writer(self.pipe_owner(), &self.owned(), &protocol, method),
            None => Ok(()),
        }
    }

    /// What is queued is written first.
    fn close(&self) {
        if !is(&self.end.closing) {
            set(&self.end.closing, true);
            if self.queue.with(|queue| queue.is_empty()) {
                self.end_pipe(None);
            }
        }
    }

    fn abort(&self) {
        let unsent = self.queue.with(WriteQueue::take_all);
        self.end_pipe(None);
        drop(unsent);
    }
}

fn write(this: &Instance<WritePipe>, data: &Owned) -> Result {
    this.write(data).map(|()| Owned::none())
}

fn close(this: &Instance<WritePipe>) -> Result {
    this.close();
    Ok(Owned::none())
}

fn abort(this: &Instance<WritePipe>) -> Result {
    this.abort();
    Ok(Owned::none())
}

fn can_write_eof(_: &Instance<WritePipe>) -> Result {
    Ok(Owned::bool(true))
}

fn get_write_buffer_size(this: &Instance<WritePipe>) -> Result {
    Owned::int(this.queued_bytes() as i64)
}

fn get_write_buffer_limits(this: &Instance<WritePipe>) -> Result {
    this.flow.limits()
}

fn set_write_buffer_limits(this: &Instance<WritePipe>, args: Args<'_>) -> Result {
    this.flow.set_limits(args)?;
    this.maybe_pause_protocol()?;
    Ok(Owned::none())
}

fn repr(this: &Instance<WritePipe>) -> Result {
    this.pipe_repr(Direction::Write, Some(this.queued_bytes()))
}

/// Makes the type.
pub fn load(module: &Owned) -> Result<()> {
    if WritePipe::type_object().is_null() {
        let made = common_type!(WritePipe, c"antiphon._antiphon.WritePipeTransport")
            .doc(c"The writing end of a pipe; made by the loop.")
            .slot(ffi::Py_tp_repr, unary_slot!(repr))
            .method_one(c"write", method_one!(write), c"Write bytes; what the kernel does not take now is queued.")
            .method_noargs(c"write_eof", method_noargs!(close), c"Close once queued data is written: the same.")
            .method_noargs(c"can_write_eof", method_noargs!(can_write_eof), c"True: closing tells the readers.")
            .method_noargs(c"close", method_noargs!(close), c"Close once queued data is written.")
            .method_noargs(c"abort", method_noargs!(abort), c"Close at once; queued data is lost.")
            .method(
                c"set_write_buffer_limits",
                method!(c"set_write_buffer_limits", set_write_buffer_limits),
                c"set_write_buffer_limits(high=None, low=None): when the protocol is paused and resumed, in bytes.",
            )
            .method_noargs(
                c"get_write_buffer_limits",
                method_noargs!(get_write_buffer_limits),
                c"The limits (low, high) in bytes.",
            )
            .method_noargs(c"get_write_buffer_size", method_noargs!(get_write_buffer_size), c"Bytes not yet written.")
            // As asyncio's, which is a `Transport` by way of its flow control.
            .build(Some(&names().transport_class), Instance::<WritePipe>::PAYLOAD_OFFSET)?;
        let _ = WRITE_PIPE.set(made as usize);
    }
    crate::add_type(module, c"WritePipeTransport", WritePipe::type_object())
}
