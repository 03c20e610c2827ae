//! Waiting, on another thread, until a handle's callback has returned.
//!
//! From CPython 3.14 on, `cancel()` and `cancelled()` of what `call_soon_threadsafe` returned do not come back while the
//! callback runs on the loop's thread: who cancelled may then free what the callback used. Nothing of this costs a
//! callback anything but two stores, unless somebody waits.
//!
//! Source: CPython Lib/asyncio/events.py, class _ThreadSafeHandle.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use pyo3::ffi;

use crate::ffi::detached;
use crate::words::this_thread;

/// The handle whose callback a loop runs now, and on which thread.
#[derive(Default)]
pub struct RunningThreadsafe {
    handle: AtomicPtr<ffi::PyObject>,
    thread: AtomicUsize,
    /// Handles whose callbacks may be blocked while others run, by their addresses, with their threads: with hand-off.
    several: Mutex<Vec<(usize, usize)>>,
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
        Self::tell();
    }

    /// [`Self::begin`] where another thread may go on with the loop before this one's callback has returned.
    pub fn begin_one(&self, handle: *mut ffi::PyObject) {
        self.several().push((handle as usize, this_thread()));
    }

    /// The end that belongs to it.
    pub fn end_one(&self, handle: *mut ffi::PyObject) {
        self.several().retain(|(other, _)| *other != handle as usize);
        Self::tell();
    }

    fn several(&self) -> MutexGuard<'_, Vec<(usize, usize)>> {
        self.several.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell() {
        if WAITERS.load(Ordering::SeqCst) > 0 {
            // Under the lock, so that a waiter is either before its check or already waiting.
            drop(LOCK.lock().unwrap_or_else(PoisonError::into_inner));
            FINISHED.notify_all();
        }
    }

    /// Waits until the handle's callback has returned, with the interpreter released; at once on the thread that runs it.
    pub fn wait(&self, handle: *mut ffi::PyObject) {
        let is_the_one = || self.handle.load(Ordering::SeqCst) == handle;
        let thread_of_several = || {
            let several = self.several();
            several.iter().find(|(other, _)| *other == handle as usize).map(|(_, thread)| *thread)
        };
        let runs = || is_the_one() || thread_of_several().is_some();
        let is_own_callback = if is_the_one() {
            self.thread.load(Ordering::SeqCst) == this_thread()
        } else {
            thread_of_several().is_none_or(|thread| thread == this_thread())
        };
        if is_own_callback {
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
