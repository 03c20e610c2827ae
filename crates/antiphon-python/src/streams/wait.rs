//! Waiting for a future: one of ours is awaited natively, any other by its own `__await__`.

use std::ffi::c_int;

use pyo3::ffi;

use crate::coroutine::{Delegate, Resume, Step};
use crate::event_loop::EventLoop;
use crate::ffi::raise::runtime_error;
use crate::ffi::visitor::Visitor;
use crate::ffi::{Instance, Owned, Payload, Result, call_method};
use crate::future::{FutureRef, future_type};
use crate::names::names;

/// A future that a native coroutine awaits.
pub enum Waiting {
    /// One of ours.
    Native(FutureRef),
    /// Anybody's, and its iterator.
    Foreign(Owned, Delegate),
}

/// The object as a future of exactly our type, on which nothing is overridden.
#[inline]
fn native(future: &Owned) -> Option<&FutureRef> {
    if future.is_exactly(future_type()) { FutureRef::cast(future) } else { None }
}

impl Waiting {
    /// Makes a future of `owner` (any event loop) to wait for.
    #[inline]
    pub fn begin(owner: &Owned) -> Result<Self> {
        // SAFETY: F1; a living object, and a loop of ours where its type says so.
        unsafe {
            if ffi::PyObject_TypeCheck(owner.as_ptr(), EventLoop::type_object()) != 0 {
                return FutureRef::new(Instance::from_ptr(owner.as_ptr())).map(Self::Native);
            }
        }
        Self::on(call_method(owner, &names().create_future, [])?)
    }

    /// Waits for what somebody else made.
    pub fn on(future: Owned) -> Result<Self> {
        if let Some(future) = native(&future) {
            return Ok(Self::Native(future.clone()));
        }
        let delegate = Delegate::new(future.clone())?;
        Ok(Self::Foreign(future, delegate))
    }

    /// What is waited for.
    #[inline]
    pub fn future(&self) -> &Owned {
        match self {
            Self::Native(future) => future.object(),
            Self::Foreign(future, _) => future,
        }
    }

    /// The first step: yields what the task has to wait for, or returns the future's result.
    ///
    /// # Errors
    /// The future's exception.
    #[inline]
    pub fn start(&self) -> Result<Step> {
        match self {
            Self::Native(future) if future.is_done() => future.result().map(Step::Returned),
            Self::Native(future) => Ok(Step::Yielded(future.awaited())),
            Self::Foreign(_, delegate) => delegate.step(Resume::Send(None)),
        }
    }

    /// Goes on after a step that yielded.
    ///
    /// # Errors
    /// The future's exception, or what was thrown.
    #[inline]
    pub fn resume(&self, resume: Resume<'_>) -> Result<Step> {
        match self {
            Self::Native(future) => {
                resume.check()?;
                if future.is_done() {
                    future.result().map(Step::Returned)
                } else {
                    Err(runtime_error("await wasn't used with future"))
                }
            }
            Self::Foreign(_, delegate) => delegate.step(resume),
        }
    }

    /// Shows its references to the collector.
    pub fn traverse(&self, visitor: Visitor) -> c_int {
        match self {
            Self::Native(future) => visitor.all([future.object()]),
            Self::Foreign(future, delegate) => {
                let status = visitor.all([future]);
                if status != 0 { status } else { delegate.traverse(visitor) }
            }
        }
    }
}

/// Sets a waiter's result, `None`, unless it was cancelled.
#[inline]
pub fn wake(future: &Owned) -> Result<()> {
    if let Some(future) = native(future) {
        return if future.is_cancelled() { Ok(()) } else { future.set_result(Owned::none()) };
    }
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
    match native(future) {
        Some(future) => Ok(future.is_done()),
        None => call_method(future, &names().done, [])?.truth(),
    }
}

/// Marks a future's exception as seen, so that nobody reports it.
pub fn silence(future: &Owned) -> Result<()> {
    if let Some(future) = native(future) {
        future.silence();
        return Ok(());
    }
    if is_done(future)? && !call_method(future, &names().cancelled, [])?.truth()? {
        call_method(future, &names().exception, [])?;
    }
    Ok(())
}
