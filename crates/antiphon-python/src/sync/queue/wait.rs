//! The coroutines of a queue: `put`, `get`, `join`.

use std::ffi::{CStr, c_int};

use antiphon_core::Turn;

use super::Queue;
use super::access::{Attempt, refused};
use crate::coroutine::{Class, Operation, Resume, Step};
use crate::ffi::instance::Typed;
use crate::ffi::raise;
use crate::ffi::visitor::Visitor;
use crate::ffi::{Instance, Owned, Raised, Result, call_method};
use crate::future::FutureRef;
use crate::names::names;
use crate::sync::event::EventWait;
use crate::sync::waiter::{self, Waiter};

/// What a coroutine that moves one item does with its queue; [`Transfer`] is the rest of it.
pub trait Direction: Send + 'static {
    /// As in [`Operation`].
    const TYPE_NAME: &'static CStr;

    /// As in [`Operation`].
    fn class() -> &'static Class;

    /// One try; what the coroutine returns.
    fn attempt(&self, queue: &Instance<Queue>) -> Result<Attempt<Owned>>;

    /// Queues up, unless it can be done by now; whether it queued up.
    fn wait(queue: &Instance<Queue>, waiter: Waiter) -> bool;

    /// `waiter` goes without having been served: whether somebody else is to be woken is the rules' to say.
    fn abandon(queue: &Instance<Queue>, waiter: &Waiter);

    /// The exception of one who cannot wait.
    fn refusal() -> &'static Owned;

    /// What it refers to.
    fn item(&self) -> Option<&Owned>;
}

/// The body of `get()` and `put(item)`: tries, and waits between the tries.
pub struct Transfer<D> {
    queue: Typed<Queue>,
    direction: D,
    waits_with: Option<FutureRef>,
}

/// `get()`
pub struct Get;
/// `put(item)`
pub struct Put(Owned);
/// The body of `get()`.
pub type GetOperation = Transfer<Get>;
/// The body of `put(item)`.
pub type PutOperation = Transfer<Put>;

impl GetOperation {
    /// To be stepped.
    pub fn new(queue: Typed<Queue>) -> Self {
        Self { queue, direction: Get, waits_with: None }
    }
}

impl PutOperation {
    /// To be stepped.
    pub fn new(queue: Typed<Queue>, item: Owned) -> Self {
        Self { queue, direction: Put(item), waits_with: None }
    }
}

impl<D: Direction> Operation for Transfer<D> {
    const TYPE_NAME: &'static CStr = D::TYPE_NAME;
    type Binding = ();

    fn class() -> &'static Class {
        D::class()
    }

    #[inline]
    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        if let Some(future) = self.waits_with.take() {
            waiter::resumed(&future, resume).map_err(|raised| {
                waiter::cleaning_up(raised, || D::abandon(&self.queue, &Waiter::Native(future)))
            })?;
        }
        loop {
            match self.direction.attempt(&self.queue)? {
                Attempt::Done(result) => return Ok(Step::Returned(result)),
                Attempt::Not(Turn::Later) => {}
                Attempt::Not(turn) => return Err(refused(turn, D::refusal())),
            }
            let future = self.queue.bound.future(self.queue.object())?;
            if D::wait(&self.queue, Waiter::Native(future.clone())) {
                let yielded = waiter::suspend(&future);
                self.waits_with = Some(future);
                return Ok(yielded);
            }
        }
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        let waits_with = self.waits_with.as_ref().map(FutureRef::object);
        visitor.all([self.queue.object()].into_iter().chain(self.direction.item()).chain(waits_with))
    }
}

/// What a subclass's `empty()` or `full()` says; true if it raises.
fn true_if_raised(answer: Result<bool>) -> bool {
    answer.unwrap_or_else(|Raised| {
        drop(raise::take());
        true
    })
}

static GET: Class = Class::new();

impl Direction for Get {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.QueueGetOperation";

    fn class() -> &'static Class {
        &GET
    }

    #[inline]
    fn attempt(&self, queue: &Instance<Queue>) -> Result<Attempt<Owned>> {
        if !queue.is_by_name() {
            return queue.try_get();
        }
        let empty = queue.is_empty()?;
        match queue.state.with(|state| state.rules.may_get(empty)) {
            Turn::Now => call_method(&queue.owned(), &names().get_nowait, []).map(Attempt::Done),
            turn => Ok(Attempt::Not(turn)),
        }
    }

    fn wait(queue: &Instance<Queue>, waiter: Waiter) -> bool {
        queue.wait_to_get(waiter)
    }

    fn abandon(queue: &Instance<Queue>, waiter: &Waiter) {
        let empty = true_if_raised(queue.is_empty());
        let left = queue.state.with(|state| state.rules.abandon_get(waiter, empty));
        queue.wake_getter(left);
    }

    fn refusal() -> &'static Owned {
        &names().queue_empty
    }

    fn item(&self) -> Option<&Owned> {
        None
    }
}

static PUT: Class = Class::new();

impl Direction for Put {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.QueuePutOperation";

    fn class() -> &'static Class {
        &PUT
    }

    #[inline]
    fn attempt(&self, queue: &Instance<Queue>) -> Result<Attempt<Owned>> {
        if !queue.is_by_name() {
            return Ok(match queue.try_put(&self.0)? {
                Attempt::Done(()) => Attempt::Done(Owned::none()),
                Attempt::Not(turn) => Attempt::Not(turn),
            });
        }
        let full = queue.is_full()?;
        match queue.state.with(|state| state.rules.may_put(full)) {
            Turn::Later => Ok(Attempt::Not(Turn::Later)),
            _ => call_method(&queue.owned(), &names().put_nowait, [&self.0]).map(Attempt::Done),
        }
    }

    fn wait(queue: &Instance<Queue>, waiter: Waiter) -> bool {
        queue.wait_to_put(waiter)
    }

    fn abandon(queue: &Instance<Queue>, waiter: &Waiter) {
        let full = true_if_raised(queue.is_full());
        let left = queue.state.with(|state| state.rules.abandon_put(waiter, full));
        queue.wake_putter(left);
    }

    fn refusal() -> &'static Owned {
        &names().queue_full
    }

    fn item(&self) -> Option<&Owned> {
        Some(&self.0)
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
    type Binding = ();

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
