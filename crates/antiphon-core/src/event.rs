//! A flag to wait for.
//!
//! Who waits when it is set goes on even if it is cleared before he runs.
//!
//! Source: CPython Lib/asyncio/locks.py (`Event`).

use crate::waiters::{Waiter, Waiters, Wake};

/// An event's rules.
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
/// use antiphon_core::Event;
///
/// let mut event = Event::default();
/// let waiting = task("waiting");
/// if !event.is_set() {
///     event.wait(waiting.clone());
/// }
/// assert_eq!(wake(event.set()), ["waiting"]);
/// assert!(event.set().is_empty(), "it is set");
/// drop(event.leave(&waiting));
/// event.clear();
/// assert!(!event.is_set() && event.waiters().is_empty());
/// ```
#[derive(Debug)]
pub struct Event<W> {
    set: bool,
    waiters: Waiters<W>,
}

impl<W> Default for Event<W> {
    fn default() -> Self {
        Self { set: false, waiters: Waiters::default() }
    }
}

impl<W: Waiter> Event<W> {
    /// Whether it is set: then nobody has to wait.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.set
    }

    /// Sets it: everybody who waits is woken.
    #[inline]
    pub fn set(&mut self) -> Wake<W> {
        if std::mem::replace(&mut self.set, true) {
            return Wake::nobody();
        }
        self.waiters.first_pending(usize::MAX)
    }

    /// Takes it back.
    #[inline]
    pub fn clear(&mut self) {
        self.set = false;
    }

    /// Queues up.
    pub fn wait(&mut self, waiter: W) {
        self.waiters.push(waiter);
    }

    /// A waiter runs again or gives up. Its name in the list is the caller's to drop.
    #[must_use = "the list's name of it is to be dropped by the caller"]
    pub fn leave(&mut self, waiter: &W) -> Option<W> {
        self.waiters.remove(waiter)
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
