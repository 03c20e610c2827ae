//! How a future ends: with a result, an exception or a cancellation; and what comes out of it then.
//!
//! Source: CPython Lib/asyncio/futures.py; Modules/_asynciomodule.c for the words of the errors.

use antiphon_core::future::Status;
use pyo3::ffi;

use super::{FutureObject, FutureRef, Inner, future_type};
use crate::ffi::call::call_with_keywords;
use crate::ffi::raise::{self, raise_object};
use crate::ffi::{Owned, Raised, Result, call, call_method, check};
use crate::names::names;

#[cold]
pub fn invalid_state(message: &str) -> Raised {
    raise::raise(names().invalid_state_error.as_ptr(), message)
}

impl FutureObject {
    /// Ends the future by `change`, which says whether it was pending, and has its callbacks called.
    #[inline(always)]
    fn end(&self, change: impl FnOnce(&mut Inner) -> bool) -> Result<bool> {
        let (ended, waited_for) = self.inner.with(|inner| (change(inner), !inner.callbacks.is_empty()));
        if ended && waited_for {
            self.schedule()?;
        }
        Ok(ended)
    }

    /// # Errors
    /// `InvalidStateError` when it is done; what the loop's `call_soon` raises (then it is done all the same).
    #[inline(always)]
    pub fn finish(&self, value: Owned) -> Result<()> {
        let mut value = Some(value);
        let ended = self.end(|inner| {
            let ended = inner.state.finish();
            if ended {
                inner.outcome = value.take();
            }
            ended
        })?;
        if ended { Ok(()) } else { Err(invalid_state("invalid state")) }
    }

    /// Ends it with an exception object as it is.
    pub fn fail(&self, exception: Owned) -> Result<()> {
        // SAFETY: F1; an exception. Gives a new reference or null, which means none.
        let mut traceback =
            unsafe { Owned::from_new(ffi::PyException_GetTraceback(exception.as_ptr())).ok() };
        let mut exception = Some(exception);
        let ended = self.end(|inner| {
            let ended = inner.state.fail();
            if ended {
                inner.outcome = exception.take();
                if traceback.is_some() {
                    std::mem::swap(&mut inner.rare().traceback, &mut traceback);
                }
            }
            ended
        })?;
        if ended { Ok(()) } else { Err(invalid_state("invalid state")) }
    }

    /// Ends it with what `set_exception` was given: an exception, or a class of them.
    pub fn fail_with(&self, given: &Owned) -> Result<()> {
        if self.state().is_done() {
            return Err(invalid_state("invalid state"));
        }
        // SAFETY: F1; living objects.
        let exception = unsafe {
            if ffi::PyExceptionClass_Check(given.as_ptr()) != 0 { call(given, [])? } else { given.clone() }
        };
        // SAFETY: as above.
        if unsafe { ffi::PyExceptionInstance_Check(exception.as_ptr()) } == 0 {
            return Err(raise::type_error("invalid exception object"));
        }
        self.fail(self.fit_for_generators(exception)?)
    }

    /// asyncio's `Future.cancel`: whether it was pending.
    pub fn cancel_plainly(&self, message: Option<&Owned>) -> Result<bool> {
        let mut message = message.cloned();
        self.end(|inner| {
            let ended = inner.state.cancel();
            if ended && (message.is_some() || inner.rare.is_some()) {
                std::mem::swap(&mut inner.rare().cancel_message, &mut message);
            }
            ended
        })
    }

    /// The `CancelledError` to raise: the one that ended the task, the first time; else a new one with the message.
    pub fn make_cancelled_error(&self) -> Result {
        let (error, message) = self.inner.with(|inner| match &mut inner.rare {
            None => (None, None),
            Some(rare) => (rare.cancelled_error.take(), rare.cancel_message.clone()),
        });
        let class = &names().cancelled_error;
        match (error, message) {
            (Some(error), _) => {
                #[cfg(not(Py_3_13))]
                // SAFETY: F1; an exception. asyncio clears the context of one that it raises again.
                unsafe {
                    ffi::PyException_SetContext(error.as_ptr(), std::ptr::null_mut());
                }
                Ok(error)
            }
            (None, None) => call(class, []),
            (None, Some(message)) => call(class, [&message]),
        }
    }

    #[cold]
    pub(super) fn raise_cancelled(&self) -> Raised {
        match self.make_cancelled_error() {
            Ok(error) => raise_object(&error),
            Err(raised) => raised,
        }
    }

    /// The result or the exception of one that is finished; a failure counts as seen from here on.
    #[inline(always)]
    fn take_note(&self) -> (bool, Option<Owned>) {
        self.inner.with(|inner| {
            inner.state.retrieve();
            (inner.state.is_failed(), inner.outcome.clone())
        })
    }

    /// `result()`.
    #[inline(always)]
    pub fn get_result(&self) -> Result {
        match self.state().status() {
            Status::Finished => match self.take_note() {
                (false, outcome) => Ok(outcome.unwrap_or_else(Owned::none)),
                (true, outcome) => Err(self.raise_outcome(outcome)),
            },
            Status::Cancelled => Err(self.raise_cancelled()),
            Status::Pending => Err(invalid_state("Result is not set.")),
        }
    }

    #[cold]
    fn raise_outcome(&self, exception: Option<Owned>) -> Raised {
        match self.exception_with_traceback(exception) {
            Ok(exception) => raise_object(&exception),
            Err(raised) => raised,
        }
    }

