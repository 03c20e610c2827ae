//! `acquire()` and `async with` of locks and semaphores: at once if it can be, else one future.

use std::ffi::{CStr, c_int};

use crate::coroutine::special::Special;
use crate::coroutine::{self, Class, LookedUp, Operation, Resume, Step};
use crate::ffi::instance::Typed;
use crate::ffi::visitor::Visitor;
use crate::ffi::{Owned, Result};
use crate::future::FutureRef;

use super::bound::Bound;
use super::object::Object;
use super::waiter::{self, Waiter};

/// The dotted name of a type of coroutines, and its place.
pub type CoroutineType = (&'static CStr, &'static Class);

/// What can be acquired.
pub trait Acquirable: Object + 'static {
    /// The type of `acquire()`'s coroutines.
    const ACQUIRE: CoroutineType;
    /// The type of `__aenter__()`'s.
    const ENTER: CoroutineType;
    /// The type of `__aexit__()`'s.
    const EXIT: CoroutineType;
    /// The object as one of these, unless its class is a subclass of Python's.
    fn cast(object: &Owned) -> Option<Typed<Self>>;
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
    /// `release()`
    ///
    /// # Errors
    /// If nobody has it.
    fn give_back(&self) -> Result<()>;
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

/// The body of `acquire()`.
pub struct AcquireOperation<T: Acquirable>(Acquire<T>);

impl<T: Acquirable> AcquireOperation<T> {
    /// To be stepped.
    pub fn new(object: Typed<T>) -> Self {
        Self(Acquire::new(object))
    }
}

impl<T: Acquirable> Operation for AcquireOperation<T> {
    const TYPE_NAME: &'static CStr = T::ACQUIRE.0;
    type Binding = ();

    fn class() -> &'static Class {
        T::ACQUIRE.1
    }

    #[inline]
    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        self.0.step(resume)
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        self.0.traverse(visitor)
    }
}

/// The body of `__aenter__()`: it gives nothing.
pub struct EnterOperation<T: Acquirable>(Acquire<T>);

impl<T: Acquirable> Operation for EnterOperation<T> {
    const TYPE_NAME: &'static CStr = T::ENTER.0;
    type Binding = LookedUp;

    fn class() -> &'static Class {
        T::ENTER.1
    }

    #[inline]
    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        match self.0.step(resume)? {
            Step::Returned(_) => Ok(Step::Returned(Owned::none())),
            step => Ok(step),
        }
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        self.0.traverse(visitor)
    }
}

impl<T: Acquirable> Special for EnterOperation<T> {
    #[inline]
    fn of(object: &Owned) -> Option<Self> {
        T::cast(object).map(|object| Self(Acquire::new(object)))
    }
}

/// The body of `__aexit__()`.
pub struct ExitOperation<T: Acquirable>(Typed<T>);

impl<T: Acquirable> Operation for ExitOperation<T> {
    const TYPE_NAME: &'static CStr = T::EXIT.0;
    type Binding = LookedUp;

    fn class() -> &'static Class {
        T::EXIT.1
    }

    #[inline]
    fn step(&mut self, _: Resume<'_>) -> Result<Step> {
        self.0.give_back()?;
        Ok(Step::Returned(Owned::none()))
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        visitor.all([self.0.object()])
    }
}

impl<T: Acquirable> Special for ExitOperation<T> {
    #[inline]
    fn of(object: &Owned) -> Option<Self> {
        T::cast(object).map(Self)
    }
}

/// Makes the types of the coroutines.
pub fn load<T: Acquirable>(module: &Owned) -> Result<()> {
    coroutine::load::<AcquireOperation<T>>(module)?;
    coroutine::load_special::<EnterOperation<T>>(module)?;
    coroutine::load_special::<ExitOperation<T>>(module)
}
