//! Waiting, on another thread, until a handle's callback has returned.
//!
//! From CPython 3.14 on, `cancel()` of what `call_soon_threadsafe` returned does not come back while the callback runs on
//! the loop's thread: who cancelled may then free what the callback used. Nothing of this costs a callback anything but
//! two stores, unless somebody waits.
//!
//! Source: CPython Lib/asyncio/events.py, class _ThreadSafeHandle.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::ffi::detached;
use crate::seat::this_thread;

/// The thread that runs the callback now; 0: none.
#[derive(Default)]
pub struct RunningOn(AtomicUsize);

static WAITERS: AtomicUsize = AtomicUsize::new(0);
static LOCK: Mutex<()> = Mutex::new(());
static FINISHED: Condvar = Condvar::new();

impl RunningOn {
    /// The callback begins on this thread.
    pub fn begin(&self) {
        self.0.store(this_thread(), Ordering::SeqCst);
    }

    /// It has returned.
    pub fn end(&self) {
        self.0.store(0, Ordering::SeqCst);
        if WAITERS.load(Ordering::SeqCst) > 0 {
            // Under the lock, so that a waiter is either before its check or already waiting.
            drop(LOCK.lock().unwrap_or_else(PoisonError::into_inner));
            FINISHED.notify_all();
        }
    }

    /// Waits until it has returned, with the interpreter released; at once on the thread that runs it.
    pub fn wait(&self) {
        let running_on = self.0.load(Ordering::SeqCst);
        if running_on == 0 || running_on == this_thread() {
            return;
        }
        detached(|| {
            WAITERS.fetch_add(1, Ordering::SeqCst);
            let mut guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
            while self.0.load(Ordering::SeqCst) != 0 {
                guard = FINISHED.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            drop(guard);
            WAITERS.fetch_sub(1, Ordering::SeqCst);
        });
    }
}
