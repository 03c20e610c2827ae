//! A place to wait for news about what a lock protects.
//!
//! The lock is a machine of its own: to wait is to queue up here, release the lock, be woken, [leave](Condition::leave)
//! and take the lock again, in that order, and the lock is taken again also by who was cancelled meanwhile.
//!
//! A notification is not lost: who was notified and then fails, in the wait or while he takes the lock again, notifies
//! another one. So a wait may end without news.
//!
//! Source: CPython Lib/asyncio/locks.py (`Condition`, as of 3.13; releases before 3.12.2 lose such notifications).

use crate::waiters::{Waiter, Waiters, Wake};

/// A condition's rules.
///
/// ```
/// # use antiphon_core::Waiter;
/// # use std::{cell::Cell, rc::Rc};
/// # #[derive(Clone)]
/// # struct Task(&'static str, Rc<Cell<bool>>);
/// # impl PartialEq for Task {
/// #     fn eq(&self, other: &Self) -> bool { Rc::ptr_eq(&self.1, &other.1) }
/// # }
/// # impl Waiter for Task {
/// #     fn is_done(&self) -> bool { self.1.get() }
/// #     fn is_cancelled(&self) -> bool { false }
/// # }
/// # fn task(name: &'static str) -> Task { Task(name, Rc::default()) }
/// # /// Wakes them; their names.
/// # fn wake(tasks: impl IntoIterator<Item = Task>) -> Vec<&'static str> {
/// #     tasks.into_iter().map(|task| { task.1.set(true); task.0 }).collect()
/// # }
/// use antiphon_core::Condition;
///
/// let mut condition = Condition::default();
/// let tasks = ["one", "two", "three"].map(task);
/// tasks.iter().for_each(|task| condition.wait(task.clone()));
/// assert_eq!(wake(condition.notify(1)), ["one"]);
/// drop(condition.leave(&tasks[0]));
/// assert_eq!(wake(condition.pass_on()), ["two"]); // the first one fails in the end
/// assert_eq!(wake(condition.notify(usize::MAX)), ["three"]);
/// ```
#[derive(Debug)]
pub struct Condition<W> {
    waiters: Waiters<W>,
}

impl<W> Default for Condition<W> {
    fn default() -> Self {
        Self { waiters: Waiters::default() }
    }
}

impl<W: Waiter> Condition<W> {
    /// Queues up.
    pub fn wait(&mut self, waiter: W) {
        self.waiters.push(waiter);
    }

    /// A waiter runs again or gives up. Its name in the list is the caller's to drop.
    #[must_use = "the list's name of it is to be dropped by the caller"]
    pub fn leave(&mut self, waiter: &W) -> Option<W> {
        self.waiters.remove(waiter)
    }

    /// A wait fails in the end: whom it notifies, since it may have been notified itself.
    pub fn pass_on(&mut self) -> Wake<W> {
        self.notify(1)
    }

    /// Wakes the first `most` of those that are pending. Only who has the lock may notify.
    pub fn notify(&mut self, most: usize) -> Wake<W> {
        self.waiters.first_pending(most)
    }

    /// Who waits.
    pub fn waiters(&self) -> &Waiters<W> {
        &self.waiters
    }

    /// The same, to be changed by who knows what he does.
    pub fn waiters_mut(&mut self) -> &mut Waiters<W> {
        &mut self.waiters
    }
}
