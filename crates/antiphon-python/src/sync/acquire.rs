//! `acquire()` of locks and semaphores: at once if it can be, else one future.

use std::ffi::{CStr, c_int};

use crate::coroutine::{Class, Operation, Resume, Step};
use crate::ffi::instance::Typed;
use crate::ffi::visitor::Visitor;
use crate::ffi::{Owned, Result};
use crate::future::FutureRef;

use super::bound::Bound;
use super::object::Object;
use super::waiter::{self, Waiter};

/// What can be acquired.
pub trait Acquirable: Object + 'static {
    /// The dotted name of the coroutines' type.
    const COROUTINE: &'static CStr;
    /// Their type object.
    fn coroutine_class() -> &'static Class;
    /// Its loop.
    fn bound(&self) -> &Bound;
    /// Takes it if that can be done at once.
    fn try_acquire(&self) -> bool;
    /// Takes it, or queues up; whether it was taken.
    fn acquire_or_wait(&self, waiter: Waiter) -> bool;
    /// A waiter that was woken runs again, and has it.
    fn resume(&self, waiter: &Waiter);
    /// A waiter gives up.
    fn abandon(&self, waiter: &Waiter);
}

/// An acquisition under way.
pub struct Acquire<T: Acquirable> {
    object: Typed<T>,
    waits_with: Option<FutureRef>,
}

impl<T: Acquirable> Acquire<T> {
    /// To be stepped.
    pub fn new(object: Typed<T>) -> Self {
        Self { object, waits_with: None }
    }

    /// One step. What it returns says that it is acquired.
    #[inline]
    pub fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        match self.waits_with.take() {
            None if self.object.try_acquire() => Ok(Step::Returned(Owned::bool(true))),
            None => self.wait(),
            Some(future) => {
                let waiter = Waiter::Native(future.clone());
                match waiter::resumed(&future, resume) {
                    Ok(()) => self.object.resume(&waiter),
                    Err(raised) => {
                        return Err(waiter::cleaning_up(raised, || self.object.abandon(&waiter)));
                    }
                }
                Ok(Step::Returned(Owned::bool(true)))
            }
        }
    }

    fn wait(&mut self) -> Result<Step> {
        let future = self.object.bound().future(self.object.object())?;
        // Whoever had it may have given it back while the future was made.
        if self.object.acquire_or_wait(Waiter::Native(future.clone())) {
            return Ok(Step::Returned(Owned::bool(true)));
        }
        let yielded = waiter::suspend(&future);
        self.waits_with = Some(future);
        Ok(yielded)
    }

    /// Shows its references to the collector.
    pub fn traverse(&self, visitor: Visitor) -> c_int {
        visitor.all([self.object.object()].into_iter().chain(self.waits_with.as_ref().map(FutureRef::object)))
    }
}

/// The body of `acquire()`, which returns true, and of `__aenter__()`, which returns nothing.
pub struct AcquireOperation<T: Acquirable> {
    acquire: Acquire<T>,
    entering: bool,
}

impl<T: Acquirable> AcquireOperation<T> {
    /// `entering`: for `async with`.
    pub fn new(object: Typed<T>, entering: bool) -> Self {
        Self { acquire: Acquire::new(object), entering }
    }
}

impl<T: Acquirable> Operation for AcquireOperation<T> {
    const TYPE_NAME: &'static CStr = T::COROUTINE;

    fn class() -> &'static Class {
        T::coroutine_class()
    }

    #[inline]
    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        match self.acquire.step(resume)? {
            Step::Returned(_) if self.entering => Ok(Step::Returned(Owned::none())),
            step => Ok(step),
        }
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        self.acquire.traverse(visitor)
    }
}
