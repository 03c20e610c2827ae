//! References that go anywhere: wakers.
//!
//! On the loop's thread a waker counts and wakes without atomics. On other threads it wakes by sending itself to the loop, once until
//! the loop has taken notice.

use super::handle::{TaskHandle, base_of, release_detached, release_here};
use super::running::here;
use super::word::Notified;
use crate::runtime::{Loop, Work};
use crate::task::Header;
use antiphon_engine::Inbox;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{RawWaker, RawWakerVTable, Waker};

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

/// A waker of `task`, which owns a reference.
#[inline]
pub(super) fn raw(task: NonNull<Header>) -> RawWaker {
    RawWaker::new(task.as_ptr().cast_const().cast(), &VTABLE)
}

/// Whether a task of ours is behind `waker`.
#[inline]
pub(super) fn is_own(waker: &Waker) -> bool {
    std::ptr::eq(waker.vtable(), &raw const VTABLE)
}

/// # Safety
/// `data` is from [`raw`], and its reference is not dropped.
#[inline]
unsafe fn task_of(data: *const ()) -> NonNull<Header> {
    // SAFETY: it came from a `NonNull`.
    unsafe { NonNull::new_unchecked(data.cast_mut().cast()) }
}

/// # Safety
/// There is a reference to the cell.
#[inline]
unsafe fn is_here(task: NonNull<Header>) -> bool {
    // SAFETY: by the caller; any thread may read this field (invariant Q4).
    here(unsafe { base_of(task).inbox })
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: the waker that is cloned owns a reference; so does the new one, once it is counted.
    unsafe {
        let task = task_of(data);
        if is_here(task) {
            base_of(task).add_here()
        } else {
            base_of(task).word.add()
        }
        raw(task)
    }
}

unsafe fn drop_waker(data: *const ()) {
    // SAFETY: the waker's reference goes with it.
    unsafe {
        let task = task_of(data);
        if is_here(task) { release_here(task) } else { release_detached(task) }
    }
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: the waker's reference keeps the cell meanwhile.
    unsafe {
        let task = task_of(data);
        if is_here(task) {
            wake_here(task);
        } else if base_of(task).word.notify() == Notified::First {
            base_of(task).word.add();
            send_or_release(task);
        }
    }
}

unsafe fn wake(data: *const ()) {
    // SAFETY: the waker's reference goes to the loop, or goes.
    unsafe {
        let task = task_of(data);
        if is_here(task) {
            wake_here(task);
            release_here(task);
        } else if base_of(task).word.notify() == Notified::First {
            send_or_release(task);
        } else {
            release_detached(task);
        }
    }
}

/// # Safety
/// There is a reference, and this is the loop's thread.
#[inline]
unsafe fn wake_here(task: NonNull<Header>) {
    // SAFETY: by the caller.
    let header = unsafe { task.as_ref() };
    if header.is_done() || header.queued.get() || !header.base.has_handles() {
        return;
    }
    // SAFETY: there are handles.
    let task = unsafe { TaskHandle::another(task) };
    Loop::with_running(|own| own.schedule(&task));
}

/// # Safety
/// The caller has a reference to give away, and is on another thread than the loop's.
#[cold]
unsafe fn send_or_release(task: NonNull<Header>) {
    // SAFETY: by the caller.
    unsafe {
        if send(base_of(task).inbox, task).is_err() {
            release_detached(task);
        }
    }
}

/// The loop takes nothing any more: it has ended.
pub(super) struct Closed;

/// Sends a reference to the loop.
///
/// # Safety
/// The caller has it to give away, or keeps it if this fails; `inbox` is the cell's.
pub(super) unsafe fn send(inbox: *const Inbox<Work>, task: NonNull<Header>) -> Result<(), Closed> {
    // SAFETY: the loop keeps it while the cell is attached, and the cell afterwards (invariant Q2). A count of one's own, for once the
    // reference is with the loop, both may go before `push` returns.
    let inbox = unsafe {
        Arc::increment_strong_count(inbox);
        Arc::from_raw(inbox)
    };
    match inbox.push(Work::Crossed(Crossing(task))) {
        None => Ok(()),
        Some(refused) => {
            if let Work::Crossed(crossing) = refused {
                std::mem::forget(crossing); // the caller's again
            }
            Err(Closed)
        }
    }
}

/// A reference on its way to the loop: to wake the task, or to be dropped where that is allowed.
pub(crate) struct Crossing(NonNull<Header>);

// SAFETY: it is a waker, and does what a waker may do on any thread.
unsafe impl Send for Crossing {}

impl Crossing {
    /// The task, if another thread has woken it and it is neither done nor queued.
    pub(crate) fn into_task(self, own: &Loop) -> Option<TaskHandle> {
        // SAFETY: this is a reference.
        let header = unsafe { self.0.as_ref() };
        assert!(own.owns(header.base.inbox), "a loop is sent its own tasks");
        let woken = header.base.word.take_notice();
        let due = woken && !header.is_done() && !header.queued.get() && header.base.has_handles();
        // SAFETY: there are handles, and who has the loop is on its thread.
        due.then(|| unsafe { TaskHandle::another(self.0) })
    }
}

impl Drop for Crossing {
    fn drop(&mut self) {
        // SAFETY: its reference goes with it.
        unsafe { drop_waker(self.0.as_ptr().cast_const().cast()) };
    }
}
