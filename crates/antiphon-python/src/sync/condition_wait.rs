//! The waits of `Condition`: release the lock, be notified, take it again whatever happened.
//!
//! Source: CPython Lib/asyncio/locks.py (`Condition.wait`, as of 3.13).

use std::ffi::{CStr, c_int};

use crate::coroutine::{Class, Delegate, Operation, Resume, Step};
use crate::ffi::instance::Typed;
use crate::ffi::raise::{self, runtime_error};
use crate::ffi::visitor::Visitor;
use crate::ffi::{Owned, Raised, Result, call, call_method};
use crate::future::FutureRef;
use crate::names::names;

use super::acquire::Acquire;
use super::condition::{Condition, Way};
use super::lock::Lock;
use super::waiter::{self, Waiter};

/// How the lock is taken again.
enum Reacquire {
    Plain(Acquire<Lock>),
    ByName(Delegate),
}

impl Reacquire {
    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        match self {
            Self::Plain(acquire) => acquire.step(resume),
            Self::ByName(delegate) => delegate.step(resume),
        }
    }
}

/// Where a wait is.
enum Phase {
    Created,
    /// For a notification.
    Waiting(FutureRef),
    /// For the lock.
    Relocking(Reacquire),
}

/// The body of `wait()`.
pub struct ConditionWait {
    condition: Typed<Condition>,
    phase: Phase,
    /// What ended the wait for a notification, or the latest cancellation since: to be raised with the lock held.
    failure: Option<Owned>,
}

impl ConditionWait {
    /// To be stepped.
    pub fn new(condition: Typed<Condition>) -> Self {
        Self { condition, phase: Phase::Created, failure: None }
    }

    fn start(&mut self) -> Result<Step> {
        let condition = &self.condition;
        if !condition.is_locked()? {
            return Err(runtime_error("cannot wait on un-acquired lock"));
        }
        let future = condition.bound.future(condition.object())?;
        condition.release()?;
        let waiter = Waiter::Native(future.clone());
        condition.machine.with(|machine| machine.wait(waiter));
        let yielded = waiter::suspend(&future);
        self.phase = Phase::Waiting(future);
        Ok(yielded)
    }

    fn notified(&mut self, future: FutureRef, resume: Resume<'_>) -> Result<Step> {
        let closing = matches!(resume, Resume::Close);
        if let Err(Raised) = waiter::resumed(&future, resume) {
            self.failure = raise::take();
        }
        let waiter = Waiter::Native(future);
        drop(self.condition.machine.with(|machine| machine.leave(&waiter)));
        let step = self.relock(None)?;
        if closing && matches!(step, Step::Yielded(_)) {
            // Nobody would resume it, so it must not stay in the lock's queue.
            if let Phase::Relocking(reacquire) = &mut self.phase
                && reacquire.step(Resume::Close).is_err()
            {
                drop(raise::take());
            }
            return Err(runtime_error("coroutine ignored GeneratorExit"));
        }
        Ok(step)
    }

