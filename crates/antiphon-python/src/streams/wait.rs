//! Waiting for a future: one of ours is awaited natively, any other by its own `__await__`.

use std::ffi::c_int;

use crate::coroutine::{Delegate, Resume, Step};
use crate::ffi::visitor::Visitor;
use crate::ffi::{Owned, Result, call_method};
use crate::names::names;

/// A future that a native coroutine awaits.
pub struct Waiting {
    future: Owned,
    delegate: Delegate,
}

impl Waiting {
    /// Makes a future of `owner` (any event loop) to wait for.
    #[inline]
    pub fn begin(owner: &Owned) -> Result<Self> {
        Self::on(call_method(owner, &names().create_future, [])?)
    }

    /// Waits for what somebody else made.
    pub fn on(future: Owned) -> Result<Self> {
        Ok(Self { delegate: Delegate::new(future.clone())?, future })
    }

    /// What is waited for.
    #[inline]
    pub fn future(&self) -> &Owned {
        &self.future
    }

    /// Goes on: yields what the task has to wait for, or returns the future's result.
    ///
    /// # Errors
    /// The future's exception, or what was thrown.
    #[inline]
    pub fn step(&self, resume: Resume<'_>) -> Result<Step> {
        self.delegate.step(resume)
    }

    /// Shows its references to the collector.
    pub fn traverse(&self, visitor: Visitor) -> c_int {
        let status = visitor.all([&self.future]);
        if status != 0 { status } else { self.delegate.traverse(visitor) }
    }
}

/// Sets a waiter's result, `None`, unless it was cancelled.
#[inline]
pub fn wake(future: &Owned) -> Result<()> {
    if !call_method(future, &names().cancelled, [])?.truth()? {
        call_method(future, &names().set_result, [&Owned::none()])?;
    }
    Ok(())
}

/// Sets a waiter's exception, unless it was cancelled.
pub fn fail(future: &Owned, exception: &Owned) -> Result<()> {
    if !call_method(future, &names().cancelled, [])?.truth()? {
        call_method(future, &names().set_exception, [exception])?;
    }
    Ok(())
}

/// Ends the wait of a future that is not done: with `None`, or with `exception` if that is one.
pub fn settle(future: &Owned, exception: &Owned) -> Result<()> {
    let method = if exception.is_none() { &names().set_result } else { &names().set_exception };
    call_method(future, method, [exception]).map(drop)
}

/// Whether a future is done.
pub fn is_done(future: &Owned) -> Result<bool> {
    call_method(future, &names().done, [])?.truth()
}

/// Marks a future's exception as seen, so that nobody reports it.
pub fn silence(future: &Owned) -> Result<()> {
    if is_done(future)? && !call_method(future, &names().cancelled, [])?.truth()? {
        call_method(future, &names().exception, [])?;
    }
    Ok(())
}
