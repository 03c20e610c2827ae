//! Which task runs now: told to asyncio where it keeps that, so that everybody who asks asyncio sees our tasks.
//!
//! Up to 3.13 that is a dict by loop, from 3.14 on a place in the thread's state behind functions. In a loop of ours the
//! entry is left in place between the steps of different tasks, each of which changes its value where it is
//! ([`crate::ffi::dict_entry`]), and taken out before anything else runs.
//!
//! Source: CPython Lib/asyncio/tasks.py (`_enter_task`, `_leave_task`, `_swap_current_task`, `current_task`).

use std::sync::OnceLock;
#[cfg(not(Py_3_14))]
use std::sync::atomic::Ordering;

use pyo3::ffi;

use crate::event_loop::EventLoop;
#[cfg(not(Py_3_14))]
use crate::ffi::dict_entry;
use crate::ffi::raise::runtime_error;
use crate::ffi::{Instance, Owned, Result, call};
use crate::names::import;

/// asyncio's own words for it.
struct Asyncio {
    enter: Owned,
    leave: Owned,
    /// `_current_tasks`, a dict.
    #[cfg(not(Py_3_14))]
    tasks: Owned,
    #[cfg(Py_3_14)]
    swap: Owned,
    #[cfg(Py_3_14)]
    current: Owned,
}

static ASYNCIO: OnceLock<Asyncio> = OnceLock::new();

/// What [`load`] found; it runs when the type of tasks is made, so a task never meets the error.
#[inline(always)]
fn asyncio() -> Result<&'static Asyncio> {
    ASYNCIO.get().ok_or_else(|| runtime_error("antiphon._antiphon is used before its import has finished"))
}

/// Looks asyncio's functions up.
pub fn load() -> Result<()> {
    if ASYNCIO.get().is_none() {
        let found = Asyncio {
            enter: import("_asyncio", "_enter_task")?,
            leave: import("_asyncio", "_leave_task")?,
            #[cfg(not(Py_3_14))]
            tasks: import("_asyncio", "_current_tasks")?,
            #[cfg(Py_3_14)]
            swap: import("_asyncio", "_swap_current_task")?,
            #[cfg(Py_3_14)]
            current: import("_asyncio", "current_task")?,
        };
        #[cfg(not(Py_3_14))]
        dict_entry::calibrate(&found.tasks)?;
        let _ = ASYNCIO.set(found);
    }
    Ok(())
}

/// Makes `task` the loop's current one, in place of the one before.
#[inline(always)]
pub fn show(owner: &Instance<EventLoop>, task: &Owned) -> Result<()> {
    #[cfg(not(Py_3_14))]
    {
        let place = owner.shown_place().load(Ordering::Relaxed);
        if owner.shows_task() && dict_entry::replace(&asyncio()?.tasks, place, owner.as_ptr(), task) {
            return Ok(());
        }
        show_first(owner, task)
    }
    #[cfg(Py_3_14)]
    {
        owner.set_shows_task(true);
        put(owner.as_ptr(), Some(task.as_ptr()))
    }
}

/// The same where the loop may have no entry, or another place.
#[cfg(not(Py_3_14))]
#[inline(never)]
fn show_first(owner: &Instance<EventLoop>, task: &Owned) -> Result<()> {
    owner.set_shows_task(true);
    put(owner.as_ptr(), Some(task.as_ptr()))?;
    if let Some(place) = dict_entry::place_of(&asyncio()?.tasks, owner.as_ptr()) {
        owner.shown_place().store(place, Ordering::Relaxed);
    }
    Ok(())
}

/// No task is the loop's current one any more.
#[cold]
pub fn hide(owner: &Instance<EventLoop>) {
    owner.set_shows_task(false);
    if put(owner.as_ptr(), None).is_err() {
        // Somebody has taken it out before.
        drop(crate::ffi::raise::take());
    }
}

