//! `shield`: an outer future that follows an inner one, and whose cancellation stops there.
//!
//! Source: CPython Lib/asyncio/tasks.py, `shield`.

use crate::Ended;

/// What the inner one's end means for the outer one.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum ShieldStep {
    /// The outer one was cancelled before. The inner one's exception counts as seen.
    Ignore,
    /// The outer one is cancelled, too.
    Cancel,
    /// The outer one gets the inner one's result or exception.
    Copy,
}

/// The inner one is done.
///
/// ```
/// use antiphon_core::{Ended, ShieldStep, shield_step};
///
/// assert_eq!(shield_step(Ended::Returned, false), ShieldStep::Copy);
/// assert_eq!(shield_step(Ended::Cancelled, false), ShieldStep::Cancel);
/// assert_eq!(shield_step(Ended::Raised, true), ShieldStep::Ignore);
/// ```
#[inline]
#[must_use]
pub const fn shield_step(inner: Ended, outer_cancelled: bool) -> ShieldStep {
    match inner {
        _ if outer_cancelled => ShieldStep::Ignore,
        Ended::Cancelled => ShieldStep::Cancel,
        Ended::Returned | Ended::Raised => ShieldStep::Copy,
    }
}
