//! The words that threads share without a lock: their atomics, the cell beside them, and the number that a thread writes into them.
//!
//! The files that use them from here ([`crate::seat`], [`crate::ffi::step_cell`]) are compiled a second time by the package
//! in `crates/antiphon-python/models`, which puts loom's in their place and tries every interleaving.

pub use std::cell::UnsafeCell;
pub use std::hint::spin_loop;
#[cfg(debug_assertions)]
pub use std::sync::atomic::AtomicBool;
pub use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// This thread, as a number that no other living thread has; never zero, and even.
#[inline(always)]
pub fn this_thread() -> usize {
    // SAFETY: takes nothing and cannot fail. It is the address of the thread's own block.
    unsafe { libc::pthread_self() as usize }
}
