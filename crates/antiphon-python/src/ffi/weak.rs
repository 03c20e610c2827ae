//! Weak references, as Python objects.

use pyo3::ffi;

use super::owned::Owned;
use super::raise::Result;

/// `weakref.ref(object)`.
///
/// # Errors
/// `TypeError` where the object's type has none.
pub fn reference_to(object: &Owned) -> Result {
    // SAFETY: F1; a new reference or null.
    unsafe { Owned::from_new(ffi::PyWeakref_NewRef(object.as_ptr(), std::ptr::null_mut())) }
}

/// What a weak reference refers to, as long as that lives.
#[inline]
pub fn target(reference: &Owned) -> Option<Owned> {
    #[cfg(Py_3_13)]
    {
        let mut found = std::ptr::null_mut();
        // SAFETY: F1; gives a new reference, or null; fails only where it is no weak reference, which is ours to know.
        unsafe {
            ffi::compat::PyWeakref_GetRef(reference.as_ptr(), &raw mut found);
            Owned::from_new(found).ok()
        }
    }
    #[cfg(not(Py_3_13))]
    // SAFETY: F1; gives a borrowed reference, None once the object is gone.
    unsafe {
        Owned::from_optional(ffi::PyWeakref_GetObject(reference.as_ptr()))
    }
}
