//! An owned reference to a Python object, one word, without PyO3's attach count.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use pyo3::ffi;
use pyo3::{Bound, PyAny};

use super::raise::{Raised, Result};

/// A reference that is given back when dropped.
///
/// `Option<Owned>` is one word. Dropping may run Python code (F3), and needs an attached thread (F1).
#[repr(transparent)]
pub struct Owned(NonNull<ffi::PyObject>);

// SAFETY: a reference may move to another thread; what is done with it there needs that thread to be attached (F1).
unsafe impl Send for Owned {}
// SAFETY: as above; reference counts are atomic or protected by the interpreter's lock.
unsafe impl Sync for Owned {}

impl Owned {
    /// Takes over a new reference.
    ///
    /// # Errors
    /// A null pointer means that the call which made it raised.
    /// # Safety
    /// `pointer` is null or a reference that the caller owns and gives away.
    #[inline(always)]
    pub unsafe fn from_new(pointer: *mut ffi::PyObject) -> Result<Self> {
        NonNull::new(pointer).map(Self).ok_or(Raised)
    }

    /// Makes a new reference to a borrowed object.
    /// # Safety
    /// `pointer` is a live object.
    #[inline(always)]
    pub unsafe fn from_borrowed(pointer: *mut ffi::PyObject) -> Self {
        // SAFETY: live, by the caller's word.
        unsafe {
            ffi::Py_INCREF(pointer);
            Self(NonNull::new_unchecked(pointer))
        }
    }

    /// A reference that the caller holds, as one of ours for as long as the caller's lasts.
    /// # Safety
    /// `pointer` is a live object as long as the borrow lasts.
    #[inline(always)]
    pub unsafe fn borrowed(pointer: &*mut ffi::PyObject) -> &Self {
        // SAFETY: a reference is nothing but the pointer, which is not null, by the caller's word.
        unsafe { &*std::ptr::from_ref(pointer).cast::<Self>() }
    }

    /// Like [`Self::from_borrowed`]; null and `None` become `None`.
    /// # Safety
    /// `pointer` is null or a live object.
    #[inline]
    pub unsafe fn from_optional(pointer: *mut ffi::PyObject) -> Option<Self> {
        // SAFETY: `Py_None` is immortal or at least alive while an interpreter is.
        if pointer.is_null() || pointer == unsafe { ffi::Py_None() } {
            None
        } else {
            // SAFETY: not null, live by the caller's word.
            Some(unsafe { Self::from_borrowed(pointer) })
        }
    }

    /// The object, borrowed.
    #[inline(always)]
    pub fn as_ptr(&self) -> *mut ffi::PyObject {
        self.0.as_ptr()
    }

    /// Gives the reference away.
    #[inline(always)]
    pub fn into_ptr(self) -> *mut ffi::PyObject {
        ManuallyDrop::new(self).0.as_ptr()
    }

    /// `None`, as a new reference.
    #[inline]
    pub fn none() -> Self {
        // SAFETY: `Py_None` is a live object.
        unsafe { Self::from_borrowed(ffi::Py_None()) }
    }

    /// `True` or `False`, as a new reference.
    #[inline]
    pub fn bool(value: bool) -> Self {
        // SAFETY: both singletons are live objects.
        unsafe { Self::from_borrowed(if value { ffi::Py_True() } else { ffi::Py_False() }) }
    }

    /// An `int`.
    pub fn int(value: i64) -> Result<Self> {
        // SAFETY: F1; gives a new reference or null.
        unsafe { Self::from_new(ffi::PyLong_FromLongLong(value)) }
    }

    /// A `float`.
    #[inline]
    pub fn float(value: f64) -> Result<Self> {
        // SAFETY: F1; gives a new reference or null.
        unsafe { Self::from_new(ffi::PyFloat_FromDouble(value)) }
    }

    /// A `str`.
    pub fn str(text: &str) -> Result<Self> {
        // SAFETY: F1; pointer and length belong to `text`.
        unsafe { Self::from_new(ffi::PyUnicode_FromStringAndSize(text.as_ptr().cast(), text.len() as isize)) }
    }

    /// `bytes` with a copy of `data`.
    #[inline]
    pub fn bytes(data: &[u8]) -> Result<Self> {
        // SAFETY: F1; pointer and length belong to `data`.
        unsafe { Self::from_new(ffi::PyBytes_FromStringAndSize(data.as_ptr().cast(), data.len() as isize)) }
    }

    /// A tuple that takes over `items`.
    pub fn tuple<const N: usize>(items: [Owned; N]) -> Result<Self> {
        // SAFETY: F1; each place is filled once, with a reference that the tuple takes over.
        unsafe {
            let tuple = Self::from_new(ffi::PyTuple_New(N as isize))?;
            for (place, item) in items.into_iter().enumerate() {
                ffi::PyTuple_SET_ITEM(tuple.as_ptr(), place as isize, item.into_ptr());
            }
            Ok(tuple)
        }
    }

    /// Whether this is `None`.
    #[inline]
    pub fn is_none(&self) -> bool {
        // SAFETY: comparing addresses only.
        self.as_ptr() == unsafe { ffi::Py_None() }
    }

    /// Whether it counts as true.
    pub fn truth(&self) -> Result<bool> {
        // SAFETY: F1; the object is alive.
        super::raise::check(unsafe { ffi::PyObject_IsTrue(self.as_ptr()) }).map(|truth| truth != 0)
    }

    /// Whether the object's type is exactly `kind`.
    #[inline(always)]
    pub fn is_exactly(&self, kind: *mut ffi::PyTypeObject) -> bool {
        // SAFETY: the object is alive.
        unsafe { ffi::Py_TYPE(self.as_ptr()) == kind }
    }

    /// `getattr(self, name)`; `name` is interned.
    #[inline]
    pub fn attr(&self, name: &Owned) -> Result<Self> {
        // SAFETY: F1; both objects are alive.
        unsafe { Self::from_new(ffi::PyObject_GetAttr(self.as_ptr(), name.as_ptr())) }
    }
}

impl Clone for Owned {
    #[inline(always)]
    fn clone(&self) -> Self {
        // SAFETY: the object is alive as long as this reference.
        unsafe { Self::from_borrowed(self.as_ptr()) }
    }
}

impl Drop for Owned {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: this reference was owned, and F1.
        unsafe { ffi::Py_DECREF(self.as_ptr()) }
    }
}

impl fmt::Debug for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owned({:p})", self.as_ptr())
    }
}

impl From<Bound<'_, PyAny>> for Owned {
    fn from(value: Bound<'_, PyAny>) -> Self {
        // SAFETY: `into_ptr` gives a reference that we own, never null.
        unsafe { Self(NonNull::new_unchecked(value.into_ptr())) }
    }
}
