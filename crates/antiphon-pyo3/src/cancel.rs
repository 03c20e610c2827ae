//! Where exceptions arrive that are thrown while a future waits for nothing of Python's.

use crate::step::Step;
use pyo3::prelude::*;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Awaits a future that is not Python's, and stops waiting when an exception is thrown into the coroutine, as a task's cancellation is.
///
/// # Errors
/// The exception, with `future` dropped.
///
/// # Cancellation
/// A value that is there is not lost: the exception goes to the next await.
pub fn cancellable<F: Future>(future: F) -> Cancellable<F> {
    Cancellable { future: Box::pin(future) }
}

/// The future of [`cancellable`].
#[must_use = "futures do nothing unless awaited"]
pub struct Cancellable<F> {
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Cancellable<F> {
    type Output = PyResult<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending => match Step::current().and_then(|step| step.take_thrown()) {
                Some(error) => Poll::Ready(Err(error)),
                None => Poll::Pending,
            },
        }
    }
}

impl<F> std::fmt::Debug for Cancellable<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cancellable").finish_non_exhaustive()
    }
}
