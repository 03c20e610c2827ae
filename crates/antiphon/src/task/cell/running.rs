//! What runs on this thread: its loop, and the loop's task; lent for as long as they run.

use super::handle::TaskHandle;
use crate::runtime::{Loop, Work};
use crate::task::Header;
use antiphon_engine::Inbox;
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

thread_local! {
    /// The inbox of the loop that this thread runs, or closes.
    static HERE: Cell<*const Inbox<Work>> = const { Cell::new(std::ptr::null()) };
    /// The loop that runs on this thread, as `asyncio.get_running_loop` has it; no state of a loop is in here.
    static RUNNING: Cell<*const Loop> = const { Cell::new(std::ptr::null()) };
}

/// Makes this thread the one of a loop, until it is dropped.
pub(crate) struct Thread {
    /// Also keeps the inbox, so that its address is no other loop's.
    own: Rc<Loop>,
}

impl Thread {
    /// # Panics
    /// There is another one on this thread.
    pub(crate) fn enter(own: &Rc<Loop>) -> Self {
        assert!(HERE.get().is_null(), "one loop on a thread");
        HERE.set(Arc::as_ptr(&own.inbox));
        RUNNING.set(Rc::as_ptr(own));
        Self { own: Rc::clone(own) }
    }

    /// The loop ends: nobody finds it any more. It is still this thread's.
    pub(crate) fn stop(&self) -> &Rc<Loop> {
        RUNNING.set(std::ptr::null());
        &self.own
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        RUNNING.set(std::ptr::null());
        HERE.set(std::ptr::null());
    }
}

/// Whether this is the thread of the loop with this inbox.
#[inline]
pub(super) fn here(inbox: *const Inbox<Work>) -> bool {
    std::ptr::eq(HERE.get(), inbox)
}

/// Calls `f` with the loop that runs on this thread; nothing of the user runs in it.
#[inline]
pub(crate) fn with_running<T>(f: impl FnOnce(&Loop) -> T) -> Option<T> {
    let own = RUNNING.get();
    // SAFETY: a `Thread` has it for as long as it is here, and is in a frame below: `f` runs nothing that could drop it.
    (!own.is_null()).then(|| f(unsafe { &*own }))
}

/// The loop that runs on this thread.
#[inline]
pub(crate) fn running() -> Option<Rc<Loop>> {
    with_running(|own| {
        // SAFETY: it is in an `Rc`, of which the `Thread` has one.
        unsafe {
            Rc::increment_strong_count(own);
            Rc::from_raw(own)
        }
    })
}

/// The task of a loop that makes a step.
pub(crate) struct Current(Cell<Option<NonNull<Header>>>);

impl Current {
    pub(crate) const fn nobody() -> Self {
        Self(Cell::new(None))
    }

    /// Calls `step` while `task` is the current one.
    #[inline]
    pub(crate) fn during<R>(&self, task: &TaskHandle, step: impl FnOnce() -> R) -> R {
        struct Restore<'a>(&'a Current, Option<NonNull<Header>>);
        impl Drop for Restore<'_> {
            #[inline]
            fn drop(&mut self) {
                self.0.0.set(self.1);
            }
        }
        let _restore = Restore(self, self.0.replace(Some(task.as_non_null())));
        step()
    }

    /// Calls `f` with the current task.
    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&TaskHandle) -> R) -> Option<R> {
        // SAFETY: `during` borrows a handle for as long as this names its task; this one is neither dropped nor given away.
        let task = ManuallyDrop::new(unsafe { TaskHandle::from_non_null(self.0.get()?) });
        Some(f(&task))
    }
}
