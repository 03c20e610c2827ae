//! Tasks as the machines meet them: each waits with a ticket, is woken or cancelled, and runs some time later.

use std::cell::Cell;
use std::rc::Rc;

use antiphon_core::{Few, Left, Waiter};

/// How a ticket stands.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Fate {
    Pending,
    Woken,
    Cancelled,
}

/// What a task waits with: a future, as far as these tests go.
#[derive(Clone, Debug)]
pub struct Ticket(Rc<Cell<Fate>>);

impl PartialEq for Ticket {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Waiter for Ticket {
    fn is_done(&self) -> bool {
        self.0.get() != Fate::Pending
    }
    fn is_cancelled(&self) -> bool {
        self.0.get() == Fate::Cancelled
    }
}

impl Ticket {
    pub fn new() -> Self {
        Self(Rc::new(Cell::new(Fate::Pending)))
    }

    fn wake(&self) {
        assert_eq!(self.0.get(), Fate::Pending, "only pending waiters are woken");
        self.0.set(Fate::Woken);
    }
}

/// Does what a machine asks for.
pub fn wake(few: Few<Ticket>) -> usize {
    let count = few.len();
    few.into_iter().for_each(|ticket| ticket.wake());
    count
}

/// The same for who left.
pub fn wake_after(left: Left<Ticket>) -> usize {
    drop(left.removed);
    wake(left.wake)
}

/// A task's wait.
#[derive(Debug)]
pub struct Wait {
    pub ticket: Ticket,
    /// When it began, counted over all tasks.
    pub arrived: usize,
    cancelled: bool,
}

impl Wait {
    pub fn new(arrived: usize) -> Self {
        Self { ticket: Ticket::new(), arrived, cancelled: false }
    }

    /// `task.cancel()`: ends the wait, or, if that is over, the task when it runs.
    pub fn cancel(&mut self) {
        if !self.ticket.is_done() {
            self.ticket.0.set(Fate::Cancelled);
        }
        self.cancelled = true;
    }

    /// Whether the task can run.
    pub fn is_over(&self) -> bool {
        self.ticket.is_done()
    }

    /// Whether it will raise `CancelledError` then.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled
    }
}
