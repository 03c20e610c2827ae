//! The step that a coroutine makes on this thread: how a future finds it.

use pyo3::prelude::*;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

/// What a coroutine is resumed with.
pub(crate) enum Resume {
    Send(Py<PyAny>),
    Throw(PyErr),
}

/// A future of asyncio's that an awaitable has yielded in this step.
pub(crate) struct Offer {
    pub(crate) future: Py<PyAny>,
    /// Whether it said by `_asyncio_future_blocking` that it was awaited, as futures do; the mark was taken back.
    pub(crate) is_blocking: bool,
    /// Whom to wake when it is done, unless it is the coroutine itself.
    pub(crate) waker: Option<Waker>,
    /// Set once somebody is told when it is done.
    pub(crate) observed: Arc<AtomicBool>,
}

pub(crate) struct Step {
    /// Taken by the first who waits for something that it can be handed to.
    resume: RefCell<Option<Resume>>,
    offers: RefCell<Vec<Offer>>,
    own: Waker,
}

thread_local! {
    /// The innermost step on this thread's stack.
    static CURRENT: RefCell<Option<Rc<Step>>> = const { RefCell::new(None) };
}

/// Makes `step` the current one until it is dropped.
pub(crate) struct Entered {
    outer: Option<Rc<Step>>,
}

impl Step {
    pub(crate) fn enter(resume: Resume, own: &Waker) -> (Rc<Self>, Entered) {
        let step = Rc::new(Self {
            resume: RefCell::new(Some(resume)),
            offers: RefCell::default(),
            own: own.clone(),
        });
        let outer = CURRENT.with(|current| current.replace(Some(Rc::clone(&step))));
        (step, Entered { outer })
    }

    /// The step in which this thread polls; none outside of coroutines.
    pub(crate) fn current() -> Option<Rc<Self>> {
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    pub(crate) fn take_resume(&self) -> Option<Resume> {
        self.resume.take()
    }

    /// The exception that nobody has taken.
    pub(crate) fn take_thrown(&self) -> Option<PyErr> {
        let mut resume = self.resume.borrow_mut();
        match resume.take() {
            Some(Resume::Throw(error)) => Some(error),
            other => {
                *resume = other;
                None
            }
        }
    }

    /// Somebody who is polled with `waker` waits for `future`. Gives the waker back, unless it is the coroutine's own.
    pub(crate) fn offer(
        &self,
        future: Py<PyAny>,
        is_blocking: bool,
        waker: &Waker,
        observed: &Arc<AtomicBool>,
    ) -> Option<Waker> {
        observed.store(false, Ordering::Relaxed);
        let other = (!waker.will_wake(&self.own)).then(|| waker.clone());
        let offer = Offer { future, is_blocking, waker: other.clone(), observed: Arc::clone(observed) };
        let mut offers = self.offers.borrow_mut();
        let same = offers.iter_mut().find(|other| Arc::ptr_eq(&other.observed, observed));
        let former = match same {
            Some(same) => Some(std::mem::replace(same, offer)),
            None => {
                offers.push(offer);
                None
            }
        };
        drop(offers);
        drop(former);
        other
    }

    /// Whether who was told to wake `former` (the coroutine, if none) wakes `waker`.
    pub(crate) fn is_known(&self, former: Option<&Waker>, waker: &Waker) -> bool {
        former.unwrap_or(&self.own).will_wake(waker)
    }

    pub(crate) fn take_offers(&self) -> Vec<Offer> {
        self.offers.take()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let own = CURRENT.with(|current| current.replace(self.outer.take()));
        drop(own); // not while it is borrowed: there may be Python objects in it
    }
}
