//! The cycle collector's visitor, for the traverse slots.

use std::ffi::{c_int, c_void};

use pyo3::ffi;

use super::owned::Owned;

/// What a `tp_traverse` slot shows its references to.
#[derive(Copy, Clone)]
pub struct Visitor {
    visit: ffi::visitproc,
    arg: *mut c_void,
}

impl Visitor {
    /// # Safety
    /// Both come from a `tp_traverse` slot's call that lasts longer than this.
    pub unsafe fn new(visit: ffi::visitproc, arg: *mut c_void) -> Self {
        Self { visit, arg }
    }

    /// Shows each of `objects`; not 0 says that the collector has seen enough.
    #[inline]
    pub fn all<'a>(&self, objects: impl IntoIterator<Item = &'a Owned>) -> c_int {
        for object in objects {
            // SAFETY: the object is alive, and the visitor the collector's own.
            let status = unsafe { (self.visit)(object.as_ptr(), self.arg) };
            if status != 0 {
                return status;
            }
        }
        0
    }
}
