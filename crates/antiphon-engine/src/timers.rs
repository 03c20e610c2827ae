//! The timer heap: work that becomes ready at a deadline.
//!
//! Invariant T1: items come out by deadline, and among equal deadlines in the order they were pushed.
//! Invariant T2: cancelling is O(1) and gives the item back at once. Its entry stays in the heap as a tombstone until it
//! comes to the top, until it is the last leaf, or until tombstones are both more than 64 and the larger half: then
//! one linear pass removes them all, which is O(1) for each cancellation that led there.
//! Invariant T3: no item is ever dropped in here, since dropping it may run code of the user.
//! Invariant T4: what was pushed since somebody asked for a deadline is not in the heap but in a list, in the order of pushing.
//! Most timers are timeouts that are not needed: those that are cancelled in the turn that set them never cost a place in the
//! heap.
//!
//! ```text
//!   list, then heap (by deadline)  slab
//!   ┌──────────┬─────┬──────┐      ┌────────────┬───────────┐
//!   │ deadline │ seq │ slot ┼─────▶│ generation │ work item │◀── TimerKey { slot, generation }
//!   └──────────┴─────┴──────┘      └────────────┴───────────┘
//! ```
//!
//! ```
//! use antiphon_engine::{Instant, TimerHeap};
//!
//! let mut timers = TimerHeap::new();
//! let tea = timers.push(Instant::from_ns(300), "tea");
//! timers.push(Instant::from_ns(500), "cake");
//! assert_eq!(timers.cancel(tea), Some("tea"));
//! assert_eq!(timers.next_deadline(), Some(Instant::from_ns(500)));
//! assert_eq!(timers.pop_due(Instant::from_ns(499)), None);
//! assert_eq!(timers.pop_due(Instant::from_ns(500)), Some("cake"));
//! ```

mod heap;
mod slab;

use crate::Instant;
use heap::{Entry, Heap};
use slab::Slab;

pub use slab::TimerKey;

/// Below this many tombstones no pass is worth its while.
const TOLERATED_TOMBSTONES: usize = 64;

/// A list of new timers that has grown beyond this many gives its memory back when it has been emptied.
const KEPT_ENTRIES: usize = 1024;

/// Work items ordered by deadline.
#[derive(Debug)]
pub struct TimerHeap<W> {
    heap: Heap,
    /// What was pushed last (invariant T4).
    fresh: Vec<Entry>,
    slab: Slab<W>,
    tombstones: usize,
    next_seq: u32,
}

impl<W> TimerHeap<W> {
    /// A heap without timers; allocates with the first one.
    #[must_use]
    pub const fn new() -> Self {
        Self { heap: Heap::new(), fresh: Vec::new(), slab: Slab::new(), tombstones: 0, next_seq: 0 }
    }

    /// Arms a timer: `work` is due once the clock has reached `deadline`, which may lie in the past.
    ///
    /// Returns the key to cancel it with.
    ///
    /// # Panics
    /// With 2^32 - 2 timers at once.
    #[inline]
    pub fn push(&mut self, deadline: Instant, work: W) -> TimerKey {
        let key = self.slab.insert(work);
        if self.next_seq == u32::MAX {
            self.settle();
            self.next_seq = self.heap.renumber();
        }
        self.fresh.push(Entry::new(deadline, self.next_seq, key.slot()));
        self.next_seq += 1;
        key
    }

    /// Disarms the timer and gives its work item back, for the caller to drop.
    ///
    /// Returns `None` if the timer was due or cancelled before.
    #[inline]
    pub fn cancel(&mut self, key: TimerKey) -> Option<W> {
        let work = self.slab.cancel(key)?;
        // A timer set and cancelled at once, such as a timeout that was not needed.
        if self.fresh.last().is_some_and(|last| last.slot() == key.slot()) {
            self.fresh.pop();
        } else if self.heap.last().is_some_and(|last| last.slot() == key.slot()) {
            self.heap.pop_last();
        } else {
            self.tombstones += 1;
            if self.tombstones > TOLERATED_TOMBSTONES && self.tombstones > self.entries() / 2 {
                self.remove_tombstones();
            }
            return Some(work);
        }
        self.slab.release(key.slot());
        self.shrink_when_unused();
        Some(work)
    }

    /// The item of a timer that is armed, to be looked at or replaced.
    ///
    /// Returns `None` if the timer was due or cancelled before.
    #[inline]
    pub fn get_mut(&mut self, key: TimerKey) -> Option<&mut W> {
        self.slab.get_mut(key)
    }

    /// The deadline of the timer that is due next.
    #[inline]
    pub fn next_deadline(&mut self) -> Option<Instant> {
        self.settle();
        self.bury_tombstones_on_top();
        self.heap.first().map(Entry::deadline)
    }

    /// Removes and returns the earliest item whose deadline is at or before `now`; call it until it returns `None`.
    #[inline]
    pub fn pop_due(&mut self, now: Instant) -> Option<W> {
        self.settle();
        self.bury_tombstones_on_top();
        let first = self.heap.first().filter(|first| first.deadline() <= now)?;
        self.heap.pop_first();
        let work = self.slab.release(first.slot());
        self.shrink_when_unused();
        work
    }

