//! The context a callback runs in, and how thousands of them stay out of the collector's way.
//!
//! Every queued callback has a copy of the context it was queued in, and copies are tracked by the cycle collector. With
//! 200,000 callbacks or a million timers waiting, walking those copies again and again was nearly half of their cost.
//!
//! **Invariant X1**: a copy that nobody but its handle has seen may be hidden from the collector. While hidden, its only
//! reference is the handle's; the loop's traversal visits through the handle and through the copy
//! ([`CallContext::traverse`]), so nothing that it refers to is missed. It is shown again before anybody else can see it
//! or before it is dropped (CPython's deallocator expects a tracked object).
//!
//! Source: PEP 567; `PyObject_GC_UnTrack` and `PyObject_GC_Track` in the C API's "Supporting Cyclic Garbage Collection".

use std::ffi::{c_int, c_void};
use std::num::NonZeroUsize;

use pyo3::ffi;

use crate::ffi::{Owned, Result};

/// A context, perhaps hidden from the collector (X1). One word: the lowest bit of the address says whether it is.
pub struct CallContext(NonZeroUsize);

const HIDDEN: usize = 1;

impl CallContext {
    #[inline(always)]
    fn new(object: Owned, hidden: bool) -> Self {
        let address = object.into_ptr() as usize | if hidden { HIDDEN } else { 0 };
        // SAFETY: a reference is never null, and objects are aligned to more than one byte.
        Self(unsafe { NonZeroUsize::new_unchecked(address) })
    }

    /// The user's own context.
    #[inline(always)]
    pub fn given(object: Owned) -> Self {
        Self::new(object, false)
    }

    /// A copy of the context that runs now. `hide`: many others wait already, so this one will live long.
    #[inline(always)]
    pub fn copy_of_current(hide: bool) -> Result<Self> {
        // SAFETY: F1; a new reference or null. The copy is tracked, and nobody else knows it (X1).
        unsafe {
            let object = Owned::from_new(ffi::PyContext_CopyCurrent())?;
            if hide {
                ffi::PyObject_GC_UnTrack(object.as_ptr().cast());
            }
            Ok(Self::new(object, hide))
        }
    }

    #[inline(always)]
    fn is_hidden(&self) -> bool {
        self.0.get() & HIDDEN != 0
    }

    /// The context, borrowed.
    #[inline(always)]
    fn as_ptr(&self) -> *mut ffi::PyObject {
        (self.0.get() & !HIDDEN) as *mut ffi::PyObject
    }

    /// Lets the collector see it; to be called before anybody else may. Runs no Python code.
    #[inline(always)]
    pub fn show(&mut self) {
        if self.is_hidden() {
            // SAFETY: the object is complete and untracked (X1); its address is not zero.
            unsafe {
                self.0 = NonZeroUsize::new_unchecked(self.0.get() & !HIDDEN);
                ffi::PyObject_GC_Track(self.as_ptr().cast());
            }
        }
    }

    /// The context, borrowed; the collector sees it from here on.
    #[inline(always)]
    pub fn shown(&mut self) -> *mut ffi::PyObject {
        self.show();
        self.as_ptr()
    }

    /// A new reference to the context, which the collector sees from here on.
    pub fn shown_object(&mut self) -> Owned {
        // SAFETY: the context is alive as long as this.
        unsafe { Owned::from_borrowed(self.shown()) }
    }

    /// Visits it, or what it refers to while it is hidden.
    pub fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        // SAFETY: called from a traverse slot with its own visitor; the object is alive.
        unsafe {
            if !self.is_hidden() {
                return visit(self.as_ptr(), arg);
            }
            match (*ffi::Py_TYPE(self.as_ptr())).tp_traverse {
                Some(traverse) => traverse(self.as_ptr(), visit, arg),
                None => 0,
            }
        }
    }
}

impl Drop for CallContext {
    #[inline(always)]
    fn drop(&mut self) {
        self.show();
        // SAFETY: this owned one reference.
        unsafe { ffi::Py_DECREF(self.as_ptr()) }
    }
}
