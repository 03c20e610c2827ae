//! What `readuntil` is given: one separator, or from 3.13 on a tuple of them.
//!
//! Source: CPython Lib/asyncio/streams.py (`readuntil`).

use antiphon_core::stream_buffer::{EmptySeparator, Search};
use pyo3::ffi;

use super::bytes::Bytes;
use crate::ffi::raise::value_error;
use crate::ffi::{Owned, Raised, Result};
use crate::names::names;

/// The search for `separator`.
///
/// # Errors
/// `ValueError` and `TypeError` in asyncio's words.
pub fn search_for(separator: &Owned) -> Result<Search<Bytes>> {
    // SAFETY: F1; a living object.
    if cfg!(not(Py_3_13)) || unsafe { ffi::PyTuple_Check(separator.as_ptr()) } == 0 {
        return Search::new(bytes_of_one(separator)?).map_err(empty);
    }
    // SAFETY: F1; a tuple, whose items it keeps alive.
    let count = unsafe { ffi::PyTuple_GET_SIZE(separator.as_ptr()) };
    let mut separators = Vec::with_capacity(count as usize);
    for place in 0..count {
        // SAFETY: as above, and the place is one of the tuple's.
        let one = unsafe { Owned::from_borrowed(ffi::PyTuple_GET_ITEM(separator.as_ptr(), place)) };
        separators.push(bytes_of_one(&one)?);
    }
    Search::any(separators)
        .map_err(empty)?
        .ok_or_else(|| value_error("Separator should contain at least one element"))
}

/// The search for the end of a line.
#[inline]
pub fn search_for_newline() -> Result<Search<Bytes>> {
    Search::new(Bytes::copied(b"\n")?).map_err(empty)
}

#[cold]
fn empty(_: EmptySeparator) -> Raised {
    value_error("Separator should be at least one-byte string")
}

fn bytes_of_one(separator: &Owned) -> Result<Bytes> {
    // SAFETY: F1; living objects.
    unsafe {
        // asyncio asks for its length first, and then has a bytearray search for it.
        if ffi::PyObject_Size(separator.as_ptr()) < 0 {
            return Err(Raised);
        }
        if ffi::PyObject_CheckBuffer(separator.as_ptr()) == 0 {
            let kind = Owned::from_borrowed(ffi::Py_TYPE(separator.as_ptr()).cast());
            let name = kind.attr(&names().__name__)?;
            ffi::PyErr_Format(
                ffi::PyExc_TypeError,
                c"argument should be integer or bytes-like object, not '%U'".as_ptr(),
                name.as_ptr(),
            );
            return Err(Raised);
        }
    }
    Bytes::of(separator)
}
