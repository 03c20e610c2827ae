//! The future that a `sleep` yields, which knows the sleep as long as that waits by it.
//!
//! Who drives the sleep sees a future like any other. A task of ours finds the sleep by it and waits for that instead
//! ([`crate::task::asleep`]).

use std::ops::Deref;
use std::sync::atomic::Ordering;

use antiphon_core::future::Status;
use pyo3::ffi;

use super::{FutureObject, FutureRef, NATIVE};
use crate::event_loop::EventLoop;
use crate::ffi::derived::has_weak_references;
use crate::ffi::{Instance, Owned, Result};

/// A sleep's future, in the sleep's hands.
///
/// **Invariant J4**: a future names a sleep only while that has it in such a wrapper, so the sleep is alive.
pub struct SleepingFuture(FutureRef);

impl SleepingFuture {
    /// A pending future of the loop, which names no sleep yet.
    #[inline]
    pub fn new(owner: &Instance<EventLoop>) -> Result<Self> {
        FutureRef::new(owner).map(Self)
    }

    /// One that has been made already.
    pub fn of(future: FutureRef) -> Self {
        Self(future)
    }

    /// Has it name the sleep that holds this.
    #[inline(always)]
    pub fn name(&self, sleep: *mut ffi::PyObject) {
        self.0.this().origin.store(sleep as usize | NATIVE, Ordering::Relaxed);
    }
}

impl Deref for SleepingFuture {
    type Target = FutureRef;
    fn deref(&self) -> &FutureRef {
        &self.0
    }
}

impl Drop for SleepingFuture {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.this().origin.store(NATIVE, Ordering::Relaxed);
    }
}

impl FutureObject {
    /// The sleep that waits by it, if one does.
    ///
    /// Without a GIL there is none: the sleep might end on another thread meanwhile.
    #[inline(always)]
    pub fn sleep(&self) -> Option<Owned> {
        let address = self.origin.load(Ordering::Relaxed) & !NATIVE;
        if cfg!(Py_GIL_DISABLED) || address == 0 {
            return None;
        }
        // SAFETY: J4.
        unsafe { Owned::from_optional(std::ptr::with_exposed_provenance_mut(address)) }
    }

    /// Whether nobody would miss it: it is pending and nothing is known about it but to `holders` references.
    #[inline(always)]
    pub fn is_unknown(&self, holders: ffi::Py_ssize_t) -> bool {
        // SAFETY: F1; a living object.
        let known = unsafe { ffi::Py_REFCNT(self.as_ptr()) != holders || has_weak_references(self.as_ptr()) };
        !known
            && self.inner.with(|inner| {
                inner.state.status() == Status::Pending && inner.callbacks.is_empty() && inner.rare.is_none()
            })
    }
}
