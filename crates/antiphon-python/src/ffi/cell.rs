//! A cell for the state of Python objects: protected by the interpreter's lock where there is one, by a lock of its own
//! where there is none.

#[cfg(not(Py_GIL_DISABLED))]
use std::cell::UnsafeCell;
#[cfg(all(debug_assertions, not(Py_GIL_DISABLED)))]
use std::sync::atomic::{AtomicBool, Ordering};

/// Interior mutability for payloads of [`super::Instance`].
///
/// With a GIL it costs nothing: access needs an attached thread (F1), and within [`GilCell::with`] no Python code runs
/// (F3), so the lock cannot change hands. Without a GIL it is a mutex. Debug builds check F3.
#[derive(Default)]
pub struct GilCell<T> {
    #[cfg(not(Py_GIL_DISABLED))]
    value: UnsafeCell<T>,
    #[cfg(all(debug_assertions, not(Py_GIL_DISABLED)))]
    busy: AtomicBool,
    #[cfg(Py_GIL_DISABLED)]
    value: std::sync::Mutex<T>,
}

// SAFETY: see the type's documentation: one thread at a time is inside `with`.
#[cfg(not(Py_GIL_DISABLED))]
unsafe impl<T: Send> Sync for GilCell<T> {}

impl<T> GilCell<T> {
    /// A cell that holds `value`.
    pub const fn new(value: T) -> Self {
        Self {
            #[cfg(not(Py_GIL_DISABLED))]
            value: UnsafeCell::new(value),
            #[cfg(all(debug_assertions, not(Py_GIL_DISABLED)))]
            busy: AtomicBool::new(false),
            #[cfg(Py_GIL_DISABLED)]
            value: std::sync::Mutex::new(value),
        }
    }

    /// Short exclusive access. `f` must not run Python code, drops of references included (F3): take values out instead.
    #[cfg(not(Py_GIL_DISABLED))]
    #[inline(always)]
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        #[cfg(debug_assertions)]
        assert!(!self.busy.swap(true, Ordering::Relaxed), "a cell was entered twice (F3)");
        // SAFETY: F1 and F3: nobody else can be inside.
        let result = f(unsafe { &mut *self.value.get() });
        #[cfg(debug_assertions)]
        self.busy.store(false, Ordering::Relaxed);
        result
    }

    /// Short exclusive access. `f` must not run Python code, drops of references included (F3): take values out instead.
    #[cfg(Py_GIL_DISABLED)]
    #[inline(always)]
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        // A poisoned lock only means that some panic became a SystemError; the state itself is always whole.
        f(&mut self.value.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Puts `value` in and gives back what was there, for the caller to drop.
    #[inline(always)]
    pub fn replace(&self, value: T) -> T {
        self.with(|place| std::mem::replace(place, value))
    }
}

impl<T: Default> GilCell<T> {
    /// Takes the value out and leaves the default.
    #[inline(always)]
    pub fn take(&self) -> T {
        self.with(std::mem::take)
    }
}

impl<T: Clone> GilCell<T> {
    /// A copy of the value (for references: a new one, which runs no Python code).
    #[inline(always)]
    pub fn get(&self) -> T {
        self.with(|value| value.clone())
    }
}
