//! One try of receiving.
//!
//! `bytes` are received into the loop's recycled buffer and copied once they are known in length: a fresh block of the
//! asked size per call would cost an mmap and a munmap each time.

use crate::event_loop::EventLoop;
use crate::ffi::raise::{os_error, value_error};
use crate::ffi::{Instance, Owned, Result};
use crate::sockaddr::Address;

use super::buffer::View;
use super::socket::Socket;
use super::system;

/// Bytes of the recycled buffer, and the most that is received from a stream at once.
pub const BUFFER_BYTES: usize = 256 * 1024;

/// How many bytes one try may receive where `asked` were asked for.
///
/// Streams lose nothing by a short read. A datagram that does not fit is cut by the kernel, so there it is all or nothing.
pub fn limit(socket: &Socket, asked: isize, method: &str) -> Result<usize> {
    let asked =
        usize::try_from(asked).map_err(|_| value_error(&format!("negative buffersize in {method}")))?;
    if asked <= BUFFER_BYTES || !system::is_stream(socket.descriptor()?) {
        return Ok(asked);
    }
    Ok(BUFFER_BYTES)
}

/// Lends `f` the loop's buffer, or a new one where that is too small or in use.
#[inline]
fn with_buffer<R>(owner: &Instance<EventLoop>, size: usize, f: impl FnOnce(*mut u8) -> R) -> R {
    let mut buffer = owner.with_core(|core| std::mem::take(&mut core.read_buffer)).unwrap_or_default();
    if buffer.capacity() < size {
        buffer = Vec::with_capacity(size.max(BUFFER_BYTES));
    }
    let result = f(buffer.as_mut_ptr());
    if size <= BUFFER_BYTES {
        let mut buffer = Some(buffer);
        // Another thread may have the seat by now: then the buffer is dropped here.
        owner.with_core(|core| core.read_buffer = buffer.take().unwrap_or_default());
    }
    result
}

/// A `bytes` object with what the kernel has written.
/// # Safety
/// `count` bytes at `start` are initialised.
#[inline]
unsafe fn copied(start: *const u8, count: usize) -> Result {
    // SAFETY: by the caller's word.
    Owned::bytes(unsafe { std::slice::from_raw_parts(start, count) })
}

/// `recv(limit)`.
#[inline]
pub fn bytes(owner: &Instance<EventLoop>, socket: &Socket, limit: usize) -> Result<Option<Owned>> {
    if limit == 0 {
        // As the socket's own method, which does not even ask the kernel.
        return Owned::bytes(b"").map(Some);
    }
    let fd = socket.descriptor()?;
    with_buffer(owner, limit, |start| {
        // SAFETY: the buffer has room for `limit` bytes, and the kernel has initialised as many as it says.
        unsafe {
            match system::receive(fd, start, limit) {
                Ok(Some(count)) => copied(start, count).map(Some),
                Ok(None) => Ok(None),
                Err(error) => Err(os_error(&error)),
            }
        }
    })
}

/// `recv_into(room)`.
pub fn into(socket: &Socket, room: &Owned) -> Result<Option<Owned>> {
    let room = View::writable(room, "recv_into")?;
    if room.size() == 0 {
        return Owned::int(0).map(Some);
    }
    let fd = socket.descriptor()?;
    // SAFETY: the view pins that many writable bytes.
    match unsafe { system::receive(fd, room.start(), room.size()) } {
        Ok(Some(count)) => Owned::int(count as i64).map(Some),
        Ok(None) => Ok(None),
        Err(error) => Err(os_error(&error)),
    }
}

/// `recvfrom(limit)`.
pub fn bytes_from(owner: &Instance<EventLoop>, socket: &Socket, limit: usize) -> Result<Option<Owned>> {
    let fd = socket.descriptor()?;
    let received = with_buffer(owner, limit, |start| {
        // SAFETY: the buffer has room for `limit` bytes, and the kernel has initialised as many as it says.
        unsafe {
            match system::receive_from(fd, start, limit) {
                Ok(Some((count, sender))) => copied(start, count).map(|data| Some((data, sender))),
                Ok(None) => Ok(None),
                Err(error) => Err(os_error(&error)),
            }
        }
    })?;
    received.map(|(data, sender)| with_sender(data, &sender)).transpose()
}

/// `recvfrom_into(room, limit)`.
pub fn into_from(socket: &Socket, room: &Owned, limit: usize) -> Result<Option<Owned>> {
    let room = View::writable(room, "recvfrom_into")?;
    if limit > room.size() {
        return Err(value_error("nbytes is greater than the length of the buffer"));
    }
    let fd = socket.descriptor()?;
    // SAFETY: the view pins that many writable bytes, and `limit` is no larger.
    match unsafe { system::receive_from(fd, room.start(), limit) } {
        Ok(Some((count, sender))) => with_sender(Owned::int(count as i64)?, &sender).map(Some),
        Ok(None) => Ok(None),
        Err(error) => Err(os_error(&error)),
    }
}

/// The pair that `recvfrom` gives. A connected stream names no sender: `None`, as from the socket's own method.
fn with_sender(received: Owned, sender: &Address) -> Result {
    let sender = sender.to_python()?.unwrap_or_else(Owned::none);
    Owned::tuple([received, sender])
}
