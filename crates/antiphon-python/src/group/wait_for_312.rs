//! `wait_for` as it is from CPython 3.12 on: an `await` inside of a timeout, without a task of its own.
//!
//! Source: CPython Lib/asyncio/tasks.py (`wait_for`).

use std::ffi::{CStr, c_int};

use super::cancel_and_wait::CancelAndWait;
use super::timeout::{self, Timeout};
use super::wait_for::{is_past, result_or_timeout};
use super::waiter::{finished, yielded};
use super::{child, ensure};
use crate::coroutine::{self, Class, Delegate, Operation, Resume, Step};
use crate::ffi::instance::Typed;
use crate::ffi::visitor::Visitor;
use crate::ffi::{Instance, Owned, Raised, Result, raise};
use crate::future::FutureRef;

/// `wait_for(fut, timeout)`.
pub struct WaitFor(Phase);

enum Phase {
    Start {
        awaited: Owned,
        limit: Owned,
    },
    /// No time was given: what runs is cancelled and waited for.
    NoTime(CancelAndWait),
    /// One of our futures.
    Future {
        future: Owned,
        timeout: Typed<Timeout>,
    },
    /// Anything else that can be awaited.
    Body {
        body: Delegate,
        timeout: Typed<Timeout>,
    },
    /// In a step, or finished.
    Moving,
}

static CLASS: Class = Class::new();

impl WaitFor {
    fn begin(&mut self, awaited: Owned, limit: &Owned) -> Result<Step> {
        if !limit.is_none() && is_past(limit)? {
            let future = ensure::ensure_future(&awaited, None)?;
            if child::is_done(&future)? {
                return child::result(&future).map(Step::Returned);
            }
            let wait = CancelAndWait::begin(crate::event_loop::running()?, future)?;
            let step = wait.step()?;
            self.0 = Phase::NoTime(wait);
            return Ok(step);
        }
        let timeout = timeout::make_in(limit)?;
        timeout.enter()?;
        if let Some(native) = FutureRef::cast(&awaited) {
            if native.is_done() {
                return self.leave(&timeout, native.result());
            }
            let step = yielded(&awaited)?;
            self.0 = Phase::Future { future: awaited, timeout };
            return Ok(step);
        }
        match Delegate::new(awaited) {
            Ok(body) => self.step_body(body, timeout, Resume::Send(None)),
            Err(raised) => self.leave(&timeout, Err(raised)),
        }
    }

    #[inline]
    fn step_body(&mut self, body: Delegate, timeout: Typed<Timeout>, resume: Resume<'_>) -> Result<Step> {
        match body.step(resume) {
            Ok(Step::Yielded(value)) => {
                self.0 = Phase::Body { body, timeout };
                Ok(Step::Yielded(value))
            }
            Ok(Step::Returned(value)) => self.leave(&timeout, Ok(value)),
            Err(raised) => self.leave(&timeout, Err(raised)),
        }
    }

    /// The block is left with what became of the awaited.
    #[inline]
    fn leave(&mut self, timeout: &Instance<Timeout>, outcome: Result) -> Result<Step> {
        match outcome {
            Ok(value) => timeout.leave(None).map(|()| Step::Returned(value)),
            Err(Raised) => {
                let exception = raise::take();
                timeout.leave(exception.as_ref())?;
                Err(exception.map_or(Raised, raise::restore))
            }
        }
    }
}

impl Operation for WaitFor {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.WaitFor";
    type Binding = ();

    fn class() -> &'static Class {
        &CLASS
    }

    #[inline]
    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        match std::mem::replace(&mut self.0, Phase::Moving) {
            Phase::Start { awaited, limit } => self.begin(awaited, &limit),
            Phase::Body { body, timeout } => self.step_body(body, timeout, resume),
            Phase::Future { future, timeout } => {
                let outcome = resume.check().and_then(|()| finished(&future));
                self.leave(&timeout, outcome)
            }
            Phase::NoTime(wait) => {
                wait.end(resume)?;
                result_or_timeout(wait.child())
            }
            Phase::Moving => Err(raise::runtime_error("cannot reuse already awaited coroutine")),
        }
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        match &self.0 {
            Phase::Start { awaited, limit } => visitor.all([awaited, limit]),
            Phase::NoTime(wait) => wait.traverse(visitor),
            Phase::Future { future, timeout } => visitor.all([future, timeout.object()]),
            Phase::Body { body, timeout } => {
                let status = visitor.all([timeout.object()]);
                if status == 0 { body.traverse(visitor) } else { status }
            }
            Phase::Moving => 0,
        }
    }
}

/// Makes the coroutine.
pub fn make(awaited: Owned, limit: Owned) -> Result {
    coroutine::make("wait_for", WaitFor(Phase::Start { awaited, limit }))
}
