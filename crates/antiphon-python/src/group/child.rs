//! A future that somebody waits for: ours, or any object that keeps asyncio's future protocol.
//!
//! Ours tell natively that they are done, and no callback object is made; others get a callable that is bound to the
//! observer.
//!
//! Source: CPython Lib/asyncio/futures.py.

use std::ffi::c_char;
use std::ptr;

use antiphon_core::Ended;
use pyo3::ffi;

use crate::ffi::call::call_with_keywords;
use crate::ffi::{Owned, Result, call, call_method, guard};
use crate::future::FutureRef;
use crate::names::names;

/// `child.done()`.
#[inline]
pub fn is_done(child: &Owned) -> Result<bool> {
    match FutureRef::cast(child) {
        Some(native) => Ok(native.is_done()),
        None => call_method(child, &names().done, [])?.truth(),
    }
}

/// `child.cancelled()`.
#[inline]
pub fn is_cancelled(child: &Owned) -> Result<bool> {
    match FutureRef::cast(child) {
        Some(native) => Ok(native.is_cancelled()),
        None => call_method(child, &names().cancelled, [])?.truth(),
    }
}

/// How a child that is done ended. Its exception counts as seen only once it is asked for.
#[inline]
pub fn ended(child: &Owned) -> Result<Ended> {
    if let Some(native) = FutureRef::cast(child) {
        return Ok(if native.is_cancelled() {
            Ended::Cancelled
        } else if native.has_exception() {
            Ended::Raised
        } else {
            Ended::Returned
        });
    }
    if is_cancelled(child)? {
        return Ok(Ended::Cancelled);
    }
    Ok(if exception(child)?.is_some() { Ended::Raised } else { Ended::Returned })
}

/// `child.exception()` of a child that was not cancelled.
pub fn exception(child: &Owned) -> Result<Option<Owned>> {
    if let Some(native) = FutureRef::cast(child) {
        return native.exception();
    }
    let exception = call_method(child, &names().exception, [])?;
    Ok(if exception.is_none() { None } else { Some(exception) })
}

/// `child.result()`.
#[inline]
pub fn result(child: &Owned) -> Result {
    match FutureRef::cast(child) {
        Some(native) => native.result(),
        None => call_method(child, &names().result, []),
    }
}

/// `child._make_cancelled_error()`.
pub fn make_cancelled_error(child: &Owned) -> Result {
    call_method(child, &names()._make_cancelled_error, [])
}

/// `child.cancel(msg=message)`, or `child.cancel()` without a message.
pub fn cancel(child: &Owned, message: Option<&Owned>) -> Result<bool> {
    if let Some(native) = FutureRef::cast(child) {
        return native.cancel(message);
    }
    let names = names();
    match message {
        None => call_method(child, &names.cancel, [])?.truth(),
        Some(message) => {
            call_with_keywords(&child.attr(&names.cancel)?, &[message], Some(&names.msg_keyword))?.truth()
        }
    }
}

/// Its loop: `get_loop()`, or `_loop` of what is older than that.
pub fn owner(child: &Owned) -> Result {
    if let Some(native) = FutureRef::cast(child) {
        return Ok(native.owner());
    }
    let names = names();
    call(&names.futures_module.attr(&names._get_loop)?, [child])
}

/// Has `observer`, an object of this module, told when the child is done, in a turn of the loop.
#[inline]
pub fn watch(child: &Owned, observer: &Owned) -> Result<()> {
    match FutureRef::cast(child) {
        Some(native) => native.watch(observer.clone()),
        None => call_method(child, &names().add_done_callback, [&callback(observer)?]).map(drop),
    }
}

/// Takes that back.
pub fn unwatch(child: &Owned, observer: &Owned) -> Result<()> {
    match FutureRef::cast(child) {
        Some(native) => {
            native.unwatch(observer);
            Ok(())
        }
        None => call_method(child, &names().remove_done_callback, [&callback(observer)?]).map(drop),
    }
}

struct Definition(ffi::PyMethodDef);
// SAFETY: never written; its pointers are to statics.
unsafe impl Sync for Definition {}

static CALLBACK: Definition = Definition(ffi::PyMethodDef {
    ml_name: c"_child_done".as_ptr().cast::<c_char>(),
    ml_meth: ffi::PyMethodDefPointer { PyCFunction: child_done },
    ml_flags: ffi::METH_O,
    ml_doc: ptr::null(),
});

/// A callable that tells `observer`. Two of one observer are equal, so that one can be removed by another.
fn callback(observer: &Owned) -> Result {
    let definition = (&raw const CALLBACK.0).cast_mut();
    // SAFETY: F1; the definition lives for ever and is not written to.
    unsafe { Owned::from_new(ffi::PyCFunction_NewEx(definition, observer.as_ptr(), ptr::null_mut())) }
}

unsafe extern "C" fn child_done(
    observer: *mut ffi::PyObject,
    child: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guard(|| {
        // SAFETY: F1; both are alive during the call.
        let (observer, child) = unsafe { (Owned::from_borrowed(observer), Owned::from_borrowed(child)) };
        super::child_done(&observer, &child)?;
        Ok(Owned::none())
    })
}
