//! `Window`: shows any memory of ours to a native function that takes a buffer, without an object for each time.
//!
//! **Invariant V1**: a window is lent to functions of the interpreter's `_ssl` module only, which release the buffer
//! before they return; no Python code ever gets hold of it.
//!
//! Source: PEP 3118; "Buffer Protocol" of the C API.

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use pyo3::ffi;

use crate::ffi::{GilCell, HeapType, Instance, Owned, Payload, Result};

/// The payload of `Window`: what it shows just now.
pub struct Window {
    start: AtomicPtr<u8>,
    len: AtomicUsize,
    read_only: AtomicBool,
}

static WINDOW: OnceLock<usize> = OnceLock::new();

impl Payload for Window {
    type BaseSlots = ();
    type Dictionary = ();
    const COLLECTED: bool = false;
    fn type_object() -> *mut ffi::PyTypeObject {
        WINDOW.get().map_or(std::ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }
}

unsafe extern "C" fn get_buffer(
    object: *mut ffi::PyObject,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> c_int {
    // SAFETY: F2; whoever lent the window keeps the memory alive until the borrower returns (V1).
    unsafe {
        let this = Instance::<Window>::from_ptr(object);
        let start = this.start.load(Ordering::Relaxed);
        let len = this.len.load(Ordering::Relaxed);
        let read_only = c_int::from(this.read_only.load(Ordering::Relaxed));
        ffi::PyBuffer_FillInfo(view, object, start.cast(), len as ffi::Py_ssize_t, read_only, flags)
    }
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable.
    unsafe {
        let kind = ffi::Py_TYPE(object);
        Instance::<Window>::finish(object);
        ffi::PyObject_Free(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

/// A window at rest, made on first use.
#[derive(Default)]
pub struct Recycled(GilCell<Option<Owned>>);

impl Recycled {
    /// Lends `len` bytes from `start` on to `borrower`.
    /// # Safety
    /// The memory is alive, and nobody else's, until `borrower` returns; writable unless `read_only`; and the borrower
    /// hands the window to functions of `_ssl` only (V1).
    pub unsafe fn lend<R>(
        &self,
        start: *mut u8,
        len: usize,
        read_only: bool,
        borrower: impl FnOnce(&Owned) -> Result<R>,
    ) -> Result<R> {
        // Taken out meanwhile: a callback of OpenSSL's may come back here (`SSLContext._msg_callback`).
        let window = match self.0.take() {
            Some(window) => window,
            None => Instance::create(Window {
                start: AtomicPtr::new(std::ptr::null_mut()),
                len: AtomicUsize::new(0),
                read_only: AtomicBool::new(true),
            })?,
        };
        {
            // SAFETY: made above or earlier with this payload.
            let this = unsafe { Instance::<Window>::from_ptr(window.as_ptr()) };
            this.start.store(start, Ordering::Relaxed);
            this.len.store(len, Ordering::Relaxed);
            this.read_only.store(read_only, Ordering::Relaxed);
        }
        let result = borrower(&window);
        drop(self.0.replace(Some(window)));
        result
    }
}

/// Makes the type. It is not in the module: nobody outside has a use for it (V1).
pub fn load() -> Result<()> {
    if Window::type_object().is_null() {
        let made = HeapType::new(c"antiphon._antiphon.Window", Instance::<Window>::SIZE)
            .no_constructor()
            .doc(c"Memory of a TLS transport, lent to OpenSSL.")
            .slot(ffi::Py_bf_getbuffer, get_buffer as *mut c_void)
            .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
            .build(None, Instance::<Window>::PAYLOAD_OFFSET)?;
        let _ = WINDOW.set(made as usize);
    }
    Ok(())
}
