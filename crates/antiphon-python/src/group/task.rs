//! A task's count of cancellation requests, asked of any task.

use pyo3::ffi;

use crate::ffi::{Owned, Raised, Result, This, call_method, check};
use crate::names::names;
use crate::task::{TaskObject, task_type};

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

/// The task as one of ours, if it is of no derived class, which might count otherwise.
#[inline]
fn native(task: &Owned) -> Option<&TaskObject> {
    // SAFETY: F2; the type is compared.
    task.is_exactly(task_type()).then(|| unsafe { TaskObject::from_ptr(task.as_ptr()) })
}

/// `task.cancelling()`.
#[inline]
pub fn cancelling(task: &Owned) -> Result<u32> {
    if let Some(native) = native(task) {
        return Ok(native.cancelling());
    }
    count(&call_method(task, &names().cancelling, [])?)
}

/// `task.uncancel()`: the requests that are left.
pub fn uncancel(task: &Owned) -> Result<u32> {
    if let Some(native) = native(task) {
        return Ok(native.uncancel());
    }
    count(&call_method(task, &names().uncancel, [])?)
}

/// `task._log_destroy_pending = False`: its maker cannot get at it, so nobody is told if it is lost.
#[inline]
pub fn ignore_loss(task: &Owned) -> Result<()> {
    if let Some(native) = native(task) {
        native.ignore_loss();
        return Ok(());
    }
    // SAFETY: F1; living objects.
    check(unsafe {
        ffi::PyObject_SetAttr(task.as_ptr(), names()._log_destroy_pending.as_ptr(), ffi::Py_False())
    })
    .map(drop)
}
