//! One who waits: what antiphon's futures put into the lists of core's machines.

use crate::runtime::Loop;
use crate::runtime::own_task;
use crate::task::{TaskHandle, Waiting};
use antiphon_core::Waiter;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum State {
    Pending,
    Woken,
    Cancelled,
}

/// A name of one who waits; copies name the same one.
#[derive(Clone)]
pub(crate) struct WaitNode(Rc<Node>);

struct Node {
    state: Cell<State>,
    who: RefCell<Who>,
}

/// Whom to wake.
pub(crate) enum Who {
    /// The task that awaits, without the detour of its waker.
    Task(TaskHandle),
    /// Whoever polls: a combinator with wakers of its own, or another runtime.
    Foreign(Waker),
    Nobody,
}

impl Who {
    pub(crate) fn of(waker: &Waker) -> Self {
        own_task(waker).map_or_else(|| Self::Foreign(waker.clone()), Self::Task)
    }

    /// Whether waking it wakes `waker`.
    pub(crate) fn is_woken_by(&self, waker: &Waker) -> bool {
        match self {
            Self::Task(task) => task.has_waker(waker),
            Self::Foreign(own) => own.will_wake(waker),
            Self::Nobody => false,
        }
    }

    pub(crate) fn wake(self) {
        match self {
            Self::Task(task) => wake_task(&task),
            Self::Foreign(waker) => waker.wake(),
            Self::Nobody => {}
        }
    }
}

impl WaitNode {
    pub(crate) fn new(waker: &Waker) -> Self {
        Self(Rc::new(Node { state: Cell::new(State::Pending), who: RefCell::new(Who::of(waker)) }))
    }

    /// Somebody polls again, perhaps with another waker.
    pub(crate) fn renew(&self, waker: &Waker) {
        let same = self.0.who.borrow().is_woken_by(waker);
        if !same {
            let former = self.0.who.replace(Who::of(waker));
            drop(former);
        }
    }

    /// Wakes, unless it was woken or cancelled before.
    pub(crate) fn wake(&self) {
        if self.0.state.get() != State::Pending {
            return;
        }
        self.0.state.set(State::Woken);
        self.0.who.replace(Who::Nobody).wake();
    }

    /// It gives up before anybody woke it.
    pub(crate) fn cancel(&self) {
        if self.0.state.get() == State::Pending {
            self.0.state.set(State::Cancelled);
            let former = self.0.who.replace(Who::Nobody);
            drop(former);
        }
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.0.state.get() == State::Woken
    }
}

impl std::fmt::Debug for WaitNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WaitNode").field(&self.0.state.get()).finish()
    }
}

impl PartialEq for WaitNode {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Waiter for WaitNode {
    fn is_done(&self) -> bool {
        self.0.state.get() != State::Pending
    }

    fn is_cancelled(&self) -> bool {
        self.0.state.get() == State::Cancelled
    }
}

/// Queues a step of a task of this thread's loop, unless one is queued.
#[inline]
pub(crate) fn wake_task(task: &TaskHandle) {
    Loop::with_running(|own| own.schedule(task));
}

/// Notes what the running task waits for.
pub(crate) fn set_waiting(what: &'static str) {
    Loop::with_current(|header| header.waiting.set(Waiting::For(what)));
}

/// Notes that the running task waits for another one.
pub(crate) fn set_waiting_for_task() {
    Loop::with_current(|header| header.waiting.set(Waiting::Task));
}
