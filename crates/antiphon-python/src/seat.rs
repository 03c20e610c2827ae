//! The seat: which thread drives a loop, as one word.
//!
//! **Invariant S1**: the loop's core (queues, timers, descriptors, free lists) is touched only by the thread that holds the
//! seat. A running loop's thread holds it for the whole run. While no thread runs the loop, whoever needs the core takes
//! the seat for that one access. Everybody else goes through the inbox. So the core needs no lock, with a GIL or without.
//!
//! Who takes the seat for one access marks it as taken [`FOR_ONE_ACCESS`]: who wants to run the loop waits for its end, which
//! is a matter of nanoseconds (F3), instead of taking the loop for one that runs already. With a GIL nobody ever sees the mark.
//!
//! `models/tests/loom_seat.rs` tries every interleaving.

#[cfg(debug_assertions)]
use crate::words::AtomicBool;
use crate::words::{AtomicUsize, Ordering, UnsafeCell, spin_loop, this_thread};

const FREE: usize = 0;
/// The bit beside the holder's number (numbers are even) of a seat that is not taken for a run.
const FOR_ONE_ACCESS: usize = 1;
/// No thread's number.
const RESERVED: usize = usize::MAX & !FOR_ONE_ACCESS;

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

    /// Whether another thread runs the loop.
    #[inline(always)]
    pub fn is_elsewhere(&self) -> bool {
        let holder = self.holder.load(Ordering::Relaxed);
        holder != FREE && holder & FOR_ONE_ACCESS == 0 && holder != this_thread()
    }

    /// The thread that runs the loop, 0 where none does.
    pub fn holder(&self) -> usize {
        let holder = self.holder.load(Ordering::Acquire);
        if holder & FOR_ONE_ACCESS == 0 { holder } else { FREE }
    }

    /// Takes the seat for a run of the loop; false when another thread (or this one) has it for a run.
    pub fn take(&self) -> bool {
        loop {
            match self.holder.compare_exchange(FREE, this_thread(), Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(holder) if holder & FOR_ONE_ACCESS != 0 => spin_loop(),
                Err(_) => return false,
            }
        }
    }

    /// Gives the seat back after a run. Only its holder may.
    pub fn give_back(&self) {
        debug_assert!(self.is_mine());
        self.holder.store(FREE, Ordering::Release);
    }

    /// Makes another thread the holder, for a holder that does without or one that the seat is taken from.
    pub fn hand_to(&self, thread: usize) {
        self.holder.store(thread, Ordering::Release);
    }

    /// Keeps the seat for a thread that is yet to come: nobody has it, and nobody may take it.
    pub fn reserve(&self) {
        self.holder.store(RESERVED, Ordering::Release);
    }

    /// Forgets the holder: after a fork the child's copy of the word names a thread that does not exist.
    pub fn reset(&self) {
        self.holder.store(FREE, Ordering::Release);
    }

    /// Short exclusive access for who runs the loop, or for anybody while the seat is free. `None`: another thread holds it.
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
        self.holder.compare_exchange(FREE, me | FOR_ONE_ACCESS, Ordering::Acquire, Ordering::Relaxed).ok()?;
        let _seat = GiveBack(&self.holder);
        Some(self.borrow(f))
    }

    /// Access for code that runs only on the holder's thread: the turn of the loop itself.
    #[inline(always)]
    pub fn enter<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        debug_assert!(self.is_mine());
        self.borrow(f)
    }

    /// The access itself, for who has the seat one way or the other.
    #[inline(always)]
    fn borrow<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
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
