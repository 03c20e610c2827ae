//! A timeout around a block: it cancels the block's task when it expires, and turns that cancellation, and only that one,
//! into `TimeoutError`.
//!
//! ```text
//! Created ──enter──▶ Active ──expire──▶ Expiring ──exit──▶ Expired
//!                       └──────exit──────▶ Finished
//! ```
//!
//! A task counts who asked it to stop ([`Timeout::enter`] remembers the count). On the way out an expired timeout takes its
//! own request back; if more are left than on the way in, somebody else wants the task cancelled, and the cancellation
//! must pass.
//!
//! ```
//! use antiphon_core::{Timeout, TimeoutExit};
//!
//! let mut timeout = Timeout::new();
//! timeout.enter(0).unwrap();
//! assert!(timeout.expire()); // the caller cancels the task: one request
//! assert_eq!(timeout.exit(), TimeoutExit::Expired); // the caller takes one request back: none is left
//! assert!(timeout.explains_cancellation(0));
//! ```
//!
//! Source: CPython Lib/asyncio/timeouts.py.

/// Where in its life a timeout is.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum TimeoutState {
    /// Not entered.
    Created,
    /// The block runs.
    Active,
    /// The task was cancelled, and the block is on its way out.
    Expiring,
    /// The block was left after the timeout had expired.
    Expired,
    /// The block was left in time.
    Finished,
}

impl TimeoutState {
    /// asyncio's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Active => "active",
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::Finished => "finished",
        }
    }
}

/// What a timeout's state does not allow; the state is as it was.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct NotAllowed(pub TimeoutState);

/// What is left to do on the way out.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum TimeoutExit {
    /// Nothing: it did not expire.
    Finished,
    /// Take back one cancellation request of the task, then ask [`Timeout::explains_cancellation`].
    Expired,
}

/// The state of one timeout.
///
/// ```
/// use antiphon_core::{NotAllowed, Timeout, TimeoutExit, TimeoutState};
///
/// let mut timeout = Timeout::new();
/// timeout.enter(0).unwrap();
/// assert!(timeout.check_active().is_ok(), "the deadline may move");
/// assert!(timeout.expire(), "now the task is cancelled");
/// assert_eq!(timeout.check_active(), Err(NotAllowed(TimeoutState::Expiring)));
/// assert_eq!(timeout.exit(), TimeoutExit::Expired);
/// assert!(timeout.explains_cancellation(0), "nobody else asked for it");
/// assert!(!timeout.explains_cancellation(1));
/// assert_eq!(timeout.state().as_str(), "expired");
/// ```
#[derive(Clone, Debug)]
pub struct Timeout {
    state: TimeoutState,
    /// Cancellation requests of the task when the block was entered.
    requests_before: u32,
}

impl Timeout {
    /// Not entered yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: TimeoutState::Created, requests_before: 0 }
    }

    /// Where it is.
    #[inline]
    #[must_use]
    pub const fn state(&self) -> TimeoutState {
        self.state
    }

    /// The block begins, in a task with so many cancellation requests.
    ///
    /// # Errors
    /// It was entered before.
    #[inline]
    pub fn enter(&mut self, cancellation_requests: u32) -> Result<(), NotAllowed> {
        if self.state != TimeoutState::Created {
            return Err(NotAllowed(self.state));
        }
        self.state = TimeoutState::Active;
        self.requests_before = cancellation_requests;
        Ok(())
    }

    /// Asks whether the deadline may move.
    ///
    /// # Errors
    /// The block was not entered, or the timeout has expired, or the block was left.
    #[inline]
    pub const fn check_active(&self) -> Result<(), NotAllowed> {
        match self.state {
            TimeoutState::Active => Ok(()),
            state => Err(NotAllowed(state)),
        }
    }

    /// The deadline has come; true: cancel the task now. A deadline that comes after the block was left means nothing.
    #[inline]
    pub fn expire(&mut self) -> bool {
        let active = matches!(self.state, TimeoutState::Active);
        if active {
            self.state = TimeoutState::Expiring;
        }
        active
    }

    /// Whether the deadline came while the block ran.
    #[inline]
    #[must_use]
    pub const fn is_expired(&self) -> bool {
        matches!(self.state, TimeoutState::Expiring | TimeoutState::Expired)
    }

    /// The block is left.
    #[inline]
    pub fn exit(&mut self) -> TimeoutExit {
        match self.state {
            TimeoutState::Expiring => {
                self.state = TimeoutState::Expired;
                TimeoutExit::Expired
            }
            TimeoutState::Active => {
                self.state = TimeoutState::Finished;
                TimeoutExit::Finished
            }
            _ => TimeoutExit::Finished,
        }
    }

    /// Whether this timeout is the reason of the cancellation that leaves the block, given the task's requests after this
    /// timeout's own was taken back.
    #[inline]
    #[must_use]
    pub const fn explains_cancellation(&self, requests_left: u32) -> bool {
        matches!(self.state, TimeoutState::Expired) && requests_left <= self.requests_before
    }
}

impl Default for Timeout {
    fn default() -> Self {
        Self::new()
    }
}
