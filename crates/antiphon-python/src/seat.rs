//! The seat: which thread drives a loop, as one word.
//!
//! **Invariant S1**: the loop's core (queues, timers, descriptors, free lists) is touched only by the thread that holds the
//! seat. A running loop's thread holds it for the whole run. While no thread runs the loop, whoever needs the core takes
//! the seat for that one access. Everybody else goes through the inbox. So the core needs no lock, with a GIL or without.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(debug_assertions)]
use std::sync::atomic::AtomicBool;

const FREE: usize = 0;

/// This thread, as a number that no other living thread has; never zero.
#[inline(always)]
pub fn this_thread() -> usize {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::pthread_self() as usize }
}

/// A value that belongs to whoever holds the seat (S1).
pub struct Seat<T> {
    holder: AtomicUsize,
    #[cfg(debug_assertions)]
    busy: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: S1: one thread at a time reaches the value, and handing the seat on is a release-acquire pair.
unsafe impl<T: Send> Sync for Seat<T> {}

impl<T> Seat<T> {
    /// A free seat.
    pub fn new(value: T) -> Self {
        Self {
            holder: AtomicUsize::new(FREE),
            #[cfg(debug_assertions)]
            busy: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Whether this thread holds the seat.
    #[inline(always)]
    pub fn is_mine(&self) -> bool {
        self.holder.load(Ordering::Relaxed) == this_thread()
    }

    /// Whether another thread holds the seat.
    #[inline(always)]
    pub fn is_elsewhere(&self) -> bool {
        let holder = self.holder.load(Ordering::Relaxed);
        holder != FREE && holder != this_thread()
    }

    /// The holder's thread, 0 while the seat is free.
    pub fn holder(&self) -> usize {
        self.holder.load(Ordering::Acquire)
    }

    /// Takes the seat for a run of the loop; false when another thread (or this one) has it.
    pub fn take(&self) -> bool {
        self.holder.compare_exchange(FREE, this_thread(), Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Gives the seat back after a run. Only its holder may.
    pub fn give_back(&self) {
        debug_assert!(self.is_mine());
        self.holder.store(FREE, Ordering::Release);
    }

    /// Forgets the holder: after a fork the child's copy of the word names a thread that does not exist.
    pub fn reset(&self) {
        self.holder.store(FREE, Ordering::Release);
    }

    /// Short exclusive access for the holder, or for anybody while the seat is free. `None`: another thread holds it.
    ///
    /// `f` must not run Python code (F3): take values out instead.
    #[inline(always)]
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        let me = this_thread();
        let holder = self.holder.load(Ordering::Relaxed);
        if holder == me {
            return Some(self.enter(f));
        }
        self.with_free(holder, me, f)
    }

    #[inline]
    fn with_free<R>(&self, holder: usize, me: usize, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        struct GiveBack<'a>(&'a AtomicUsize);
        impl Drop for GiveBack<'_> {
            fn drop(&mut self) {
                self.0.store(FREE, Ordering::Release);
            }
        }
        if holder != FREE {
            return None;
        }
        self.holder.compare_exchange(FREE, me, Ordering::Acquire, Ordering::Relaxed).ok()?;
        let _seat = GiveBack(&self.holder);
        Some(self.enter(f))
    }

    /// Access for code that runs only on the holder's thread: the turn of the loop itself.
    #[inline(always)]
    pub fn enter<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        debug_assert!(self.is_mine());
        #[cfg(debug_assertions)]
        assert!(!self.busy.swap(true, Ordering::Relaxed), "the core was entered twice (F3)");
        // SAFETY: S1, and by F3 `f` cannot come back here.
        let result = f(unsafe { &mut *self.value.get() });
        #[cfg(debug_assertions)]
        self.busy.store(false, Ordering::Relaxed);
        result
    }

    /// The value's address, for the collector's traversal and for the sleeping wait, which borrow single fields of it.
    pub fn as_ptr(&self) -> *mut T {
        self.value.get()
    }
}
