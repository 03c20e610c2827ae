//! `wait`: until the first, the first exception, or all.
//!
//! ```
//! use antiphon_core::{Ended, ReturnWhen, Wait};
//!
//! let mut wait = Wait::new(3, ReturnWhen::FirstException);
//! assert!(!wait.child_done(Ended::Cancelled));
//! assert!(wait.child_done(Ended::Raised));
//! ```
//!
//! Source: CPython Lib/asyncio/tasks.py, `_wait`.

use crate::Ended;

/// What ends a [`Wait`].
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum ReturnWhen {
    /// Any child's end.
    FirstCompleted,
    /// A child that raises; a cancelled one does not count. Else the last child's end.
    FirstException,
    /// The last child's end.
    AllCompleted,
}

/// The state of one `wait`.
///
/// ```
/// use antiphon_core::{Ended, ReturnWhen, Wait};
///
/// let mut wait = Wait::new(3, ReturnWhen::FirstException);
/// assert!(!wait.child_done(Ended::Returned));
/// assert!(!wait.child_done(Ended::Cancelled));
/// assert!(wait.child_done(Ended::Raised));
/// assert!(wait.is_complete());
/// assert!(Wait::new(3, ReturnWhen::FirstCompleted).child_done(Ended::Returned));
/// ```
#[derive(Clone, Debug)]
pub struct Wait {
    left: usize,
    until: ReturnWhen,
}

impl Wait {
    /// Waits for `children`, which are all different and may be done already.
    #[must_use]
    pub const fn new(children: usize, until: ReturnWhen) -> Self {
        Self { left: children, until }
    }

    /// Whether every child is done.
    #[inline]
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.left == 0
    }

    /// A child is done; whether the wait is over with it. Once over it stays so.
    #[inline]
    pub fn child_done(&mut self, ended: Ended) -> bool {
        self.left = self.left.saturating_sub(1);
        match self.until {
            _ if self.left == 0 => true,
            ReturnWhen::AllCompleted => false,
            ReturnWhen::FirstCompleted => true,
            ReturnWhen::FirstException => ended == Ended::Raised,
        }
    }
}
