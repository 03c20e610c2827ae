//! `ReadPipeTransport`: the end that data comes from.
//!
//! One read(2) per readiness event into the loop's recycled buffer, straight to the protocol. A terminal whose other side is
//! gone fails with `EIO`, which is an end like any other (pty(7)).

use std::ffi::c_int;
use std::io;
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::ffi;

use super::end::{Parts, PipeEnd, PipeTransport, common_type};
use crate::ffi::instance::DictionarySlot;
use crate::ffi::raise::value_error;
use crate::ffi::{Instance, Owned, Payload, Result};
use crate::io_table::Direction;
use crate::names::names;
use crate::streams::feed::StreamsRef;
use crate::transport::stream::{is, set};
use crate::{method_noargs, unary_slot};

/// The most bytes that one event brings.
const READ_BYTES: usize = 256 * 1024;

/// The payload of `ReadPipeTransport`.
pub struct ReadPipe {
    end: PipeEnd,
    /// `pause_reading()`.
    paused: AtomicBool,
    /// The last byte was read.
    at_eof: AtomicBool,
}

static READ_PIPE: OnceLock<usize> = OnceLock::new();

impl Payload for ReadPipe {
    /// `asyncio.BaseTransport.__slots__` has one name, `_extra`.
    type BaseSlots = [usize; 1];
    type Dictionary = DictionarySlot;
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        READ_PIPE.get().map_or(std::ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }
}

impl PipeTransport for ReadPipe {
    fn end(&self) -> &PipeEnd {
        &self.end
    }

    fn start(this: &Instance<Self>) -> Result<()> {
        if this.wants_data() { this.watch_pipe(Direction::Read) } else { Ok(()) }
    }

    fn before_lost(this: &Instance<Self>) -> Result<()> {
        if !is(&this.at_eof) {
            return Ok(());
        }
        this.call_protocol("eof_received", &names().eof_received, None)
    }

    fn traverse_rest(&self, _: &mut dyn FnMut(&Owned) -> c_int) -> c_int {
        0
    }

    fn clear_rest(&self) {}
}

/// Makes the transport and queues the beginning of its life. On failure the pipe stays the caller's.
pub fn open(parts: Parts) -> Result {
    let (fd, kind) = parts.inspect()?;
    if !matches!(kind, libc::S_IFIFO | libc::S_IFSOCK | libc::S_IFCHR) {
        return Err(value_error("Pipe transport is for pipes/sockets only."));
    }
    let end = parts.into_end(fd)?;
    let made =
        Instance::create(ReadPipe { end, paused: AtomicBool::new(false), at_eof: AtomicBool::new(false) })?;
    // SAFETY: just made with this payload.
    unsafe { Instance::<ReadPipe>::from_ptr(made.as_ptr()) }.begin_soon();
    Ok(made)
}

/// One read, again after a signal. `None`: nothing is there.
fn read(fd: RawFd, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
    loop {
        // SAFETY: the buffer has room for that many bytes.
        let count = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), READ_BYTES) };
        if count >= 0 {
            return Ok(Some(count as usize));
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => return Ok(None),
            _ => return Err(error),
        }
    }
}

impl Instance<ReadPipe> {
    fn wants_data(&self) -> bool {
        !is(&self.paused) && !is(&self.end.closing)
    }

    /// The descriptor is readable: reads once and delivers.
    pub fn on_readable(&self) -> Result<()> {
        if !self.wants_data() {
            return Ok(());
        }
        // The buffer leaves the core meanwhile: making a bytes object may run the collector.
        let owner = self.pipe_owner();
        let mut buffer = owner.seat().enter(|core| std::mem::take(&mut core.read_buffer));
        if buffer.capacity() < READ_BYTES {
            buffer = Vec::with_capacity(READ_BYTES);
        }
        let received = read(self.pipe_fd(), &mut buffer);
        let mut delivered = Ok(());
        if let Ok(Some(count)) = received
            && count > 0
        {
            // SAFETY: the kernel has written that many bytes.
            delivered = self.deliver(unsafe { std::slice::from_raw_parts(buffer.as_ptr(), count) });
        }
        owner.seat().enter(|core| core.read_buffer = buffer);
        delivered?;
        match received {
            Ok(None) => Ok(()),
            Ok(Some(0)) => self.on_eof(),
            Ok(Some(_)) => Ok(()),
            Err(error) => self.pipe_failed("read_pipe_failed", "Fatal read error on pipe transport", &error),
        }
    }

    /// Hands at least one byte to the protocol: to a `StreamReader` at once.
    fn deliver(&self, bytes: &[u8]) -> Result<()> {
        match self.pipe_protocol().as_ref().and_then(StreamsRef::of) {
            Some(streams) => self.report_unless_told("data_received", || streams.bytes_received(bytes)),
            None => {
                let data = Owned::bytes(bytes)?;
                self.call_protocol("data_received", &names().data_received, Some(&data))
            }
        }
    }

    /// The last writer closed its end.
    fn on_eof(&self) -> Result<()> {
        self.log_pipe("log_info", "%r was closed by peer")?;
        set(&self.at_eof, true);
        self.end_pipe(None);
        Ok(())
    }
}

fn is_reading(this: &Instance<ReadPipe>) -> Result {
    Ok(Owned::bool(this.wants_data()))
}

fn pause_reading(this: &Instance<ReadPipe>) -> Result {
    if this.wants_data() {
        set(&this.paused, true);
        this.unwatch_pipe(Direction::Read);
        this.log_pipe("log", "%r pauses reading")?;
    }
    Ok(Owned::none())
}

fn resume_reading(this: &Instance<ReadPipe>) -> Result {
    if !is(&this.end.closing) && this.paused.swap(false, Ordering::Relaxed) {
        this.watch_pipe(Direction::Read)?;
        this.log_pipe("log", "%r resumes reading")?;
    }
    Ok(Owned::none())
}

fn close(this: &Instance<ReadPipe>) -> Result {
    if !is(&this.end.closing) {
        this.end_pipe(None);
    }
    Ok(Owned::none())
}

fn repr(this: &Instance<ReadPipe>) -> Result {
    this.pipe_repr(Direction::Read, None)
}

/// Makes the type.
pub fn load(module: &Owned) -> Result<()> {
    if ReadPipe::type_object().is_null() {
        let made = common_type!(ReadPipe, c"antiphon._antiphon.ReadPipeTransport")
            .doc(c"The reading end of a pipe; made by the loop.")
            .slot(ffi::Py_tp_repr, unary_slot!(repr))
            .method_noargs(c"is_reading", method_noargs!(is_reading), c"Whether data is being read.")
            .method_noargs(c"pause_reading", method_noargs!(pause_reading), c"Read nothing until resumed.")
            .method_noargs(c"resume_reading", method_noargs!(resume_reading), c"Read again.")
            .method_noargs(c"close", method_noargs!(close), c"Close; nothing more is delivered.")
            .build(Some(&names().read_transport_class), Instance::<ReadPipe>::PAYLOAD_OFFSET)?;
        let _ = READ_PIPE.set(made as usize);
    }
    crate::add_type(module, c"ReadPipeTransport", ReadPipe::type_object())
}
