//! The notifier: a descriptor that becomes readable when another thread wants the loop's attention.
//!
//! It is an eventfd, whose counter makes any number of notifications one event; where the kernel or a sandbox has
//! none, a pipe.
//!
//! `unsafe` is for eventfd(2), pipe2(2), read(2) and write(2).
//!
//! Source: eventfd(2), pipe(7).

#![allow(unsafe_code)]

use crate::Notify;
use crate::switches::{Feature, is_disabled};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Wakes a driver that waits for its descriptor; see [`Notify`].
#[derive(Debug)]
pub struct Notifier {
    reader: OwnedFd,
    /// The pipe's writing end; an eventfd is written where it is read.
    writer: Option<OwnedFd>,
}

impl Notifier {
    /// Opens an eventfd, or a pipe if there is none.
    ///
    /// # Errors
    /// The process or the system is out of descriptors.
    pub fn new() -> io::Result<Self> {
        if is_disabled(Feature::EventFd) {
            return Self::pipe();
        }
        Self::eventfd().or_else(|error| match error.raw_os_error() {
            Some(libc::ENOSYS | libc::EPERM) => Self::pipe(),
            _ => Err(error),
        })
    }

    fn eventfd() -> io::Result<Self> {
        // SAFETY: eventfd(2) takes two integers and touches no memory of ours.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and nobody else knows it.
        let reader = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { reader, writer: None })
    }

    fn pipe() -> io::Result<Self> {
        let (reader, writer) = nonblocking_pipe()?;
        Ok(Self { reader, writer: Some(writer) })
    }

    /// Makes sure that the next notification is an edge, for a driver that watches edges.
    ///
    /// Each write to an eventfd is one, however full its counter; a pipe must not fill up.
    pub(crate) fn rearm(&self) {
        if self.writer.is_some() {
            self.drain();
        }
    }

    /// Consumes all notifications so far, so that the descriptor is not readable any more.
    pub fn drain(&self) {
        let mut buffer = [0_u8; 64];
        // An eventfd is reset by one read; a short read tells that a pipe is empty, too.
        while read(self.reader.as_fd(), &mut buffer).is_ok_and(|count| count == buffer.len()) {}
    }
}

impl Notify for Notifier {
    fn notify(&self) {
        let writer = self.writer.as_ref().unwrap_or(&self.reader);
        // A full counter or pipe has enough in it to be readable, and there is no other way to fail.
        let _ = write(writer.as_fd(), &1_u64.to_ne_bytes());
    }
}

impl AsFd for Notifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// Opens a pipe whose ends (reader, writer) neither block nor outlive an exec.
pub(crate) fn nonblocking_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: pipe2(2) writes two integers through the pointer, which is to an array of two.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: each descriptor is new, and nobody else knows it.
    let [reader, writer] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    Ok((reader, writer))
}

/// read(2), again after a signal.
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    retry(|| {
        // SAFETY: read(2) writes at most `len` bytes to the buffer, which is borrowed for that long.
        unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) }
    })
}

fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    retry(|| {
        // SAFETY: write(2) reads at most `len` bytes from the buffer, which is borrowed for that long.
        unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) }
    })
}

fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        // Only -1 is negative, and it means that errno is set.
        match usize::try_from(call()) {
            Ok(count) => return Ok(count),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_readable(notifier: &Notifier) -> bool {
        let mut poll = libc::pollfd { fd: notifier.reader.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: poll(2) reads and writes the one pollfd that it is told of.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    }

    fn many_notifications_are_one_event(notifier: &Notifier) {
        assert!(!is_readable(notifier));
        for _ in 0..100 {
            notifier.notify();
        }
        assert!(is_readable(notifier));
        notifier.drain();
        assert!(!is_readable(notifier));
    }

    #[test]
    fn eventfd_makes_many_notifications_one_event() {
        many_notifications_are_one_event(&Notifier::eventfd().unwrap());
    }

    #[test]
    fn pipe_makes_many_notifications_one_event() {
        many_notifications_are_one_event(&Notifier::pipe().unwrap());
    }

    #[test]
    fn full_pipe_neither_blocks_nor_loses_readability() {
        let notifier = Notifier::pipe().unwrap();
        for _ in 0..100_000 {
            notifier.notify();
        }
        assert!(is_readable(&notifier));
        notifier.drain();
        assert!(!is_readable(&notifier));
    }
}
