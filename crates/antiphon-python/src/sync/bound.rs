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

/// The loop, once it is known, and whether it is one of ours.
#[derive(Default)]
pub struct Bound(GilCell<Option<(Owned, bool)>>);

impl Bound {
    /// The running loop, and whether it is one of ours.
    #[inline]
    fn look(&self, this: &Owned) -> Result<(Owned, bool)> {
        // The thread that runs a loop of ours holds its seat (S1), and runs no other.
        let mine = self.0.with(|bound| bound.clone()).filter(|(bound, native)| {
            // SAFETY: a loop of ours, if it is said to be one.
            *native && unsafe { Instance::<EventLoop>::from_ptr(bound.as_ptr()) }.seat().is_mine()
        });
        if let Some(mine) = mine {
            return Ok(mine);
        }
        let running = running()?;
        let native = self.0.with(|bound| match bound {
            Some((bound, native)) => Ok((bound.as_ptr() == running.as_ptr()).then_some(*native)),
            None => Err(()),
        });
        match native {
            Ok(Some(native)) => Ok((running, native)),
            Ok(None) => Err(bound_elsewhere(this)),
            Err(()) => {
                let native = is_native(&running);
                self.0.with(|bound| bound.get_or_insert((running.clone(), native)).1);
                // Another thread may have been faster, with another loop.
                let same =
                    self.0.with(|bound| bound.as_ref().is_some_and(|(b, _)| b.as_ptr() == running.as_ptr()));
                if same { Ok((running, native)) } else { Err(bound_elsewhere(this)) }
            }
        }
    }

    /// The running loop.
    ///
    /// # Errors
    /// `RuntimeError` if there is none, or if `this` belongs to another.
    pub fn get_loop(&self, this: &Owned) -> Result {
        self.look(this).map(|(running, _)| running)
    }

    /// A pending future of that loop, native whatever the loop is.
    ///
    /// # Errors
    /// As [`Self::get_loop`].
    #[inline]
    pub fn future(&self, this: &Owned) -> Result<FutureRef> {
        let (running, native) = self.look(this)?;
        if native {
            // SAFETY: a loop of ours.
            return FutureRef::new(unsafe { Instance::from_ptr(running.as_ptr()) });
        }
        // SAFETY: a type object is an object.
        let class = unsafe { Owned::from_borrowed(future::future_type().cast()) };
        let made = call_with_keywords(&class, &[&running], Some(&names().loop_keyword))?;
        FutureRef::cast(&made).cloned().ok_or_else(|| runtime_error("a future is no future"))
    }

    /// `_loop`
    pub fn get(&self) -> Option<Owned> {
        self.0.with(|bound| bound.as_ref().map(|(bound, _)| bound.clone()))
    }

    /// Sets `_loop`.
    pub fn set(&self, owner: Option<Owned>) {
        let bound = owner.map(|owner| {
            let native = is_native(&owner);
            (owner, native)
        });
        drop(self.0.replace(bound));
    }

    /// Shows its reference to the collector.
    pub fn visit(&self, visitor: Visitor) -> std::ffi::c_int {
        self.0.with(|bound| visitor.all(bound.iter().map(|(bound, _)| bound)))
    }
}

fn is_native(owner: &Owned) -> bool {
    // SAFETY: F1; a living object.
    unsafe { ffi::PyObject_TypeCheck(owner.as_ptr(), EventLoop::type_object()) != 0 }
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
