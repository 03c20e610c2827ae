//! `cancel`, `uncancel`, `cancelling`: asyncio's rules, kept by [`antiphon_core::task`].
//!
//! Source: CPython Lib/asyncio/tasks.py.

use super::TaskObject;
use crate::ffi::{Owned, Result};

impl TaskObject {
    /// Asks the task to end; false when it is done.
    pub fn cancel_task(&self, message: Option<&Owned>) -> Result<bool> {
        let future = self.as_future();
        future.silence();
        if future.state().is_done() {
            return Ok(false);
        }
        self.inner.with(|inner| inner.cancellation.request());
        if self.cancel_waiter(message)? {
            // It goes on waiting for it: a task may catch the cancellation, and then has to be cancelled again.
            return Ok(true);
        }
        // Its step is due or running.
        self.inner.with(|inner| inner.cancellation.set_due());
        future.set_cancel_message(message.cloned());
        Ok(true)
    }

    /// Takes a request back; how many remain.
    pub fn uncancel(&self) -> u32 {
        self.inner.with(|inner| inner.cancellation.uncancel(cfg!(Py_3_13)))
    }

    /// How many requests were not taken back.
    pub fn cancelling(&self) -> u32 {
        self.inner.with(|inner| inner.cancellation.requests())
    }
}
