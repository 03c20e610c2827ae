//! `as_completed`: children in the order of their ends, each handed out once.
//!
//! Whoever iterates asks for one more ([`AsCompleted::claim`]) before it is known which child that will be. What arrives is
//! queued; who finds nothing queues a waiter. An arrival wakes the waiter that came first, which takes what it finds or
//! queues again: somebody who came later may have been quicker.
//!
//! Source: CPython Lib/asyncio/tasks.py, `as_completed`; Lib/asyncio/queues.py, `Queue.get`.

use std::collections::VecDeque;

/// What a claim gets.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Arrival<C> {
    /// A child that is done.
    Child(C),
    /// The time was up before this many children were done.
    TimedOut,
}

/// The state of one `as_completed` over children `C`, with waiters `W`.
///
/// ```
/// use antiphon_core::{Arrival, AsCompleted};
///
/// let mut completed = AsCompleted::new(3);
/// assert!(completed.claim());
/// completed.wait("the first claim");
/// assert!(completed.child_done("child"));
/// assert_eq!(completed.next_waiter(), Some("the first claim")); // to be woken by the caller
/// assert_eq!(completed.take(), Some(Arrival::Child("child")));
/// assert_eq!(completed.time_out(), 2);
/// assert!(completed.is_complete() && completed.has_arrivals());
/// assert!(!completed.child_done("too late"));
/// assert_eq!(completed.take(), Some(Arrival::TimedOut));
/// assert!(completed.claim() && completed.claim() && !completed.claim());
/// ```
#[derive(Clone, Debug)]
pub struct AsCompleted<C, W> {
    /// Children that are not done.
    pending: usize,
    /// Claims that can still be made.
    unclaimed: usize,
    arrived: VecDeque<Arrival<C>>,
    waiters: VecDeque<W>,
}

impl<C, W> AsCompleted<C, W> {
    /// Over `children`, which are all different and may be done already.
    #[must_use]
    pub const fn new(children: usize) -> Self {
        Self { pending: children, unclaimed: children, arrived: VecDeque::new(), waiters: VecDeque::new() }
    }

    /// Claims one more child; false once every child was claimed.
    #[inline]
    pub fn claim(&mut self) -> bool {
        if self.unclaimed == 0 {
            return false;
        }
        self.unclaimed -= 1;
        true
    }

    /// A claim was given up before anything was taken for it (from CPython 3.14 on).
    #[inline]
    pub fn give_up_claim(&mut self) {
        self.unclaimed += 1;
    }

    /// A child is done. Returns false, and keeps nothing of it, when the time was up before.
    #[inline]
    pub fn child_done(&mut self, child: C) -> bool {
        if self.pending == 0 {
            return false;
        }
        self.pending -= 1;
        self.arrived.push_back(Arrival::Child(child));
        true
    }

    /// Whether no child is to come, be it that all are done or that the time is up.
    #[inline]
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.pending == 0
    }

    /// The time is up: every child that is not done counts as arrived too late. Returns how many those are.
    pub fn time_out(&mut self) -> usize {
        let late = std::mem::take(&mut self.pending);
        self.arrived.extend(std::iter::repeat_with(|| Arrival::TimedOut).take(late));
        late
    }

    /// Takes the first that arrived.
    #[inline]
    pub fn take(&mut self) -> Option<Arrival<C>> {
        self.arrived.pop_front()
    }

    /// Whether something waits to be taken.
    #[inline]
    #[must_use]
    pub fn has_arrivals(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// Queues who found nothing.
    #[inline]
    pub fn wait(&mut self, waiter: W) {
        self.waiters.push_back(waiter);
    }

    /// The waiter to wake for one arrival, which is no longer queued; if it gave up meanwhile, ask again.
    #[inline]
    pub fn next_waiter(&mut self) -> Option<W> {
        self.waiters.pop_front()
    }

    /// Removes the waiter that `is_it` knows, if it is still queued.
    pub fn remove_waiter(&mut self, is_it: impl FnMut(&W) -> bool) -> Option<W> {
        let place = self.waiters.iter().position(is_it)?;
        self.waiters.remove(place)
    }

    /// What is queued, for who has to visit it.
    pub fn arrivals(&self) -> impl Iterator<Item = &C> {
        self.arrived.iter().filter_map(|arrival| match arrival {
            Arrival::Child(child) => Some(child),
            Arrival::TimedOut => None,
        })
    }

    /// Who waits, for who has to visit it.
    pub fn waiters(&self) -> impl Iterator<Item = &W> {
        self.waiters.iter()
    }
}
