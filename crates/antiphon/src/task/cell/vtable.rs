//! What is done to a cell whose type has been forgotten.

use super::pool::Pool;
use crate::runtime::catch;
use crate::task::{Header, Waiting};
use crate::{Failure, JoinError, Panic};
use antiphon_core::Ended;
use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::fmt::Write;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

/// A task: its header first (invariant Q3).
#[repr(C)]
pub(super) struct TaskCell<F, T, E> {
    header: Header,
    stage: UnsafeCell<Stage<F, T, E>>,
}

enum Stage<F, T, E> {
    Future(F),
    Outcome(Result<T, JoinError<E>>),
    Gone,
}

/// The functions of one type of cell.
///
/// Each is called with a cell of that type, on its loop's thread, by somebody who has a handle.
pub(super) struct VTable {
    pub(super) layout: Layout,
    /// Makes a step; whether the task has ended.
    pub(super) step: unsafe fn(NonNull<Header>, &mut Context<'_>) -> bool,
    /// Drops the future: the loop ends.
    pub(super) discard: unsafe fn(NonNull<Header>),
    /// Moves the outcome to an `Option<Result<T, JoinError<E>>>`.
    pub(super) take_outcome: unsafe fn(NonNull<Header>, *mut ()),
    /// What it panicked with.
    pub(super) panic: unsafe fn(NonNull<Header>) -> Option<Panic>,
    /// Drops all but the memory. There are no handles any more.
    pub(super) drop_contents: unsafe fn(NonNull<Header>),
}

impl<F, T, E> TaskCell<F, T, E>
where
    T: 'static,
    E: Failure + 'static,
    F: Future<Output = Result<T, E>> + 'static,
{
    const VTABLE: VTable = VTable {
        layout: Layout::new::<Self>(),
        step: step::<F, T, E>,
        discard: discard::<F, T, E>,
        take_outcome: take_outcome::<F, T, E>,
        panic: panic::<F, T, E>,
        drop_contents: drop_contents::<F, T, E>,
    };

    /// A cell on the heap, whose handle the caller has.
    pub(super) fn allocate(
        pool: &Pool,
        make_header: impl FnOnce(&'static VTable) -> Header,
        future: F,
    ) -> NonNull<Header> {
        let place = pool.take::<Self>();
        let cell = Self { header: make_header(&Self::VTABLE), stage: UnsafeCell::new(Stage::Future(future)) };
        // SAFETY: the pool has made room for one, which nobody else knows.
        unsafe { place.write(cell) };
        place.cast()
    }
}

/// The cell behind `task`.
///
/// # Safety
/// It is of this type, and not freed while the reference is in use.
unsafe fn typed<'a, F, T, E>(task: NonNull<Header>) -> &'a TaskCell<F, T, E> {
    // SAFETY: by the caller; invariant Q3 for the cast. The stage is in an `UnsafeCell`.
    unsafe { task.cast::<TaskCell<F, T, E>>().as_ref() }
}

impl<F, T, E> TaskCell<F, T, E> {
    /// The future, kept from everybody else by `header.running`; `None` if it is gone, or borrowed.
    fn begin(&self) -> Option<*mut F> {
        if self.header.running.replace(true) {
            return None;
        }
        // SAFETY: nobody else borrows the stage (invariant Q5): whoever does has `running` set, or has returned.
        match unsafe { &mut *self.stage.get() } {
            Stage::Future(future) => Some(future),
            Stage::Outcome(_) | Stage::Gone => {
                self.header.running.set(false);
                None
            }
        }
    }

    /// Ends what `begin` began: drops the future and keeps the outcome, in its place.
    ///
    /// # Safety
    /// `future` is from `begin`.
    unsafe fn finish(&self, future: *mut F, outcome: Result<Result<T, JoinError<E>>, Panic>) {
        // SAFETY: it is there, and nobody else borrows it (invariant Q5). It is dropped where it was pinned (Q6), once: what
        // is written next takes its place without dropping it, also when its destructor panics.
        let dropped = catch(|| unsafe { std::ptr::drop_in_place(future) });
        let outcome = dropped.and(outcome).unwrap_or_else(|panic| Err(JoinError::Panicked(panic)));
        let ended = match &outcome {
            Ok(_) => Ended::Returned,
            Err(JoinError::Cancelled) => Ended::Cancelled,
            Err(_) => Ended::Raised,
        };
        // SAFETY: as above.
        unsafe { self.stage.get().write(Stage::Outcome(outcome)) };
        self.header.running.set(false);
        self.header.base.settle();
        self.header.end(ended);
    }

    /// The stage, for a moment in which nothing of the user runs; `None` while somebody else borrows it.
    fn with_stage<R>(&self, f: impl FnOnce(&mut Stage<F, T, E>) -> R) -> Option<R> {
        // SAFETY: invariant Q5.
        (!self.header.running.get()).then(|| f(unsafe { &mut *self.stage.get() }))
    }
}

unsafe fn step<F, T, E>(task: NonNull<Header>, context: &mut Context<'_>) -> bool
where
    T: 'static,
    E: Failure + 'static,
    F: Future<Output = Result<T, E>> + 'static,
{
    // SAFETY: by the caller, who has a handle.
    let cell = unsafe { typed::<F, T, E>(task) };
    let header = &cell.header;
    let Some(future) = cell.begin() else { return header.is_done() };
    let outcome = if !header.begun.replace(true) && header.take_due() {
        Ok(Err(JoinError::Cancelled)) // before it began: it never does
    } else {
        header.waiting.set(Waiting::Unknown);
        // SAFETY: invariants Q5 and Q6.
        match catch(|| unsafe { Pin::new_unchecked(&mut *future) }.poll(context)) {
            Ok(Poll::Pending) => {
                header.running.set(false);
                return false;
            }
            Ok(Poll::Ready(result)) => Ok(result.map_err(|error| {
                if error.is_cancelled() { JoinError::Cancelled } else { JoinError::Failed(error) }
            })),
            Err(panic) => Err(panic),
        }
    };
    // SAFETY: it is from `begin`.
    unsafe { cell.finish(future, outcome) };
    true
}

unsafe fn discard<F, T, E>(task: NonNull<Header>) {
    // SAFETY: by the caller, who has a handle.
    let cell = unsafe { typed::<F, T, E>(task) };
    if let Some(future) = cell.begin() {
        // SAFETY: it is from `begin`.
        unsafe { cell.finish(future, Ok(Err(JoinError::Cancelled))) };
    }
}

unsafe fn take_outcome<F, T, E>(task: NonNull<Header>, place: *mut ()) {
    // SAFETY: by the caller, who has a handle.
    let cell = unsafe { typed::<F, T, E>(task) };
    let outcome = cell.with_stage(|stage| match stage {
        Stage::Outcome(_) => match std::mem::replace(stage, Stage::Gone) {
            Stage::Outcome(outcome) => Some(outcome),
            Stage::Future(_) | Stage::Gone => None,
        },
        Stage::Future(_) | Stage::Gone => None,
    });
    // SAFETY: the caller's handle has the types of this cell, and `place` is what it asks for.
    unsafe { *place.cast::<Option<Result<T, JoinError<E>>>>() = outcome.flatten() };
}

unsafe fn panic<F, T, E>(task: NonNull<Header>) -> Option<Panic> {
    // SAFETY: by the caller, who has a handle.
    let cell = unsafe { typed::<F, T, E>(task) };
    cell.with_stage(|stage| match stage {
        Stage::Outcome(Err(JoinError::Panicked(panic))) => Some(panic.clone()),
        _ => None,
    })?
}

/// Reports a failure that nobody has asked for, as asyncio does for exceptions never retrieved, and drops what there is.
unsafe fn drop_contents<F, T, E>(task: NonNull<Header>) {
    // SAFETY: by the caller: the last handle is going, and the memory stays until this is over.
    let cell = unsafe { typed::<F, T, E>(task) };
    let header = &cell.header;
    let stage = cell.with_stage(|stage| match stage {
        // It stays pinned. A task that has handles and has not ended is its loop's, so this is a loop that never ran.
        Stage::Future(_) => None,
        _ => Some(std::mem::replace(stage, Stage::Gone)),
    });
    if header.is_unretrieved() {
        let outcome = match &stage {
            Some(Some(Stage::Outcome(Err(JoinError::Panicked(panic))))) => Some(panic.message()),
            _ => None,
        };
        report(header, outcome);
    }
    // SAFETY: this field is the loop's thread's alone (invariant Q4), and without handles nobody there looks at it again: it is
    // moved out for good.
    let remains = unsafe { (&raw const (*task.as_ptr()).followers).read() };
    drop((stage, remains)); // it is the user's code
}

#[cold]
fn report(header: &Header, panic: Option<&str>) {
    let name = header.name();
    let mut report = String::new();
    let _ = match panic {
        Some(message) => writeln!(report, "task '{name}' panicked, and nobody joined it: {message}"),
        None => writeln!(report, "task '{name}' failed, and nobody joined it"),
    };
    let _ = writeln!(report, "    spawned at {}", header.location);
    crate::report::report(&report);
}

#[cfg(all(test, not(feature = "tracing")))] // which has a span in every task
mod tests {
    use super::TaskCell;
    use crate::Cancelled;
    use crate::runtime::Work;
    use std::future::Pending;

    #[test]
    fn parked_task_is_small() {
        type Parked = Pending<Result<(), Cancelled>>;
        assert!(size_of::<TaskCell<Parked, (), Cancelled>>() <= 112);
        assert!(size_of::<crate::Sleep>() <= 24);
        assert!(size_of::<Work>() <= 16);
    }
}
