//! The system calls on sockets, each tried once and without blocking.
//!
//! `None` says that the call would block. Interrupted calls are repeated; Python's signal handlers run at the loop's next
//! turn in any case.
//!
//! Source: recv(2), send(2), accept(2), socket(7).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use antiphon_engine::partial_writes;

use crate::sockaddr::{self, Address, option};

/// Repeats `attempt` while signals interrupt it.
#[inline(always)]
fn without_blocking(mut attempt: impl FnMut() -> isize) -> io::Result<Option<usize>> {
    loop {
        if let Ok(result) = usize::try_from(attempt()) {
            return Ok(Some(result));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EAGAIN) => return Ok(None),
            _ => return Err(error),
        }
    }
}

/// Receives up to `size` bytes to `start`.
/// # Safety
/// `size` bytes at `start` may be written.
#[inline]
pub unsafe fn receive(fd: RawFd, start: *mut u8, size: usize) -> io::Result<Option<usize>> {
    // SAFETY: the kernel writes at most `size` bytes, by the caller's word.
    without_blocking(|| unsafe { libc::recv(fd, start.cast(), size, libc::MSG_DONTWAIT) })
}

/// As [`receive`], and tells who sent it.
/// # Safety
/// `size` bytes at `start` may be written.
pub unsafe fn receive_from(fd: RawFd, start: *mut u8, size: usize) -> io::Result<Option<(usize, Address)>> {
    let (received, sender) = Address::fill(|storage, length| {
        // SAFETY: as above; the address's pointers belong to the address that is being filled. Its length is the
        // buffer's until the kernel succeeds.
        without_blocking(|| unsafe {
            libc::recvfrom(fd, start.cast(), size, libc::MSG_DONTWAIT, storage, length)
        })
    });
    Ok(received?.map(|count| (count, sender)))
}

/// Sends as much as there is room for.
/// # Safety
/// `size` bytes at `start` may be read.
#[inline]
pub unsafe fn send(fd: RawFd, start: *const u8, size: usize) -> io::Result<Option<usize>> {
    let Ok(size) = partial_writes::allowance(fd, size) else { return Ok(None) };
    // SAFETY: the kernel reads at most `size` bytes, by the caller's word.
    without_blocking(|| unsafe {
        libc::send(fd, start.cast(), size, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    })
}

/// Accepts a connection on a listening socket that must be non-blocking: there is no flag for a single call.
pub fn accept(fd: RawFd) -> io::Result<Option<(OwnedFd, Address)>> {
    let (accepted, peer) = Address::fill(|storage, length| {
        // SAFETY: the pointers belong to the address that is being filled.
        without_blocking(|| unsafe { sockaddr::accept(fd, storage, length) as isize })
    });
    // SAFETY: the descriptor is new, and nobody else knows it.
    Ok(accepted?.map(|fd| (unsafe { OwnedFd::from_raw_fd(fd as RawFd) }, peer)))
}

/// Takes the error that a connect left behind; 0 says that it succeeded.
pub fn take_error(fd: RawFd) -> io::Result<i32> {
    option(fd, libc::SOL_SOCKET, libc::SO_ERROR)
}

/// Whether reads may be shorter than asked without loss.
pub fn is_stream(fd: RawFd) -> bool {
    option(fd, libc::SOL_SOCKET, libc::SO_TYPE).is_ok_and(|kind| kind == libc::SOCK_STREAM)
}
