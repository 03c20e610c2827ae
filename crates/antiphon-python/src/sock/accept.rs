//! One try of accepting a connection.

use std::os::fd::{AsRawFd, IntoRawFd};

use crate::ffi::raise::os_error;
use crate::ffi::{Owned, Result};

use super::socket::Socket;
use super::{by_method, system};

/// Whether [`crate::sockaddr`] has words for addresses of this family.
pub fn knows_family(family: i32) -> bool {
    matches!(family, libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX)
}

/// `accept()`: the connection as a non-blocking socket of the listener's kind, and the peer's address.
pub fn connection(socket: &Socket) -> Result<Option<Owned>> {
    // A listener that blocks would block the loop, here with the interpreter held; its own method releases it at least.
    if !socket.is_plain() || !socket.is_non_blocking()? || !knows_family(socket.family()?) {
        return by_method::accept(socket);
    }
    let (fd, peer) = match system::accept(socket.descriptor()?) {
        Ok(Some(accepted)) => accepted,
        Ok(None) => return Ok(None),
        Err(error) => return Err(os_error(&error)),
    };
    let connection = socket.sibling(fd.as_raw_fd())?;
    // The object closes it from here on.
    let _ = fd.into_raw_fd();
    let peer = peer.to_python()?.unwrap_or_else(Owned::none);
    Owned::tuple([connection, peer]).map(Some)
}
