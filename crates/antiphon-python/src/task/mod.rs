//! Tasks: making one of a coroutine, and asking which one runs.
//!
//! Source: "Coroutines and Tasks" in the asyncio documentation.

use pyo3::ffi;

use crate::event_loop::EventLoop;
use crate::ffi::{Instance, Owned, Result, call};
use crate::names::{import, names};

/// Runs a coroutine as a task of the loop, made by the loop's task factory if it has one.
///
/// # Errors
/// What `loop.create_task` raises: the loop is closed, this is no coroutine; what the factory raises.
pub fn create(
    owner: &Instance<EventLoop>,
    coro: Owned,
    name: Option<Owned>,
    context: Option<Owned>,
) -> Result<Owned> {
    let names = names();
    let method = owner.owned().attr(&names.create_task)?;
    // SAFETY: F1; living objects.
    unsafe {
        let keywords = Owned::from_new(ffi::PyDict_New())?;
        for (key, value) in [(&names.name, &name), (&names.context, &context)] {
            if let Some(value) = value {
                crate::ffi::check(ffi::PyDict_SetItem(keywords.as_ptr(), key.as_ptr(), value.as_ptr()))?;
            }
        }
        let arguments = Owned::tuple([coro])?;
        Owned::from_new(ffi::PyObject_Call(method.as_ptr(), arguments.as_ptr(), keywords.as_ptr()))
    }
}

/// The task whose step the loop runs now.
pub fn current(owner: &Instance<EventLoop>) -> Option<Owned> {
    let task = call(&import("asyncio.tasks", "current_task").ok()?, [&owner.owned()]).ok()?;
    if task.is_none() { None } else { Some(task) }
}
