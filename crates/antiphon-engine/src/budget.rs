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
//! Reading even the coarse clock costs as much as running a cheap item. So the budget looks at it in the first turn after a poll, and
//! after each look that found no tick it lets twice as many turns pass, [`BLIND_TURNS`] at the most: a loop of slow items polls at
//! every tick, and one whose items become slow does so a few turns later.
//!
//! So no chain of ready work, however endless, starves a descriptor.

/// After so many turns the kernel is asked.
pub(crate) const TURNS: u32 = 64;

/// After so many work items the kernel is asked.
pub(crate) const ITEMS: usize = 256;

/// So many turns at the most pass without a look at the clock.
pub(crate) const BLIND_TURNS: u32 = 8;

#[derive(Debug)]
pub(crate) struct PollBudget {
    turns: u32,
    items: usize,
    /// The coarse clock's reading at the last poll.
    tick_ns: i64,
    /// In how many turns the clock is looked at again, and how many the last look allowed.
    blind: u32,
    allowed: u32,
}

/// What a turn with work to do does about the kernel.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Verdict {
    /// It leaves it alone.
    Skip,
    /// It polls.
    Poll,
    /// That depends on the coarse clock: [`PollBudget::look`].
    Look,
}

impl PollBudget {
    /// A used-up budget: the first turn polls.
    pub(crate) const fn new() -> Self {
        Self { turns: 0, items: 0, tick_ns: 0, blind: 0, allowed: 0 }
    }

    /// Makes the next turn poll.
    pub(crate) fn exhaust(&mut self) {
        self.turns = 0;
    }

    /// Takes one turn from the budget.
    #[inline]
    pub(crate) fn take_turn(&mut self) -> Verdict {
        if self.turns == 0 || self.items == 0 {
            return Verdict::Poll;
        }
        self.turns -= 1;
        if self.blind > 0 {
            self.blind -= 1;
            return Verdict::Skip;
        }
        Verdict::Look
    }

    /// Whether the turn that was taken does not poll; `coarse_ns` is the coarse clock's reading.
    #[inline]
    pub(crate) fn look(&mut self, coarse_ns: i64) -> bool {
        if self.tick_ns != coarse_ns {
            return false;
        }
        self.allowed = (2 * self.allowed + 1).min(BLIND_TURNS - 1);
        self.blind = self.allowed;
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
        *self = Self { turns: TURNS, items: ITEMS, tick_ns: coarse_ns, blind: 0, allowed: 0 };
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

    /// As a turn does.
    fn may_skip(budget: &mut PollBudget, coarse_ns: i64) -> bool {
        match budget.take_turn() {
            Verdict::Skip => true,
            Verdict::Poll => false,
            Verdict::Look => budget.look(coarse_ns),
        }
    }

    #[test]
    fn first_turn_polls() {
        assert!(!may_skip(&mut PollBudget::new(), 0));
    }

    #[test]
    fn turns_run_out() {
        let mut budget = full();
        assert_eq!((0..1000).take_while(|_| may_skip(&mut budget, 5)).count(), TURNS as usize);
        budget.refill(5);
        assert!(may_skip(&mut budget, 5));
    }

    #[test]
    fn items_run_out() {
        let mut budget = full();
        budget.spend(ITEMS - 1);
        assert!(may_skip(&mut budget, 5));
        budget.spend(2);
        assert!(!may_skip(&mut budget, 5));
    }

    #[test]
    fn tick_of_the_coarse_clock_ends_the_budget() {
        assert!(!may_skip(&mut full(), 6), "the first turn after a poll looks");
        for quick_turns in 1..TURNS - BLIND_TURNS {
            let mut budget = full();
            assert!((0..quick_turns).all(|_| may_skip(&mut budget, 5)));
            let more = (0..TURNS).take_while(|_| may_skip(&mut budget, 6)).count();
            assert!(more < BLIND_TURNS as usize, "{more} turns after {quick_turns}");
        }
    }

    #[test]
    fn clock_is_looked_at_rarely() {
        let mut budget = full();
        let looks = (0..TURNS).filter(|_| budget.take_turn() == Verdict::Look && budget.look(5)).count();
        assert!(looks <= 12, "{looks}");
    }

    #[test]
    fn forced_poll_happens_once() {
        let mut budget = full();
        budget.exhaust();
        assert!(!may_skip(&mut budget, 5));
        budget.refill(5);
        assert!(may_skip(&mut budget, 5));
    }
}
