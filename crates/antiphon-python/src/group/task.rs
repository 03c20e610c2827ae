//! A task's count of cancellation requests, asked of any task.

use pyo3::ffi;

use crate::ffi::{Owned, Raised, Result, call_method};
use crate::names::names;

fn count(answer: &Owned) -> Result<u32> {
    // SAFETY: F1; a living object; -1 may be an honest answer of a foreign task.
    unsafe {
        let count = ffi::PyLong_AsLong(answer.as_ptr());
        if count == -1 && !ffi::PyErr_Occurred().is_null() {
            return Err(Raised);
        }
        Ok(u32::try_from(count).unwrap_or(0))
    }
}

/// `task.cancelling()`.
#[inline]
pub fn cancelling(task: &Owned) -> Result<u32> {
    count(&call_method(task, &names().cancelling, [])?)
}

/// `task.uncancel()`: the requests that are left.
pub fn uncancel(task: &Owned) -> Result<u32> {
    count(&call_method(task, &names().uncancel, [])?)
}
