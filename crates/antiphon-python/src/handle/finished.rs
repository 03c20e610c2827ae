//! Waiting, on another thread, until a handle's callback has returned.
//!
//! From CPython 3.14 on, `cancel()` and `cancelled()` of what `call_soon_threadsafe` returned do not come back while the
//! callback runs on the loop's thread: who cancelled may then free what the callback used. Nothing of this costs a
//! callback anything but two stores, unless somebody waits.
//!
//! Source: CPython Lib/asyncio/events.py, class _ThreadSafeHandle.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use pyo3::ffi;

use crate::ffi::detached;
use crate::words::this_thread;

/// The handle whose callback a loop runs now, and on which thread.
#[derive(Default)]
pub struct RunningThreadsafe {
    handle: AtomicPtr<ffi::PyObject>,
    thread: AtomicUsize,
}

static WAITERS: AtomicUsize = AtomicUsize::new(0);
static LOCK: Mutex<()> = Mutex::new(());
static FINISHED: Condvar = Condvar::new();

impl RunningThreadsafe {
    /// The handle's callback begins on this thread.
    pub fn begin(&self, handle: *mut ffi::PyObject) {
        self.thread.store(this_thread(), Ordering::SeqCst);
        self.handle.store(handle, Ordering::SeqCst);
    }

    /// It has returned.
    pub fn end(&self) {
        self.handle.store(ptr::null_mut(), Ordering::SeqCst);
        if WAITERS.load(Ordering::SeqCst) > 0 {
            // Under the lock, so that a waiter is either before its check or already waiting.
            drop(LOCK.lock().unwrap_or_else(PoisonError::into_inner));
            FINISHED.notify_all();
        }
    }

    /// Waits until the handle's callback has returned, with the interpreter released; at once on the thread that runs it.
    pub fn wait(&self, handle: *mut ffi::PyObject) {
        let runs = || self.handle.load(Ordering::SeqCst) == handle;
        if !runs() || self.thread.load(Ordering::SeqCst) == this_thread() {
            return;
        }
        detached(|| {
            WAITERS.fetch_add(1, Ordering::SeqCst);
            let mut guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
            while runs() {
                guard = FINISHED.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            drop(guard);
            WAITERS.fetch_sub(1, Ordering::SeqCst);
        });
    }
}
