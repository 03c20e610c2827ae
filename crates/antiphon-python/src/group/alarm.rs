//! An alarm: gives a native object its turn at a deadline, straight from the timer heap, without a handle.
//!
//! Its object is a work item of kind `Advance`. One that was due when it was cancelled cannot be taken out of the ready queue
//! any more: the object counts those and lets them pass ([`Alarm::rang`]); they come first, since queues keep their order.

use antiphon_engine::TimerKey;
use pyo3::ffi;

use super::owner;
use crate::event_loop::{EventLoop, schedule};
use crate::ffi::{GilCell, Instance, Owned, Result, call_method};
use crate::names::names;
use crate::work::{Kind, Work};

#[derive(Default)]
enum State {
    #[default]
    Unset,
    /// In the timer heap.
    Armed(TimerKey),
    /// In the ready queue: the deadline had passed when it was set.
    Due,
    /// A handle of a loop that is not ours.
    Foreign(Owned),
}

/// A deadline, set or not.
#[derive(Default)]
pub struct Alarm {
    state: GilCell<State>,
    /// Cancelled ones that are still to come.
    stale: GilCell<u32>,
}

/// An alarm's deadline, in seconds of the loop's clock.
#[derive(Clone)]
pub enum When {
    /// A number of ours.
    Seconds(f64),
    /// What the user gave; a loop that is not ours has to make of it what it can.
    Given(Owned),
}

impl When {
    /// As Python sees it.
    pub fn object(&self) -> Result {
        match self {
            Self::Seconds(seconds) => Owned::float(*seconds),
            Self::Given(given) => Ok(given.clone()),
        }
    }

    /// As a number.
    ///
    /// # Errors
    /// `TypeError` for what is none.
    pub fn seconds(&self) -> Result<f64> {
        match self {
            Self::Seconds(seconds) => Ok(*seconds),
            Self::Given(given) => schedule::seconds(given),
        }
    }
}

impl Alarm {
    /// Sets it for `target`, which gets its turn at `when`: at the earliest in the next turn of the loop. An alarm that is
    /// set must be cancelled first.
    ///
    /// `callback` makes what a loop that is not ours is to call.
    ///
    /// # Errors
    /// `TypeError` for a deadline that is no number; what a foreign loop raises.
    pub fn set(
        &self,
        owner: &Owned,
        target: &Owned,
        when: &When,
        callback: impl FnOnce() -> Result,
    ) -> Result<()> {
        let Some(native) = owner::native(owner) else {
            return self.set_foreign(owner, when, callback);
        };
        let seconds = when.seconds()?;
        if seconds <= native.now_seconds()? {
            self.state.replace(State::Due);
            native.push(Work::new(Kind::Advance, target.clone()));
            return Ok(());
        }
        self.arm(native, target, seconds);
        Ok(())
    }

    /// Sets it for `target` in `delay` seconds, in the order of the loop's timers even if that is now.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn set_in(
        &self,
        owner: &Owned,
        target: &Owned,
        delay: &Owned,
        callback: impl FnOnce() -> Result,
    ) -> Result<()> {
        match owner::native(owner) {
            Some(native) => {
                let seconds = native.now_seconds()? + schedule::seconds(delay)?;
                self.arm(native, target, seconds);
            }
            None => {
                let handle = call_method(owner, &names().call_later, [delay, &callback()?])?;
                drop(self.state.replace(State::Foreign(handle)));
            }
        }
        Ok(())
    }

    #[inline]
    fn arm(&self, native: &Instance<EventLoop>, target: &Owned, seconds: f64) {
        let mut work = Some(Work::new(Kind::Advance, target.clone()));
        let key = native.with_core(|core| {
            work.take().map(|work| core.engine.timers.push(schedule::instant(seconds), work))
        });
        if let Some(key) = key.flatten() {
            self.state.replace(State::Armed(key));
        }
        // A thread without the seat drives no task of this loop: its alarm never rings.
    }

    fn set_foreign(&self, owner: &Owned, when: &When, callback: impl FnOnce() -> Result) -> Result<()> {
        let names = names();
        let (when, callback) = (when.object()?, callback()?);
        let now = call_method(owner, &names.time, [])?;
        // SAFETY: F1; living objects.
        let due = crate::ffi::check(unsafe {
            ffi::PyObject_RichCompareBool(when.as_ptr(), now.as_ptr(), ffi::Py_LE)
        })? != 0;
        let handle = if due {
            call_method(owner, &names.call_soon, [&callback])?
        } else {
            call_method(owner, &names.call_at, [&when, &callback])?
        };
        drop(self.state.replace(State::Foreign(handle)));
        Ok(())
    }

    /// Takes it back; nothing if it is not set.
    #[inline]
    pub fn cancel(&self, owner: &Owned) -> Result<()> {
        match self.state.take() {
            State::Unset => Ok(()),
            State::Armed(key) => {
                let cancelled = owner::native(owner)
                    .and_then(|native| native.with_core(|core| core.engine.timers.cancel(key)));
                match cancelled {
                    Some(Some(work)) => drop(work),
                    _ => self.stale.with(|stale| *stale += 1),
                }
                Ok(())
            }
            State::Due => {
                self.stale.with(|stale| *stale += 1);
                Ok(())
            }
            State::Foreign(handle) => call_method(&handle, &names().cancel, []).map(drop),
        }
    }

    /// Its object has its turn; false: by an alarm that was cancelled.
    #[inline]
    pub fn rang(&self) -> bool {
        let stale = self.stale.with(|stale| {
            let was = *stale;
            *stale = was.saturating_sub(1);
            was > 0
        });
        if stale {
            return false;
        }
        drop(self.state.take());
        true
    }

    /// The foreign handle, for the collector.
    pub fn traverse(&self, visit: impl FnOnce(&Owned) -> std::ffi::c_int) -> std::ffi::c_int {
        self.state.with(|state| if let State::Foreign(handle) = state { visit(handle) } else { 0 })
    }

    /// For the collector's clear.
    pub fn clear(&self) {
        drop(self.state.take());
    }
}
