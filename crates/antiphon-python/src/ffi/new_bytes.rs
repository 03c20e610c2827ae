//! A `bytes` object in the making: memory that is filled first and becomes an object of the right size afterwards.
//!
//! Source: `PyBytes_FromStringAndSize` (with null) and `_PyBytes_Resize` in the C API's "Bytes Objects".

use std::ffi::c_int;
use std::mem::ManuallyDrop;
use std::ptr;

use pyo3::ffi;

use super::owned::Owned;
use super::raise::{Result, check};

// Documented, and exported by every version; pyo3-ffi keeps its declaration to itself.
unsafe extern "C" {
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> c_int;
}

/// Memory for a `bytes` object, which nobody else has seen.
pub struct NewBytes {
    object: Owned,
    room: usize,
    /// Bytes written by [`Self::append`].
    appended: usize,
}

impl NewBytes {
    /// Room for `room` bytes, at least one.
    pub fn with_room(room: usize) -> Result<Self> {
        let room = room.max(1);
        // SAFETY: F1; null asks for memory that the caller fills.
        let object =
            unsafe { Owned::from_new(ffi::PyBytes_FromStringAndSize(ptr::null(), room as ffi::Py_ssize_t))? };
        Ok(Self { object, room, appended: 0 })
    }

    /// Where the memory begins.
    pub fn start(&self) -> *mut u8 {
        // SAFETY: F1; an exact `bytes` object.
        unsafe { ffi::PyBytes_AS_STRING(self.object.as_ptr()).cast_mut().cast() }
    }

    /// Its size in bytes.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Copies `bytes` behind what was appended before.
    ///
    /// # Panics
    /// There is no room for them.
    pub fn append(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.room - self.appended, "more bytes than there is room for");
        // SAFETY: the memory is ours alone, and large enough.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.start().add(self.appended), bytes.len()) };
        self.appended += bytes.len();
    }

    /// The object, of the bytes that were appended.
    pub fn finish_appended(self) -> Result {
        let appended = self.appended;
        // SAFETY: as many were written.
        unsafe { self.finish(appended) }
    }

    /// The object, of the `filled` bytes that were written.
    /// # Safety
    /// The first `filled` bytes were written.
    pub unsafe fn finish(self, filled: usize) -> Result {
        debug_assert!(filled <= self.room);
        if filled == self.room {
            return Ok(self.object);
        }
        let mut pointer = ManuallyDrop::new(self.object).as_ptr();
        // SAFETY: F1; the only reference, given away. On failure the object is gone.
        unsafe {
            check(_PyBytes_Resize(&raw mut pointer, filled as ffi::Py_ssize_t))?;
            Owned::from_new(pointer)
        }
    }
}
