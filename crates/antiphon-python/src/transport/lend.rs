//! A transport's socket in other hands: while `loop.sendfile` lets the kernel copy a file into it, the transport writes
//! nothing.
//!
//! ```text
//!   _lend(future) ── queue empty ──▶ done ── send, full? _wait_writable(future) ──▶ done ── … ── _take_back()
//! ```
//!
//! **Invariant**: a future that was handed in is settled, whatever happens to the connection: with None when the borrower
//! may go on, with the reason when the connection ends first.
//!
//! Source: CPython Lib/asyncio/selector_events.py (`_make_empty_waiter`, `_sendfile_native`).

use pyo3::ffi;

use super::stream::{Stream, is, set, set_result_unless_cancelled};
use crate::ffi::raise::{self, runtime_error};
use crate::ffi::{Instance, Owned, Result, call, call_method, check};
use crate::io_table::{Direction, Mode};
use crate::names::names;
use crate::work::{Kind, Work};

impl Instance<Stream> {
    /// `_lend(future)`: refuses writes from now on; the future is done once everything written before has left.
    ///
    /// # Errors
    /// `RuntimeError`: it is lent already.
    pub fn lend(&self, future: &Owned) -> Result<()> {
        if is(&self.flags.lent) {
            return Err(runtime_error("unable to send a file; sendfile is in progress"));
        }
        set(&self.flags.lent, true);
        drop(self.borrower.replace(Some(future.clone())));
        self.flush()?;
        self.tell_borrower()
    }

    /// `_wait_writable(future)`: the future is done once the socket takes more. For the borrower only.
    ///
    /// # Errors
    /// `ConnectionError`: the connection ended.
    pub fn wait_writable(&self, future: &Owned) -> Result<()> {
        if !self.is_registered() || is(&self.flags.closing) {
            // SAFETY: the class is alive while the interpreter is.
            return Err(raise::raise(unsafe { ffi::PyExc_ConnectionError }, CLOSED));
        }
        drop(self.borrower.replace(Some(future.clone())));
        let work = Work::new(Kind::Writable, self.owned());
        self.owner().watch(self.fd(), Direction::Write, Mode::Persistent, work)
    }

    /// `_take_back()`: the transport writes again.
    pub fn take_back(&self) {
        set(&self.flags.lent, false);
        drop(self.borrower.take());
        if self.is_registered() && !is(&self.flags.blocked) {
            self.owner().unwatch(self.fd(), Direction::Write);
        }
    }

    /// There is room for the borrower; false if the transport's own bytes come first.
    pub fn borrower_has_room(&self) -> Result<bool> {
        if !is(&self.flags.lent) || is(&self.flags.blocked) {
            return Ok(false);
        }
        self.owner().unwatch(self.fd(), Direction::Write);
        self.tell_borrower()?;
        Ok(true)
    }

    /// Lets the borrower go on if nothing of the transport's own is left to send.
    pub fn tell_borrower(&self) -> Result<()> {
        if !self.queue.with(|queue| queue.is_empty()) || is(&self.flags.closing) {
            return Ok(());
        }
        match self.borrower.take() {
            Some(future) => set_result_unless_cancelled(&future),
            None => Ok(()),
        }
    }

    /// The connection ended because of `loss`, which may be None.
    pub fn fail_borrower(&self, loss: &Owned) -> Result<()> {
        let Some(future) = self.borrower.take() else {
            return Ok(());
        };
        let done = call_method(&future, &names().done, [])?;
        // SAFETY: F1; a living object.
        if check(unsafe { ffi::PyObject_IsTrue(done.as_ptr()) })? != 0 {
            return Ok(());
        }
        let reason = if loss.is_none() {
            // SAFETY: the class is alive while the interpreter is.
            let class = unsafe { Owned::from_borrowed(ffi::PyExc_ConnectionError) };
            call(&class, [&Owned::str(CLOSED)?])?
        } else {
            loss.clone()
        };
        call_method(&future, &names().set_exception, [&reason]).map(drop)
    }
}

/// asyncio's words.
const CLOSED: &str = "Connection is closed by peer";
