//! The end of an operation: the cycle collector's slots, and the warning for one that nobody awaited.
//!
//! Operations are tracked: one that waits is in a cycle with its waiter and the task that runs it, and only the loop's
//! table, which the loop's own traversal visits, keeps that alive.

use std::ffi::{c_int, c_void};
use std::iter;

use pyo3::ffi;

use crate::coroutine::collect::warn_never_awaited;
use crate::ffi::raise;
use crate::ffi::{Instance, Owned};

use super::operation::{Phase, SocketOperation};

/// `tp_traverse`.
pub(super) unsafe extern "C" fn traverse(
    object: *mut ffi::PyObject,
    visitor: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: F2, and `visitor` is the collector's own. The parts of a running operation are on a stack, which keeps them
    // alive without the collector's leave (O2).
    unsafe {
        let this = Instance::<SocketOperation>::from_ptr(object);
        let visit = |object: *mut ffi::PyObject| visitor(object, arg);
        let status = [ffi::Py_TYPE(object).cast(), this.owner.as_ptr()]
            .into_iter()
            .map(visit)
            .find(|status| *status != 0);
        if let Some(status) = status {
            return status;
        }
        this.phase.with(|phase| match phase {
            Phase::Created(request) => {
                let given = request.arguments.iter().flatten().map(Owned::as_ptr);
                iter::once(request.socket.as_ptr())
                    .chain(given)
                    .map(visit)
                    .find(|status| *status != 0)
                    .unwrap_or(0)
            }
            Phase::Waiting(waiting) => {
                let outcome = waiting.outcome.as_ref().map(|outcome| match outcome {
                    Ok(object) | Err(object) => object.as_ptr(),
                });
                let objects = [waiting.socket.object().as_ptr(), waiting.waiter.object().as_ptr()];
                let status =
                    objects.into_iter().chain(outcome).map(visit).find(|status| *status != 0).unwrap_or(0);
                match &waiting.action {
                    Some(action) if status == 0 => action.traverse(visitor, arg),
                    _ => status,
                }
            }
            Phase::Running | Phase::Finished => 0,
        })
    }
}

/// `tp_clear`.
pub(super) unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: F2.
    let this = unsafe { Instance::<SocketOperation>::from_ptr(object) };
    drop(this.phase.take());
    0
}

fn is_unstarted(this: &Instance<SocketOperation>) -> bool {
    this.phase.with(|phase| matches!(phase, Phase::Created(_)))
}

/// `tp_finalize`: as for coroutines, an operation that was never started is reported.
pub(super) unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
    // SAFETY: F2.
    let this = unsafe { Instance::<SocketOperation>::from_ptr(object) };
    if !is_unstarted(this) {
        return;
    }
    // Finalizers run wherever the last reference goes; an exception that is on its way there must stay.
    let pending = raise::take();
    if this.qualified_name().and_then(|name| warn_never_awaited(&name)).is_err() {
        raise::write_unraisable(Some(&this.owned()));
    }
    if let Some(pending) = pending {
        raise::restore(pending);
    }
}

/// `tp_dealloc`.
pub(super) unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable, unless the finalizer, which needs it tracked, makes it reachable again.
    unsafe {
        if is_unstarted(Instance::<SocketOperation>::from_ptr(object))
            && ffi::PyObject_CallFinalizerFromDealloc(object) < 0
        {
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        let kind = ffi::Py_TYPE(object);
        Instance::<SocketOperation>::finish(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}
