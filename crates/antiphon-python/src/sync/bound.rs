//! Which loop a primitive belongs to: the one that runs when somebody first has to wait for it.
//!
//! Source: CPython Lib/asyncio/mixins.py (`_LoopBoundMixin`).

use pyo3::ffi;

use crate::event_loop::EventLoop;
use crate::event_loop::run::running;
use crate::ffi::call::call_with_keywords;
use crate::ffi::raise::runtime_error;
use crate::ffi::visitor::Visitor;
use crate::ffi::{GilCell, Instance, Owned, Payload, Raised, Result};
use crate::future::{self, FutureRef};
use crate::names::names;

/// The loop, once it is known.
#[derive(Default)]
pub struct Bound(GilCell<Option<Owned>>);

impl Bound {
    /// The running loop.
    ///
    /// # Errors
    /// `RuntimeError` if there is none, or if `this` belongs to another.
    pub fn get_loop(&self, this: &Owned) -> Result {
        let running = running()?;
        let same = self.0.with(|bound| match bound {
            Some(bound) => bound.as_ptr() == running.as_ptr(),
            None => {
                *bound = Some(running.clone());
                true
            }
        });
        if same { Ok(running) } else { Err(bound_elsewhere(this)) }
    }

    /// A pending future of that loop.
    ///
    /// # Errors
    /// As [`Self::get_loop`].
    pub fn future(&self, this: &Owned) -> Result<FutureRef> {
        future_of(&self.get_loop(this)?)
    }

    /// `_loop`
    pub fn get(&self) -> Option<Owned> {
        self.0.get()
    }

    /// Sets `_loop`.
    pub fn set(&self, owner: Option<Owned>) {
        drop(self.0.replace(owner));
    }

    /// Shows its reference to the collector.
    pub fn visit(&self, visitor: Visitor) -> std::ffi::c_int {
        self.0.with(|bound| visitor.all(bound.iter()))
    }
}

#[cold]
fn bound_elsewhere(this: &Owned) -> Raised {
    // SAFETY: F1; a living object.
    match unsafe { Owned::from_new(ffi::PyObject_Repr(this.as_ptr())) } {
        Ok(text) => {
            // SAFETY: F1; the format takes an object.
            unsafe {
                ffi::PyErr_Format(
                    ffi::PyExc_RuntimeError,
                    c"%S is bound to a different event loop".as_ptr(),
                    text.as_ptr(),
                );
            }
            Raised
        }
        Err(raised) => raised,
    }
}

/// A pending future, native whatever the loop is.
fn future_of(owner: &Owned) -> Result<FutureRef> {
    // SAFETY: F1; a living object, whose type is asked before it is taken for a loop of ours.
    unsafe {
        if ffi::PyObject_TypeCheck(owner.as_ptr(), EventLoop::type_object()) != 0 {
            return FutureRef::new(Instance::from_ptr(owner.as_ptr()));
        }
        let class = Owned::from_borrowed(future::future_type().cast());
        let made = call_with_keywords(&class, &[owner], Some(&names().loop_keyword))?;
        FutureRef::cast(&made).cloned().ok_or_else(|| runtime_error("a future is no future"))
    }
}
