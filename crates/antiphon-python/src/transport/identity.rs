//! Whether a transport's descriptor is still its own.
//!
//! A program may close the socket that it gave to a transport, or a descriptor by its number, while the transport lives.
//! The kernel gives the number to the next connection at once, and a transport that went on using it would deliver one
//! connection's bytes to another. Hence **invariant C2**: a system call is made on the number that the socket *object*
//! names at that moment, and only while the loop's table says that the number is this transport's; else it gets -1, and
//! the kernel's `EBADF` ends the transport as it ends asyncio's.

use std::os::fd::RawFd;

use super::stream::Stream;
use crate::ffi::Instance;
use crate::ffi::raise;
use crate::sock::socket::Socket;

impl Instance<Stream> {
    /// The descriptor for a system call; -1 when the number is no longer this transport's (C2).
    #[inline]
    pub fn descriptor(&self) -> RawFd {
        let fd = self.fd();
        if fd < 0 || !self.is_registered() {
            return -1;
        }
        match self.socket.get().map(Socket::new) {
            // Accepted, and never shown to anybody: only this transport knows the number.
            None => fd,
            Some(socket) if socket.is_plain() => match socket.descriptor() {
                Ok(named) if named == fd => fd,
                Ok(_) => -1,
                Err(_) => {
                    drop(raise::take());
                    -1
                }
            },
            Some(_) => fd,
        }
    }

    /// Whether the loop's table has this transport under its number.
    #[inline]
    pub fn is_registered(&self) -> bool {
        let fd = self.fd();
        // While another thread drives the loop the table is its, and true is as good an answer as it gets.
        fd >= 0 && self.owner().seat().with(|core| core.io.belongs(fd, self.as_ptr())).unwrap_or(true)
    }
}
