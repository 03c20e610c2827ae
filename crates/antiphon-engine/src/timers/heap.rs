//! A 4-ary min-heap of 16-byte entries, in one vector.
//!
//! Invariant H: no entry is before its parent. The children of the entry at `i` are at `4 i + 1 ..= 4 i + 4`; four of
//! them fill a cache line, and the tree is half as deep as a binary one.
//!
//! Source: LaMarca and Ladner, "The influence of caches on the performance of heaps" (1996).

use crate::Instant;

const ARITY: usize = 4;

/// One armed timer: when, in which order among equals, and in which slot its work lies.
#[derive(Copy, Clone, Debug)]
pub(super) struct Entry {
    deadline: Instant,
    /// The sequence number in the upper half, the slot in the lower one; never equal in two entries of a heap.
    order: u64,
}

impl Entry {
    pub(super) fn new(deadline: Instant, seq: u32, slot: u32) -> Self {
        Self { deadline, order: u64::from(seq) << 32 | u64::from(slot) }
    }

    pub(super) fn deadline(self) -> Instant {
        self.deadline
    }

    pub(super) fn slot(self) -> u32 {
        self.order as u32 // the lower half
    }

    /// Deadline first, then age. One wide comparison compiles to no branch.
    #[inline]
    fn key(self) -> i128 {
        i128::from(self.deadline.as_ns()) << 64 | i128::from(self.order)
    }

    #[inline]
    fn is_before(self, other: Self) -> bool {
        self.key() < other.key()
    }
}

#[derive(Debug)]
pub(super) struct Heap {
    entries: Vec<Entry>,
}

impl Heap {
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The earliest entry.
    #[inline]
    pub(super) fn first(&self) -> Option<Entry> {
        self.entries.first().copied()
    }

    /// The entry in the last place: a leaf, so it can be removed without moving any other.
    #[inline]
    pub(super) fn last(&self) -> Option<Entry> {
        self.entries.last().copied()
    }

    #[inline]
    pub(super) fn push(&mut self, entry: Entry) {
        let place = self.entries.len();
        self.entries.push(entry);
        self.sift_up(place, entry);
    }

    /// Removes the entry in the last place.
    #[inline]
    pub(super) fn pop_last(&mut self) {
        self.entries.pop();
    }

    /// Removes the earliest entry.
    pub(super) fn pop_first(&mut self) {
        let Some(last) = self.entries.pop() else { return };
        if !self.entries.is_empty() {
            self.sift_down(0, last);
        }
    }

    /// Drops the entries that `keep` refuses and restores invariant H, in linear time.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Entry) -> bool) {
        self.entries.retain(keep);
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        for place in (0..self.entries.len().div_ceil(ARITY)).rev() {
            self.sift_down(place, self.entries[place]);
        }
    }

    /// Gives the entries new sequence numbers 0, 1, ... in their present order; returns how many there are.
    pub(super) fn renumber(&mut self) -> u32 {
        self.entries.sort_unstable_by_key(|entry| entry.key());
        let mut seq = 0;
        for entry in &mut self.entries {
            *entry = Entry::new(entry.deadline, seq, entry.slot());
            seq += 1;
        }
        seq // a sorted vector keeps invariant H
    }

    /// Empties the heap and returns its entries, earliest first.
    pub(super) fn take_sorted(&mut self) -> Vec<Entry> {
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_unstable_by_key(|entry| entry.key());
        entries
    }

    /// Puts `entry` where it belongs on the way from `place`, which is a hole, to the root.
    #[inline]
    fn sift_up(&mut self, mut place: usize, entry: Entry) {
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if !entry.is_before(self.entries[parent]) {
                break;
            }
            self.entries[place] = self.entries[parent];
            place = parent;
        }
        self.entries[place] = entry;
    }

    /// Puts `entry` where it belongs on the way from `place`, which is a hole, to the leaves.
    fn sift_down(&mut self, mut place: usize, entry: Entry) {
        while let Some(child) = self.first_child(place) {
            if !self.entries[child].is_before(entry) {
                break;
            }
            self.entries[place] = self.entries[child];
            place = child;
        }
        self.entries[place] = entry;
    }

    /// The place of the earliest child of the entry at `place`, if it has children.
    #[inline]
    fn first_child(&self, place: usize) -> Option<usize> {
        let start = place * ARITY + 1;
        let end = self.entries.len().min(start + ARITY);
        (start..end).min_by_key(|&child| self.entries[child].key())
    }
}
