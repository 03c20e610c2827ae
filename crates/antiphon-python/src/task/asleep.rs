//! A task that sleeps waits for its `sleep` itself, without a future in between.
//!
//! A sleep cannot know who drives it, so it yields a future. When that comes up to a task of ours and nobody else knows it,
//! the task takes the sleep for what it waits for, the timer becomes the task's own ([`Kind::Wake`]), and the future goes
//! back to where it came from. Who looks at what the task waits for gets a future again ([`TaskObject::shown_waiter`]).
//!
//! As with a future, a task whose time has come is queued then, and has its step in the next turn.
//!
//! **Invariant J3**: a `Wake` counts only if the task waits for a sleep whose timer is not armed any more. So one that came
//! too late to be taken back (it was due already, or another thread cancelled the task) wakes nobody.

use antiphon_engine::TimerKey;

use super::TaskObject;
use super::sleep::{self, Nap, SleepObject};
use crate::event_loop::EventLoop;
use crate::ffi::{Instance, Owned, Result, This, call};
use crate::future::{FutureObject, FutureRef};
use crate::names::names;
use crate::work::{Kind, Work};

/// Who knows the future of a sleep that has just come up to the task: the sleep, the timer, and the task's own hand.
const HOLDERS: isize = 3;

/// What the await of a cancelled sleep raises.
pub(super) fn cancelled_error(message: Option<Owned>) -> Result {
    let class = &names().cancelled_error;
    match message {
        None => call(class, []),
        Some(message) => call(class, [&message]),
    }
}

/// Whether the timer still has to ring.
#[inline(always)]
fn is_armed(owner: &Instance<EventLoop>, key: TimerKey) -> bool {
    owner.with_core(|core| core.engine.timers.get_mut(key).is_some()).unwrap_or(false)
}

/// Puts `work` in the place of an armed timer's item; gives back what is not needed any more, and whether it did.
#[inline(always)]
fn replace(owner: &Instance<EventLoop>, key: TimerKey, mut work: Work) -> (Work, bool) {
    let replaced = owner.with_core(|core| match core.engine.timers.get_mut(key) {
        Some(armed) => {
            std::mem::swap(armed, &mut work);
            true
        }
        None => false,
    });
    (work, replaced.unwrap_or(false))
}

/// Takes a timer back; the key, where that was not possible from here.
fn disarm(owner: &Instance<EventLoop>, key: TimerKey) -> Option<TimerKey> {
    let disarmed = owner.with_core(|core| core.engine.timers.cancel(key));
    let unreachable = disarmed.is_none();
    drop(disarmed);
    unreachable.then_some(key)
}

impl TaskObject {
    /// Waits for the sleep that has made the future, instead of for that; whether it does.
    #[inline(always)]
    pub(super) fn fall_asleep(&self, future: &FutureObject) -> bool {
        match future.sleep() {
            Some(asleep) if future.is_unknown(HOLDERS) => self.wait_for_sleep(asleep),
            _ => false,
        }
    }

    #[inline]
    fn wait_for_sleep(&self, object: Owned) -> bool {
        let (Some(asleep), Some(owner)) = (sleep::cast(&object), self.as_future().native_owner()) else {
            return false;
        };
        let Some(key) = asleep.while_suspended(|sleep| sleep.timer()).flatten() else {
            return false;
        };
        let (before, replaced) = replace(owner, key, Work::new(Kind::Wake, self.owned()));
        drop(before);
        if !replaced {
            return false;
        }
        drop(asleep.while_suspended(|sleep| sleep.set_nap(Nap::Asleep(key))));
        asleep.rest_untracked();
        let waiter = self.inner.with(|inner| inner.wait_for(object));
        drop(waiter);
        true
    }

    /// What the sleep that the task waited for throws into it.
    #[inline]
    pub(super) fn ending_of_sleep(&self, asleep: &SleepObject) -> Result<Option<Owned>> {
        let Some((message, timer)) = asleep.while_suspended(|sleep| sleep.take_cancellation()).flatten()
        else {
            return Ok(None);
        };
        if let (Some(key), Some(owner)) = (timer, self.as_future().native_owner()) {
            disarm(owner, key);
        }
        cancelled_error(message).map(Some)
    }

