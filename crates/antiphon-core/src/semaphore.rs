//! A number of permits with turns.
//!
//! A permit that is released goes to the first pending waiter at once: it is taken from the number when the waiter is
//! woken, not when it runs. A woken waiter that is cancelled gives its permit back, and whoever leaves the list sees to it
//! that no permit lies idle while somebody waits.
//!
//! Source: CPython Lib/asyncio/locks.py (`Semaphore`, as of 3.13; releases before 3.12.2 wake one waiter where several
//! permits are free).

use crate::waiters::{Left, Waiter, Waiters, Wake};

/// More permits were given back than there were.
///
/// ```
/// use antiphon_core::{Semaphore, TooManyReleases};
/// # #[derive(Clone, PartialEq, Debug)]
/// # struct Nobody;
/// # impl antiphon_core::Waiter for Nobody {
/// #     fn is_done(&self) -> bool { true }
/// #     fn is_cancelled(&self) -> bool { true }
/// # }
///
/// assert_eq!(Semaphore::<Nobody>::bounded(2).release().unwrap_err(), TooManyReleases);
/// assert!(Semaphore::<Nobody>::new(2).release().is_ok());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyReleases;

/// A semaphore's rules.
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
/// use antiphon_core::{Semaphore, TooManyReleases};
///
/// let mut semaphore = Semaphore::bounded(1);
/// assert!(semaphore.try_acquire() && semaphore.is_locked());
/// let (one, other) = (task("one"), task("other"));
/// semaphore.wait(one.clone());
/// semaphore.wait(other.clone());
/// assert_eq!(wake(semaphore.release().unwrap()), ["one"]);
/// let left = semaphore.abandon(&one); // woken, but cancelled before it ran: its permit goes on
/// assert_eq!(wake(left.wake), ["other"]);
/// assert!(semaphore.resume(&other).wake.is_empty());
/// assert!(semaphore.release().unwrap().is_empty());
/// assert!(matches!(semaphore.release(), Err(TooManyReleases)));
/// assert_eq!(semaphore.permits(), 1);
/// ```
#[derive(Debug)]
pub struct Semaphore<W> {
    permits: usize,
    bound: usize,
    waiters: Waiters<W>,
}

impl<W: Waiter> Semaphore<W> {
    /// With this many permits to begin with, and as many more as are released.
    pub fn new(permits: usize) -> Self {
        Self { permits, bound: usize::MAX, waiters: Waiters::default() }
    }

    /// With this many permits, and never more.
    pub fn bounded(permits: usize) -> Self {
        Self { permits, bound: permits, waiters: Waiters::default() }
    }

    /// Takes a permit if there is one and nobody's turn. If not, [`Self::wait`] is what is left.
    #[inline]
    pub fn try_acquire(&mut self) -> bool {
        let free = !self.is_locked();
        self.permits -= usize::from(free);
        free
    }

    /// Whether one would have to wait.
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.permits == 0 || !self.waiters.all_cancelled()
    }

    /// Queues up.
    pub fn wait(&mut self, waiter: W) {
        self.waiters.push(waiter);
    }

    /// A waiter that was woken runs again: the permit is its own already.
    pub fn resume(&mut self, waiter: &W) -> Left<W> {
        let removed = self.waiters.remove(waiter).into();
        // Others may have come who had to wait for their turn alone.
        Left { removed, wake: self.wake(usize::MAX) }
    }

    /// A waiter gives up, whether it was woken or not.
    pub fn abandon(&mut self, waiter: &W) -> Left<W> {
        if waiter.is_done() && !waiter.is_cancelled() {
            self.permits += 1;
        }
        self.resume(waiter)
    }

    /// Gives a permit back, or adds one.
    ///
    /// # Errors
    /// [`TooManyReleases`] if it is bounded and has all of its permits.
    #[inline]
    pub fn release(&mut self) -> Result<Wake<W>, TooManyReleases> {
        if self.permits >= self.bound {
            return Err(TooManyReleases);
        }
        self.permits += 1;
        Ok(self.wake(1))
    }

    /// One that was to be woken is done otherwise by now (another thread was faster): its permit goes to the next.
    pub fn not_woken(&mut self) -> Wake<W> {
        self.permits += 1;
        self.wake(1)
    }

    #[inline]
    fn wake(&mut self, most: usize) -> Wake<W> {
        let wake = self.waiters.first_pending(most.min(self.permits));
        self.permits -= wake.len();
        wake
    }

    /// How many permits are free.
    #[inline]
    pub fn permits(&self) -> usize {
        self.permits
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
