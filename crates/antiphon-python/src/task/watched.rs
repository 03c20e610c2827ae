//! The end of a task's step that blocked its loop, or whose task an earlier one has condemned ([`crate::watch::verdict`]).

use pyo3::ffi;

use super::TaskObject;
use super::step::{Given, is_cancelled_error};
use crate::ffi::raise::{leaves_loop, write_unraisable};
use crate::ffi::{Owned, Result};
use crate::watch::{Watch, verdict};

impl TaskObject {
    /// Acts on what the coroutine gave, where this step or an earlier one may have blocked the loop.
    #[cold]
    pub(super) fn judged(&self, watch: &Watch, given: Result<Given>) -> Given {
        Given::Judged(given.and_then(|given| self.take_in_judged(watch, given)))
    }

    fn take_in_judged(&self, watch: &Watch, given: Given) -> Result<()> {
        let error = watch.overdue_before().and_then(|step| verdict::on_task(watch, step, self));
        if let Given::Yielded(_) = given {
            let outcome = self.take_in(given);
            if let Some(error) = error
                && !self.inner.with(|inner| std::mem::replace(&mut inner.condemned, true))
            {
                watch.note_condemned();
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
        Given::Returned(_) | Given::Yielded(_) | Given::Judged(_) => Given::Raised(error),
    }
}

/// `str(error)`, for the message of the cancellation.
fn str_of(error: &Owned) -> Option<Owned> {
    // SAFETY: F1; a living object.
    let text = unsafe { Owned::from_new(ffi::PyObject_Str(error.as_ptr())) };
    text.inspect_err(|_| write_unraisable(None)).ok()
}
