//! A step of a task in a loop whose steps are watched ([`crate::watch`]).

use pyo3::ffi;

use super::TaskObject;
use super::step::{Given, is_cancelled_error};
use crate::ffi::raise::{leaves_loop, write_unraisable};
use crate::ffi::{Owned, Result, check};
use crate::watch::{Watch, verdict};

impl TaskObject {
    /// A step in the task's context, told to the watch. What the watch sees is the coroutine's part alone.
    #[inline(never)]
    pub(super) fn step_watched(&self, watch: &Watch, thrown: Option<Owned>) -> Result<()> {
        let Some(context) = self.context() else {
            return Ok(());
        };
        // SAFETY: F1; living objects; a context that was entered is left again.
        unsafe {
            check(ffi::PyContext_Enter(context.as_ptr()))?;
            watch.begin_task();
            let given = self.resume(thrown);
            // Before anything else of the loop runs: from here on the step cannot be found overdue any more (Q2).
            let overdue = watch.end_task();
            let stepped = given.and_then(|given| match overdue {
                None if !self.is_condemned() => self.take_in(given),
                overdue => self.take_in_judged(watch, overdue, given),
            });
            let left = check(ffi::PyContext_Exit(context.as_ptr()));
            stepped.and(left.map(drop))
        }
    }

    fn is_condemned(&self) -> bool {
        self.inner.with(|inner| inner.condemned)
    }

    /// Acts on what the coroutine gave, where this step or an earlier one blocked the loop.
    #[cold]
    fn take_in_judged(&self, watch: &Watch, overdue: Option<u64>, given: Given) -> Result<()> {
        let error = overdue.and_then(|step| verdict::on_task(watch, step, self));
        if let Given::Yielded(_) = given {
            let outcome = self.take_in(given);
            if let Some(error) = error
                && !self.is_condemned()
            {
                self.inner.with(|inner| inner.condemned = true);
                let message = str_of(&error);
                outcome.and(self.cancel_task(message.as_ref()).map(drop))
            } else {
                outcome
            }
        } else {
            let condemned = self.inner.with(|inner| std::mem::take(&mut inner.condemned));
            let earlier = if condemned { verdict::of_condemned(watch, self) } else { None };
            self.take_in(match earlier.or(error) {
                None => given,
                Some(error) => replaced(given, error),
            })
        }
    }
}

/// The task's end with `error` in the place of what it was; `KeyboardInterrupt` and `SystemExit` stay.
fn replaced(given: Given, error: Owned) -> Given {
    match given {
        Given::Raised(exception) if leaves_loop(&exception) => Given::Raised(exception),
        Given::Raised(exception) => {
            if !is_cancelled_error(&exception) {
                // SAFETY: F1; both are exceptions, and the reference is given away.
                unsafe { ffi::PyException_SetContext(error.as_ptr(), exception.into_ptr()) };
            }
            Given::Raised(error)
        }
        Given::Returned(_) | Given::Yielded(_) => Given::Raised(error),
    }
}

/// `str(error)`, for the message of the cancellation.
fn str_of(error: &Owned) -> Option<Owned> {
    // SAFETY: F1; a living object.
    let text = unsafe { Owned::from_new(ffi::PyObject_Str(error.as_ptr())) };
    text.inspect_err(|_| write_unraisable(None)).ok()
}
