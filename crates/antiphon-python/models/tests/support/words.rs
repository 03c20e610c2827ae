//! loom's words, under the names of the door's `words.rs`.

pub use loom::hint::spin_loop;
pub use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

/// loom's cell with std's way of asking. Each question counts as an access for writing, at its very moment, so two threads
/// that have got hold of the value are found at the latest when both go on to use it.
pub struct UnsafeCell<T>(loom::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    /// A cell that holds `value`.
    pub fn new(value: T) -> Self {
        Self(loom::cell::UnsafeCell::new(value))
    }

    /// The value's address.
    pub fn get(&self) -> *mut T {
        self.0.with_mut(|value| value)
    }
}

loom::thread_local! {
    static NUMBER: u8 = 0;
}

/// This thread, as a number that no other living thread of the model has; never zero, and even.
pub fn this_thread() -> usize {
    NUMBER.with(|number| std::ptr::from_ref(number) as usize * 2)
}
