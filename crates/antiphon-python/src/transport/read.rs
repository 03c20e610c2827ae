//! A transport's reading side: one receive per readiness event, straight to the protocol.
//!
//! Bytes land in the loop's recycled buffer and become a right-sized `bytes` object; a `BufferedProtocol` gets them where
//! it wants them. The receive never blocks, so it does not release the interpreter: handing that over costs more.
//!
//! Source: CPython Lib/asyncio/selector_events.py (`_read_ready__*`).

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

use pyo3::ffi;

use super::protocol::Receiver;
use super::stream::{Stream, is, set};
use crate::ffi::bytes::Room;
use crate::ffi::raise::{self, os_error_object};
use crate::ffi::{Instance, Owned, Raised, Result, call, call_method, check};
use crate::names::names;
use crate::streams::protocol::StreamReaderProtocol;
use crate::tls::transport::Tls;

/// The most bytes that one event brings.
const READ_BYTES: usize = 256 * 1024;
/// The most for a layer above, which keeps a buffer of this size for each connection.
const READ_BYTES_FOR_LAYER: usize = 64 * 1024;

/// From so many bytes on, a copy costs more than making room in advance.
const LARGE_BYTES: usize = 8 * 1024;

/// What a receive came to.
enum Received {
    /// Bytes, as a `bytes` object.
    Data(Owned),
    /// Nothing is there.
    Nothing,
    /// The peer has sent its last byte.
    End,
    /// The connection is broken.
    Failed(io::Error),
}

