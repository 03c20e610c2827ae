//! Memory that callers lend an operation: bytes to send, room to receive into.
//!
//! A view pins its object's memory (a `bytearray` cannot be resized meanwhile) and is released when dropped, which may
//! run Python code (F3).

use std::ffi::{c_int, c_void};

use pyo3::ffi;

use crate::ffi::raise::{self, type_error};
use crate::ffi::{Owned, Raised, Result, check};

/// Memory behind the buffer protocol (PEP 3118), one contiguous run of bytes. The interpreter wants it at a fixed place.
pub struct View(Box<ffi::Py_buffer>);

// SAFETY: a view may be released on another thread, if that is attached (F1).
unsafe impl Send for View {}
// SAFETY: only its fixed address and size are read.
unsafe impl Sync for View {}

impl View {
    fn new(object: &Owned, flags: c_int) -> Result<Self> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: F1; on success the view is released once, when dropped.
        check(unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, flags) })?;
        Ok(Self(view))
    }

    /// Room to receive into. `method` is the socket method in whose words other objects are refused.
    pub fn writable(object: &Owned, method: &str) -> Result<Self> {
        Self::new(object, ffi::PyBUF_WRITABLE).map_err(|Raised| {
            drop(raise::take());
            // SAFETY: the object is alive, and a type's name lasts as long as the type.
            let kind = unsafe { std::ffi::CStr::from_ptr((*ffi::Py_TYPE(object.as_ptr())).tp_name) };
            let kind = kind.to_string_lossy();
            type_error(&format!("{method}() argument 1 must be read-write bytes-like object, not {kind}"))
        })
    }

    /// Where the memory begins.
    #[inline]
    pub fn start(&self) -> *mut u8 {
        self.0.buf.cast()
    }

    /// Its size in bytes.
    #[inline]
    pub fn size(&self) -> usize {
        self.0.len as usize
    }

    /// Visits the object behind it, for the collector.
    pub(super) fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        if self.0.obj.is_null() {
            return 0;
        }
        // SAFETY: called from a traverse slot with its own visitor; the view holds a reference.
        unsafe { visit(self.0.obj, arg) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: F1; the view was filled by `PyObject_GetBuffer`.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.0) }
    }
}

/// Bytes to send.
pub enum Data {
    /// A `bytes` object, which never changes or moves: a reference is enough.
    Bytes(Owned),
    /// Any other bytes-like object.
    View(View),
}

impl Data {
    /// # Errors
    /// `TypeError` and `BufferError`, as from the socket's methods.
    #[inline]
    pub fn new(object: Owned) -> Result<Self> {
        // SAFETY: F1; a living object.
        if unsafe { ffi::PyBytes_CheckExact(object.as_ptr()) } != 0 {
            return Ok(Self::Bytes(object));
        }
        View::new(&object, ffi::PyBUF_SIMPLE).map(Self::View)
    }

    /// Where the bytes begin.
    #[inline]
    pub fn start(&self) -> *const u8 {
        match self {
            // SAFETY: the object is alive and a `bytes`.
            Self::Bytes(object) => unsafe { ffi::PyBytes_AS_STRING(object.as_ptr()).cast() },
            Self::View(view) => view.start(),
        }
    }

    /// How many there are.
    #[inline]
    pub fn size(&self) -> usize {
        match self {
            // SAFETY: as above; `bytes` keep their size where every sized object does.
            Self::Bytes(object) => unsafe { ffi::Py_SIZE(object.as_ptr()) as usize },
            Self::View(view) => view.size(),
        }
    }

    /// Visits the object behind them, for the collector.
    pub(super) fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        match self {
            // `bytes` refer to nothing.
            Self::Bytes(_) => 0,
            Self::View(view) => view.traverse(visit, arg),
        }
    }
}
