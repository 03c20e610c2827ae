//! The coroutines of a queue: `put`, `get`, `join`.

use std::ffi::{CStr, c_int};

use antiphon_core::Turn;

use super::Queue;
use super::access::{Attempt, refused};
use crate::coroutine::{Class, Operation, Resume, Step};
use crate::ffi::instance::Typed;
use crate::ffi::raise;
use crate::ffi::visitor::Visitor;
use crate::ffi::{Owned, Raised, Result, call_method};
use crate::future::FutureRef;
use crate::names::names;
use crate::sync::event::EventWait;
use crate::sync::waiter::{self, Waiter};

/// The body of `get()`.
pub struct GetOperation {
    queue: Typed<Queue>,
    waits_with: Option<FutureRef>,
}

impl GetOperation {
    /// To be stepped.
    pub fn new(queue: Typed<Queue>) -> Self {
        Self { queue, waits_with: None }
    }

    #[inline]
    fn attempt(&self) -> Result<Attempt<Owned>> {
        if !self.queue.is_by_name() {
            return self.queue.try_get();
        }
        let empty = self.queue.is_empty()?;
        match self.queue.state.with(|state| state.rules.may_get(empty)) {
            Turn::Now => call_method(self.queue.object(), &names().get_nowait, []).map(Attempt::Done),
            turn => Ok(Attempt::Not(turn)),
        }
    }

    fn abandon(&self, future: FutureRef) {
        let empty = self.queue.is_empty().unwrap_or_else(|Raised| {
            drop(raise::take());
            true
        });
        let waiter = Waiter::Native(future);
        let left = self.queue.state.with(|state| state.rules.abandon_get(&waiter, empty));
        self.queue.wake_getter(left);
    }
}

static GET: Class = Class::new();

impl Operation for GetOperation {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.QueueGetOperation";

    fn class() -> &'static Class {
        &GET
    }

    #[inline]
    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        if let Some(future) = self.waits_with.take() {
            waiter::resumed(&future, resume)
                .map_err(|raised| waiter::cleaning_up(raised, || self.abandon(future)))?;
        }
        loop {
            match self.attempt()? {
                Attempt::Done(item) => return Ok(Step::Returned(item)),
                Attempt::Not(Turn::Later) => {}
                Attempt::Not(turn) => return Err(refused(turn, &names().queue_empty)),
            }
            let future = self.queue.bound.future(self.queue.object())?;
            if self.queue.wait_to_get(Waiter::Native(future.clone())) {
                let yielded = waiter::suspend(&future);
                self.waits_with = Some(future);
                return Ok(yielded);
            }
        }
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        visitor.all([self.queue.object()].into_iter().chain(self.waits_with.as_ref().map(FutureRef::object)))
    }
}

/// The body of `put(item)`.
pub struct PutOperation {
    queue: Typed<Queue>,
    item: Owned,
    waits_with: Option<FutureRef>,
}

impl PutOperation {
    /// To be stepped.
    pub fn new(queue: Typed<Queue>, item: Owned) -> Self {
        Self { queue, item, waits_with: None }
    }

    #[inline]
    fn attempt(&self) -> Result<Attempt<Owned>> {
        if !self.queue.is_by_name() {
            return Ok(match self.queue.try_put(&self.item)? {
                Attempt::Done(()) => Attempt::Done(Owned::none()),
                Attempt::Not(turn) => Attempt::Not(turn),
            });
        }
        let full = self.queue.is_full()?;
        match self.queue.state.with(|state| state.rules.may_put(full)) {
            Turn::Later => Ok(Attempt::Not(Turn::Later)),
            _ => call_method(self.queue.object(), &names().put_nowait, [&self.item]).map(Attempt::Done),
        }
    }

    fn abandon(&self, future: FutureRef) {
        let full = self.queue.is_full().unwrap_or_else(|Raised| {
            drop(raise::take());
            true
        });
        let waiter = Waiter::Native(future);
        let left = self.queue.state.with(|state| state.rules.abandon_put(&waiter, full));
        self.queue.wake_putter(left);
    }
}

static PUT: Class = Class::new();

impl Operation for PutOperation {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.QueuePutOperation";

    fn class() -> &'static Class {
        &PUT
    }

    #[inline]
    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        if let Some(future) = self.waits_with.take() {
            waiter::resumed(&future, resume)
                .map_err(|raised| waiter::cleaning_up(raised, || self.abandon(future)))?;
        }
        loop {
            match self.attempt()? {
                Attempt::Done(result) => return Ok(Step::Returned(result)),
                Attempt::Not(Turn::Later) => {}
                Attempt::Not(turn) => return Err(refused(turn, &names().queue_full)),
            }
            let future = self.queue.bound.future(self.queue.object())?;
            if self.queue.wait_to_put(Waiter::Native(future.clone())) {
                let yielded = waiter::suspend(&future);
                self.waits_with = Some(future);
                return Ok(yielded);
            }
        }
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        visitor.all(
            [self.queue.object(), &self.item]
                .into_iter()
                .chain(self.waits_with.as_ref().map(FutureRef::object)),
        )
    }
}

/// The body of `join()`.
pub struct JoinOperation {
    queue: Typed<Queue>,
    wait: Option<EventWait>,
}

impl JoinOperation {
    /// To be stepped.
    pub fn new(queue: Typed<Queue>) -> Self {
        Self { queue, wait: None }
    }
}

static JOIN: Class = Class::new();

impl Operation for JoinOperation {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.QueueJoinOperation";

    fn class() -> &'static Class {
        &JOIN
    }

    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        let wait = match &mut self.wait {
            Some(wait) => wait,
            None => {
                if self.queue.state.with(|state| state.rules.unfinished()) == 0 {
                    return Ok(Step::Returned(Owned::none()));
                }
                self.wait.insert(EventWait::new(self.queue.finished_event()?))
            }
        };
        match wait.step(resume)? {
            Step::Returned(_) => Ok(Step::Returned(Owned::none())),
            step => Ok(step),
        }
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        match visitor.all([self.queue.object()]) {
            0 => self.wait.as_ref().map_or(0, |wait| wait.traverse(visitor)),
            status => status,
        }
    }
}
