//! Whether a transport's descriptor is still its own.
//!
//! A program may close the socket that it gave to a transport, or a descriptor by its number, while the transport lives.
//! The kernel gives the number to the next connection at once, and a transport that went on using it would deliver one
//! connection's bytes to another. Hence **invariant C2**: a system call is made on the number that the socket *object*
//! names at that moment, and only while the loop's table says that the number is this transport's; else it gets -1, and
//! the kernel's `EBADF` ends the transport as it ends asyncio's.
//!
//! A number that another part of the loop is given while the table still has a transport for it was lost by that transport,
//! which is *evicted*: it ends with `EBADF`, and leaves the number open, since it is another's by now. What the loop never
//! hears of (a file that the program opens and uses by itself) it learns when it next asks the kernel of that number; what a
//! transport writes until then goes there, as asyncio's would: asking before each write would cost a system call.

use std::io;
use std::os::fd::RawFd;

use super::stream::{Stream, set};
use crate::datagram::transport::Datagram;
use crate::event_loop::EventLoop;
use crate::ffi::raise::{self, os_error, os_error_object, runtime_error};
use crate::ffi::{Instance, Owned, Result};
use crate::io_table::Stale;
use crate::sock::socket::Socket;

/// Gives `fd`, a new descriptor, to `transport`, and evicts whoever had the number.
///
/// # Errors
/// `RuntimeError` on a thread other than the running loop's.
pub fn adopt(owner: &Instance<EventLoop>, fd: RawFd, transport: &Owned) -> Result<()> {
    let adopted = owner.with_core(|core| core.io.adopt(&mut core.engine.driver, fd, transport.as_ptr()));
    match adopted {
        Some(Ok(stale)) => {
            evict(stale);
            Ok(())
        }
        Some(Err(error)) => Err(os_error(&error)),
        None => Err(runtime_error("Transports can be made on the running event loop's own thread only")),
    }
}

/// Asks the kernel whether `fd` is still the file that the loop knows under that number; if not, evicts who had it.
pub fn evict_if_lost(owner: &Instance<EventLoop>, fd: RawFd) -> bool {
    let stale = owner.with_core(|core| {
        let driver = &mut core.engine.driver;
        if core.io.is_lost(driver, fd) { core.io.vacate(driver, fd) } else { None }
    });
    let found = stale.flatten();
    let lost = found.is_some();
    found.into_iter().for_each(evict);
    lost
}

/// Ends the transports that have lost their number. They close nothing.
fn evict(stale: Stale) {
    let reason = || os_error_object(&io::Error::from_raw_os_error(libc::EBADF));
    for waiter in stale.waiters.into_iter().flatten() {
        crate::pipe::evict(&waiter, reason);
    }
    let Some(transport) = stale.transport else {
        return;
    };
    if let Some(stream) = Instance::<Stream>::downcast(&transport) {
        set(&stream.flags.number_lost, true);
        stream.force_close(Some(reason()));
    } else if let Some(datagram) = Instance::<Datagram>::downcast(&transport) {
        set(&datagram.flags.number_lost, true);
        datagram.force_close(Some(reason()));
    }
}

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
        fd >= 0 && self.owner().with_core(|core| core.io.belongs(fd, self.as_ptr())).unwrap_or(true)
    }
}
