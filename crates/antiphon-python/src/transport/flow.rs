//! Write flow control: two marks on what waits to be written, and the protocol that is told when they are passed.
//!
//! ```text
//!   len_bytes > high ──▶ pause_writing()        len_bytes <= low ──▶ resume_writing()
//! ```
//!
//! **Invariant W1**: the two calls alternate, `pause_writing` first.
//!
//! Source: CPython Lib/asyncio/transports.py (`_FlowControlMixin`); asyncio documentation, "Write-only transports".

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pyo3::ffi;

use crate::event_loop::EventLoop;
use crate::ffi::raise::{self, value_error};
use crate::ffi::{Args, Instance, Owned, Raised, Result, call, call_method};
use crate::names::{import, names};

/// The marks, in bytes, and on which side of them the protocol was told to be.
pub struct FlowControl {
    high: AtomicUsize,
    low: AtomicUsize,
    paused: AtomicBool,
    /// The high-water mark where nobody set one.
    default_high: usize,
}

impl FlowControl {
    /// Marks at `default_high` and a quarter of it.
    pub fn new(default_high: usize) -> Self {
        Self {
            high: AtomicUsize::new(default_high),
            low: AtomicUsize::new(default_high / 4),
            paused: AtomicBool::new(false),
            default_high,
        }
    }

    /// Above this many bytes the writer is asked to pause.
    #[inline(always)]
    pub fn high(&self) -> usize {
        self.high.load(Ordering::Relaxed)
    }

    /// At this many it is asked to go on.
    #[inline(always)]
    pub fn low(&self) -> usize {
        self.low.load(Ordering::Relaxed)
    }

    /// Whether the writer was asked to pause.
    #[inline(always)]
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// True once when `len_bytes` has passed the high-water mark: the caller tells the writer to pause (W1).
    #[inline]
    pub fn must_pause(&self, len_bytes: usize) -> bool {
        len_bytes > self.high() && !self.paused.swap(true, Ordering::Relaxed)
    }

    /// True once when `len_bytes` is down at the low-water mark: the caller tells the writer to go on (W1).
    #[inline]
    pub fn must_resume(&self, len_bytes: usize) -> bool {
        self.is_paused() && len_bytes <= self.low() && self.paused.swap(false, Ordering::Relaxed)
    }

    /// Another layer takes the writer over, which `before` may have asked to pause: it gets its `resume_writing` here.
    pub fn inherit(&self, before: &Self) {
        if before.paused.swap(false, Ordering::Relaxed) {
            self.paused.store(true, Ordering::Relaxed);
        }
    }

    /// `(low, high)`.
    pub fn limits(&self) -> Result {
        Owned::tuple([Owned::int(self.low() as i64)?, Owned::int(self.high() as i64)?])
    }

    /// Takes the arguments of `set_write_buffer_limits(high=None, low=None)`. The caller looks at its queue afterwards.
    ///
    /// # Errors
    /// `ValueError` with asyncio's words unless `high >= low >= 0`.
    pub fn set_limits(&self, args: Args<'_>) -> Result<()> {
        let [high, low] = args.bind([&names().high, &names().low], 0)?;
        let (high, low) = (number(high)?, number(low)?);
        let high = high.unwrap_or_else(|| low.map_or(self.default_high as i64, |low| low.saturating_mul(4)));
        let low = low.unwrap_or(high / 4);
        if high < low || low < 0 {
            return Err(value_error(&format!("high ({high}) must be >= low ({low}) must be >= 0")));
        }
        self.high.store(high as usize, Ordering::Relaxed);
        self.low.store(low as usize, Ordering::Relaxed);
        Ok(())
    }
}

/// A limit as it was given; `None` where it was left out.
fn number(value: Option<*mut ffi::PyObject>) -> Result<Option<i64>> {
    // SAFETY: the argument is alive during the call.
    let Some(value) = value.and_then(|value| unsafe { Owned::from_optional(value) }) else {
        return Ok(None);
    };
    // SAFETY: F1; the object is alive.
    let number = unsafe { ffi::PyLong_AsLongLong(value.as_ptr()) };
    // SAFETY: F1; -1 may be an honest value.
    if number == -1 && unsafe { !ffi::PyErr_Occurred().is_null() } { Err(Raised) } else { Ok(Some(number)) }
}

/// Calls `pause_writing` or `resume_writing`; one that raises is reported, and the connection goes on.
///
/// # Errors
/// `KeyboardInterrupt` and `SystemExit` leave the loop.
pub fn tell_writer(
    owner: &Instance<EventLoop>,
    transport: &Owned,
    protocol: &Owned,
    method: &Owned,
) -> Result<()> {
    let Err(Raised) = call_method(protocol, method, []) else {
        return Ok(());
    };
    let Some(exception) = raise::take() else {
        return Ok(());
    };
    if raise::leaves_loop(&exception) {
        return Err(raise::restore(exception));
    }
    let report = import("antiphon.reports", "flow_control_failed")?;
    call(&report, [&owner.owned(), transport, protocol, method, &exception])?;
    Ok(())
}
