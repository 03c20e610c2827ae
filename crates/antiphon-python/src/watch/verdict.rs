//! `on_block="raise"`: what becomes of a task whose step blocked the loop.
//!
//! The step is let run to its end, where its own thread passes the verdict (Q2). A task that has ended by then fails with
//! `BlockingError` instead. One that goes on is cancelled, so that its `finally` blocks, groups and timeouts clean up as
//! they do for any cancellation and no `except Exception` swallows it; at its end, however that comes, it fails with the
//! error. An exception thrown while the step blocks (`PyThreadState_SetAsyncExc`) would have to be taken back should the
//! step end first, and could come up in a `__del__`, a signal handler or a `finally` that it cuts short.

use super::Watch;
use crate::ffi::raise::{self, write_unraisable};
use crate::ffi::{Owned, Result, call};
use crate::names::import;
use crate::task::TaskObject;

/// The error for a task whose step blocked; `None` if that is not the step's fault, or only to be reported.
#[cold]
pub fn on_task(watch: &Watch, step: u64, task: &TaskObject) -> Option<Owned> {
    if !watch.raises() {
        return None;
    }
    let error = ask(watch, |key| {
        let number = Owned::int(step as i64)?;
        call(&import("antiphon.watchdog", "step_verdict")?, [key, &number, &task.owned()])
    })?;
    (!error.is_none()).then_some(error)
}

/// The error that an earlier step's verdict left for the end of the task.
#[cold]
pub fn of_condemned(watch: &Watch, task: &TaskObject) -> Option<Owned> {
    let error = ask(watch, |key| call(&import("antiphon.watchdog", "condemnation")?, [key, &task.owned()]))?;
    (!error.is_none()).then_some(error)
}

/// A callback, or anything else that is no step of our tasks, has blocked.
#[cold]
pub fn on_callback(watch: &Watch, step: u64) {
    if !watch.raises() {
        return;
    }
    let told = ask(watch, |key| {
        let number = Owned::int(step as i64)?;
        call(&import("antiphon.watchdog", "callback_verdict")?, [key, &number])
    });
    drop(told);
}

/// Calls a function of `antiphon.watchdog`; nothing of its own failing reaches the step.
fn ask(watch: &Watch, f: impl FnOnce(&Owned) -> Result) -> Option<Owned> {
    // What the step raised is on its way to its task.
    let pending = raise::take();
    let answer = Owned::int(watch.key as i64).and_then(|key| f(&key));
    let answer = answer.inspect_err(|_| write_unraisable(None)).ok();
    if let Some(pending) = pending {
        raise::restore(pending);
    }
    answer
}
