//! One step of a task: what is sent or thrown into its coroutine, and what comes out of it.
//!
//! The interpreter's own send protocol resumes the coroutine, so that neither a bound method nor a `StopIteration` is made.
//!
//! Source: CPython Lib/asyncio/tasks.py (`__step`, `__step_run_and_handle_result`); PEP 380.

use std::ptr;
use std::sync::OnceLock;

use pyo3::ffi;

use super::{TaskObject, current, registry, sleep, task_type};
use crate::event_loop::EventLoop;
use crate::ffi::raise::{self, Raised};
use crate::ffi::{Instance, Owned, Result, This, call, call_method, check};
use crate::future::{FutureRef, outcome::invalid_state};
use crate::hand_off::window;
use crate::names::{import, names};
use crate::watch::Watch;

/// What the coroutine gave.
pub(super) enum Given {
    Yielded(Owned),
    Returned(Owned),
    Raised(Owned),
    /// Something that has been acted on already, since the step blocked the loop.
    Judged(Result<()>),
}

/// A task's turn in a loop of ours.
///
/// # Errors
/// `KeyboardInterrupt` and `SystemExit` from the coroutine.
#[inline(always)]
pub fn run(owner: &Instance<EventLoop>, object: &Owned) -> Result<()> {
    // SAFETY: such entries are made from tasks only.
    let this: &TaskObject = unsafe { This::from_ptr(object.as_ptr()) };
    if this.as_future().state().is_done() {
        return Err(this.already_done());
    }
    let thrown = this.next_exception()?;
    current::show(owner, object)?;
    this.step_in_context(thrown, owner.watch_for_blocking())
}

impl TaskObject {
    /// `InvalidStateError` for a step after the end, which only a call of asyncio's private methods can bring about.
    #[cold]
    pub(super) fn already_done(&self) -> Raised {
        invalid_state("__step(): already done")
    }

    /// What the next step throws; the task waits for nothing any more.
    #[inline(always)]
    pub(super) fn next_exception(&self) -> Result<Option<Owned>> {
        let ((waiter, thrown), due) =
            self.inner.with(|inner| (inner.stop_waiting(), inner.cancellation.is_due()));
        if cfg!(Py_3_14)
            && let Some(task) = &waiter
            && task.is_exactly(task_type())
        {
            registry::draw_edge(self, task, false)?;
        }
        if thrown.is_none() && !due {
            return match &waiter {
                // A successful end needs nothing: the await that goes on fetches the result.
                Some(waiter) => self.ending_of(waiter),
                None => Ok(None),
            };
        }
        let thrown = match (thrown, &waiter) {
            (Some(thrown), _) => Some(thrown),
            (None, Some(waiter)) => self.ending_of(waiter)?,
            (None, None) => None,
        };
        self.with_cancellation(thrown)
    }

    /// What the await of what it waited for would raise.
    #[inline(always)]
    fn ending_of(&self, waiter: &Owned) -> Result<Option<Owned>> {
        if let Some(asleep) = sleep::cast(waiter) {
            return self.ending_of_sleep(asleep);
        }
        match FutureRef::cast(waiter) {
            Some(future) => future.exception_to_raise(),
            None => Ok(None),
        }
    }

    /// A cancellation that is due takes the place of whatever else would be thrown, another cancellation excepted.
    pub(super) fn with_cancellation(&self, thrown: Option<Owned>) -> Result<Option<Owned>> {
        if !self.inner.with(|inner| inner.cancellation.take_due()) {
            return Ok(thrown);
        }
        if let Some(thrown) = &thrown
            && is_cancelled_error(thrown)
        {
            return Ok(Some(thrown.clone()));
        }
        self.as_future().make_cancelled_error().map(Some)
    }

    /// A step in the task's context. What the watch sees of it is the coroutine's part alone.
    #[inline(always)]
    fn step_in_context(&self, thrown: Option<Owned>, watch: Option<&Watch>) -> Result<()> {
        let Some(context) = self.context() else {
            return Ok(());
        };
        // SAFETY: F1; living objects; a context that was entered is left again.
        unsafe {
            check(ffi::PyContext_Enter(context.as_ptr()))?;
            let stepped = self.resume(thrown, watch).and_then(|given| self.take_in(given));
            let left = check(ffi::PyContext_Exit(context.as_ptr()));
            stepped.and(left.map(drop))
        }
    }

    /// A step where the context was entered by the caller.
    #[inline(always)]
    pub(super) fn step_here(&self, thrown: Option<Owned>) -> Result<()> {
        self.take_in(self.resume(thrown, None)?)
    }

