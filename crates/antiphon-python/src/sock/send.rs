//! One try of sending the rest of what is to be sent.

use crate::ffi::raise::os_error;
use crate::ffi::{Owned, Result};

use super::buffer::Data;
use super::socket::Socket;
use super::system;

/// Sends on from byte `sent`, which it moves; done when nothing is left.
///
/// One call a try: after a partial one the socket's buffer is full, and asking again would only be told so.
#[inline]
pub fn rest(socket: &Socket, data: &Data, sent: &mut usize) -> Result<Option<Owned>> {
    let fd = socket.descriptor()?;
    // SAFETY: the data is pinned, and no more than all of it was sent so far.
    let count = unsafe { system::send(fd, data.start().add(*sent), data.size() - *sent) };
    match count {
        Ok(count) => *sent += count.unwrap_or(0),
        Err(error) => return Err(os_error(&error)),
    }
    // An empty `data` is done as well once the kernel has agreed.
    let done = *sent == data.size() && matches!(count, Ok(Some(_)));
    Ok(done.then(Owned::none))
}
