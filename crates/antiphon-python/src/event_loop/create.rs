//! `create_future`, `create_task` and task factories.
//!
//! Tasks are antiphon's, unless a program has put a class of its own in the place of `asyncio.tasks.Task`.
//!
//! Source: CPython Lib/asyncio/base_events.py.

use std::ptr;

use pyo3::ffi;

use super::EventLoop;
use crate::ffi::raise::{runtime_error, type_error};
use crate::ffi::{Args, HeapType, Instance, Owned, Result};
use crate::names::names;
use crate::task::create::spawn;
use crate::task::task_type;
use crate::{method, method_noargs, method_one};

fn create_future(this: &Instance<EventLoop>) -> Result {
    Ok(crate::future::FutureRef::new(this)?.into_object())
}

fn create_task(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    args.at_least(1, &["coro"])?;
    if args.positional().len() > 1 {
        return Err(type_error(&format!(
            "create_task() takes 2 positional arguments but {} were given",
            args.positional().len() + 1
        )));
    }
    this.check_open()?;
    let names = names();
    if this.has_task_factory() {
        return args.forward(&this.owned().attr(&names._create_task_slow)?);
    }
    let class = task_class()?;
    if class.as_ptr() != names.base_task_class.as_ptr() && class.as_ptr() != task_type().cast() {
        return args.forward(&this.owned().attr(&names._create_task_slow)?);
    }
    // SAFETY: F1; the coroutine is alive during the call.
    let coro = unsafe { Owned::from_borrowed(args.positional()[0]) };
    if !args.has_keywords() {
        return spawn(this, coro, None, None);
    }
    if let Some([name, context]) = args.known_keywords([&names.name, &names.context]) {
        return spawn(this, coro, name, context);
    }
    // SAFETY: a type object is an object.
    let class = unsafe { Owned::from_borrowed(task_type().cast()) };
    args.forward_with(&class, &names.loop_, this.as_ptr())
}

/// The class that asyncio makes tasks of now: programs replace it, as for asyncio's own loop.
#[inline]
fn task_class() -> Result {
    let names = names();
    #[cfg(not(Py_GIL_DISABLED))]
    // SAFETY: F1; the dict of a module and a string. What is borrowed from it stays while nothing runs.
    unsafe {
        let class = ffi::PyDict_GetItemWithError(names.tasks_namespace.as_ptr(), names.Task.as_ptr());
        if !class.is_null() {
            return Ok(Owned::from_borrowed(class));
        }
    }
    let mut class = ptr::null_mut();
    // SAFETY: F1; the dict of a module and a string; a new reference is written to `class`, or null.
    match unsafe {
        ffi::compat::PyDict_GetItemRef(names.tasks_namespace.as_ptr(), names.Task.as_ptr(), &raw mut class)
    } {
        0 => Err(runtime_error("asyncio.tasks has no Task")),
        // SAFETY: F1; null where the look-up failed.
        _ => unsafe { Owned::from_new(class) },
    }
}

fn set_task_factory(this: &Instance<EventLoop>, factory: &Owned) -> Result {
    // SAFETY: F1; a living object.
    if !factory.is_none() && unsafe { ffi::PyCallable_Check(factory.as_ptr()) } == 0 {
        return Err(type_error("task factory must be a callable or None"));
    }
    let factory = if factory.is_none() { None } else { Some(factory.clone()) };
    drop(this.task_factory.replace(factory));
    Ok(Owned::none())
}

fn get_task_factory(this: &Instance<EventLoop>) -> Result {
    Ok(this.task_factory.get().unwrap_or_else(Owned::none))
}

impl Args<'_> {
    /// Calls `callable` with these very arguments.
    pub fn forward(&self, callable: &Owned) -> Result {
        // SAFETY: F1; the arguments are those of a call that lasts longer.
        unsafe {
            Owned::from_new(ffi::PyObject_Vectorcall(
                callable.as_ptr(),
                self.values().as_ptr(),
                self.positional().len(),
                self.keywords(),
            ))
        }
    }

    /// Calls `callable` with these arguments and one keyword more.
    #[inline]
    pub fn forward_with(&self, callable: &Owned, name: &Owned, value: *mut ffi::PyObject) -> Result {
        if !self.has_keywords() && self.positional().len() == 1 {
            let values = [ptr::null_mut(), self.positional()[0], value];
            // SAFETY: F1; one positional and one named argument, a free place in front.
            return unsafe {
                Owned::from_new(ffi::PyObject_Vectorcall(
                    callable.as_ptr(),
                    values.as_ptr().add(1),
                    1 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                    names().loop_keyword.as_ptr(),
                ))
            };
        }
        let mut values = vec![ptr::null_mut()];
        values.extend_from_slice(self.values());
        values.push(value);
        // SAFETY: F1; the new keyword tuple takes a reference to each name, in the values' order.
        unsafe {
            let given = self.values().len() - self.positional().len();
            let keywords = Owned::from_new(ffi::PyTuple_New(given as isize + 1))?;
            for place in 0..given {
                let name = Owned::from_borrowed(ffi::PyTuple_GET_ITEM(self.keywords(), place as isize));
                ffi::PyTuple_SET_ITEM(keywords.as_ptr(), place as isize, name.into_ptr());
            }
            ffi::PyTuple_SET_ITEM(keywords.as_ptr(), given as isize, name.clone().into_ptr());
            Owned::from_new(ffi::PyObject_Vectorcall(
                callable.as_ptr(),
                values.as_ptr().add(1),
                self.positional().len() | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                keywords.as_ptr(),
            ))
        }
    }
}

/// Adds this file's methods to the type.
pub fn add_methods(kind: HeapType) -> HeapType {
    kind.method_noargs(c"create_future", method_noargs!(create_future), c"A Future of this loop.")
        .method(
            c"create_task",
            method!(c"create_task", create_task),
            c"create_task(coro, *, name=None, context=None, ...): run the coroutine as a Task of this loop.",
        )
        .method_one(
            c"set_task_factory",
            method_one!(set_task_factory),
            c"set_task_factory(factory): called as factory(loop, coro, ...) for every task; None: the default.",
        )
        .method_noargs(c"get_task_factory", method_noargs!(get_task_factory), c"The task factory, or None.")
}
