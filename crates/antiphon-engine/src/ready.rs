//! The ready queue: work that can run now, first in, first out.
//!
//! Invariant: an item is run after every item that was pushed before it. Nothing overtakes, so a loop is fair to its
//! callbacks by construction.
//!
//! Only the loop's own thread touches it; other threads go through the [`Inbox`](crate::Inbox).

use std::collections::VecDeque;
use std::collections::vec_deque;

/// A queue that has grown beyond this many items gives its memory back when its loop sleeps.
const KEPT_ITEMS: usize = 4096;

/// A first-in, first-out queue of work items.
///
/// ```
/// let mut ready = antiphon_engine::ReadyQueue::new();
/// ready.push("first");
/// ready.push("second");
/// assert_eq!(ready.pop(), Some("first"));
/// assert_eq!(ready.take_all(), ["second"]);
/// ```
#[derive(Debug)]
pub struct ReadyQueue<W> {
    items: VecDeque<W>,
}

impl<W> ReadyQueue<W> {
    /// An empty queue; allocates with the first push.
    #[must_use]
    pub const fn new() -> Self {
        Self { items: VecDeque::new() }
    }

    /// Appends `work`.
    #[inline]
    pub fn push(&mut self, work: W) {
        self.items.push_back(work);
    }

    /// Removes and returns the oldest item.
    #[inline]
    pub fn pop(&mut self) -> Option<W> {
        self.items.pop_front()
    }

    /// Puts `works` before all others, in their order; for items that had their turn before and could not run.
    pub fn put_first(&mut self, works: Vec<W>) {
        for work in works.into_iter().rev() {
            self.items.push_front(work);
        }
    }

    /// How many items wait.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing waits.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The waiting items, oldest first.
    pub fn iter(&self) -> vec_deque::Iter<'_, W> {
        self.items.iter()
    }

    /// Empties the queue and returns its items, oldest first, for the caller to drop where running foreign
    /// destructors is allowed.
    pub fn take_all(&mut self) -> Vec<W> {
        std::mem::take(&mut self.items).into()
    }

    /// Gives the memory of a burst back; the queue is empty, and its loop about to sleep.
    #[inline]
    pub(crate) fn shrink(&mut self) {
        if self.items.capacity() > KEPT_ITEMS {
            self.items = VecDeque::new();
        }
    }

    /// Moves all of `other` behind the own items; `other` stays empty, with a buffer to fill again.
    pub(crate) fn append(&mut self, other: &mut VecDeque<W>) {
        if self.items.is_empty() {
            std::mem::swap(&mut self.items, other);
        } else {
            self.items.append(other);
        }
    }
}

impl<W> Default for ReadyQueue<W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a, W> IntoIterator for &'a ReadyQueue<W> {
    type Item = &'a W;
    type IntoIter = vec_deque::Iter<'a, W>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
