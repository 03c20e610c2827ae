//! The loop's clock: what time it is, and for tests, how time passes.
//!
//! An [`Instant`] is a signed count of nanoseconds since the clock's own origin. It is signed, and not
//! [`std::time::Instant`], because a program may override its loop's `time()` with anything, also with values below
//! zero, and because a deadline must fit into the eight bytes that a timer heap entry has for it.
//!
//! ```
//! use antiphon_engine::{Clock, Virtual};
//! use std::time::Duration;
//!
//! let clock = Virtual::new();
//! let year = Duration::from_secs(365 * 24 * 3600);
//! let deadline = clock.now().saturating_add(year);
//! assert!(clock.advance_to(deadline)); // a virtual clock moves there itself; nobody sleeps
//! assert_eq!(clock.now(), deadline);
//! ```
//!
//! Source: clock_gettime(2); trio's `MockClock` for the idea of a clock that jumps.

#![allow(unsafe_code)] // clock_gettime is the one system call here, see `read`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

const NS_PER_SEC: i64 = 1_000_000_000;

/// A point in time: nanoseconds since the origin of the clock that it was read from.
///
/// Instants of different clocks must not be compared.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct Instant(i64);

impl Instant {
    /// The instant `ns` nanoseconds after (or, if negative, before) the clock's origin.
    #[must_use]
    pub const fn from_ns(ns: i64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the clock's origin.
    #[must_use]
    pub const fn as_ns(self) -> i64 {
        self.0
    }

    /// The instant `duration` later, or the last representable one.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// The time from `earlier` to `self`; zero if `earlier` is the later one.
    #[must_use]
    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        if self <= earlier {
            return Duration::ZERO;
        }
        // The difference of two i64 always fits u64.
        Duration::from_nanos(self.0.wrapping_sub(earlier.0) as u64)
    }
}

/// A source of instants that never goes back.
pub trait Clock {
    /// The present instant.
    fn now(&self) -> Instant;

    /// Lets time pass until `deadline` without anybody sleeping.
    ///
    /// Returns true when the clock moved there itself, as virtual clocks do; false (the default) when the caller
    /// has to sleep.
    fn advance_to(&self, deadline: Instant) -> bool {
        let _ = deadline;
        false
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Instant {
        (**self).now()
    }

    fn advance_to(&self, deadline: Instant) -> bool {
        (**self).advance_to(deadline)
    }
}

/// The system's monotonic clock, `CLOCK_MONOTONIC`; shares its origin with Python's `time.monotonic()`.
#[derive(Copy, Clone, Debug, Default)]
pub struct Monotonic;

impl Clock for Monotonic {
    #[inline]
    fn now(&self) -> Instant {
        Instant(read(libc::CLOCK_MONOTONIC))
    }
}

/// A clock that moves only when told to; shared between a test and its loop by [`Arc`].
///
/// It jumps to the next deadline when the loop would sleep ([`Clock::advance_to`]), unless
/// [`set_auto_advance`](Self::set_auto_advance) forbids it.
#[derive(Debug)]
pub struct Virtual {
    now_ns: AtomicI64,
    auto_advance: AtomicBool,
}

impl Virtual {
    /// A clock that stands at its origin and jumps when the loop would sleep.
    #[must_use]
    pub const fn new() -> Self {
        Self { now_ns: AtomicI64::new(0), auto_advance: AtomicBool::new(true) }
    }

    /// Moves the clock forward by `duration`.
    pub fn advance(&self, duration: Duration) {
        let _ = self.now_ns.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
            Some(Instant(now).saturating_add(duration).as_ns())
        });
    }

    /// Chooses whether [`Clock::advance_to`] moves the clock (true, the default) or leaves that to the test.
    pub fn set_auto_advance(&self, enabled: bool) {
        self.auto_advance.store(enabled, Ordering::Release);
    }
}

impl Default for Virtual {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for Virtual {
    fn now(&self) -> Instant {
        Instant(self.now_ns.load(Ordering::Acquire))
    }

    fn advance_to(&self, deadline: Instant) -> bool {
        let moves = self.auto_advance.load(Ordering::Acquire);
        if moves {
            self.now_ns.fetch_max(deadline.as_ns(), Ordering::AcqRel);
        }
        moves
    }
}

/// `CLOCK_MONOTONIC_COARSE` in nanoseconds: the time of the kernel's last tick, 1 to 10 ms grained.
///
/// It costs a fraction of [`Monotonic`], since no hardware counter is read, and is what the poll budget measures
/// elapsed time with.
#[inline]
#[must_use]
pub fn coarse_now_ns() -> i64 {
    read(libc::CLOCK_MONOTONIC_COARSE)
}

#[inline]
fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime(2) writes one timespec through the pointer, which is to a live local.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    debug_assert_eq!(result, 0, "both clocks exist on every Linux since 2.6.32");
    time.tv_sec * NS_PER_SEC + time.tv_nsec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_beyond_the_end_of_time_saturates() {
        assert_eq!(Instant::from_ns(1).saturating_add(Duration::MAX), Instant::from_ns(i64::MAX));
        assert_eq!(Instant::from_ns(-5).saturating_add(Duration::from_nanos(2)), Instant::from_ns(-3));
    }

    #[test]
    fn duration_between_the_extremes_is_exact() {
        let (first, last) = (Instant::from_ns(i64::MIN), Instant::from_ns(i64::MAX));
        assert_eq!(last.saturating_duration_since(first), Duration::from_nanos(u64::MAX));
        assert_eq!(first.saturating_duration_since(last), Duration::ZERO);
    }

    #[test]
    fn coarse_clock_never_runs_ahead_of_the_exact_one() {
        let coarse = coarse_now_ns();
        assert!(coarse <= Monotonic.now().as_ns());
        assert!(coarse > 0);
    }

    #[test]
    fn virtual_clock_told_to_wait_stays() {
        let clock = Virtual::new();
        clock.set_auto_advance(false);
        assert!(!clock.advance_to(Instant::from_ns(10)));
        assert_eq!(clock.now(), Instant::from_ns(0));
        clock.advance(Duration::from_nanos(7));
        assert_eq!(clock.now(), Instant::from_ns(7));
    }

    #[test]
    fn virtual_clock_never_goes_back() {
        let clock = Virtual::new();
        clock.advance(Duration::from_secs(1));
        assert!(clock.advance_to(Instant::from_ns(5)));
        assert_eq!(clock.now(), Instant::from_ns(NS_PER_SEC));
    }
}
