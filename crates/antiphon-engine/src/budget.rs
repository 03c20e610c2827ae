//! The poll budget: how long a loop with work to do may leave the kernel unasked.
//!
//! A poll costs more than a turn of a busy loop, and mostly finds nothing. So a loop that does not want to sleep polls only
//! when one of three limits is reached, whichever is first:
//!
//! - [`TURNS`] turns without a poll;
//! - [`ITEMS`] work items run without a poll;
//! - the coarse clock has ticked since the last poll. This bounds the delay of I/O in time (a tick is 1 to 10 ms) when the
//!   items are slow ones.
//!
//! So no chain of ready work, however endless, starves a descriptor.

/// After so many turns the kernel is asked.
pub(crate) const TURNS: u32 = 64;

/// After so many work items the kernel is asked.
pub(crate) const ITEMS: usize = 256;

#[derive(Debug)]
pub(crate) struct PollBudget {
    turns: u32,
    items: usize,
    /// The coarse clock's reading at the last poll.
    tick_ns: i64,
}

impl PollBudget {
    /// A used-up budget: the first turn polls.
    pub(crate) const fn new() -> Self {
        Self { turns: 0, items: 0, tick_ns: 0 }
    }

    /// Makes the next [`may_skip`](Self::may_skip) say no.
    pub(crate) fn exhaust(&mut self) {
        self.turns = 0;
    }

    /// Takes one turn from the budget; false when this turn has to poll. `coarse_ns` is the coarse clock's reading.
    #[inline]
    pub(crate) fn may_skip(&mut self, coarse_ns: i64) -> bool {
        if self.turns == 0 || self.items == 0 || self.tick_ns != coarse_ns {
            return false;
        }
        self.turns -= 1;
        true
    }

    /// Counts `items` that a turn runs.
    #[inline]
    pub(crate) fn spend(&mut self, items: usize) {
        self.items = self.items.saturating_sub(items);
    }

    /// Refills the budget after a poll or a sleep that ended at `coarse_ns`.
    #[inline]
    pub(crate) fn refill(&mut self, coarse_ns: i64) {
        *self = Self { turns: TURNS, items: ITEMS, tick_ns: coarse_ns };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> PollBudget {
        let mut budget = PollBudget::new();
        budget.refill(5);
        budget
    }

    #[test]
    fn first_turn_polls() {
        assert!(!PollBudget::new().may_skip(0));
    }

    #[test]
    fn turns_run_out() {
        let mut budget = full();
        assert_eq!((0..1000).take_while(|_| budget.may_skip(5)).count(), TURNS as usize);
        budget.refill(5);
        assert!(budget.may_skip(5));
    }

    #[test]
    fn items_run_out() {
        let mut budget = full();
        budget.spend(ITEMS - 1);
        assert!(budget.may_skip(5));
        budget.spend(2);
        assert!(!budget.may_skip(5));
    }

    #[test]
    fn tick_of_the_coarse_clock_ends_the_budget() {
        let mut budget = full();
        assert!(budget.may_skip(5));
        assert!(!budget.may_skip(6));
    }

    #[test]
    fn forced_poll_happens_once() {
        let mut budget = full();
        budget.exhaust();
        assert!(!budget.may_skip(5));
        budget.refill(5);
        assert!(budget.may_skip(5));
    }
}
