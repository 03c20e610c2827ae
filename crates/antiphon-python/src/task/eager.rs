//! Eager tasks: the first step runs before the constructor returns, and many a task is done by then.
//!
//! Source: CPython Lib/asyncio/tasks.py (`__eager_start`, `create_eager_task_factory`).

use super::{TaskObject, current, registry};
use crate::ffi::raise;
use crate::ffi::{Result, check};
use pyo3::ffi;

impl TaskObject {
    /// Runs the first step now, as the current task.
    pub(super) fn start_eagerly(&self) -> Result<()> {
        let owner = self.as_future().owner_or_none();
        let task = self.owned();
        let before = current::swap(&owner, Some(&task))?;
        let registered = registry::register(self);
        let stepped = registered.and_then(|()| self.first_step());
        let exception = if stepped.is_err() { raise::take() } else { None };
        let restored = current::swap(&owner, before.as_ref()).map(drop);
        if self.as_future().state().is_done() {
            drop(self.inner.with(|inner| inner.coro.take()));
        }
        match exception {
            Some(exception) => {
                if restored.is_err() {
                    drop(raise::take());
                }
                Err(raise::restore(exception))
            }
            None => restored,
        }
    }

    fn first_step(&self) -> Result<()> {
        let Some(context) = self.context() else {
            return Ok(());
        };
        // SAFETY: F1; a context that was entered is left again.
        unsafe {
            check(ffi::PyContext_Enter(context.as_ptr()))?;
            let stepped = self.step_here(None);
            let exception = if stepped.is_err() { raise::take() } else { None };
            let left = check(ffi::PyContext_Exit(context.as_ptr())).map(drop);
            match exception {
                Some(exception) => Err(raise::restore(exception)),
                None => left,
            }
        }
    }
}
