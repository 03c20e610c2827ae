//! `Future`'s attributes: private by name, and read by half of asyncio.
//!
//! Source: CPython Modules/_asynciomodule.c (`FutureType_getsetlist`).

#[cfg(Py_3_14)]
use std::ptr;

use antiphon_core::future::Status;
use pyo3::ffi;

use super::FutureObject;
#[cfg(Py_3_14)]
use super::callback::Callback;
use crate::ffi::raise::{raise, value_error};
use crate::ffi::{HeapType, Owned, Raised, Result};
#[cfg(Py_3_14)]
use crate::ffi::{call_method, check};
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

/// Who waits for it: the tasks among its callbacks, and those that `future_add_to_awaited_by` has noted with the base.
///
/// A task of ours that awaits a future of ours is noted nowhere else, so that an await costs nothing for the call graph.
#[cfg(Py_3_14)]
fn get_awaited_by(this: &FutureObject) -> Result {
    let names = names();
    let noted = names.base_future_class.attr(&names._asyncio_awaited_by)?;
    let noted = call_method(&noted, &names.__get__, [&this.owned()])?;
    let waiting: Vec<Owned> = this.callbacks().iter().filter_map(Callback::waiting_task).collect();
    if waiting.is_empty() {
        return Ok(noted);
    }
    // SAFETY: F1; a set of ours, filled from living objects, some of which Python code may compare.
    unsafe {
        let iterable = if noted.is_none() { ptr::null_mut() } else { noted.as_ptr() };
        let waiters = Owned::from_new(ffi::PySet_New(iterable))?;
        for task in &waiting {
            check(ffi::PySet_Add(waiters.as_ptr(), task.as_ptr()))?;
        }
        Owned::from_new(ffi::PyFrozenSet_New(waiters.as_ptr()))
    }
}

/// Adds this file's attributes, which tasks have as well.
pub fn add(kind: HeapType) -> HeapType {
    #[cfg(Py_3_14)]
    let kind = kind.attribute(
        c"_asyncio_awaited_by",
        getter!(get_awaited_by),
        None,
        c"The tasks that wait for it, or None.",
    );
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
