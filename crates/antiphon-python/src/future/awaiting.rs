//! `await future`: a future is its own iterator, so that an await allocates nothing.
//!
//! It yields itself once, then comes its result. There is no `throw`: what is thrown into a coroutine that awaits a future
//! is raised in the coroutine at once. Only instances of exactly our types are awaited this way, and only by the
//! interpreter: `__await__`, `__iter__` and Python subclasses give an iterator of their own ([`super::iterator`]).
//!
//! Source: PEP 492; CPython Lib/asyncio/futures.py (`__await__`), Modules/_asynciomodule.c (`FutureIter`).

use std::ffi::{c_int, c_void};
use std::ptr;

use antiphon_core::future::Offer;
use pyo3::ffi;

use super::FutureObject;
use crate::coroutine::exceptions::stop_iteration;
use crate::ffi::raise::runtime_error;
use crate::ffi::{HeapType, Owned, Raised, Result, This, guard_int};
use crate::unary_slot;

/// What one step of an await comes to.
pub enum Step {
    /// To be handed up to the task.
    Yielded(Owned),
    /// The result.
    Returned(Owned),
}

impl FutureObject {
    /// One step of `await future`.
    ///
    /// # Errors
    /// The future's exception, `CancelledError`; `RuntimeError` when whoever drives the coroutine does not wait for it.
    #[inline(always)]
    pub fn step(&self) -> Result<Step> {
        self.check_initialised()?;
        match self.inner.with(|inner| inner.state.offer()) {
            Offer::Wait => Ok(Step::Yielded(self.owned())),
            Offer::Done => self.get_result().map(Step::Returned),
            Offer::NotTaken => Err(runtime_error("await wasn't used with future")),
        }
    }
}

fn await_(this: &FutureObject) -> Result {
    this.check_initialised()?;
    Ok(this.owned())
}

/// `tp_iternext`: to return null without an exception is to return `None`.
fn next(this: &FutureObject) -> Result {
    match this.step()? {
        Step::Yielded(value) => Ok(value),
        Step::Returned(value) if value.is_none() => Err(Raised),
        Step::Returned(value) => Err(stop_iteration(&value)),
    }
}

/// A step in the form of `am_send`.
pub(super) fn send_step(
    result: *mut *mut ffi::PyObject,
    step: impl FnOnce() -> Result<Step>,
) -> ffi::PySendResult {
    let status = guard_int(|| {
        // SAFETY: the result's place is the caller's.
        unsafe {
            *result = ptr::null_mut();
            let (status, value) = match step()? {
                Step::Yielded(value) => (ffi::PySendResult::PYGEN_NEXT, value),
                Step::Returned(value) => (ffi::PySendResult::PYGEN_RETURN, value),
            };
            *result = value.into_ptr();
            Ok(status as c_int)
        }
    });
    match status {
        0 => ffi::PySendResult::PYGEN_RETURN,
        1 => ffi::PySendResult::PYGEN_NEXT,
        _ => ffi::PySendResult::PYGEN_ERROR,
    }
}

unsafe extern "C" fn send(
    this: *mut ffi::PyObject,
    _value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: F2.
    send_step(result, || unsafe { FutureObject::from_ptr(this) }.step())
}

/// Adds the slots of the coroutine protocol.
pub fn add_slots(kind: HeapType) -> HeapType {
    kind.slot(ffi::Py_am_await, unary_slot!(await_)).slot(ffi::Py_am_send, send as *mut c_void)
}

/// Makes instances of exactly this type iterators for the interpreter's eyes alone: a type made with the slot would show
/// a `__next__`, and subclasses would be taken for iterators.
pub fn patch(kind: *mut ffi::PyTypeObject) {
    unsafe extern "C" fn iternext(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
        // SAFETY: F2.
        crate::ffi::guard(|| next(unsafe { FutureObject::from_ptr(this) }))
    }
    // SAFETY: a type of ours that nobody uses yet.
    unsafe { (*kind).tp_iternext = Some(iternext) };
}
