//! Callbacks in: `call_soon`, `call_soon_threadsafe`, `call_later`, `call_at`, and the loop's clock.
//!
//! Source: CPython Lib/asyncio/base_events.py.

use std::sync::atomic::Ordering;

use antiphon_engine::Instant;
use pyo3::ffi;

use super::EventLoop;
use crate::ffi::raise::type_error;
use crate::ffi::{Args, HeapType, Instance, Owned, Raised, Result, call, call_method};
use crate::handle::{call_from_args, is_crowd, new_timer, queue, reference};
use crate::method;
use crate::method_noargs;
use crate::names::{import, names};
use crate::work::{Kind, Work};

const NS_PER_SECOND: f64 = 1e9;

/// Seconds as Python gives them, as a float.
pub fn seconds(value: &Owned) -> Result<f64> {
    // SAFETY: F1; the value is alive.
    let number = unsafe { ffi::PyFloat_AsDouble(value.as_ptr()) };
    // SAFETY: F1; -1.0 may be an honest result.
    if number == -1.0 && unsafe { !ffi::PyErr_Occurred().is_null() } { Err(Raised) } else { Ok(number) }
}

/// An instant of the loop's clock from seconds; out of range becomes never or at once.
#[inline(always)]
pub fn instant(seconds: f64) -> Instant {
    Instant::from_ns((seconds * NS_PER_SECOND) as i64)
}

impl Instance<EventLoop> {
    /// The loop's own clock in seconds, or the one of a subclass that overrides `time()`.
    #[inline(always)]
    pub fn now_seconds(&self) -> Result<f64> {
        if self.own_clock.load(Ordering::Relaxed) {
            return seconds(&call_method(&self.owned(), &names().time, [])?);
        }
        Ok(self.clock_now().as_ns() as f64 / NS_PER_SECOND)
    }

    /// Puts a timer's handle into the heap, or into the inbox when another thread has the seat.
    #[inline(always)]
    pub fn arm(&self, handle: &Owned, when: f64) {
        let mut work = Some(Work::new(Kind::Handle, handle.clone()));
        let key = self.seat.with(|core| work.take().map(|work| core.engine.timers.push(instant(when), work)));
        match key.flatten() {
            Some(key) => {
                // SAFETY: just made as a handle.
                let timer = unsafe { Instance::<crate::handle::Handle>::from_ptr(handle.as_ptr()) };
                timer.key().replace(Some(key));
            }
            None => {
                drop(work);
                drop(self.inbox.push(Work::new(Kind::Timer, handle.clone())));
            }
        }
    }

    /// What debug mode checks on entry: the thread, and that the callback is one.
    #[cold]
    fn check_entry(&self, callback: *mut ffi::PyObject, method: &str, any_thread: bool) -> Result<()> {
        if !any_thread {
            self.check_thread()?;
        }
        // SAFETY: the argument is alive during the call.
        let callback = unsafe { Owned::from_borrowed(callback) };
        call(&import("antiphon.debug", "check_callback")?, [&callback, &Owned::str(method)?])?;
        Ok(())
    }
}

fn call_soon(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    args.at_least(1, &["callback"])?;
    this.check_open()?;
    if this.debug() {
        this.check_entry(args.positional()[0], "call_soon", false)?;
    }
    // From another thread nobody can tell, and a flood is likely.
    let crowded = this.seat.with(|core| is_crowd(core.engine.ready.len())).unwrap_or(true);
    queue(this, call_from_args(&args, 0, crowded)?)
}

fn call_soon_threadsafe(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    args.at_least(1, &["callback"])?;
    this.check_open()?;
    if this.debug() {
        this.check_entry(args.positional()[0], "call_soon_threadsafe", true)?;
    }
    // From another thread nobody can tell, and a flood is likely.
    let crowded = this.seat.with(|core| is_crowd(core.engine.ready.len())).unwrap_or(true);
    let handle = queue(this, call_from_args(&args, 0, crowded)?)?;
    #[cfg(Py_3_14)]
    // SAFETY: just made as a handle. It may be running already; then nobody can have cancelled it yet.
    unsafe { Instance::<crate::handle::Handle>::from_ptr(handle.as_ptr()) }.set_threadsafe();
    Ok(handle)
}

fn call_later(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    args.at_least(2, &["delay", "callback"])?;
    // SAFETY: the argument is alive during the call.
    let delay = unsafe { Owned::from_borrowed(args.positional()[0]) };
    if delay.is_none() {
        return Err(type_error("delay must not be None"));
    }
    let when = this.now_seconds()? + seconds(&delay)?;
    schedule_at(this, args, when)
}

fn call_at(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    args.at_least(2, &["when", "callback"])?;
    // SAFETY: the argument is alive during the call.
    let when = unsafe { Owned::from_borrowed(args.positional()[0]) };
    if when.is_none() {
        return Err(type_error("when cannot be None"));
    }
    schedule_at(this, args, seconds(&when)?)
}

#[inline(always)]
fn schedule_at(this: &Instance<EventLoop>, args: Args<'_>, when: f64) -> Result {
    this.check_open()?;
    if this.debug() {
        this.check_entry(args.positional()[1], "call_at", false)?;
    }
    let crowded = this.seat.with(|core| is_crowd(core.engine.timers.len())).unwrap_or(false);
    let handle = new_timer(this, call_from_args(&args, 1, crowded)?, when)?;
    this.arm(&handle, when);
    Ok(handle)
}

fn time(this: &Instance<EventLoop>) -> Result {
    Owned::float(this.clock_now().as_ns() as f64 / NS_PER_SECOND)
}

/// Arms or takes back a timer whose handle came through the inbox, as the handle says by now.
pub fn set_from_inbox(this: &Instance<EventLoop>, handle: Owned) {
    let Some(timer) = reference(handle) else {
        return;
    };
    if !timer.is_cancelled() {
        this.arm(timer.object(), timer.when());
    } else if let Some(key) = timer.key().take() {
        let disarmed = this.seat.enter(|core| core.engine.timers.cancel(key));
        drop(disarmed);
    }
}

/// Adds this file's methods to the type.
pub fn add_methods(kind: HeapType) -> HeapType {
    kind.method(
        c"call_soon",
        method!(c"call_soon", call_soon),
        c"call_soon(callback, *args, context=None): call it in the next turn; returns its Handle.",
    )
    .method(
        c"call_soon_threadsafe",
        method!(c"call_soon_threadsafe", call_soon_threadsafe),
        c"call_soon_threadsafe(callback, *args, context=None): call_soon from any thread; wakes the loop.",
    )
    .method(
        c"call_later",
        method!(c"call_later", call_later),
        c"call_later(delay, callback, *args, context=None): call it in `delay` seconds; returns its TimerHandle.",
    )
    .method(
        c"call_at",
        method!(c"call_at", call_at),
        c"call_at(when, callback, *args, context=None): call it at `when` on the loop's clock (seconds).",
    )
    .method_noargs(c"time", method_noargs!(time), c"The loop's clock, in seconds as a float (monotonic).")
}
