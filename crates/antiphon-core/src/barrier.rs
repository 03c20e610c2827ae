//! A point that a number of parties reach before any of them goes on.
//!
//! ```text
//!            the last party arrives
//!   Filling ────────────────────────▶ Draining ──the last one leaves──▶ Filling
//!      │ reset, somebody waits
//!      └──────────▶ Resetting ──the last one leaves──▶ Filling
//!   abort: Broken, until reset
//! ```
//!
//! Who arrives while others leave is held up until they are gone. What a wait ends with is decided when its waiter runs
//! again, by the state at that time: a reset while the parties leave breaks it for those that have not yet left.
//!
//! asyncio keeps a condition inside, whose lock nobody ever waits for, since it is held within single steps only: here
//! there is no lock.
//!
//! Source: CPython Lib/asyncio/locks.py (`Barrier`).

use crate::waiters::{Waiter, Waiters, Wake};

/// What parties are doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarrierState {
    /// They gather.
    Filling,
    /// All were there, and they leave.
    Draining,
    /// They were sent away, and leave with an error.
    Resetting,
    /// It was aborted: everybody leaves with an error, and nobody may wait.
    Broken,
}

/// What becomes of one who arrives.
#[derive(Debug)]
pub enum BarrierArrival<W> {
    /// He is the last: these are woken, and he [leaves](Barrier::leave) at once. With his number.
    Trips(usize, Wake<W>),
    /// He is counted and has to wait; to be asked when woken: [`Barrier::outcome`]. With his number.
    Waits(usize),
    /// Others are leaving: he has to wait, uncounted, and arrives again when woken.
    HeldUp,
    /// The barrier is broken.
    Broken,
}

/// How a counted wait stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarrierOutcome {
    /// Not all are there: it goes on.
    Waits,
    /// All were there.
    Passed,
    /// It was reset or aborted.
    Broken,
}

/// A barrier's rules.
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
/// use antiphon_core::{Barrier, BarrierArrival, BarrierOutcome, BarrierState};
///
/// let mut barrier = Barrier::new(2);
/// let first = task("first");
/// let BarrierArrival::Waits(0) = barrier.arrive() else { panic!() };
/// barrier.wait(first.clone());
/// assert_eq!((barrier.waiting(), barrier.outcome()), (1, BarrierOutcome::Waits));
/// let BarrierArrival::Trips(1, woken) = barrier.arrive() else { panic!() };
/// assert_eq!(wake(woken), ["first"]);
/// assert!(barrier.leave().is_empty()); // the last one to come
/// let BarrierArrival::HeldUp = barrier.arrive() else { panic!("the first one is still to leave") };
/// drop(barrier.resume(&first));
/// assert_eq!(barrier.outcome(), BarrierOutcome::Passed);
/// assert!(barrier.leave().is_empty());
/// assert_eq!((barrier.state(), barrier.count(), barrier.parties()), (BarrierState::Filling, 0, 2));
/// assert!(barrier.abort().is_empty());
/// let BarrierArrival::Broken = barrier.arrive() else { panic!() };
/// assert!(barrier.reset().is_empty());
/// assert_eq!(barrier.state(), BarrierState::Filling);
/// ```
#[derive(Debug)]
pub struct Barrier<W> {
    parties: usize,
    state: BarrierState,
    count: usize,
    waiters: Waiters<W>,
}

impl<W: Waiter> Barrier<W> {
    /// For this many parties, at least one.
    pub fn new(parties: usize) -> Self {
        Self { parties, state: BarrierState::Filling, count: 0, waiters: Waiters::default() }
    }

    /// One more arrives.
    pub fn arrive(&mut self) -> BarrierArrival<W> {
        match self.state {
            BarrierState::Draining | BarrierState::Resetting => BarrierArrival::HeldUp,
            BarrierState::Broken => BarrierArrival::Broken,
            BarrierState::Filling => {
                let number = self.count;
                self.count += 1;
                if self.count < self.parties {
                    return BarrierArrival::Waits(number);
                }
                self.state = BarrierState::Draining;
                BarrierArrival::Trips(number, self.everybody())
            }
        }
    }

    /// Queues up, counted or held up.
    pub fn wait(&mut self, waiter: W) {
        self.waiters.push(waiter);
    }

    /// A waiter runs again or gives up. Its name in the list is the caller's to drop.
    #[must_use = "the list's name of it is to be dropped by the caller"]
    pub fn resume(&mut self, waiter: &W) -> Option<W> {
        self.waiters.remove(waiter)
    }

    /// What a counted wait has come to.
    pub fn outcome(&self) -> BarrierOutcome {
        match self.state {
            BarrierState::Filling => BarrierOutcome::Waits,
            BarrierState::Draining => BarrierOutcome::Passed,
            BarrierState::Resetting | BarrierState::Broken => BarrierOutcome::Broken,
        }
    }

    /// One that was counted goes, for whatever reason.
    pub fn leave(&mut self) -> Wake<W> {
        self.count -= 1;
        if self.count > 0 {
            return Wake::nobody();
        }
        if matches!(self.state, BarrierState::Draining | BarrierState::Resetting) {
            self.state = BarrierState::Filling;
        }
        self.everybody()
    }

    /// Sends everybody away who waits, and makes a broken barrier whole.
    pub fn reset(&mut self) -> Wake<W> {
        self.state = if self.count > 0 { BarrierState::Resetting } else { BarrierState::Filling };
        self.everybody()
    }

    /// Breaks it.
    pub fn abort(&mut self) -> Wake<W> {
        self.state = BarrierState::Broken;
        self.everybody()
    }

    fn everybody(&self) -> Wake<W> {
        self.waiters.first_pending(usize::MAX)
    }

    /// How many parties it is for.
    pub fn parties(&self) -> usize {
        self.parties
    }

    /// How many are counted: they wait or have not yet left.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many wait for the others.
    pub fn waiting(&self) -> usize {
        if self.state == BarrierState::Filling { self.count } else { 0 }
    }

    /// What the parties are doing.
    pub fn state(&self) -> BarrierState {
        self.state
    }

    /// Who waits, counted or held up.
    pub fn waiters(&self) -> &Waiters<W> {
        &self.waiters
    }

    /// The same, to be changed by who knows what he does.
    pub fn waiters_mut(&mut self) -> &mut Waiters<W> {
        &mut self.waiters
    }
}
