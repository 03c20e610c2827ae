//! `bytes` that the kernel fills in place: for large reads, where copying out of a buffer costs more than making room.
//!
//! Room is made for as much as is expected and given back for what did not come; the allocator shrinks a block in place.
//! glibc maps and unmaps each block of 128 KiB and more, and gives the top of its heap back whenever that much of it is
//! free, until the first block as large was freed whole ([`raise_thresholds`]): then bursts of large reads cost no page
//! faults any more.
//!
//! Source: `_PyBytes_Resize` in the C API's "Bytes Objects"; mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.

use std::ffi::c_int;
use std::sync::Once;

use pyo3::ffi;

use super::owned::Owned;
use super::raise::{Result, check};

unsafe extern "C" {
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, len: ffi::Py_ssize_t) -> c_int;
}

/// Room for bytes that are to come.
pub struct Room {
    object: Owned,
    len: usize,
}

impl Room {
    /// Room for `len` bytes.
    pub fn new(len: usize) -> Result<Self> {
        raise_thresholds();
        // SAFETY: F1; without a source the bytes are uninitialised, and nobody sees them until they are written.
        let object =
            unsafe { Owned::from_new(ffi::PyBytes_FromStringAndSize(std::ptr::null(), len as isize))? };
        Ok(Self { object, len })
    }

    /// Where the bytes go.
    pub fn start(&mut self) -> *mut u8 {
        // SAFETY: an exact `bytes` object that nobody else refers to.
        unsafe { ffi::PyBytes_AsString(self.object.as_ptr()).cast() }
    }

    /// The `bytes` object, once `len` of its bytes are written.
    pub fn finish(self, len: usize) -> Result {
        debug_assert!(len <= self.len);
        if len == self.len {
            return Ok(self.object);
        }
        let mut object = self.object.into_ptr();
        // SAFETY: F1; the object is ours alone. On failure it is freed and the pointer null.
        unsafe {
            check(_PyBytes_Resize(&raw mut object, len as isize))?;
            Owned::from_new(object)
        }
    }
}

/// Frees one large block: glibc serves blocks up to that size from its heap from now on, and keeps twice as much free at
/// the heap's top.
fn raise_thresholds() {
    static ONCE: Once = Once::new();
    const LARGEST: usize = 1 << 20;
    ONCE.call_once(|| {
        // SAFETY: a block is allocated and freed; null is fine to free.
        unsafe { libc::free(std::hint::black_box(libc::malloc(LARGEST))) };
    });
}
