//! The coroutine that waits for one child of an `as_completed`: the next to end.
//!
//! Source: CPython Lib/asyncio/tasks.py (`_wait_for_one`, `__anext__`); Lib/asyncio/queues.py (`Queue.get`).

use std::ffi::{CStr, c_int};

use antiphon_core::Arrival;
use pyo3::ffi;

use super::as_completed::{claim_or_stop, of};
use super::child;
use super::waiter::Waiter;
use crate::coroutine::{self, Class, Operation, Resume, Step};
use crate::ffi::visitor::Visitor;
use crate::ffi::{Owned, Raised, Result, raise};

/// Waits for one.
pub struct NextCompleted {
    iterator: Owned,
    /// Give the child's result, and not the child.
    resolve: bool,
    waiter: Option<Waiter>,
}

static CLASS: Class = Class::new();

/// Makes the coroutine. `resolve`: it gives the child's result and was claimed for; else it gives the child, and claims.
pub fn make(iterator: Owned, resolve: bool) -> Result {
    let name = match (resolve, cfg!(Py_3_13)) {
        (false, _) => "_AsCompletedIterator.__anext__",
        (true, true) => "_AsCompletedIterator._wait_for_one",
        (true, false) => "as_completed.<locals>._wait_for_one",
    };
    coroutine::make(name, NextCompleted { iterator, resolve, waiter: None })
}

impl NextCompleted {
    fn look(&mut self) -> Result<Step> {
        match of(&self.iterator).take() {
            Some(Arrival::Child(child)) if self.resolve => child::result(&child).map(Step::Returned),
            Some(Arrival::Child(child)) => Ok(Step::Returned(child)),
            Some(Arrival::TimedOut) => {
                // SAFETY: F1; the class is alive while the interpreter is.
                unsafe { ffi::PyErr_SetNone(ffi::PyExc_TimeoutError) };
                Err(Raised)
            }
            None => {
                let waiter = of(&self.iterator).wait()?;
                let step = waiter.step()?;
                self.waiter = Some(waiter);
                Ok(step)
            }
        }
    }

    /// The wait ended without an arrival for it.
    fn give_up(&self, waiter: &Waiter) -> Result<()> {
        let iterator = of(&self.iterator);
        let pending = raise::take();
        if cfg!(Py_3_14) {
            iterator.give_up_claim();
        }
        iterator.forget(waiter)?;
        Err(pending.map_or(Raised, raise::restore))
    }
}

impl Operation for NextCompleted {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.NextCompleted";
    type Binding = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        match self.waiter.take() {
            None => {
                if !self.resolve {
                    claim_or_stop(of(&self.iterator))?;
                }
            }
            Some(waiter) => {
                if waiter.resumed(resume).is_err() {
                    self.give_up(&waiter)?;
                }
            }
        }
        self.look()
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        visitor.all([&self.iterator].into_iter().chain(self.waiter.as_ref().map(Waiter::future)))
    }
}

/// Makes the type.
pub fn load(module: &Owned) -> Result<()> {
    coroutine::load::<NextCompleted>(module)
}
