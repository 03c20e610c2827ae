//! The end of a native coroutine: the cycle collector's slots, the warning for one that nobody awaited, and the closing
//! of one that is dropped where it waits.
//!
//! They are tracked, but for those that refer to nothing ([`Operation::refers`]): one that waits is in a cycle with its
//! future and the task that runs it, and one that was never awaited may be in a cycle with its arguments.

use std::ffi::{c_int, c_void};

use pyo3::ffi;

use super::Operation;
use super::binding::Binding;
use super::life::Coroutine;
use crate::ffi::raise;
use crate::ffi::visitor::Visitor;
use crate::ffi::{Instance, Owned, Raised, Result};

/// `tp_traverse`.
pub(super) unsafe extern "C" fn traverse<O: Operation>(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: F2, and `visit` is the collector's own. What a running operation refers to is not shown, and so kept (N1).
    unsafe {
        let this = Instance::<Coroutine<O>>::from_ptr(object);
        let status = visit(ffi::Py_TYPE(object).cast(), arg);
        if status != 0 {
            return status;
        }
        let visitor = Visitor::new(visit, arg);
        match this.binding.traverse(visitor) {
            0 => this.operation.peek(|operation| operation.traverse(visitor)).unwrap_or(0),
            status => status,
        }
    }
}

/// `tp_clear`.
pub(super) unsafe extern "C" fn clear<O: Operation>(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: F2.
    let this = unsafe { Instance::<Coroutine<O>>::from_ptr(object) };
    drop(this.operation.take().ok());
    0
}

/// `tp_finalize`: as for coroutines, one that was never started is reported, one that waits is closed.
pub(super) unsafe extern "C" fn finalize<O: Operation>(object: *mut ffi::PyObject) {
    // SAFETY: F2.
    let this = unsafe { Instance::<Coroutine<O>>::from_ptr(object) };
    this.note_finalized();
    if this.is_finished() || this.is_withheld() {
        return;
    }
    // Finalizers run wherever the last reference goes; an exception that is on its way there must stay.
    let pending = raise::take();
    let ended = if this.is_unstarted() {
        this.qualified_name().and_then(|name| warn_never_awaited(&name))
    } else {
        this.close()
    };
    if ended.is_err() {
        raise::write_unraisable(Some(&this.owned()));
    }
    if let Some(pending) = pending {
        raise::restore(pending);
    }
}

/// Warns that the coroutine of this name was never awaited.
///
/// # Errors
/// The warning, where warnings are errors.
pub fn warn_never_awaited(qualified_name: &Owned) -> Result<()> {
    // SAFETY: F1; the format takes one object.
    let status = unsafe {
        ffi::PyErr_WarnFormat(
            ffi::PyExc_RuntimeWarning,
            1,
            c"coroutine '%S' was never awaited".as_ptr(),
            qualified_name.as_ptr(),
        )
    };
    if status == 0 { Ok(()) } else { Err(Raised) }
}

/// `tp_dealloc`.
pub(super) unsafe extern "C" fn dealloc<O: Operation>(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable, unless the finalizer, which needs it tracked, makes it reachable again.
    unsafe {
        if O::class().keep::<O>(object) {
            return;
        }
        let this = Instance::<Coroutine<O>>::from_ptr(object);
        if !this.is_finished() && !this.is_withheld() {
            this.track();
            if ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
                return;
            }
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        let kind = ffi::Py_TYPE(object);
        Instance::<Coroutine<O>>::finish(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}