    /// How many timers are armed; cancelled ones do not count.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries() - self.tombstones
    }

    /// Whether no timer is armed.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The armed items, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &W> {
        self.slab.iter()
    }

    /// Disarms all timers and returns their items, earliest deadline first.
    pub fn take_all(&mut self) -> Vec<W> {
        self.settle();
        self.tombstones = 0;
        let entries = self.heap.take_sorted();
        let items = entries.into_iter().filter_map(|entry| self.slab.release(entry.slot())).collect();
        self.slab.shrink_when_unused();
        items
    }

    /// How many entries there are, tombstones included.
    #[inline]
    fn entries(&self) -> usize {
        self.heap.len() + self.fresh.len()
    }

    /// Moves what is new into the heap.
    #[inline]
    fn settle(&mut self) {
        if !self.fresh.is_empty() {
            self.move_into_heap();
        }
    }

    fn move_into_heap(&mut self) {
        for entry in self.fresh.drain(..) {
            if self.tombstones > 0 && self.slab.is_cancelled(entry.slot()) {
                self.slab.release(entry.slot());
                self.tombstones -= 1;
            } else {
                self.heap.push(entry);
            }
        }
        if self.fresh.capacity() > KEPT_ENTRIES {
            self.fresh = Vec::new();
        }
    }

    /// Makes the earliest entry a live one.
    #[inline]
    fn bury_tombstones_on_top(&mut self) {
        if self.tombstones > 0 {
            self.bury();
        }
    }

    fn bury(&mut self) {
        while let Some(first) = self.heap.first().filter(|first| self.slab.is_cancelled(first.slot())) {
            self.heap.pop_first();
            self.slab.release(first.slot());
            self.tombstones -= 1;
        }
        self.shrink_when_unused();
    }

    #[cold]
    fn remove_tombstones(&mut self) {
        let slab = &mut self.slab;
        let mut keep = |entry: &Entry| {
            let cancelled = slab.is_cancelled(entry.slot());
            if cancelled {
                slab.release(entry.slot());
            }
            !cancelled
        };
        self.fresh.retain(&mut keep);
        self.heap.retain(&mut keep);
        self.tombstones = 0;
        self.shrink_when_unused();
    }

    #[inline]
    fn shrink_when_unused(&mut self) {
        if self.entries() == 0 {
            self.slab.shrink_when_unused();
        }
    }
}

impl<W> Default for TimerHeap<W> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ns: i64) -> Instant {
        Instant::from_ns(ns)
    }

    #[test]
    fn equal_deadlines_keep_their_order_when_sequence_numbers_run_out() {
        let mut timers = TimerHeap::new();
        timers.next_seq = u32::MAX - 3;
        for item in 0..8 {
            timers.push(at(1), item);
        }
        assert!(timers.next_seq < 100);
        assert_eq!(timers.take_all(), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn million_timers_set_and_cancelled_one_by_one_use_one_slot() {
        let mut timers = TimerHeap::new();
        for item in 0..1_000_000 {
            let key = timers.push(at(item), item);
            assert_eq!(timers.cancel(key), Some(item));
        }
        assert_eq!((timers.entries(), timers.slab.slot_count()), (0, 1));
    }

    #[test]
    fn million_timers_set_and_cancelled_below_a_lasting_one_stay_compact() {
        let mut timers = TimerHeap::new();
        timers.push(at(i64::MAX), -1);
        for item in 0..1_000_000 {
            let key = timers.push(at(1_000_000 - item), item);
            assert_eq!(timers.cancel(key), Some(item));
            assert!(timers.entries() <= 2 * TOLERATED_TOMBSTONES + 2);
        }
        assert!(timers.slab.slot_count() <= 2 * TOLERATED_TOMBSTONES + 2);
        assert_eq!(timers.len(), 1);
    }

    #[test]
    fn timers_cancelled_before_anybody_asks_never_reach_the_heap() {
        let mut timers = TimerHeap::new();
        let keys: Vec<_> = (0..100).map(|item| timers.push(at(item), item)).collect();
        for key in &keys[..50] {
            assert!(timers.cancel(*key).is_some());
        }
        assert_eq!(timers.heap.len(), 0);
        assert_eq!(timers.next_deadline(), Some(at(50)));
        assert_eq!((timers.heap.len(), timers.fresh.len(), timers.tombstones), (50, 0, 0));
    }

    #[test]
    fn million_timers_set_then_all_cancelled_give_their_memory_back() {
        let mut timers = TimerHeap::new();
        let keys: Vec<_> = (0..1_000_000).map(|item| timers.push(at(item), item)).collect();
        for key in keys {
            assert!(timers.cancel(key).is_some());
        }
        assert!(timers.is_empty());
        assert_eq!(timers.next_deadline(), None);
        assert!(timers.entries() <= TOLERATED_TOMBSTONES);
        timers.push(at(0), 0);
        assert_eq!(timers.pop_due(at(0)), Some(0));
        assert!(timers.slab.slot_count() <= TOLERATED_TOMBSTONES, "{}", timers.slab.slot_count());
    }
}
