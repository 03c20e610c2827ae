//! Who waits for a primitive: a native future, under core's rules.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use antiphon_core::{Few, Left, Wake};

use crate::coroutine::{Resume, Step};
use crate::ffi::raise::{self, runtime_error};
use crate::ffi::{Owned, Raised, Result, call_method};
use crate::future::FutureRef;
use crate::names::names;

/// An entry of a list of waiters.
#[derive(Clone)]
pub enum Waiter {
    /// A future that a task waits for.
    Native(FutureRef),
    /// Something else that somebody put into the list by hand, perhaps another kind of future.
    Other(Arc<Foreign>),
}

/// An object that is asked by its methods, and therefore only when it is its turn, outside of the machine.
pub struct Foreign {
    object: Owned,
    /// Whether it had its turn.
    done: AtomicBool,
}

impl Waiter {
    /// An entry for an object of any kind.
    pub fn of(object: Owned) -> Self {
        match FutureRef::cast(&object) {
            Some(future) => Self::Native(future.clone()),
            None => Self::Other(Arc::new(Foreign { object, done: AtomicBool::new(false) })),
        }
    }

    /// The object.
    pub fn object(&self) -> &Owned {
        match self {
            Self::Native(future) => future.object(),
            Self::Other(foreign) => &foreign.object,
        }
    }
}

impl Foreign {
    fn wake(&self, value: &Owned) -> Result<bool> {
        let names = names();
        self.done.store(true, Ordering::Relaxed);
        if call_method(&self.object, &names.done, [])?.truth()? {
            return Ok(false);
        }
        call_method(&self.object, &names.set_result, [value]).map(|_| true)
    }
}

impl PartialEq for Waiter {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.object().as_ptr() == other.object().as_ptr()
    }
}

impl antiphon_core::Waiter for Waiter {
    #[inline]
    fn is_done(&self) -> bool {
        match self {
            Self::Native(future) => future.is_done(),
            Self::Other(foreign) => foreign.done.load(Ordering::Relaxed),
        }
    }
    #[inline]
    fn is_cancelled(&self) -> bool {
        match self {
            Self::Native(future) => future.is_cancelled(),
            Self::Other(_) => false,
        }
    }
}

/// Wakes them with `value`. One that another thread was faster to end is replaced by whom `instead` names.
#[inline]
pub fn wake(waiters: Wake<Waiter>, value: &Owned, mut instead: impl FnMut() -> Wake<Waiter>) {
    let mut missed = 0;
    for waiter in waiters {
        missed += usize::from(!wake_one(&waiter, value));
    }
    while missed > 0 {
        missed -= 1;
        for waiter in instead() {
            missed += usize::from(!wake_one(&waiter, value));
        }
    }
}

#[inline]
fn wake_one(waiter: &Waiter, value: &Owned) -> bool {
    let woken = match waiter {
        Waiter::Native(future) => future.set_result(value.clone()).is_ok(),
        Waiter::Other(foreign) => foreign.wake(value).unwrap_or(false),
    };
    if !woken {
        drop(raise::take());
    }
    woken
}

/// As [`wake`] for waiters that left their list.
#[inline]
pub fn settle(left: Left<Waiter>, value: &Owned, mut instead: impl FnMut() -> Left<Waiter>) {
    drop(left.removed);
    wake(left.wake, value, || {
        let next = instead();
        drop(next.removed);
        next.wake
    });
}

/// Nobody in place of one who was missed.
pub fn nobody() -> Wake<Waiter> {
    Few::nobody()
}

/// Yields a future to the task.
#[inline]
pub fn suspend(future: &FutureRef) -> Step {
    Step::Yielded(future.awaited())
}

/// What the `await` of a future comes to when it is resumed.
///
/// # Errors
/// What was thrown, or why the future failed.
#[inline]
pub fn resumed(future: &FutureRef, resume: Resume<'_>) -> Result<()> {
    resume.check()?;
    if !future.is_done() {
        return Err(runtime_error("await wasn't used with future"));
    }
    if future.is_cancelled() || future.has_exception() {
        return future.result().map(drop);
    }
    Ok(())
}

/// Cleans up while an exception is on its way.
pub fn cleaning_up(Raised: Raised, clean_up: impl FnOnce()) -> Raised {
    let exception = raise::take();
    clean_up();
    exception.map_or(Raised, raise::restore)
}
