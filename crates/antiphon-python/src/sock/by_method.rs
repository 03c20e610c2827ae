//! One try by a socket object's own methods: for subclasses, wrappers and mocks, and for what only the method can do.

use pyo3::ffi;

use crate::ffi::{Owned, Raised, Result, call_method, raise};
use crate::names::names;

use super::socket::Socket;

/// Whether the exception that is set is one of those with which a non-blocking socket says "not now".
pub fn says_not_now() -> bool {
    // SAFETY: both classes are alive while the interpreter is.
    unsafe { raise::matches(ffi::PyExc_BlockingIOError) || raise::matches(ffi::PyExc_InterruptedError) }
}

/// Takes the exceptions with which a non-blocking socket says "not now" for what they mean.
pub fn unless_blocking(outcome: Result) -> Result<Option<Owned>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(Raised) if says_not_now() => {
            drop(raise::take());
            Ok(None)
        }
        Err(raised) => Err(raised),
    }
}

/// `accept()`, and the connection made non-blocking.
pub fn accept(socket: &Socket) -> Result<Option<Owned>> {
    let names = names();
    let Some(accepted) = unless_blocking(socket.call(&names.accept, []))? else {
        return Ok(None);
    };
    // SAFETY: F1; the items are borrowed from the tuple, which is checked to be a pair.
    let connection = unsafe {
        if ffi::PyTuple_Check(accepted.as_ptr()) == 0 || ffi::PyTuple_GET_SIZE(accepted.as_ptr()) != 2 {
            return Err(raise::type_error("accept() must return a pair of socket and address"));
        }
        Owned::from_borrowed(ffi::PyTuple_GET_ITEM(accepted.as_ptr(), 0))
    };
    call_method(&connection, &names.setblocking, [&Owned::bool(false)])?;
    Ok(Some(accepted))
}

/// `send()` of what follows byte `sent`, which it moves; done when nothing is left.
pub fn send_rest(socket: &Socket, data: &Owned, sent: &mut usize) -> Result<Option<Owned>> {
    let names = names();
    // SAFETY: F1; a living object; gives a new reference or null.
    let view = unsafe { Owned::from_new(ffi::PyMemoryView_FromObject(data.as_ptr()))? };
    let view = call_method(&view, &names.cast, [&Owned::str("B")?])?;
    // SAFETY: F1; a memoryview is a sequence, its slice a new one.
    let (size, rest) = unsafe {
        let size = ffi::PyObject_Size(view.as_ptr());
        let start = *sent as ffi::Py_ssize_t;
        (
            size as usize,
            Owned::from_new(ffi::PySequence_GetSlice(view.as_ptr(), start, ffi::Py_ssize_t::MAX))?,
        )
    };
    let rest = if *sent == 0 { data } else { &rest };
    let Some(count) = unless_blocking(socket.call(&names.send, [rest]))? else {
        return Ok(None);
    };
    *sent += usize::try_from(super::socket::as_size(&count)?).unwrap_or(0);
    Ok((*sent >= size).then(Owned::none))
}
