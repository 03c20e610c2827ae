//! The life of a future: pending, then finished or cancelled for good; and whether anybody looked at what went wrong.
//!
//! The machine is four facts and no value: results, exceptions and callbacks are the door's.
//!
//! ```
//! use antiphon_core::future::{FutureState, Offer};
//!
//! let mut state = FutureState::default();
//! assert_eq!(state.offer(), Offer::Wait); // an awaiting task is handed the future itself ...
//! assert!(state.take_offer()); // ... and takes note of it
//! assert!(state.fail());
//! assert!(state.is_unretrieved()); // to be reported if nobody asks before it is dropped
//! assert_eq!(state.offer(), Offer::Done);
//! assert!(!state.cancel(), "a future that is done stays what it is");
//! ```
//!
//! Source: CPython Lib/asyncio/futures.py, class Future.

/// How far a future has come.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// Neither a result nor an exception yet.
    #[default]
    Pending,
    /// Ended by `cancel`.
    Cancelled,
    /// Has a result or an exception.
    Finished,
}

/// What an await of a future comes to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The future goes up to the task, which waits for it.
    Wait,
    /// There is an outcome to return or raise.
    Done,
    /// It went up before and no task took it: whoever drives the coroutine does not speak the protocol.
    NotTaken,
}

/// A future's state, without the values.
///
/// ```
/// use antiphon_core::future::{FutureState, Offer, Status};
///
/// let mut state = FutureState::default();
/// assert_eq!(state.offer(), Offer::Wait);
/// assert!(state.take_offer(), "a task took it");
/// assert!(state.fail() && !state.finish(), "the first end stays");
/// assert_eq!((state.status(), state.is_failed()), (Status::Finished, true));
/// assert!(state.is_unretrieved());
/// state.retrieve();
/// assert!(!state.is_unretrieved());
/// assert_eq!(state.offer(), Offer::Done);
/// ```
#[derive(Copy, Clone, Debug, Default)]
pub struct FutureState {
    status: Status,
    failed: bool,
    unretrieved: bool,
    offered: bool,
}

impl FutureState {
    /// How far it has come.
    #[inline]
    pub fn status(self) -> Status {
        self.status
    }

    /// Whether it is finished or cancelled.
    #[inline]
    pub fn is_done(self) -> bool {
        self.status != Status::Pending
    }

    /// Whether `cancel` ended it.
    #[inline]
    pub fn is_cancelled(self) -> bool {
        self.status == Status::Cancelled
    }

    /// Whether it ended with an exception.
    #[inline]
    pub fn is_failed(self) -> bool {
        self.failed
    }

    /// Finishes it with a result; false when it is done.
    #[inline]
    pub fn finish(&mut self) -> bool {
        if self.is_done() {
            return false;
        }
        self.status = Status::Finished;
        true
    }

    /// Finishes it with an exception, which nobody has seen yet; false when it is done.
    #[inline]
    pub fn fail(&mut self) -> bool {
        if !self.finish() {
            return false;
        }
        self.failed = true;
        self.unretrieved = true;
        true
    }

    /// Cancels it; false when it is done. Either way its exception needs no report any more: somebody has dealt with it.
    #[inline]
    pub fn cancel(&mut self) -> bool {
        self.unretrieved = false;
        if self.is_done() {
            return false;
        }
        self.status = Status::Cancelled;
        true
    }

    /// Somebody has asked for the outcome.
    #[inline]
    pub fn retrieve(&mut self) {
        self.unretrieved = false;
    }

    /// Whether it has an exception that nobody has asked for.
    #[inline]
    pub fn is_unretrieved(self) -> bool {
        self.unretrieved
    }

    /// One step of an await.
    #[inline]
    pub fn offer(&mut self) -> Offer {
        if self.is_done() {
            Offer::Done
        } else if self.offered {
            Offer::NotTaken
        } else {
            self.offered = true;
            Offer::Wait
        }
    }

    /// Whether it is on its way up to a task (`_asyncio_future_blocking`).
    #[inline]
    pub fn is_offered(self) -> bool {
        self.offered
    }

    /// Sets that by hand, as coroutines do that yield futures themselves.
    #[inline]
    pub fn set_offered(&mut self, offered: bool) {
        self.offered = offered;
    }

    /// The task has it; whether it was offered.
    #[inline]
    pub fn take_offer(&mut self) -> bool {
        std::mem::take(&mut self.offered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDINGS: [fn(&mut FutureState) -> bool; 3] =
        [FutureState::finish, FutureState::fail, FutureState::cancel];

    #[test]
    fn the_first_ending_stays() {
        for first in ENDINGS {
            let mut state = FutureState::default();
            assert!(first(&mut state));
            let ended = (state.status(), state.is_failed());
            for second in ENDINGS {
                assert!(!second(&mut state));
                assert_eq!((state.status(), state.is_failed()), ended);
            }
        }
    }

    #[test]
    fn only_an_exception_is_unretrieved_until_somebody_asks() {
        for (ending, unretrieved) in ENDINGS.into_iter().zip([false, true, false]) {
            let mut state = FutureState::default();
            ending(&mut state);
            assert_eq!(state.is_unretrieved(), unretrieved);
            state.retrieve();
            assert!(!state.is_unretrieved());
        }
    }

    #[test]
    fn cancelling_a_failed_future_counts_as_asking() {
        let mut state = FutureState::default();
        state.fail();
        assert!(!state.cancel());
        assert!(!state.is_unretrieved());
    }

    #[test]
    fn an_offer_that_no_task_took_is_told_once_per_step() {
        let mut state = FutureState::default();
        assert_eq!(state.offer(), Offer::Wait);
        assert_eq!(state.offer(), Offer::NotTaken);
        assert!(state.take_offer());
        assert_eq!(state.offer(), Offer::Wait);
        assert!(state.finish());
        assert_eq!(state.offer(), Offer::Done);
    }
}
