//! The rules of a queue between producers and consumers: who waits, who is woken, what is unfinished, shut down.
//!
//! The items are somewhere else: a queue may hand them out in any order, and asyncio's can be derived from. So whoever
//! calls says whether the queue is full or empty.
//!
//! Unlike a lock's waiter, one that is woken here leaves the list at once, and looks again when it runs: another may have
//! been faster. If it fails instead, it wakes the next one, as long as there is something to get or room to put.
//!
//! Source: CPython Lib/asyncio/queues.py.

use crate::waiters::{Few, Left, Waiter, Waiters};

/// What one who wants to put or get may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Do it.
    Now,
    /// Wait, or give up if he does not want to.
    Later,
    /// Never: the queue was shut down.
    Never,
}

/// There are no unfinished items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NothingUnfinished;

/// A queue's rules.
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
/// use antiphon_core::{NothingUnfinished, Queue, Turn};
///
/// let mut queue = Queue::default();
/// let mut items = Vec::new(); // the caller's, as are the rules for what is full
/// let getter = task("getter");
/// assert_eq!(queue.may_get(items.is_empty()), Turn::Later);
/// queue.wait_to_get(getter);
/// assert_eq!(queue.may_put(false), Turn::Now);
/// items.push("item");
/// assert_eq!(wake(queue.added().wake), ["getter"]);
/// assert_eq!(queue.may_get(items.is_empty()), Turn::Now);
/// items.pop();
/// assert!(queue.removed().wake.is_empty(), "nobody waits to put");
/// assert_eq!(queue.unfinished(), 1);
/// assert_eq!(queue.task_done(), Ok(true));
/// assert_eq!(queue.task_done(), Err(NothingUnfinished));
/// queue.shut_down();
/// assert_eq!((queue.may_put(false), queue.may_get(true)), (Turn::Never, Turn::Never));
/// assert!(queue.is_shut_down() && queue.everybody().next().is_none());
/// ```
#[derive(Debug)]
pub struct Queue<W> {
    getters: Waiters<W>,
    putters: Waiters<W>,
    unfinished: usize,
    shut_down: bool,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self { getters: Waiters::default(), putters: Waiters::default(), unfinished: 0, shut_down: false }
    }
}

impl<W: Waiter> Queue<W> {
    /// Whether an item may be put into a queue that is full or not.
    #[inline]
    pub fn may_put(&self, full: bool) -> Turn {
        match (self.shut_down, full) {
            (true, _) => Turn::Never,
            (false, true) => Turn::Later,
            (false, false) => Turn::Now,
        }
    }

    /// Whether an item may be got from a queue that is empty or not. What is left after a shut-down may be got.
    #[inline]
    pub fn may_get(&self, empty: bool) -> Turn {
        match (empty, self.shut_down) {
            (false, _) => Turn::Now,
            (true, true) => Turn::Never,
            (true, false) => Turn::Later,
        }
    }

    /// An item was put. What is unfinished is at least that.
    #[inline]
    pub fn added(&mut self) -> Left<W> {
        self.unfinished += 1;
        wake_next(&mut self.getters)
    }

    /// An item was got.
    #[inline]
    pub fn removed(&mut self) -> Left<W> {
        wake_next(&mut self.putters)
    }

    /// A getter queues up.
    pub fn wait_to_get(&mut self, waiter: W) {
        self.getters.push(waiter);
    }

    /// A putter queues up.
    pub fn wait_to_put(&mut self, waiter: W) {
        self.putters.push(waiter);
    }

    /// A getter gives up, whether it was woken or not.
    pub fn abandon_get(&mut self, waiter: &W, empty: bool) -> Left<W> {
        abandon(&mut self.getters, waiter, !empty)
    }

    /// A putter gives up, whether it was woken or not.
    pub fn abandon_put(&mut self, waiter: &W, full: bool) -> Left<W> {
        abandon(&mut self.putters, waiter, !full)
    }

    /// The getter that was to be woken is done otherwise by now (another thread was faster): the next one.
    pub fn next_getter(&mut self) -> Left<W> {
        wake_next(&mut self.getters)
    }

    /// The same for a putter.
    pub fn next_putter(&mut self) -> Left<W> {
        wake_next(&mut self.putters)
    }

    /// An item that was got is done with. Whether it was the last.
    ///
    /// # Errors
    /// [`NothingUnfinished`] if this was said of every item already.
    pub fn task_done(&mut self) -> Result<bool, NothingUnfinished> {
        if self.unfinished == 0 {
            return Err(NothingUnfinished);
        }
        self.unfinished -= 1;
        Ok(self.unfinished == 0)
    }

    /// Nobody may put any more. The caller throws away what he wants ([`Self::discarded`]) and wakes everybody then.
    pub fn shut_down(&mut self) {
        self.shut_down = true;
    }

    /// An item was thrown away. Whether nothing is unfinished.
    pub fn discarded(&mut self) -> bool {
        self.unfinished = self.unfinished.saturating_sub(1);
        self.unfinished == 0
    }

    /// Everybody who waits, to look again: getters first.
    pub fn everybody(&mut self) -> impl Iterator<Item = W> + use<W> {
        self.getters.take().into_iter().chain(self.putters.take())
    }

    /// How many items were put and not yet said to be done.
    #[inline]
    pub fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// Sets that.
    pub fn set_unfinished(&mut self, unfinished: usize) {
        self.unfinished = unfinished;
    }

    /// Whether it was shut down.
    #[inline]
    pub fn is_shut_down(&self) -> bool {
        self.shut_down
    }

    /// Who waits to get.
    pub fn getters(&self) -> &Waiters<W> {
        &self.getters
    }

    /// Who waits to put.
    pub fn putters(&self) -> &Waiters<W> {
        &self.putters
    }

    /// Who waits to get, to be changed by who knows what he does.
    pub fn getters_mut(&mut self) -> &mut Waiters<W> {
        &mut self.getters
    }

    /// Who waits to put, to be changed by who knows what he does.
    pub fn putters_mut(&mut self) -> &mut Waiters<W> {
        &mut self.putters
    }
}

/// Takes the first pending one out, and those before it, which are done.
#[inline]
fn wake_next<W: Waiter>(waiters: &mut Waiters<W>) -> Left<W> {
    let mut left = Left { removed: Few::nobody(), wake: Few::nobody() };
    while let Some(waiter) = waiters.pop() {
        if !waiter.is_done() {
            left.wake.add(waiter);
            break;
        }
        left.removed.add(waiter);
    }
    left
}

/// Takes one out that gives up. Had it been woken, it could have gone on, so that another one is now.
fn abandon<W: Waiter>(waiters: &mut Waiters<W>, waiter: &W, possible: bool) -> Left<W> {
    let mut removed = Few::from(waiters.remove(waiter));
    let woken = waiter.is_done() && !waiter.is_cancelled();
    let mut wake = Few::nobody();
    if possible && woken {
        let next = wake_next(waiters);
        next.removed.into_iter().for_each(|other| removed.add(other));
        wake = next.wake;
    }
    Left { removed, wake }
}
