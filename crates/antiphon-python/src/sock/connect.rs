//! One try of connecting, or of learning how the one that was begun ended.
//!
//! Source: connect(2) (`EINPROGRESS`); CPython Lib/asyncio/selector_events.py (`_sock_connect`, `_sock_connect_cb`).

use pyo3::ffi;

use crate::ffi::raise::{self, os_error};
use crate::ffi::{Owned, Raised, Result, call};
use crate::names::names;

use super::by_method::says_not_now;
use super::socket::{Socket, as_size};
use super::system;

/// Begins the connect if that was not done yet, else takes its outcome.
///
/// The socket's own method begins it: it knows every family's addresses, and this runs once per connection.
pub fn outcome(socket: &Socket, address: &Owned, begun: &mut bool) -> Result<Option<Owned>> {
    if !*begun {
        *begun = true;
        return begin(socket, address);
    }
    // A socket that was closed meanwhile has no outcome: the kernel says so.
    let fd = if socket.is_plain() { socket.descriptor()? } else { socket.descriptor_to_watch()? };
    match system::take_error(fd) {
        Ok(0) => Ok(Some(Owned::none())),
        Ok(libc::EAGAIN | libc::EINPROGRESS | libc::EALREADY | libc::EINTR) => Ok(None),
        Ok(number) => Err(failed(number, address)),
        Err(error) => Err(os_error(&error)),
    }
}

/// `connect()`; `None` says that the connection is being made.
///
/// `EAGAIN` does not say that: it is how a Unix socket reports that the listener's queue is full, and nothing was begun.
/// asyncio waits then, is told at once that there is no error, and takes the socket for connected. Here it is an error.
fn begin(socket: &Socket, address: &Owned) -> Result<Option<Owned>> {
    let Err(Raised) = socket.call(&names().connect, [address]) else {
        return Ok(Some(Owned::none()));
    };
    if !says_not_now() {
        return Err(Raised);
    }
    let Some(error) = raise::take() else {
        return Ok(None);
    };
    let number = error.attr(&names().errno)?;
    if !number.is_none() && as_size(&number)? == libc::EAGAIN as isize {
        return Err(raise::restore(error));
    }
    Ok(None)
}

/// `OSError(number, f"Connect call failed {address}")`, of the subclass that belongs to the number.
#[cold]
fn failed(number: i32, address: &Owned) -> Raised {
    let error = || -> Result {
        // SAFETY: F1; the format takes a C string and an object, the class is alive while the interpreter is.
        let (text, class) = unsafe {
            let text = ffi::PyUnicode_FromFormat(c"Connect call failed %S".as_ptr(), address.as_ptr());
            (Owned::from_new(text)?, Owned::from_borrowed(ffi::PyExc_OSError))
        };
        call(&class, [&Owned::int(number.into())?, &text])
    };
    match error() {
        Ok(error) => raise::restore(error),
        Err(raised) => raised,
    }
}
