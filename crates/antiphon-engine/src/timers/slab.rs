//! The slots in which a timer heap keeps its work items, addressed by keys that tell an old timer from a new one.
//!
//! Invariant S1: a slot is `Cancelled` exactly while the heap still has an entry that names it, so it is not handed out
//! again before that entry is gone.
//! Invariant S2: a slot's generation grows with each item that it has held, so a key of a past item never fits. A slot
//! whose generations are used up (after 4 billion items) is retired: it never becomes free again.

use std::num::NonZeroU32;

/// Names one timer from [`push`](super::TimerHeap::push) until it is due or cancelled; harmless afterwards.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct TimerKey {
    slot: u32,
    generation: NonZeroU32,
}

impl TimerKey {
    pub(super) fn slot(self) -> u32 {
        self.slot
    }
}

/// Ends the list of free slots.
const NO_SLOT: u32 = u32::MAX;
/// In the place of the next free slot: this one is `Cancelled`.
const CANCELLED: u32 = u32::MAX - 1;

/// A slab that has grown beyond this many slots is given back once the last timer is gone.
const KEPT_SLOTS: usize = 1024;

/// Sixteen bytes for an item of one word.
#[derive(Debug)]
struct Slot<W> {
    generation: NonZeroU32,
    /// Without an item: the next free slot, or [`CANCELLED`].
    next: u32,
    item: Option<W>,
}

#[derive(Debug)]
pub(super) struct Slab<W> {
    slots: Vec<Slot<W>>,
    first_free: u32,
    /// Where the generations of a new slot begin; above all that keys of dropped slots can have.
    first_generation: NonZeroU32,
}

impl<W> Slab<W> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), first_free: NO_SLOT, first_generation: NonZeroU32::MIN }
    }

    /// Stores `work` in a free slot.
    ///
    /// # Panics
    /// With 2^32 - 2 timers at once.
    #[inline]
    pub(super) fn insert(&mut self, work: W) -> TimerKey {
        if let Some(slot) = self.slots.get_mut(self.first_free as usize) {
            slot.item = Some(work);
            let key = TimerKey { slot: self.first_free, generation: slot.generation };
            self.first_free = slot.next;
            return key;
        }
        self.insert_in_new_slot(work)
    }

    #[cold]
    fn insert_in_new_slot(&mut self, work: W) -> TimerKey {
        let slot = u32::try_from(self.slots.len()).ok().filter(|&slot| slot < CANCELLED);
        let slot = slot.expect("fewer than 2^32 - 2 timers");
        let generation = self.first_generation;
        self.slots.push(Slot { generation, next: NO_SLOT, item: Some(work) });
        TimerKey { slot, generation }
    }

    /// Takes the item that `key` names and leaves its slot to the heap entry that still names it (invariant S1).
    #[inline]
    pub(super) fn cancel(&mut self, key: TimerKey) -> Option<W> {
        let slot = self.slots.get_mut(key.slot as usize).filter(|slot| slot.generation == key.generation)?;
        let work = slot.item.take()?;
        slot.next = CANCELLED;
        Some(work)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: TimerKey) -> Option<&mut W> {
        self.slots.get_mut(key.slot as usize).filter(|slot| slot.generation == key.generation)?.item.as_mut()
    }

    #[inline]
    pub(super) fn is_cancelled(&self, slot: u32) -> bool {
        let slot = &self.slots[slot as usize];
        slot.item.is_none() && slot.next == CANCELLED
    }

    /// Frees the slot, whose heap entry the caller has removed; returns the item if it was live.
    #[inline]
    pub(super) fn release(&mut self, index: u32) -> Option<W> {
        let slot = &mut self.slots[index as usize];
        slot.next = match slot.generation.checked_add(1) {
            Some(generation) => {
                slot.generation = generation;
                std::mem::replace(&mut self.first_free, index)
            }
            // Invariant S2: retired, in no list.
            None => NO_SLOT,
        };
        slot.item.take()
    }

    /// Gives the slots of a burst back to the allocator. The caller knows that no slot is in use.
    #[inline]
    pub(super) fn shrink_when_unused(&mut self) {
        if self.slots.len() > KEPT_SLOTS {
            self.drop_slots();
        }
    }

    #[cold]
    fn drop_slots(&mut self) {
        let newest = self.slots.iter().map(|slot| slot.generation).max();
        // Were the generations used up, the slots would have to stay, so that old keys keep missing.
        if let Some(first_generation) = newest.and_then(|newest| newest.checked_add(1)) {
            self.first_generation = first_generation;
            self.slots = Vec::new();
            self.first_free = NO_SLOT;
        }
    }

    /// The live items, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &W> {
        self.slots.iter().filter_map(|slot| slot.item.as_ref())
    }

    #[cfg(test)]
    pub(super) fn slot_count(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_of_a_past_item_does_not_fit_its_slot() {
        let mut slab = Slab::new();
        let old = slab.insert("old");
        assert_eq!(slab.release(old.slot), Some("old"));
        let new = slab.insert("new");
        assert_eq!(new.slot, old.slot);
        assert_eq!(slab.cancel(old), None);
        assert_eq!(slab.get_mut(old), None);
        assert_eq!(slab.get_mut(new).map(|item| std::mem::replace(item, "newer")), Some("new"));
        assert_eq!(slab.cancel(new), Some("newer"));
        assert_eq!(slab.get_mut(new), None);
    }

    #[test]
    fn slot_with_used_up_generations_is_retired() {
        let mut slab = Slab::new();
        slab.first_generation = NonZeroU32::MAX;
        let last = slab.insert(1);
        assert_eq!(slab.release(last.slot), Some(1));
        assert_ne!(slab.insert(2).slot, last.slot);
        assert_eq!(slab.cancel(last), None);
    }

    #[test]
    fn dropped_slots_do_not_revive_old_keys() {
        let mut slab = Slab::new();
        let keys: Vec<_> = (0..=KEPT_SLOTS).map(|item| slab.insert(item)).collect();
        for key in &keys {
            slab.release(key.slot);
        }
        slab.shrink_when_unused();
        assert_eq!(slab.slots.capacity(), 0);
        let new = slab.insert(7);
        assert!(keys.iter().all(|&old| slab.cancel(old).is_none()));
        assert_eq!(slab.cancel(new), Some(7));
    }
}