    /// Resumes the coroutine.
    ///
    /// The watch hears of the end before anything else of the loop runs: from then on the step cannot be found overdue (Q2).
    #[inline(always)]
    fn resume(&self, thrown: Option<Owned>, watch: Option<&Watch>) -> Result<Given> {
        let Some(coro) = self.inner.with(|inner| inner.coro.clone()) else {
            return Err(self.already_done());
        };
        if let Some(watch) = watch {
            watch.begin_task();
        }
        let Some(thrown) = thrown else {
            let mut result = ptr::null_mut();
            let window = window::open(self.as_future().native_owner());
            // SAFETY: F1; living objects; the result is a new reference, null if the coroutine raised.
            return unsafe {
                let sent = ffi::PyIter_Send(coro.as_ptr(), ffi::Py_None(), &raw mut result);
                window::close(window);
                if let Some(watch) = watch
                    && watch.ends_with_a_verdict()
                {
                    return Ok(self.judged(watch, given(sent, result)));
                }
                given(sent, result)
            };
        };
        let window = window::open(self.as_future().native_owner());
        let answer = throw(&coro, &thrown);
        window::close(window);
        let given = match answer {
            Ok(yielded) => Ok(Given::Yielded(yielded)),
            Err(Raised) => raised(),
        };
        match watch {
            Some(watch) if watch.ends_with_a_verdict() => Ok(self.judged(watch, given)),
            _ => given,
        }
    }

    /// Acts on what the coroutine gave.
    #[inline(always)]
    pub(super) fn take_in(&self, given: Given) -> Result<()> {
        match given {
            Given::Yielded(value) => self.wait_for(value),
            Given::Returned(value) => {
                let due = self.inner.with(|inner| inner.cancellation.take_due());
                let ended = if due {
                    // Cancelled right before its end.
                    let message = self.as_future().cancel_message();
                    self.as_future().cancel_plainly(message.as_ref()).map(drop)
                } else {
                    self.as_future().finish(value)
                };
                registry::remove(self);
                ended
            }
            Given::Raised(exception) => self.fail(exception),
            Given::Judged(outcome) => outcome,
        }
    }

    fn fail(&self, exception: Owned) -> Result<()> {
        let future = self.as_future();
        let ended = if is_cancelled_error(&exception) {
            future.keep_cancelled_error(exception);
            future.cancel_plainly(None).map(drop)
        } else if raise::leaves_loop(&exception) {
            let ended = future.fail(exception.clone());
            if ended.is_err() {
                raise::write_unraisable(Some(&self.owned()));
            }
            Err(raise::restore(exception))
        } else {
            future.fail(exception)
        };
        registry::remove(self);
        ended
    }
}

/// `CoroutineType.throw`, as the type has it.
static THROW: OnceLock<Owned> = OnceLock::new();

/// Looks the interpreter's own method up.
pub(super) fn load() -> Result<()> {
    if THROW.get().is_none() {
        let _ = THROW.set(import("types", "CoroutineType")?.attr(&names().throw)?);
    }
    Ok(())
}

/// `coro.throw(exception)`, without looking a coroutine's method up.
#[inline]
fn throw(coro: &Owned, exception: &Owned) -> Result {
    match THROW.get() {
        // SAFETY: F1; a living object.
        Some(throw) if unsafe { ffi::PyCoro_CheckExact(coro.as_ptr()) } != 0 => {
            call(throw, [coro, exception])
        }
        _ => call_method(coro, &names().throw, [exception]),
    }
}

/// What sending has given.
/// # Safety
/// Both are of one call of `PyIter_Send`.
#[inline(always)]
unsafe fn given(sent: ffi::PySendResult, result: *mut ffi::PyObject) -> Result<Given> {
    // SAFETY: a new reference, null if the coroutine raised.
    unsafe {
        match sent {
            ffi::PySendResult::PYGEN_NEXT => Ok(Given::Yielded(Owned::from_new(result)?)),
            ffi::PySendResult::PYGEN_RETURN => Ok(Given::Returned(Owned::from_new(result)?)),
            ffi::PySendResult::PYGEN_ERROR => raised(),
        }
    }
}

/// Whether it is a `CancelledError`.
pub(super) fn is_cancelled_error(exception: &Owned) -> bool {
    let class = names().cancelled_error.as_ptr();
    // SAFETY: F1; living objects; no Python code runs for exception classes.
    unsafe {
        ffi::Py_TYPE(exception.as_ptr()).cast() == class
            || ffi::PyErr_GivenExceptionMatches(exception.as_ptr(), class) != 0
    }
}

/// The exception that is set; a `StopIteration` is a return.
fn raised() -> Result<Given> {
    // SAFETY: F1; the class is alive while the interpreter is.
    let stops = raise::matches(unsafe { ffi::PyExc_StopIteration });
    let Some(exception) = raise::take() else {
        // A coroutine-like object may end without saying so.
        return Ok(Given::Returned(Owned::none()));
    };
    if stops {
        return Ok(Given::Returned(exception.attr(&names().value)?));
    }
    Ok(Given::Raised(exception))
}
