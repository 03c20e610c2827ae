//! Which tasks a loop has that are not done: it keeps them alive (J2), and `all_tasks` asks for them.
//!
//! A vector in which each task knows its place: to add and to remove is a few stores. From 3.14 on the interpreter keeps a
//! list of its own, which `asyncio.all_tasks` and `python -m asyncio ps` read; before, it keeps a weak set that costs more
//! than the task, so `all_tasks` asks the loop (`python/antiphon/tasks.py`). Tasks of loops that are not ours are where
//! asyncio keeps its own.
//!
//! Source: CPython Lib/asyncio/tasks.py (`_register_task`, `all_tasks`).

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use pyo3::ffi;

use super::TaskObject;
use crate::event_loop::EventLoop;
use crate::ffi::{Instance, Owned, Result, This, call};
use crate::future::life::finalizing;
use crate::names::import;

/// asyncio's own registration.
struct Functions {
    register: Owned,
    unregister: Owned,
    #[cfg(Py_3_14)]
    awaited: Owned,
    #[cfg(Py_3_14)]
    not_awaited: Owned,
}

static FUNCTIONS: OnceLock<Functions> = OnceLock::new();

/// Looks asyncio's functions up.
pub fn load(_module: &Owned) -> Result<()> {
    if FUNCTIONS.get().is_none() {
        let found = Functions {
            register: import("_asyncio", "_register_task")?,
            unregister: import("_asyncio", "_unregister_task")?,
            #[cfg(Py_3_14)]
            awaited: import("_asyncio", "future_add_to_awaited_by")?,
            #[cfg(Py_3_14)]
            not_awaited: import("_asyncio", "future_discard_from_awaited_by")?,
        };
        let _ = FUNCTIONS.set(found);
    }
    Ok(())
}

/// Tasks of a loop, by place.
pub type Tasks = Vec<Owned>;

/// Adds a task to its loop's registry.
#[inline(always)]
pub fn add(owner: &Instance<EventLoop>, task: &TaskObject) {
    if task.is_registered() {
        return;
    }
    let object = task.owned();
    owner.tasks().with(|tasks| {
        tasks.push(object);
        task.place.store(tasks.len(), Ordering::Relaxed);
    });
    #[cfg(Py_3_14)]
    if list(task).is_err() {
        crate::ffi::raise::write_unraisable(Some(&task.owned()));
    }
}

/// Makes a task known, of whatever loop.
pub fn register(task: &TaskObject) -> Result<()> {
    match task.as_future().native_owner() {
        Some(owner) => {
            add(owner, task);
            Ok(())
        }
        None => list(task),
    }
}

/// Tells asyncio of a task.
fn list(task: &TaskObject) -> Result<()> {
    let Some(functions) = FUNCTIONS.get() else {
        return Ok(());
    };
    call(&functions.register, [&task.owned()])?;
    // Before 3.14 asyncio keeps a weak set, which forgets tasks by itself.
    task.inner.with(|inner| inner.listed = cfg!(Py_3_14));
    Ok(())
}

/// Has asyncio forget it.
pub fn unlist(task: &TaskObject) -> Result<()> {
    if !task.inner.with(|inner| std::mem::take(&mut inner.listed)) {
        return Ok(());
    }
    forget(task)
}

/// Has asyncio forget it, whoever has told of it.
pub fn forget(task: &TaskObject) -> Result<()> {
    match FUNCTIONS.get() {
        Some(functions) => call(&functions.unregister, [&task.owned()]).map(drop),
        None => Ok(()),
    }
}

/// A task that is done leaves.
#[inline(always)]
pub fn remove(task: &TaskObject) {
    let place = task.place.swap(0, Ordering::Relaxed);
    if place != 0
        && let Some(owner) = task.as_future().native_owner()
    {
        let removed = owner.tasks().with(|tasks| {
            // The loop may have been closed, which empties the registry.
            if tasks.get(place - 1).is_none_or(|found| found.as_ptr() != task.as_ptr()) {
                return None;
            }
            let removed = tasks.swap_remove(place - 1);
            if let Some(moved) = tasks.get(place - 1) {
                // SAFETY: registries hold tasks only.
                let moved: &TaskObject = unsafe { This::from_ptr(moved.as_ptr()) };
                moved.place.store(place, Ordering::Relaxed);
            }
            Some(removed)
        });
        drop(removed);
    }
    if cfg!(Py_3_14) && task.inner.with(|inner| inner.listed) {
        // What ended the task may be on its way out of the loop.
        finalizing(task.as_ptr(), || unlist(task));
    }
}

/// The loop's tasks that are not done, as a list.
pub fn all(owner: &Instance<EventLoop>) -> Result {
    let tasks = owner.tasks().get();
    // SAFETY: F1; each place of the new list is filled once, with a reference that it takes over.
    unsafe {
        let list = Owned::from_new(ffi::PyList_New(tasks.len() as isize))?;
        for (place, task) in tasks.into_iter().enumerate() {
            ffi::PyList_SET_ITEM(list.as_ptr(), place as isize, task.into_ptr());
        }
        Ok(list)
    }
}

/// Draws an edge of the call graph (from 3.14 on): `task` waits for `future`; or takes it back.
#[inline(always)]
pub fn draw_edge(task: &TaskObject, future: &Owned, waits: bool) -> Result<()> {
    #[cfg(Py_3_14)]
    if let Some(functions) = FUNCTIONS.get() {
        let function = if waits { &functions.awaited } else { &functions.not_awaited };
        return call(function, [future, &task.owned()]).map(drop);
    }
    let _ = (task, future, waits);
    Ok(())
}
