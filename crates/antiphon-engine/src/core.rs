//! What one loop consists of, in one place for its host to own.

use crate::budget::PollBudget;
use crate::{Driver, Event, Inbox, ReadyQueue, TimerHeap};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The parts of one event loop; [`run_once`](crate::run_once) moves work items between them.
///
/// A core has no thread of its own and knows of none: whoever has exclusive access drives it.
#[derive(Debug)]
pub struct Core<W, D> {
    /// Work that can run now.
    pub ready: ReadyQueue<W>,
    /// Work that becomes ready at a deadline.
    pub timers: TimerHeap<W>,
    /// Where the loop waits for the operating system.
    pub driver: D,
    /// Work from other threads.
    pub inbox: Arc<Inbox<W>>,
    /// What the last wait brought and nobody has dispatched yet; a host that must borrow the driver alone while it
    /// sleeps lets the driver write here.
    pub events: Vec<Event>,
    pub(crate) budget: PollBudget,
    /// How many items of the present turn have yet to run (R1); here and not with whoever runs them, so that another thread
    /// can go on with the turn.
    pub(crate) left_of_turn: usize,
}

impl<W, D: Driver> Core<W, D> {
    /// A loop without work that waits with `driver`.
    ///
    /// # Errors
    /// None today; a driver that opens its notifier only here may run out of descriptors.
    pub fn new(driver: D) -> io::Result<Self> {
        let inbox = Arc::new(Inbox::new(Box::new(driver.notifier())));
        Ok(Self {
            ready: ReadyQueue::new(),
            timers: TimerHeap::new(),
            driver,
            inbox,
            events: Vec::new(),
            budget: PollBudget::new(),
            left_of_turn: 0,
        })
    }

    /// Puts `works` before everything that is ready, to run in the present turn.
    pub fn put_first(&mut self, works: Vec<W>) {
        self.left_of_turn += works.len();
        self.ready.put_first(works);
    }

    /// The next item of the present turn.
    #[inline]
    pub(crate) fn next_of_turn(&mut self) -> Option<W> {
        self.left_of_turn = self.left_of_turn.checked_sub(1)?;
        self.ready.pop()
    }

    /// Lets the next turn ask the kernel, whatever the poll budget says; for the start of a run, whose caller may
    /// have left the loop alone for a long time.
    pub fn force_poll(&mut self) {
        self.budget.exhaust();
    }

    /// Waits with the driver and keeps what comes for the turn to dispatch.
    ///
    /// `timeout`: `None` waits without limit, `Some(ZERO)` polls once. Called by [`Host::wait`](crate::Host::wait).
    ///
    /// # Errors
    /// As [`Driver::wait`].
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.driver.wait(timeout, &mut self.events)?;
        Ok(())
    }
}
