//! `Delegate`: `await` of any Python awaitable inside a native coroutine, as `yield from` does it.
//!
//! Source: PEP 380; PEP 492; CPython Objects/genobject.c (`_PyCoro_GetAwaitableIter`, `_gen_throw`).

use std::ffi::c_int;
use std::ptr;

use pyo3::ffi;

use super::exceptions;
use super::{Resume, Step};
use crate::ffi::raise::{self, type_error};
use crate::ffi::visitor::Visitor;
use crate::ffi::{Owned, Raised, Result};
use crate::names::names;

/// An awaitable that is being awaited.
pub struct Delegate {
    iterator: Owned,
}

/// `CO_ITERABLE_COROUTINE`: a generator that `types.coroutine` made awaitable.
const ITERABLE_COROUTINE: i64 = 0x100;

impl Delegate {
    /// Begins to await.
    ///
    /// # Errors
    /// `TypeError` for what cannot be awaited; whatever `__await__` raises.
    pub fn new(awaitable: Owned) -> Result<Self> {
        iterator_of(awaitable).map(|iterator| Self { iterator })
    }

    /// Goes on. What it yields is to be yielded, what it returns is the `await`'s value.
    ///
    /// # Errors
    /// What the awaitable raises; after [`Resume::Close`] always `GeneratorExit` or what its clean-up raised.
    pub fn step(&self, resume: Resume<'_>) -> Result<Step> {
        match resume {
            Resume::Send(value) => self.send(value),
            Resume::Throw(exception) => self.throw(exception),
            Resume::Close => {
                if let Some(close) = self.optional(&names().close)? {
                    drop(crate::ffi::call(&close, [])?);
                }
                Err(exceptions::generator_exit())
            }
        }
    }

    fn send(&self, value: Option<&Owned>) -> Result<Step> {
        let mut given = ptr::null_mut();
        // SAFETY: F1; living objects; the result is a new reference unless it raised.
        unsafe {
            let value = value.map_or(ffi::Py_None(), Owned::as_ptr);
            match ffi::PyIter_Send(self.iterator.as_ptr(), value, &raw mut given) {
                ffi::PySendResult::PYGEN_RETURN => Ok(Step::Returned(Owned::from_new(given)?)),
                ffi::PySendResult::PYGEN_NEXT => Ok(Step::Yielded(Owned::from_new(given)?)),
                ffi::PySendResult::PYGEN_ERROR => Err(Raised),
            }
        }
    }

    fn throw(&self, exception: Owned) -> Result<Step> {
        let Some(throw) = self.optional(&names().throw)? else {
            return Err(raise::restore(exception));
        };
        match crate::ffi::call(&throw, [&exception]) {
            Ok(yielded) => Ok(Step::Yielded(yielded)),
            // SAFETY: the class is alive while the interpreter is.
            Err(Raised) if unsafe { raise::matches(ffi::PyExc_StopIteration) } => {
                let Some(stop) = raise::take() else {
                    return Err(Raised);
                };
                stop.attr(&names().value).map(Step::Returned)
            }
            Err(raised) => Err(raised),
        }
    }

    /// A method that an iterator may lack.
    fn optional(&self, name: &Owned) -> Result<Option<Owned>> {
        match self.iterator.attr(name) {
            Ok(method) => Ok(Some(method)),
            // SAFETY: the class is alive while the interpreter is.
            Err(Raised) if unsafe { raise::matches(ffi::PyExc_AttributeError) } => {
                drop(raise::take());
                Ok(None)
            }
            Err(raised) => Err(raised),
        }
    }

    /// Shows its reference to the collector.
    pub fn traverse(&self, visitor: Visitor) -> c_int {
        visitor.all([&self.iterator])
    }
}

/// What `await` iterates: the coroutine itself, or what `__await__` gives.
fn iterator_of(awaitable: Owned) -> Result {
    // SAFETY: F1; living objects, and slots are called as the interpreter does it.
    unsafe {
        let pointer = awaitable.as_ptr();
        let kind = ffi::Py_TYPE(pointer);
        if ffi::PyCoro_CheckExact(pointer) != 0 || is_generator_coroutine(&awaitable)? {
            return Ok(awaitable);
        }
        let slot = (*kind).tp_as_async;
        let Some(get) = slot.as_ref().and_then(|slots| slots.am_await) else {
            let name = std::ffi::CStr::from_ptr((*kind).tp_name).to_string_lossy();
            return Err(type_error(&format!("object {name} can't be used in 'await' expression")));
        };
        let iterator = Owned::from_new(get(pointer))?;
        if ffi::PyIter_Check(iterator.as_ptr()) == 0 {
            let name = std::ffi::CStr::from_ptr((*ffi::Py_TYPE(iterator.as_ptr())).tp_name);
            return Err(type_error(&format!(
                "__await__() returned non-iterator of type '{}'",
                name.to_string_lossy()
            )));
        }
        if ffi::PyCoro_CheckExact(iterator.as_ptr()) != 0 {
            return Err(type_error("__await__() returned a coroutine"));
        }
        Ok(iterator)
    }
}

fn is_generator_coroutine(awaitable: &Owned) -> Result<bool> {
    // SAFETY: F1; a living object.
    if unsafe { ffi::PyGen_CheckExact(awaitable.as_ptr()) } == 0 {
        return Ok(false);
    }
    let names = names();
    let flags = awaitable.attr(&names.gi_code)?.attr(&names.co_flags)?;
    // SAFETY: F1; a code object's flags are an int.
    Ok(unsafe { ffi::PyLong_AsLong(flags.as_ptr()) } & ITERABLE_COROUTINE != 0)
}
