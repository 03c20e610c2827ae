//! Mutual exclusion with turns.
//!
//! A lock that is released is free until the waiter that was woken takes it, but nobody else can have it meanwhile: who
//! comes later waits behind. A woken waiter that is cancelled before it runs passes its turn on.
//!
//! ```
//! # use antiphon_core::{Lock, Waiter};
//! # #[derive(Clone, PartialEq)] struct Alice(bool);
//! # impl Waiter for Alice { fn is_done(&self) -> bool { self.0 } fn is_cancelled(&self) -> bool { false } }
//! let mut lock = Lock::default();
//! assert!(lock.try_acquire());
//! lock.wait(Alice(false));
//! let woken: Vec<_> = lock.release().unwrap().into_iter().collect();
//! assert!(woken == [Alice(false)] && !lock.try_acquire());
//! lock.resume(&Alice(false));
//! assert!(lock.is_locked());
//! ```
//!
//! Source: CPython Lib/asyncio/locks.py (`Lock`).

use crate::waiters::{Left, Waiter, Waiters, Wake};

/// The lock was not held when it was released.
///
/// ```
/// use antiphon_core::{Lock, NotLocked};
/// # #[derive(Clone, PartialEq, Debug)]
/// # struct Nobody;
/// # impl antiphon_core::Waiter for Nobody {
/// #     fn is_done(&self) -> bool { true }
/// #     fn is_cancelled(&self) -> bool { true }
/// # }
///
/// assert_eq!(Lock::<Nobody>::default().release().unwrap_err(), NotLocked);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotLocked;

/// A lock's rules.
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
/// use antiphon_core::Lock;
///
/// let mut lock = Lock::default();
/// assert!(lock.try_acquire());
/// let second = task("second");
/// if !lock.try_acquire() {
///     lock.wait(second.clone());
/// }
/// assert_eq!(wake(lock.release().unwrap()), ["second"]); // outside of the machine
/// assert!(!lock.try_acquire(), "it is the second one's turn");
/// drop(lock.resume(&second));
/// assert!(lock.is_locked() && lock.waiters().is_empty());
/// ```
#[derive(Debug)]
pub struct Lock<W> {
    locked: bool,
    waiters: Waiters<W>,
}

impl<W> Default for Lock<W> {
    fn default() -> Self {
        Self { locked: false, waiters: Waiters::default() }
    }
}

impl<W: Waiter> Lock<W> {
    /// Takes the lock if it is free and nobody's turn. If not, [`Self::wait`] is what is left.
    #[inline]
    pub fn try_acquire(&mut self) -> bool {
        let free = !self.locked && self.waiters.all_cancelled();
        self.locked |= free;
        free
    }

    /// Queues up.
    pub fn wait(&mut self, waiter: W) {
        self.waiters.push(waiter);
    }

    /// A waiter that was woken runs again, and has the lock from here on. Its name in the list is the caller's to drop.
    #[must_use = "the list's name of it is to be dropped by the caller"]
    pub fn resume(&mut self, waiter: &W) -> Option<W> {
        self.locked = true;
        self.waiters.remove(waiter)
    }

    /// A waiter gives up, whether it was woken or not.
    pub fn abandon(&mut self, waiter: &W) -> Left<W> {
        let removed = self.waiters.remove(waiter).into();
        Left { removed, wake: if self.locked { Wake::nobody() } else { self.wake_first() } }
    }

    /// Gives the lock back.
    ///
    /// # Errors
    /// [`NotLocked`] if nobody has it.
    #[inline]
    pub fn release(&mut self) -> Result<Wake<W>, NotLocked> {
        if !self.locked {
            return Err(NotLocked);
        }
        self.locked = false;
        Ok(self.wake_first())
    }

    /// The first one, unless it is done: then it runs soon, and takes the lock or passes its turn on.
    #[inline]
    fn wake_first(&self) -> Wake<W> {
        let mut wake = Wake::nobody();
        if let Some(first) = self.waiters.iter().next().filter(|first| !first.is_done()) {
            wake.add(first.clone());
        }
        wake
    }

    /// Whether somebody has it.
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.locked
    }

    /// Who waits.
    pub fn waiters(&self) -> &Waiters<W> {
        &self.waiters
    }

    /// The same, to be changed by who knows what he does.
    pub fn waiters_mut(&mut self) -> &mut Waiters<W> {
        &mut self.waiters
    }
}
