//! `wait_for` as it is in CPython 3.11: the awaited becomes a task of its own, which is waited for after its cancellation.
//!
//! Source: CPython 3.11 Lib/asyncio/tasks.py (`wait_for`).

use std::ffi::{CStr, c_int};

use super::cancel_and_wait::CancelAndWait;
use super::wait_for::{is_past, result_or_timeout};
use super::waiting::{self, WaitingRef};
use super::{child, ensure};
use crate::coroutine::{self, Class, Delegate, Operation, Resume, Step};
use crate::ffi::visitor::Visitor;
use crate::ffi::{Owned, Raised, Result, raise};
use crate::names::names;
use antiphon_core::ReturnWhen;

/// `wait_for(fut, timeout)`.
pub struct WaitFor(Phase);

enum Phase {
    Start {
        awaited: Owned,
        limit: Owned,
    },
    /// Without a limit it is an `await`.
    Unlimited(Delegate),
    /// No time was given, or it is up.
    Ending(CancelAndWait),
    /// Until it is done or the time is up.
    Waiting {
        owner: Owned,
        future: [Owned; 1],
        waiting: WaitingRef,
    },
    /// The wait was cancelled by this exception, and goes on only until the child is done.
    Cancelled(CancelAndWait, Owned),
    /// In a step, or finished.
    Moving,
}

static CLASS: Class = Class::new();

impl WaitFor {
    fn begin(&mut self, awaited: Owned, limit: &Owned) -> Result<Step> {
        let owner = crate::event_loop::running()?;
        if limit.is_none() {
            let body = Delegate::new(awaited)?;
            return self.step_unlimited(body, Resume::Send(None));
        }
        let no_time = is_past(limit)?;
        let future = ensure::ensure_future(&awaited, Some(&owner))?;
        if no_time {
            if child::is_done(&future)? {
                return child::result(&future).map(Step::Returned);
            }
            return self.end_child(owner, future);
        }
        let future = [future];
        let waiting = waiting::begin(owner.clone(), &future, ReturnWhen::AllCompleted)?;
        if let Err(raised) = waiting.limit(limit) {
            let exception = raise::take();
            waiting.give_up(&future);
            return Err(exception.map_or(raised, raise::restore));
        }
        let step = waiting.step()?;
        self.0 = Phase::Waiting { owner, future, waiting };
        Ok(step)
    }

    fn step_unlimited(&mut self, body: Delegate, resume: Resume<'_>) -> Result<Step> {
        let step = body.step(resume)?;
        if matches!(step, Step::Yielded(_)) {
            self.0 = Phase::Unlimited(body);
        }
        Ok(step)
    }

    fn end_child(&mut self, owner: Owned, future: Owned) -> Result<Step> {
        let wait = CancelAndWait::begin(owner, future)?;
        let step = wait.step()?;
        self.0 = Phase::Ending(wait);
        Ok(step)
    }

    fn waited(
        &mut self,
        owner: Owned,
        future: [Owned; 1],
        waiting: &WaitingRef,
        resume: Resume<'_>,
    ) -> Result<Step> {
        let outcome = waiting.end(&future, resume);
        let [future] = future;
        match outcome {
            Ok(()) if child::is_done(&future)? => child::result(&future).map(Step::Returned),
            Ok(()) => self.end_child(owner, future),
            Err(Raised) if raise::matches(names().cancelled_error.as_ptr()) => {
                let Some(cancelled) = raise::take() else {
                    return Err(Raised);
                };
                if child::is_done(&future)? {
                    return child::result(&future).map(Step::Returned);
                }
                let wait = CancelAndWait::begin(owner, future)?;
                let step = wait.step()?;
                self.0 = Phase::Cancelled(wait, cancelled);
                Ok(step)
            }
            Err(raised) => Err(raised),
        }
    }
}

impl Operation for WaitFor {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.WaitFor";
    type Binding = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        match std::mem::replace(&mut self.0, Phase::Moving) {
            Phase::Start { awaited, limit } => self.begin(awaited, &limit),
            Phase::Unlimited(body) => self.step_unlimited(body, resume),
            Phase::Ending(wait) => {
                wait.end(resume)?;
                result_or_timeout(wait.child())
            }
            Phase::Waiting { owner, future, waiting } => self.waited(owner, future, &waiting, resume),
            Phase::Cancelled(wait, cancelled) => {
                wait.end(resume)?;
                Err(raise::restore(cancelled))
            }
            Phase::Moving => Err(raise::runtime_error("cannot reuse already awaited coroutine")),
        }
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        match &self.0 {
            Phase::Start { awaited, limit } => visitor.all([awaited, limit]),
            Phase::Unlimited(body) => body.traverse(visitor),
            Phase::Ending(wait) => wait.traverse(visitor),
            Phase::Waiting { owner, future, waiting } => visitor.all([owner, &future[0], waiting.object()]),
            Phase::Cancelled(wait, cancelled) => {
                let status = visitor.all([cancelled]);
                if status == 0 { wait.traverse(visitor) } else { status }
            }
            Phase::Moving => 0,
        }
    }
}

/// Makes the coroutine.
pub fn make(awaited: Owned, limit: Owned) -> Result {
    coroutine::make("wait_for", WaitFor(Phase::Start { awaited, limit }))
}
