//! `Future`'s attributes: private by name, and read by half of asyncio.
//!
//! Source: CPython Modules/_asynciomodule.c (`FutureType_getsetlist`).

use antiphon_core::future::Status;
use pyo3::ffi;

use super::FutureObject;
use crate::ffi::raise::{raise, value_error};
use crate::ffi::{HeapType, Owned, Raised, Result};
use crate::names::names;
use crate::{getter, setter};

fn or_none(value: Option<Owned>) -> Owned {
    value.unwrap_or_else(Owned::none)
}

/// `AttributeError` for an attribute that cannot be deleted.
#[cold]
pub fn cannot_delete() -> Raised {
    // SAFETY: the class is alive while the interpreter is.
    raise(unsafe { ffi::PyExc_AttributeError }, "cannot delete attribute")
}

fn get_state(this: &FutureObject) -> Result {
    this.check_initialised()?;
    let names = names();
    Ok(match this.state().status() {
        Status::Pending => names.PENDING.clone(),
        Status::Cancelled => names.CANCELLED.clone(),
        Status::Finished => names.FINISHED.clone(),
    })
}

fn get_blocking(this: &FutureObject) -> Result {
    Ok(Owned::bool(this.state().is_offered()))
}

fn set_blocking(this: &FutureObject, value: Option<&Owned>) -> Result<()> {
    this.check_initialised()?;
    let offered = value.ok_or_else(cannot_delete)?.truth()?;
    this.inner.with(|inner| inner.state.set_offered(offered));
    Ok(())
}

fn get_loop(this: &FutureObject) -> Result {
    Ok(this.owner_or_none())
}

fn get_callbacks(this: &FutureObject) -> Result {
    this.check_initialised()?;
    let callbacks = this.callbacks();
    if callbacks.is_empty() {
        return Ok(Owned::none());
    }
    // SAFETY: F1; a list of ours.
    let list = unsafe { Owned::from_new(ffi::PyList_New(0))? };
    for callback in callbacks {
        let (callable, context) = callback.shown()?;
        let pair = Owned::tuple([callable, context])?;
        // SAFETY: as above; the list takes a reference of its own.
        crate::ffi::check(unsafe { ffi::PyList_Append(list.as_ptr(), pair.as_ptr()) })?;
    }
    Ok(list)
}

fn get_result(this: &FutureObject) -> Result {
    this.check_initialised()?;
    Ok(or_none(this.inner.with(|inner| if inner.state.is_failed() { None } else { inner.outcome.clone() })))
}

fn get_exception(this: &FutureObject) -> Result {
    this.check_initialised()?;
    Ok(or_none(this.inner.with(|inner| if inner.state.is_failed() { inner.outcome.clone() } else { None })))
}

fn get_log_traceback(this: &FutureObject) -> Result {
    this.check_initialised()?;
    Ok(Owned::bool(this.state().is_unretrieved()))
}

fn set_log_traceback(this: &FutureObject, value: Option<&Owned>) -> Result<()> {
    if value.ok_or_else(cannot_delete)?.truth()? {
        return Err(value_error("_log_traceback can only be set to False"));
    }
    this.inner.with(|inner| inner.state.retrieve());
    Ok(())
}

fn get_source_traceback(this: &FutureObject) -> Result {
    Ok(or_none(this.source_traceback()))
}

fn get_cancel_message(this: &FutureObject) -> Result {
    Ok(or_none(this.inner.with(|inner| inner.rare.as_ref().and_then(|rare| rare.cancel_message.clone()))))
}

fn set_cancel_message(this: &FutureObject, value: Option<&Owned>) -> Result<()> {
    this.set_cancel_message(Some(value.ok_or_else(cannot_delete)?.clone()));
    Ok(())
}

/// Adds this file's attributes, which tasks have as well.
pub fn add(kind: HeapType) -> HeapType {
    kind.attribute(c"_state", getter!(get_state), None, c"PENDING, CANCELLED or FINISHED.")
        .attribute(
            c"_asyncio_future_blocking",
            getter!(get_blocking),
            Some(setter!(set_blocking)),
            c"Whether it is on its way to a task (asyncio's protocol).",
        )
        .attribute(c"_loop", getter!(get_loop), None, c"The loop.")
        .attribute(c"_callbacks", getter!(get_callbacks), None, c"Callbacks and their contexts, or None.")
        .attribute(c"_result", getter!(get_result), None, c"The result, if there is one.")
        .attribute(c"_exception", getter!(get_exception), None, c"The exception, if there is one.")
        .attribute(
            c"_log_traceback",
            getter!(get_log_traceback),
            Some(setter!(set_log_traceback)),
            c"Whether its exception is reported if nobody asks for it.",
        )
        .attribute(
            c"_source_traceback",
            getter!(get_source_traceback),
            None,
            c"In debug mode, the stack of the code that made it.",
        )
        .attribute(
            c"_cancel_message",
            getter!(get_cancel_message),
            Some(setter!(set_cancel_message)),
            c"What cancel() was given.",
        )
}
