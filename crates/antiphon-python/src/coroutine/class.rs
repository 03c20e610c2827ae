//! The type object of one operation's coroutines, and the coroutines at rest.
//!
//! A coroutine lives for one `await`, so one that ended is kept for the next one, whole, with one reference, the list's. To
//! make one is then to write its payload. What rests is not known to the collector: a program may freeze what is
//! (`gc.freeze()`), and that would be for all of its lives to come. The list is the type's, since an operation is made before
//! it knows its loop. Without a GIL there is none: the interpreter's allocator keeps memory by thread itself, and a list of
//! ours would be a lock.

use std::ptr;
use std::sync::OnceLock;

use pyo3::ffi;

use super::Operation;
use super::life::Coroutine;
use crate::ffi::{GilCell, Instance, Owned, Raised, Result};

/// What all coroutines of one operation share.
pub struct Class {
    kind: OnceLock<usize>,
    free: GilCell<Vec<Resting>>,
}

/// An instance that ended and that nobody else refers to.
struct Resting(*mut ffi::PyObject);

// SAFETY: the reference is the list's alone.
unsafe impl Send for Resting {}

impl Class {
    /// How many are kept, 100 bytes or so each.
    const MOST: usize = 1024;

    /// To be a static's value; the type is made when the module is loaded.
    pub const fn new() -> Self {
        Self { kind: OnceLock::new(), free: GilCell::new(Vec::new()) }
    }

    /// The type object, null before it is made.
    #[inline(always)]
    pub fn type_object(&self) -> *mut ffi::PyTypeObject {
        self.kind.get().map_or(ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }

    /// Remembers the type once it is made.
    pub(super) fn set_type(&self, kind: *mut ffi::PyTypeObject) {
        let _ = self.kind.set(kind as usize);
    }

    /// A new instance; the collector knows it if it refers to something.
    #[inline]
    pub(super) fn create<O: Operation>(&self, payload: Coroutine<O>) -> Result {
        let resting = if cfg!(Py_GIL_DISABLED) { None } else { self.free.with(Vec::pop) };
        // SAFETY: F1; an instance of this class at rest, whose payload holds nothing that would be lost, or memory of the
        // type's size; complete before the collector can see it.
        unsafe {
            let object = match resting {
                Some(Resting(object)) => object,
                None => ffi::PyObject_GC_New::<ffi::PyObject>(self.type_object()),
            };
            if object.is_null() {
                return Err(Raised);
            }
            Instance::initialise(object, payload);
            let this = Instance::<Coroutine<O>>::from_ptr(object);
            if this.operation.peek(Operation::refers).unwrap_or(true) {
                this.track();
            }
            Owned::from_new(object)
        }
    }

    /// Takes an instance whose last reference is gone, if it ended and there is room. Its like may be made from here on.
    /// # Safety
    /// Called by the type's dealloc slot; if the answer is yes, the object is not the slot's any more.
    #[inline(always)]
    pub(super) unsafe fn keep<O: Operation>(&self, object: *mut ffi::PyObject) -> bool {
        // SAFETY: F2.
        let this = unsafe { Instance::<Coroutine<O>>::from_ptr(object) };
        // One that was finalized once would have no finalizer in its next life.
        if cfg!(Py_GIL_DISABLED)
            || !this.is_finished()
            || this.was_finalized()
            || this.has_weak_references()
            || self.free.with(|free| free.len()) >= Self::MOST
        {
            return false;
        }
        this.untrack();
        // SAFETY: F1. The object is alive again before anything is dropped, which may run Python code.
        unsafe { ffi::Py_INCREF(object) }; // from zero
        drop(this.take_bound_to());
        self.free.with(|free| free.push(Resting(object)));
        true
    }
}
