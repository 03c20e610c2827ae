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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyReleases;

/// A semaphore's rules.
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