    /// Takes the lock again, from the beginning or going on.
    fn relock(&mut self, going_on: Option<(Reacquire, Resume<'_>)>) -> Result<Step> {
        let mut outcome = match going_on {
            Some((mut reacquire, resume)) => reacquire.step(resume).map(|step| (reacquire, step)),
            None => self.begin_relock(),
        };
        loop {
            match outcome {
                Ok((reacquire, step @ Step::Yielded(_))) => {
                    self.phase = Phase::Relocking(reacquire);
                    return Ok(step);
                }
                Ok((_, Step::Returned(_))) => return self.finish(),
                Err(Raised) => {
                    let exception = raise::take();
                    match exception {
                        Some(exception) if is_cancellation(&exception) => self.failure = Some(exception),
                        // Without the lock, but no further.
                        other => return Err(self.fail(other)),
                    }
                }
            }
            outcome = self.begin_relock();
        }
    }

    fn begin_relock(&self) -> Result<(Reacquire, Step)> {
        let mut reacquire = match self.condition.way() {
            Way::Plain(lock) => Reacquire::Plain(Acquire::new(lock)),
            Way::ByName => {
                Reacquire::ByName(Delegate::new(call_method(self.condition.object(), &names().acquire, [])?)?)
            }
        };
        let step = reacquire.step(Resume::Send(None))?;
        Ok((reacquire, step))
    }

    fn finish(&mut self) -> Result<Step> {
        match self.failure.take() {
            None => Ok(Step::Returned(Owned::bool(true))),
            failure => Err(self.fail(failure)),
        }
    }

    /// Raises, after another one was notified in its place.
    fn fail(&self, exception: Option<Owned>) -> Raised {
        self.condition.notify(1);
        exception.map_or(Raised, raise::restore)
    }
}

fn is_cancellation(exception: &Owned) -> bool {
    // SAFETY: F1; living objects.
    unsafe {
        pyo3::ffi::PyErr_GivenExceptionMatches(exception.as_ptr(), names().cancelled_error.as_ptr()) != 0
    }
}

static WAIT: Class = Class::new();

impl Operation for ConditionWait {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.ConditionOperation";
    type Binding = ();

    fn class() -> &'static Class {
        &WAIT
    }

    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        match std::mem::replace(&mut self.phase, Phase::Created) {
            Phase::Created => self.start(),
            Phase::Waiting(future) => self.notified(future, resume),
            Phase::Relocking(reacquire) => self.relock(Some((reacquire, resume))),
        }
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        let status = visitor.all([self.condition.object()].into_iter().chain(&self.failure));
        if status != 0 {
            return status;
        }
        match &self.phase {
            Phase::Created => 0,
            Phase::Waiting(future) => visitor.all([future.object()]),
            Phase::Relocking(Reacquire::Plain(acquire)) => acquire.traverse(visitor),
            Phase::Relocking(Reacquire::ByName(delegate)) => delegate.traverse(visitor),
        }
    }
}

/// One wait of several.
enum Inner {
    Plain(Box<ConditionWait>),
    /// A subclass's own `wait()`.
    ByName(Delegate),
}

/// The body of `wait_for()`.
pub struct ConditionWaitFor {
    condition: Typed<Condition>,
    predicate: Owned,
    inner: Option<Inner>,
}

impl ConditionWaitFor {
    /// To be stepped.
    pub fn new(condition: Typed<Condition>, predicate: Owned) -> Self {
        Self { condition, predicate, inner: None }
    }

    fn begin_wait(&self) -> Result<Inner> {
        if self.condition.is_as_made() {
            return Ok(Inner::Plain(Box::new(ConditionWait::new(self.condition.clone()))));
        }
        let awaitable = call_method(self.condition.object(), &names().wait, [])?;
        Delegate::new(awaitable).map(Inner::ByName)
    }
}

static WAIT_FOR: Class = Class::new();

impl Operation for ConditionWaitFor {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.ConditionWaitForOperation";
    type Binding = ();

    fn class() -> &'static Class {
        &WAIT_FOR
    }

    fn step(&mut self, mut resume: Resume<'_>) -> Result<Step> {
        loop {
            if let Some(inner) = &mut self.inner {
                let step = match inner {
                    Inner::Plain(wait) => wait.step(resume)?,
                    Inner::ByName(delegate) => delegate.step(resume)?,
                };
                if let Step::Yielded(_) = step {
                    return Ok(step);
                }
                self.inner = None;
            }
            let result = call(&self.predicate, [])?;
            if result.truth()? {
                return Ok(Step::Returned(result));
            }
            self.inner = Some(self.begin_wait()?);
            resume = Resume::Send(None);
        }
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        match visitor.all([self.condition.object(), &self.predicate]) {
            0 => match &self.inner {
                None => 0,
                Some(Inner::Plain(wait)) => wait.traverse(visitor),
                Some(Inner::ByName(delegate)) => delegate.traverse(visitor),
            },
            status => status,
        }
    }
}
