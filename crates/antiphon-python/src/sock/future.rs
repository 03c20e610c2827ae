//! The future that an operation yields from while it waits, called by the shortest path.
//!
//! CPython's tasks know their own futures and block on them without further ado, so a waiting operation hands its task one
//! of the loop's and passes every `send` and `throw` on to that future's iterator (PEP 380).

use std::ptr;
use std::sync::OnceLock;

use pyo3::ffi;

use crate::ffi::raise::type_error;
use crate::ffi::{Owned, Raised, Result, call};
use crate::names::names;

/// The class's own methods, so that no call looks names up.
struct Methods {
    done: Owned,
    set_result: Owned,
    set_exception: Owned,
}

static METHODS: OnceLock<Methods> = OnceLock::new();

/// Looks the methods up; called by the module's initialisation.
pub fn load() -> Result<()> {
    if METHODS.get().is_none() {
        let class = &names().future_class;
        let _ = METHODS.set(Methods {
            done: class.attr(&names().done)?,
            set_result: class.attr(&names().set_result)?,
            set_exception: class.attr(&names().set_exception)?,
        });
    }
    Ok(())
}

#[inline(always)]
fn methods() -> &'static Methods {
    match METHODS.get() {
        Some(methods) => methods,
        None => unreachable!("the module's initialisation fills the table"),
    }
}

/// Whether it has a result or was cancelled.
#[inline]
pub fn is_done(future: &Owned) -> Result<bool> {
    let done = call(&methods().done, [future])?;
    // SAFETY: comparing addresses only.
    Ok(done.as_ptr() == unsafe { ffi::Py_True() })
}

/// Wakes who waits, with a value.
#[inline]
pub fn set_result(future: &Owned, value: &Owned) -> Result<()> {
    call(&methods().set_result, [future, value]).map(drop)
}

/// Wakes who waits, with an exception.
pub fn set_exception(future: &Owned, exception: &Owned) -> Result<()> {
    call(&methods().set_exception, [future, exception]).map(drop)
}

/// What one step of an iterator or coroutine gave.
pub enum Step {
    /// It waits for this.
    Yielded(Owned),
    /// It is finished.
    Returned(Owned),
}

/// `future.__await__()`.
#[inline]
pub fn iterator(future: &Owned) -> Result {
    // SAFETY: F1; a living object, whose type's tables are the interpreter's.
    unsafe {
        let tables = (*ffi::Py_TYPE(future.as_ptr())).tp_as_async;
        match tables.as_ref().and_then(|tables| tables.am_await) {
            Some(make) => Owned::from_new(make(future.as_ptr())),
            None => Err(type_error("the loop's futures must be awaitable")),
        }
    }
}

/// One step of the future's iterator.
#[inline]
pub fn step(iterator: &Owned, value: *mut ffi::PyObject) -> Result<Step> {
    let mut result = ptr::null_mut();
    // SAFETY: F1; living objects; the result is a new reference, null only after an error.
    unsafe {
        let status = ffi::PyIter_Send(iterator.as_ptr(), value, &raw mut result);
        let result = Owned::from_new(result);
        match status {
            ffi::PySendResult::PYGEN_RETURN => result.map(Step::Returned),
            ffi::PySendResult::PYGEN_NEXT => result.map(Step::Yielded),
            ffi::PySendResult::PYGEN_ERROR => Err(Raised),
        }
    }
}
