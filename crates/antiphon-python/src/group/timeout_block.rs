//! Entering and leaving a [`Timeout`]'s block, and what the block's exception becomes.
//!
//! Source: CPython Lib/asyncio/timeouts.py (`__aenter__`, `__aexit__`, `_insert_timeout_error`).

use std::ffi::{CStr, c_int};

use pyo3::ffi;

use super::timeout::{Timeout, derived};
use crate::coroutine::special::{self, Special};
use crate::coroutine::{self, Class, LookedUp, Operation, Resume, Step};
#[cfg(not(Py_3_14))]
use crate::ffi::Payload;
use crate::ffi::raise;
use crate::ffi::visitor::Visitor;
use crate::ffi::{Args, Instance, Owned, Result, call};
use crate::names::names;

/// `Timeout.__aenter__()`.
pub struct Enter(Owned);

static ENTER: Class = Class::new();
static LEAVE: Class = Class::new();

const ENTER_NAME: &str = "Timeout.__aenter__";
const LEAVE_NAME: &str = "Timeout.__aexit__";

/// `timeout.__aenter__(…)`
pub fn enter(timeout: &Owned, args: Args<'_>) -> Result {
    special::make::<Enter>(ENTER_NAME, timeout, args)
}

/// `timeout.__aexit__(…)`
pub fn leave(timeout: &Owned, args: Args<'_>) -> Result {
    special::make::<Leave>(LEAVE_NAME, timeout, args)
}

/// Gives the type the methods of `async with`.
#[cfg(not(Py_3_14))]
pub fn add_methods(class: *mut ffi::PyTypeObject) -> Result<()> {
    /// The short way is for the type itself.
    fn bind<O: special::Special>(name: &'static str, timeout: &Owned) -> Result<Option<Owned>> {
        if !timeout.is_exactly(Timeout::type_object()) {
            return Ok(None);
        }
        special::bind::<O>(name, timeout.clone()).map(Some)
    }
    special::add_method(class, "__aenter__", |timeout| bind::<Enter>(ENTER_NAME, timeout), enter)?;
    special::add_method(class, "__aexit__", |timeout| bind::<Leave>(LEAVE_NAME, timeout), leave)
}

impl Special for Enter {
    #[inline(always)]
    fn of(object: &Owned) -> Option<Self> {
        derived(object).map(|_| Self(object.clone()))
    }
}

impl Operation for Enter {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.TimeoutEnter";
    type Binding = LookedUp;

    fn class() -> &'static Class {
        &ENTER
    }

    #[inline]
    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        resume.check()?;
        of(&self.0).enter()?;
        Ok(Step::Returned(self.0.clone()))
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        visitor.all([&self.0])
    }
}

/// `Timeout.__aexit__(exc_type, exc_val, exc_tb)`.
pub struct Leave {
    timeout: Owned,
    exception: Option<Owned>,
}

impl Special for Leave {
    #[inline(always)]
    fn of(object: &Owned) -> Option<Self> {
        derived(object).map(|_| Self { timeout: object.clone(), exception: None })
    }

    /// The block's end was reached.
    #[inline(always)]
    fn says_nothing(args: Args<'_>) -> bool {
        // SAFETY: `None` is alive while the interpreter is.
        let none = unsafe { ffi::Py_None() };
        !args.has_keywords() && matches!(args.positional(), [kind, _, _] if *kind == none)
    }

    fn take_arguments(&mut self, args: Args<'_>) -> Result<()> {
        let names = names();
        let [kind, exception, _] = args.exactly([&names.exc_type, &names.exc_val, &names.exc_tb])?;
        self.exception = if kind.is_none() || exception.is_none() { None } else { Some(exception) };
        Ok(())
    }
}

impl Operation for Leave {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.TimeoutLeave";
    type Binding = LookedUp;

    fn class() -> &'static Class {
        &LEAVE
    }

    #[inline]
    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        resume.check()?;
        of(&self.timeout).leave(self.exception.as_ref())?;
        Ok(Step::Returned(Owned::none()))
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        visitor.all([&self.timeout].into_iter().chain(&self.exception))
    }
}

fn of(timeout: &Owned) -> &Instance<Timeout> {
    // SAFETY: the coroutines of this file are made by methods of `Timeout` only (F2).
    unsafe { Instance::from_ptr(timeout.as_ptr()) }
}

fn is_instance(object: &Owned, class: *mut ffi::PyObject) -> bool {
    // SAFETY: F1; a living exception and a class.
    unsafe { ffi::PyErr_GivenExceptionMatches(object.as_ptr(), class) != 0 }
}

/// `TimeoutError()`, with `cause` as its cause and context.
pub fn timeout_error(cause: &Owned) -> Result {
    // SAFETY: F1; the class is alive while the interpreter is; both setters take a reference over.
    unsafe {
        let error = call(&Owned::from_borrowed(ffi::PyExc_TimeoutError), [])?;
        ffi::PyException_SetCause(error.as_ptr(), cause.clone().into_ptr());
        ffi::PyException_SetContext(error.as_ptr(), cause.clone().into_ptr());
        Ok(error)
    }
}

/// The timeout was the reason of the cancellation: a cancellation that leaves the block becomes `TimeoutError`, and one that
/// another exception hides is explained there (from 3.13 on).
///
/// # Errors
/// `TimeoutError`.
#[cold]
pub fn explain(exception: &Owned) -> Result<()> {
    let cancelled = names().cancelled_error.as_ptr();
    let is_cancellation = if cfg!(Py_3_13) {
        is_instance(exception, cancelled)
    } else {
        // SAFETY: a living object.
        unsafe { ffi::Py_TYPE(exception.as_ptr()).cast() == cancelled }
    };
    if is_cancellation {
        let error = timeout_error(exception)?;
        // Its context is the cancellation, whatever is handled further out.
        return Err(raise::restore(error));
    }
    if cfg!(Py_3_13) {
        insert_timeout_error(exception)?;
        let group = &names().exception_group;
        if is_instance(exception, group.as_ptr()) {
            let exceptions = exception.attr(&names().exceptions)?;
            // SAFETY: F1; living objects; the list is ours.
            unsafe {
                let exceptions = Owned::from_new(ffi::PySequence_List(exceptions.as_ptr()))?;
                for place in 0..ffi::PyList_GET_SIZE(exceptions.as_ptr()) {
                    let one = ffi::PyList_GET_ITEM(exceptions.as_ptr(), place);
                    insert_timeout_error(&Owned::from_borrowed(one))?;
                }
            }
        }
    }
    Ok(())
}

/// Puts a `TimeoutError` between an exception and the cancellation in whose handling it was raised.
fn insert_timeout_error(exception: &Owned) -> Result<()> {
    let mut current = exception.clone();
    loop {
        // SAFETY: F1; a living exception; gives a new reference or null, without an error.
        let context = unsafe { Owned::from_new(ffi::PyException_GetContext(current.as_ptr())) };
        let Ok(context) = context else {
            return Ok(());
        };
        if is_instance(&context, names().cancelled_error.as_ptr()) {
            let error = timeout_error(&context)?;
            // SAFETY: F1; the reference is taken over.
            unsafe { ffi::PyException_SetContext(current.as_ptr(), error.into_ptr()) };
            return Ok(());
        }
        current = context;
    }
}

/// Makes the types.
pub fn load(module: &Owned) -> Result<()> {
    coroutine::load_special::<Enter>(module)?;
    coroutine::load_special::<Leave>(module)
}
