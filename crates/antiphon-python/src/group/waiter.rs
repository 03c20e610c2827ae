//! What a native coroutine of this module blocks on: a future of the running loop, native where the loop is ours.

use pyo3::ffi;

use super::{child, owner};
use crate::coroutine::{Resume, Step};
use crate::ffi::raise::runtime_error;
use crate::ffi::{Owned, Result, call_method, check};
use crate::future::FutureRef;
use crate::names::names;

/// A future that is made to be woken.
#[derive(Clone)]
pub struct Waiter(Owned);

impl Waiter {
    /// A pending one.
    pub fn new(owner: &Owned) -> Result<Self> {
        owner::create_future(owner).map(Self)
    }

    /// The future.
    pub fn future(&self) -> &Owned {
        &self.0
    }

    /// What the coroutine yields to wait for it.
    #[inline]
    pub fn step(&self) -> Result<Step> {
        yielded(&self.0)
    }

    /// Wakes who waits, unless that happened before.
    pub fn wake(&self) -> Result<()> {
        if child::is_done(&self.0)? {
            return Ok(());
        }
        match FutureRef::cast(&self.0) {
            Some(native) => native.set_result(Owned::none()),
            None => call_method(&self.0, &names().set_result, [&Owned::none()]).map(drop),
        }
    }

    /// Goes on after [`Self::step`].
    ///
    /// # Errors
    /// What was thrown; `CancelledError` if the future itself was cancelled.
    #[inline]
    pub fn resumed(&self, resume: Resume<'_>) -> Result<()> {
        resume.check()?;
        finished(&self.0).map(drop)
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> Result<bool> {
        child::is_cancelled(&self.0)
    }

    /// Whether `other` is the same one.
    pub fn is(&self, other: &Waiter) -> bool {
        self.0.as_ptr() == other.0.as_ptr()
    }
}

/// What an `await` of `future`, which is not done, yields.
pub fn yielded(future: &Owned) -> Result<Step> {
    if let Some(native) = FutureRef::cast(future) {
        return Ok(Step::Yielded(native.awaited()));
    }
    // SAFETY: F1; living objects.
    check(unsafe {
        ffi::PyObject_SetAttr(future.as_ptr(), names()._asyncio_future_blocking.as_ptr(), ffi::Py_True())
    })?;
    Ok(Step::Yielded(future.clone()))
}

/// The result of a future that was awaited.
///
/// # Errors
/// The future's own; `RuntimeError` if it is not done: whoever runs the coroutine did not wait for it.
#[inline]
pub fn finished(future: &Owned) -> Result {
    if !child::is_done(future)? {
        return Err(runtime_error("await wasn't used with future"));
    }
    child::result(future)
}
