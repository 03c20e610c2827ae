//! Tasks made by native code, by `loop.create_task` and by `Task(...)`.
//!
//! Source: CPython Lib/asyncio/tasks.py (`Task.__init__`), Lib/asyncio/base_events.py (`create_task`).

use std::ffi::CStr;
use std::sync::atomic::Ordering;

use pyo3::ffi;

use super::{Name, TaskObject, life, next_number, registry};
use crate::event_loop::{EventLoop, running};
use crate::ffi::function::{Function, add_functions};
use crate::ffi::raise::{self, Raised, type_error};
use crate::ffi::{Args, GilCell, Instance, Owned, Result, This, call};
use crate::names::{import, names};
use crate::work::{Kind, Work};

/// A task of a loop of ours, its first step due.
#[inline]
pub fn spawn(
    owner: &Instance<EventLoop>,
    coro: Owned,
    name: Option<Owned>,
    context: Option<Owned>,
) -> Result {
    let task = life::create(owner)?;
    // SAFETY: made as a task.
    let this: &TaskObject = unsafe { This::from_ptr(task.as_ptr()) };
    if owner.debug() {
        owner.check_thread()?;
        this.as_future().remember_origin()?;
    }
    this.take_coroutine(coro, name, context)?;
    registry::add(owner, this);
    owner.push(Work::new(Kind::Step, task.clone()));
    Ok(task)
}

/// Types beside the interpreter's own that asyncio took for coroutines' before; it keeps such a list, too.
static COROUTINE_TYPES: GilCell<Vec<Owned>> = GilCell::new(Vec::new());
const MOST_TYPES: usize = 64;

/// # Errors
/// `TypeError`: this is no coroutine.
#[inline(always)]
fn check_coroutine(coro: &Owned) -> Result<()> {
    // SAFETY: F1; comparing the type of a living object.
    if unsafe { ffi::PyCoro_CheckExact(coro.as_ptr()) } != 0 { Ok(()) } else { check_coroutine_slowly(coro) }
}

fn check_coroutine_slowly(coro: &Owned) -> Result<()> {
    // SAFETY: a living object has a type.
    let kind = unsafe { Owned::from_borrowed(ffi::Py_TYPE(coro.as_ptr()).cast()) };
    if COROUTINE_TYPES.with(|types| types.iter().any(|known| known.as_ptr() == kind.as_ptr())) {
        return Ok(());
    }
    // asyncio's own function: what counts differs from version to version.
    if call(&import("asyncio.coroutines", "iscoroutine")?, [coro])?.truth()? {
        COROUTINE_TYPES.with(|types| {
            if types.len() < MOST_TYPES {
                types.push(kind);
            }
        });
        return Ok(());
    }
    // SAFETY: F1; the format takes an object.
    unsafe {
        ffi::PyErr_Format(ffi::PyExc_TypeError, c"a coroutine was expected, got %R".as_ptr(), coro.as_ptr());
    }
    Err(explain_generator(coro, Raised))
}

/// Adds to the exception that is set what became of coroutines that were generators, if it is about one.
#[cold]
pub fn explain_generator(object: &Owned, raised: Raised) -> Raised {
    // SAFETY: F1; comparing the type of a living object.
    if unsafe { ffi::PyGen_CheckExact(object.as_ptr()) } == 0 {
        return raised;
    }
    raise::add_note(
        "Generators are no coroutines any more (since Python 3.12): write 'async def' instead of '@asyncio.coroutine', \
         and 'await' instead of 'yield from'.",
    )
}

/// The name as a `str`.
pub(super) fn text(name: Owned) -> Result {
    // SAFETY: F1; a living object.
    unsafe {
        if ffi::PyUnicode_CheckExact(name.as_ptr()) != 0 {
            Ok(name)
        } else {
            Owned::from_new(ffi::PyObject_Str(name.as_ptr()))
        }
    }
}

/// As asyncio checks it from 3.15 on; before, the first step finds out.
///
/// # Errors
/// `TypeError`: this is no context.
fn check_context(context: &Owned) -> Result<()> {
    // SAFETY: F1; a living object, whose type has a name.
    unsafe {
        if ffi::PyContext_CheckExact(context.as_ptr()) != 0 {
            return Ok(());
        }
        let name = CStr::from_ptr((*ffi::Py_TYPE(context.as_ptr())).tp_name).to_string_lossy();
        Err(type_error(&format!("a contextvars.Context was expected, got {name}")))
    }
}

impl TaskObject {
    /// Gives a new task what it runs.
    #[inline(always)]
    fn take_coroutine(&self, coro: Owned, name: Option<Owned>, context: Option<Owned>) -> Result<()> {
        check_coroutine(&coro)?;
        let context = match context {
            Some(context) => {
                if cfg!(Py_3_15) {
                    check_context(&context)?;
                }
                context
            }
            // SAFETY: F1; gives a new reference or null.
            None => unsafe { Owned::from_new(ffi::PyContext_CopyCurrent())? },
        };
        let name = match name {
            None => Name::number(next_number()),
            Some(name) => Name::text(text(name)?),
        };
        let before = self.inner.with(|inner| {
            inner.reports_its_loss = true;
            let before = (inner.coro.replace(coro), inner.context.replace(context));
            (before, std::mem::replace(&mut inner.name, name))
        });
        drop(before);
        #[cfg(Py_3_14)]
        super::shown::fill(self)?;
        Ok(())
    }

    /// `__init__`: of any loop, and perhaps with its first step at once.
    pub fn initialise_task(
        &self,
        owner: Option<Owned>,
        coro: Owned,
        name: Option<Owned>,
        context: Option<Owned>,
        eager: bool,
    ) -> Result<()> {
        self.as_future().initialise(owner)?;
        registry::remove(self);
        drop(self.inner.take());
        self.take_coroutine(coro, name, context)?;
        if eager && self.is_loop_running()? {
            return self.start_eagerly();
        }
        match self.as_future().native_owner() {
            // A closed loop refuses in `schedule_step`.
            Some(owner) if !owner.is_closed() => {
                registry::add(owner, self);
                owner.push(Work::new(Kind::Step, self.owned()));
                Ok(())
            }
            _ => {
                self.schedule_step()?;
                registry::register(self)
            }
        }
    }

    fn is_loop_running(&self) -> Result<bool> {
        match self.as_future().native_owner() {
            Some(owner) => Ok(owner.is_running()),
            None => {
                let owner = self.as_future().owner_or_none();
                crate::ffi::call_method(&owner, &names().is_running, [])?.truth()
            }
        }
    }

    /// Whether the loop has it in its registry.
    pub(super) fn is_registered(&self) -> bool {
        self.place.load(Ordering::Relaxed) != 0
    }
}

/// `asyncio.create_task`: the running loop's, whatever loop that is.
fn create_task(args: Args<'_>) -> Result {
    args.at_least(1, &["coro"])?;
    if args.positional().len() > 1 {
        return Err(type_error(&format!(
            "create_task() takes 1 positional argument but {} were given",
            args.positional().len()
        )));
    }
    args.forward(&running()?.attr(&names().create_task)?)
}

/// The functions of this file.
const FUNCTIONS: [Function; 1] = [(
    c"create_task",
    crate::function!(c"create_task", create_task),
    c"create_task(coro, **kwargs)\n--\n\nRun the coroutine as a task of the running loop; `name`, `context` and others \
      are the loop's `create_task`'s.",
)];

/// Adds the functions.
pub(super) fn load(module: &Owned) -> Result<()> {
    add_functions(module, FUNCTIONS)
}