    /// Cancels the sleep that it waits for, and says whether that was possible; `None`: somebody else has ended the sleep.
    pub(super) fn cancel_sleep(&self, asleep: &SleepObject, message: Option<&Owned>) -> Option<Result<bool>> {
        let owner = self.as_future().native_owner()?;
        let Some(key) = asleep.while_suspended(|sleep| sleep.nap_timer())? else {
            return Some(Ok(false));
        };
        let timer = disarm(owner, key);
        let cancelled = Nap::Cancelled { message: message.cloned(), timer };
        drop(asleep.while_suspended(|sleep| sleep.set_nap(cancelled)));
        Some(owner.check_open().map(|()| {
            owner.push(Work::new(Kind::Step, self.owned()));
            true
        }))
    }

    /// What it waits for, as everybody else may see it: a future, never a sleep.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(super) fn shown_waiter(&self) -> Result<Option<Owned>> {
        let waiter = self.inner.with(|inner| inner.waiter());
        let (Some(object), Some(owner)) = (&waiter, self.as_future().native_owner()) else {
            return Ok(waiter);
        };
        let Some(asleep) = sleep::cast(object) else {
            return Ok(waiter);
        };
        let future = FutureRef::new(owner)?;
        let nap = asleep.while_suspended(|sleep| sleep.wait_by(future.clone())).flatten();
        match nap {
            Some(Nap::Over) => future.this().finish(sleep::result_of(object).unwrap_or_else(Owned::none))?,
            Some(Nap::Cancelled { message, .. }) => {
                future.this().cancel_plainly(message.as_ref())?;
            }
            Some(Nap::Asleep(key)) => {
                // One that is not armed any more is due in this turn, and finds the future then.
                let (before, _) = replace(owner, key, Work::new(Kind::Advance, future.object().clone()));
                drop(before);
                future.this().add_task(self)?;
            }
            // Somebody else has ended the sleep: nothing but a cancellation will wake the task.
            None => future.this().add_task(self)?,
        }
        asleep.name_to_future();
        let before = self.inner.with(|inner| inner.wait_for(future.object().clone()));
        drop(before);
        Ok(Some(future.into_object()))
    }
}

/// A sleeping task's time has come.
///
/// # Errors
/// What a loop's `call_soon` raises, where the future of the sleep is known.
#[inline]
pub fn wake(owner: &Instance<EventLoop>, object: &Owned) -> Result<()> {
    // SAFETY: such entries are made from tasks only.
    let this: &TaskObject = unsafe { This::from_ptr(object.as_ptr()) };
    let Some(waiter) = this.inner.with(|inner| inner.waiter()) else {
        return Ok(());
    };
    if let Some(asleep) = sleep::cast(&waiter) {
        let timer = asleep.while_suspended(|sleep| sleep.nap_timer()).flatten();
        if timer.is_some_and(|key| !is_armed(owner, key)) {
            drop(asleep.while_suspended(|sleep| sleep.set_nap(Nap::Over)));
            owner.push(Work::new(Kind::Step, object.clone()));
        }
        return Ok(());
    }
    wake_by_future(owner, &waiter)
}

/// The same, where somebody has looked at what the task waits for after the timer had come out of the heap.
#[cold]
fn wake_by_future(owner: &Instance<EventLoop>, waiter: &Owned) -> Result<()> {
    let Some(future) = FutureRef::cast(waiter).filter(|future| !future.is_done()) else {
        return Ok(());
    };
    let object = future.this().sleep();
    let timer = object
        .as_ref()
        .and_then(sleep::cast)
        .and_then(|asleep| asleep.while_suspended(|sleep| sleep.timer()).flatten());
    match timer {
        Some(key) if !is_armed(owner, key) => future.this().finish_sleep(),
        _ => Ok(()),
    }
}
