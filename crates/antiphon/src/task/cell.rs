//! A task's future and its outcome.

use super::{Header, Joinable, Runnable, Waiting};
use crate::runtime::{Loop, catch};
use crate::{Failure, JoinError, Panic};
use antiphon_core::Ended;
use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

pub(crate) struct TaskCell<F, T, E> {
    header: Header,
    begun: Cell<bool>,
    /// Taken out for each step, so that nothing is borrowed while it runs; `None` after the end.
    future: RefCell<Option<Pin<Box<F>>>>,
    outcome: RefCell<Option<Result<T, JoinError<E>>>>,
}

impl<F, T, E> TaskCell<F, T, E> {
    pub(crate) fn new(header: Header, future: F) -> Self {
        Self {
            header,
            begun: Cell::new(false),
            future: RefCell::new(Some(Box::pin(future))),
            outcome: RefCell::new(None),
        }
    }

    fn end(&self, outcome: Result<T, JoinError<E>>) {
        let ended = match &outcome {
            Ok(_) => Ended::Returned,
            Err(JoinError::Cancelled) => Ended::Cancelled,
            Err(_) => Ended::Raised,
        };
        *self.outcome.borrow_mut() = Some(outcome);
        self.header.end(ended);
    }
}

impl<F, T, E> Runnable for TaskCell<F, T, E>
where
    T: 'static,
    E: Failure + 'static,
    F: Future<Output = Result<T, E>> + 'static,
{
    fn header(&self) -> &Header {
        &self.header
    }

    fn step(&self, context: &mut Context<'_>) -> bool {
        let Some(mut future) = self.future.borrow_mut().take() else { return true };
        let outcome = if !self.begun.replace(true) && self.header.take_due() {
            // Cancelled before it began: it never does.
            catch(|| drop(future)).and(Ok(Err(JoinError::Cancelled)))
        } else {
            self.header.waiting.set(Waiting::Unknown);
            match catch(|| future.as_mut().poll(context)) {
                Ok(Poll::Pending) => {
                    *self.future.borrow_mut() = Some(future);
                    return false;
                }
                Ok(Poll::Ready(result)) => catch(|| drop(future)).and(Ok(result.map_err(|error| {
                    if error.is_cancelled() { JoinError::Cancelled } else { JoinError::Failed(error) }
                }))),
                Err(panic) => catch(|| drop(future)).and(Err(panic)),
            }
        };
        self.end(outcome.unwrap_or_else(|panic| Err(JoinError::Panicked(panic))));
        true
    }

    fn discard(&self) {
        let future = self.future.borrow_mut().take();
        let _ = catch(|| drop(future));
        if self.header.ended.get().is_none() {
            self.end(Err(JoinError::Cancelled));
        }
    }

    fn panic(&self) -> Option<Panic> {
        match &*self.outcome.borrow() {
            Some(Err(JoinError::Panicked(panic))) => Some(panic.clone()),
            _ => None,
        }
    }

    fn into_runnable(self: Rc<Self>) -> Rc<dyn Runnable> {
        self
    }
}

impl<F, T, E> Joinable<T, E> for TaskCell<F, T, E>
where
    T: 'static,
    E: Failure + 'static,
    F: Future<Output = Result<T, E>> + 'static,
{
    fn outcome(&self) -> &RefCell<Option<Result<T, JoinError<E>>>> {
        &self.outcome
    }
}

/// Keeps the waker for another task, and reports a failure that nobody has asked for, as asyncio does for exceptions never retrieved.
impl<F, T, E> Drop for TaskCell<F, T, E> {
    fn drop(&mut self) {
        if let Some(waker) = self.header.take_waker() {
            Loop::keep_waker(waker);
        }
        if !self.header.state.get().is_unretrieved() {
            return;
        }
        let name = self.header.name();
        let mut report = String::new();
        let _ = match self.outcome.get_mut() {
            Some(Err(JoinError::Panicked(panic))) => {
                writeln!(report, "task '{name}' panicked, and nobody joined it: {}", panic.message())
            }
            _ => writeln!(report, "task '{name}' failed, and nobody joined it"),
        };
        let _ = writeln!(report, "    spawned at {}", self.header.location);
        crate::report::report(&report);
    }
}
