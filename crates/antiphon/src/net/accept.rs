//! Accepting a connection whose socket neither blocks nor outlives exec.

use antiphon_engine::switches::{Feature, is_disabled};
use rustix::io::{Errno, FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom, acceptfrom_with};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A socket, and its peer's address if the kernel told it.
type Accepted = (OwnedFd, Option<SocketAddrAny>);

/// Accepts a connection; those whose clients gave up while they waited are passed over.
pub(super) fn accept_connection(listener: impl AsFd) -> io::Result<Accepted> {
    let listener = listener.as_fd();
    loop {
        match accept_without_waiting(listener) {
            Err(Errno::CONNABORTED) => {}
            outcome => return Ok(outcome?),
        }
    }
}

fn accept_without_waiting(listener: BorrowedFd<'_>) -> Result<Accepted, Errno> {
    if !is_disabled(Feature::Accept4) {
        return acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC);
    }
    let (socket, peer) = acceptfrom(listener)?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    ioctl_fionbio(&socket, true)?;
    Ok((socket, peer))
}