    /// The exception with the traceback that it came with: what was added by raising it before goes.
    fn exception_with_traceback(&self, exception: Option<Owned>) -> Result {
        let Some(exception) = exception else {
            return Err(invalid_state("Exception is not set."));
        };
        let traceback = self
            .inner
            .with(|inner| inner.rare.as_ref().and_then(|rare| rare.traceback.clone()))
            .unwrap_or_else(Owned::none);
        // SAFETY: F1; an exception and a traceback or None.
        check(unsafe { ffi::PyException_SetTraceback(exception.as_ptr(), traceback.as_ptr()) })?;
        Ok(exception)
    }

    /// What `result()` would raise if the future is done; `None`: it has a result, or is not done.
    #[inline(always)]
    pub fn exception_to_raise(&self) -> Result<Option<Owned>> {
        let state = self.state();
        if state.is_cancelled() {
            return self.make_cancelled_error().map(Some);
        }
        if !state.is_failed() {
            return Ok(None);
        }
        self.exception_with_traceback(self.take_note().1).map(Some)
    }

    /// `exception()`.
    pub fn get_exception(&self) -> Result<Option<Owned>> {
        match self.state().status() {
            Status::Finished => match self.take_note() {
                (true, outcome) => Ok(outcome),
                (false, _) => Ok(None),
            },
            Status::Cancelled => Err(self.raise_cancelled()),
            Status::Pending => Err(invalid_state("Exception is not set.")),
        }
    }
}

impl FutureObject {
    /// A `StopIteration` cannot be raised into a coroutine: it would end it. asyncio refuses or wraps it, by its patch
    /// release even, so a future of asyncio's own is asked.
    #[inline]
    fn fit_for_generators(&self, exception: Owned) -> Result {
        // SAFETY: F1; the class is alive while the interpreter is.
        let stops =
            unsafe { ffi::PyErr_GivenExceptionMatches(exception.as_ptr(), ffi::PyExc_StopIteration) != 0 };
        if stops { self.as_asyncio_keeps(&exception) } else { Ok(exception) }
    }

    #[cold]
    fn as_asyncio_keeps(&self, exception: &Owned) -> Result {
        let names = names();
        let owner = self.owner_or_none();
        let future = call_with_keywords(&names.base_future_class, &[&owner], Some(&names.loop_keyword))?;
        call_method(&future, &names.set_exception, [exception])?;
        call_method(&future, &names.exception, [])
    }
}

impl FutureRef {
    /// Ends it with a result.
    ///
    /// # Errors
    /// `InvalidStateError` when it is done, `RuntimeError` for a task, or when its loop is closed and somebody waits.
    #[inline]
    pub fn set_result(&self, value: Owned) -> Result<()> {
        if !self.0.is_exactly(future_type()) && crate::task::cast(&self.0).is_some() {
            return Err(raise::runtime_error("Task does not support set_result operation"));
        }
        self.this().finish(value)
    }

    /// Ends it with an exception, or an instance of an exception class.
    ///
    /// # Errors
    /// As [`Self::set_result`]; `TypeError` for what is no exception.
    pub fn set_exception(&self, exception: Owned) -> Result<()> {
        if !self.0.is_exactly(future_type()) && crate::task::cast(&self.0).is_some() {
            return Err(raise::runtime_error("Task does not support set_exception operation"));
        }
        self.this().fail_with(&exception)
    }

    /// Cancels it; whether it was pending. Subclasses in Python may have rules of their own.
    pub fn cancel(&self, message: Option<&Owned>) -> Result<bool> {
        if self.0.is_exactly(future_type()) {
            return self.this().cancel_plainly(message);
        }
        if self.0.is_exactly(crate::task::task_type())
            && let Some(task) = crate::task::cast(&self.0)
        {
            return recursively(|| task.cancel_task(message));
        }
        let names = names();
        let method = self.0.attr(&names.cancel)?;
        let answer = match message {
            None => call(&method, [])?,
            Some(message) => {
                crate::ffi::call::call_with_keywords(&method, &[message], Some(&names.msg_keyword))?
            }
        };
        answer.truth()
    }

    /// What awaiting it would raise now that it is done; `None` if it has a result.
    #[inline(always)]
    pub fn exception_to_raise(&self) -> Result<Option<Owned>> {
        self.this().exception_to_raise()
    }

    /// `result()`: the result.
    ///
    /// # Errors
    /// Its exception, `CancelledError`, `InvalidStateError` while it is pending.
    pub fn result(&self) -> Result {
        self.this().get_result()
    }

    /// `exception()`: the exception, `None` if it has a result.
    ///
    /// # Errors
    /// `CancelledError`, `InvalidStateError` while it is pending.
    pub fn exception(&self) -> Result<Option<Owned>> {
        self.this().get_exception()
    }
}

/// Runs `body` as one more level of recursion: tasks that wait for each other are cancelled through each other.
///
/// # Errors
/// `RecursionError`.
fn recursively<R>(body: impl FnOnce() -> Result<R>) -> Result<R> {
    // SAFETY: F1; left again below. Not 0 is a failure: the interpreter gives 1, whatever its documentation says.
    if unsafe { ffi::Py_EnterRecursiveCall(c" while cancelling a task".as_ptr()) } != 0 {
        return Err(Raised);
    }
    let outcome = body();
    // SAFETY: entered above.
    unsafe { ffi::Py_LeaveRecursiveCall() };
    outcome
}