#[cfg(not(Py_3_14))]
#[inline(always)]
fn put(owner: *mut ffi::PyObject, task: Option<*mut ffi::PyObject>) -> Result<()> {
    let tasks = asyncio()?.tasks.as_ptr();
    // SAFETY: F1; a dict and living objects.
    let status = unsafe {
        match task {
            Some(task) => ffi::PyDict_SetItem(tasks, owner, task),
            None => ffi::PyDict_DelItem(tasks, owner),
        }
    };
    crate::ffi::check(status).map(drop)
}

#[cfg(Py_3_14)]
#[inline(always)]
fn put(owner: *mut ffi::PyObject, task: Option<*mut ffi::PyObject>) -> Result<()> {
    swap_to(owner, task).map(drop)
}

#[cfg(Py_3_14)]
#[inline(always)]
fn swap_to(owner: *mut ffi::PyObject, task: Option<*mut ffi::PyObject>) -> Result {
    let swap = asyncio()?.swap.as_ptr();
    // SAFETY: F1; living objects, a free place in front.
    unsafe {
        let values = [std::ptr::null_mut(), owner, task.unwrap_or_else(|| ffi::Py_None())];
        Owned::from_new(ffi::PyObject_Vectorcall(
            swap,
            values.as_ptr().add(1),
            2 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            std::ptr::null_mut(),
        ))
    }
}

/// The current task of any loop.
#[cfg(not(Py_3_14))]
fn of_loop(owner: &Owned) -> Option<Owned> {
    let tasks = ASYNCIO.get()?.tasks.as_ptr();
    let mut found = std::ptr::null_mut();
    // SAFETY: F1; a dict and a living object; a new reference is written, or null.
    unsafe {
        if ffi::compat::PyDict_GetItemRef(tasks, owner.as_ptr(), &raw mut found) < 0 {
            drop(crate::ffi::raise::take());
        }
        Owned::from_new(found).ok().filter(|task| !task.is_none())
    }
}

/// The current task of any loop.
#[cfg(Py_3_14)]
fn of_loop(owner: &Owned) -> Option<Owned> {
    match call(&ASYNCIO.get()?.current, [owner]) {
        Ok(task) => Some(task).filter(|task| !task.is_none()),
        Err(crate::ffi::Raised) => {
            drop(crate::ffi::raise::take());
            None
        }
    }
}

/// The current task of a loop of ours.
#[inline]
pub fn of_native(owner: &Instance<EventLoop>) -> Option<Owned> {
    #[cfg(not(Py_3_14))]
    {
        let place = owner.shown_place().load(Ordering::Relaxed);
        if owner.shows_task()
            && let Some(asyncio) = ASYNCIO.get()
            && let Some(shown) = dict_entry::read(&asyncio.tasks, place, owner.as_ptr())
            && !shown.is_none()
        {
            return Some(shown);
        }
    }
    of_loop(&owner.owned())
}

/// `_enter_task`: makes `task` the current one where there is none.
///
/// # Errors
/// `RuntimeError`: another task is being executed.
pub fn enter(owner: &Owned, task: &Owned) -> Result<()> {
    call(&asyncio()?.enter, [owner, task]).map(drop)
}

/// `_leave_task`.
pub fn leave(owner: &Owned, task: &Owned) -> Result<()> {
    call(&asyncio()?.leave, [owner, task]).map(drop)
}

/// Puts another task, or none, in the place of the current one; which it was.
#[cfg(not(Py_3_14))]
pub fn swap(owner: &Owned, task: Option<&Owned>) -> Result<Option<Owned>> {
    let before = of_loop(owner);
    if task.is_some() || before.is_some() {
        put(owner.as_ptr(), task.map(Owned::as_ptr))?;
    }
    Ok(before)
}

/// Puts another task, or none, in the place of the current one; which it was.
#[cfg(Py_3_14)]
pub fn swap(owner: &Owned, task: Option<&Owned>) -> Result<Option<Owned>> {
    let before = swap_to(owner.as_ptr(), task.map(Owned::as_ptr))?;
    Ok(Some(before).filter(|task| !task.is_none()))
}
