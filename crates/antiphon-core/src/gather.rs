//! `gather`: many children, one outcome.
//!
//! The results stand in the order of the arguments, whatever the order of arrival. Without `return_exceptions` the first
//! child that does not return settles the outcome, and the others run on. A cancellation of the whole goes to the
//! children; it becomes the outcome once all of them are done, even with `return_exceptions` (CPython issue 32684).
//!
//! ```
//! use antiphon_core::{Ended, Gather, GatherStep};
//!
//! let mut gather = Gather::new(false);
//! gather.add_child();
//! gather.add_child();
//! assert_eq!(gather.child_done(Ended::Returned, false), GatherStep::Wait);
//! assert_eq!(gather.child_done(Ended::Raised, false), GatherStep::Fail);
//! ```
//!
//! Source: CPython Lib/asyncio/tasks.py, `gather` and `_GatheringFuture`.

use crate::Ended;

/// What a child's end means for the whole.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum GatherStep {
    /// Others are still to come.
    Wait,
    /// The outcome stood before: the child's exception counts as seen, or nobody would ever ask for it.
    Ignore,
    /// The outcome is this child's exception, its cancellation included.
    Fail,
    /// All are done: the outcome is the list of what became of each.
    Finish,
    /// All are done, and the whole was cancelled meanwhile: the outcome is a cancellation.
    Cancel,
}

/// The state of one `gather`.
///
/// ```
/// use antiphon_core::{Ended, Gather, GatherStep};
///
/// let mut gather = Gather::new(false);
/// (0..3).for_each(|_| gather.add_child());
/// assert_eq!(gather.child_done(Ended::Returned, false), GatherStep::Wait);
/// assert_eq!(gather.child_done(Ended::Raised, false), GatherStep::Fail); // the outcome stands
/// assert_eq!(gather.child_done(Ended::Raised, true), GatherStep::Ignore);
///
/// let mut gather = Gather::new(true);
/// gather.add_child();
/// assert!(gather.cancel(true) && gather.is_cancel_requested());
/// assert_eq!(gather.child_done(Ended::Cancelled, false), GatherStep::Cancel);
/// ```
#[derive(Clone, Debug)]
pub struct Gather {
    children: usize,
    finished: usize,
    return_exceptions: bool,
    cancel_requested: bool,
}

impl Gather {
    /// No children yet. `return_exceptions`: exceptions are results like others.
    #[must_use]
    pub const fn new(return_exceptions: bool) -> Self {
        Self { children: 0, finished: 0, return_exceptions, cancel_requested: false }
    }

    /// One more child, counted once however often it was given.
    #[inline]
    pub fn add_child(&mut self) {
        self.children += 1;
    }

    /// A child is done. `settled`: whether the whole has its outcome already.
    #[inline]
    pub fn child_done(&mut self, ended: Ended, settled: bool) -> GatherStep {
        self.finished += 1;
        if settled {
            GatherStep::Ignore
        } else if !self.return_exceptions && ended != Ended::Returned {
            GatherStep::Fail
        } else if self.finished < self.children {
            GatherStep::Wait
        } else if self.cancel_requested {
            GatherStep::Cancel
        } else {
            GatherStep::Finish
        }
    }

    /// The whole was cancelled. `reached_any`: whether any child took the cancellation; if none did, nothing happened.
    /// Returns what `cancel()` answers.
    #[inline]
    pub fn cancel(&mut self, reached_any: bool) -> bool {
        self.cancel_requested |= reached_any;
        reached_any
    }

    /// Whether a cancellation is on its way.
    #[inline]
    #[must_use]
    pub const fn is_cancel_requested(&self) -> bool {
        self.cancel_requested
    }

    /// Takes the wish to cancel back, or states it: asyncio's `_cancel_requested` can be written.
    pub fn set_cancel_requested(&mut self, requested: bool) {
        self.cancel_requested = requested;
    }
}