/// One receive, again after a signal. `None`: nothing is there.
fn receive(fd: RawFd, buffer: *mut u8, len: usize) -> io::Result<Option<usize>> {
    loop {
        // SAFETY: the caller's buffer has room for `len` bytes.
        let count = unsafe { libc::recv(fd, buffer.cast(), len, libc::MSG_DONTWAIT) };
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

impl Instance<Stream> {
    /// The descriptor is readable: receives once and delivers.
    #[inline]
    pub fn on_readable(&self) -> Result<()> {
        if is(&self.flags.closing) || is(&self.flags.paused) {
            return Ok(());
        }
        let Some(receiver) =
            self.protocol.with(|protocol| protocol.as_ref().map(|protocol| protocol.receiver.clone()))
        else {
            return Ok(());
        };
        match receiver {
            Receiver::Data(method) => self.read_data(&method),
            Receiver::Layer(layer) => self.read_for_layer(&layer),
            Receiver::Streams(streams) => self.read_for_streams(&streams),
            Receiver::Missing => self.look_for_receiver(),
            Receiver::Buffered { get_buffer, buffer_updated } => {
                self.read_buffered(&get_buffer, &buffer_updated)
            }
        }
    }

    /// Feeds the layer above, which copies what it gets: no object is made.
    #[inline]
    fn read_for_layer(&self, layer: &Instance<Tls>) -> Result<()> {
        let owner = self.owner();
        let mut buffer = owner.seat().enter(|core| std::mem::take(&mut core.read_buffer));
        if buffer.capacity() < READ_BYTES {
            buffer = Vec::with_capacity(READ_BYTES);
        }
        let received = receive(self.descriptor(), buffer.as_mut_ptr(), READ_BYTES_FOR_LAYER);
        let fed = match &received {
            Ok(Some(count)) if *count > 0 => {
                // SAFETY: the kernel has written that many bytes.
                layer.feed(unsafe { std::slice::from_raw_parts(buffer.as_ptr(), *count) })
            }
            _ => Ok(()),
        };
        owner.seat().enter(|core| core.read_buffer = buffer);
        fed?;
        match received {
            Ok(None) => Ok(()),
            Ok(Some(0)) => self.on_eof(),
            Ok(Some(_)) => layer.received(),
            Err(error) => self.read_failed(&error),
        }
    }

    /// Feeds a `StreamReader`, which takes the bytes out of the loop's buffer itself.
    #[inline]
    fn read_for_streams(&self, streams: &Instance<StreamReaderProtocol>) -> Result<()> {
        let expected = self.expected_bytes.load(Ordering::Relaxed);
        if expected > 0 {
            return match self.receive_large(expected)? {
                Received::Data(data) => self.fed(streams.data_received(&data)),
                Received::Nothing => Ok(()),
                Received::End => self.on_eof(),
                Received::Failed(error) => self.read_failed(&error),
            };
        }
        let mut fed = Ok(());
        let received = self.receive_into_loop(|bytes| fed = streams.bytes_received(bytes));
        match received {
            Ok(None) => Ok(()),
            Ok(Some(0)) => self.on_eof(),
            Ok(Some(_)) => self.fed(fed),
            Err(error) => self.read_failed(&error),
        }
    }

    #[inline(always)]
    fn fed(&self, fed: Result<()>) -> Result<()> {
        match fed {
            Ok(()) => Ok(()),
            Err(Raised) => self.protocol_raised("Fatal error: protocol.data_received() call failed."),
        }
    }

    /// The protocol had no `data_received` when it was set: it gets one more chance, then the connection fails.
    #[cold]
    fn look_for_receiver(&self) -> Result<()> {
        let Some(protocol) = self.protocol_object() else {
            return Ok(());
        };
        match protocol.attr(&names().data_received) {
            Ok(method) => self.read_data(&method),
            Err(Raised) => self.protocol_raised("Fatal error: protocol.data_received() call failed."),
        }
    }

    #[inline]
    fn read_data(&self, method: &Owned) -> Result<()> {
        let expected = self.expected_bytes.load(Ordering::Relaxed);
        let received = if expected == 0 { self.receive_small() } else { self.receive_large(expected) };
        let data = match received? {
            Received::Data(data) => data,
            Received::Nothing => return Ok(()),
            Received::End => return self.on_eof(),
            Received::Failed(error) => return self.read_failed(&error),
        };
        set(&self.flags.delivering, true);
        let outcome = self.in_context(|| call(method, [&data]));
        set(&self.flags.delivering, false);
        drop(data);
        self.delivered(outcome, "Fatal error: protocol.data_received() call failed.")
    }

    /// Receives into the loop's buffer, and shows what came to `take`, at least one byte.
    #[inline(always)]
    fn receive_into_loop(&self, take: impl FnOnce(&[u8])) -> io::Result<Option<usize>> {
        // The buffer leaves the core meanwhile: whoever takes the bytes may run Python code.
        let owner = self.owner();
        let mut buffer = owner.seat().enter(|core| std::mem::take(&mut core.read_buffer));
        if buffer.capacity() < READ_BYTES {
            buffer = Vec::with_capacity(READ_BYTES);
        }
        let received = receive(self.descriptor(), buffer.as_mut_ptr(), READ_BYTES);
        if let Ok(Some(count)) = received
            && count > 0
        {
            if count >= LARGE_BYTES {
                self.expect(count.next_power_of_two());
            }
            // SAFETY: the kernel has written that many bytes.
            take(unsafe { std::slice::from_raw_parts(buffer.as_ptr(), count) });
        }
        owner.seat().enter(|core| core.read_buffer = buffer);
        received
    }

    /// Receives into the loop's buffer and copies out what came.
    #[inline]
    fn receive_small(&self) -> Result<Received> {
        let mut data = None;
        let received = self.receive_into_loop(|bytes| data = Some(Owned::bytes(bytes)));
        match (received, data) {
            (_, Some(data)) => data.map(Received::Data),
            (Ok(None), None) => Ok(Received::Nothing),
            (Ok(Some(_)), None) => Ok(Received::End),
            (Err(error), None) => Ok(Received::Failed(error)),
        }
    }

    /// Receives into an object of the expected size. The expectation follows what comes.
    fn receive_large(&self, expected: usize) -> Result<Received> {
        let mut room = Room::new(expected)?;
        let received = receive(self.descriptor(), room.start(), expected);
        let count = match received {
            Ok(None) => return Ok(Received::Nothing),
            Ok(Some(0)) => return Ok(Received::End),
            Ok(Some(count)) => count,
            Err(error) => return Ok(Received::Failed(error)),
        };
        if count == expected {
            self.expect(2 * expected);
        } else if count < LARGE_BYTES {
            self.expect(0);
        } else if count < expected / 4 {
            self.expect(count.next_power_of_two());
        }
        room.finish(count).map(Received::Data)
    }

    fn expect(&self, bytes: usize) {
        self.expected_bytes.store(bytes.min(READ_BYTES), Ordering::Relaxed);
    }

    /// After a protocol method took data: reports its failure, sends what it wrote.
    #[inline(always)]
    fn delivered(&self, outcome: Result, message: &str) -> Result<()> {
        match outcome {
            Ok(result) => {
                drop(result);
                if self.queue.with(|queue| queue.is_empty()) { Ok(()) } else { self.flush_now() }
            }
            Err(Raised) => self.protocol_raised(message),
        }
    }

    #[cold]
    fn protocol_raised(&self, message: &str) -> Result<()> {
        match raise::take() {
            Some(exception) => self.fatal_error(exception, message),
            None => Ok(()),
        }
    }

    #[cold]
    fn read_failed(&self, error: &io::Error) -> Result<()> {
        self.fatal_error(os_error_object(error), "Fatal read error on socket transport")
    }

    fn read_buffered(&self, get_buffer: &Owned, buffer_updated: &Owned) -> Result<()> {
        let hint = Owned::int(-1)?;
        let gotten = self.in_context(|| {
            let buffer = call(get_buffer, [&hint])?;
            // SAFETY: F1; a living object.
            let len = unsafe { ffi::PyObject_Size(buffer.as_ptr()) };
            if len < 0 {
                return Err(Raised);
            }
            if len == 0 {
                return Err(raise::runtime_error("get_buffer() returned an empty buffer"));
            }
            Ok(buffer)
        });
        let buffer = match gotten {
            Ok(buffer) => buffer,
            Err(Raised) => return self.protocol_raised("Fatal error: protocol.get_buffer() call failed."),
        };
        let buffer = match Buffer::writable(&buffer) {
            Ok(buffer) => buffer,
            Err(Raised) => return self.protocol_raised("Fatal read error on socket transport"),
        };
        let received = receive(self.descriptor(), buffer.start(), buffer.len());
        drop(buffer);
        let count = match received {
            Ok(None) => return Ok(()),
            Ok(Some(0)) => return self.on_eof(),
            Ok(Some(count)) => count,
            Err(error) => return self.read_failed(&error),
        };
        let count = Owned::int(count as i64)?;
        set(&self.flags.delivering, true);
        let outcome = self.in_context(|| call(buffer_updated, [&count]));
        set(&self.flags.delivering, false);
        self.delivered(outcome, "Fatal error: protocol.buffer_updated() call failed.")
    }

    /// The peer sent its last byte: the protocol says whether the transport stays open for writing.
    fn on_eof(&self) -> Result<()> {
        set(&self.flags.eof_received, true);
        if let Some(layer) = self.layer() {
            if layer.lower_ended()? {
                self.stop_reading();
                return Ok(());
            }
            return self.close();
        }
        let Some(protocol) = self.protocol_object() else {
            return Ok(());
        };
        let kept = self.in_context(|| {
            let answer = call_method(&protocol, &names().eof_received, [])?;
            // SAFETY: F1; a living object.
            check(unsafe { ffi::PyObject_IsTrue(answer.as_ptr()) })
        });
        match kept {
            Ok(0) => self.close(),
            Ok(_) => {
                // Or the same end of stream would be reported for ever.
                self.stop_reading();
                self.flush()
            }
            Err(Raised) => self.protocol_raised("Fatal error: protocol.eof_received() call failed."),
        }
    }
}

/// A writable buffer, held while bytes are received into it.
pub struct Buffer(Box<ffi::Py_buffer>);

impl Buffer {
    /// # Errors
    /// `TypeError` unless it can be written to.
    pub fn writable(object: &Owned) -> Result<Self> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: F1; the view is at a stable address and released once.
        let status = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &mut *view, ffi::PyBUF_WRITABLE) };
        if status < 0 {
            // In recv_into's words.
            drop(raise::take());
            return Err(raise::type_error("get_buffer() must return a read-write bytes-like object"));
        }
        Ok(Self(view))
    }

    /// Where the memory begins.
    pub fn start(&self) -> *mut u8 {
        self.0.buf.cast()
    }

    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.0.len as usize
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: F1; filled by `PyObject_GetBuffer`.
        unsafe { ffi::PyBuffer_Release(&mut *self.0) }
    }
}
