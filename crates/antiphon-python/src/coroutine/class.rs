//! The type object of one operation's coroutines, and the memory of those that ended.
//!
//! A coroutine lives for one `await`, so its memory is kept for the next one: that is half of what making one costs. The
//! list is the type's, since an operation is made before it knows its loop. Without a GIL there is none: the interpreter's
//! allocator keeps memory by thread itself, and a list of ours would be a lock.

use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;

use pyo3::ffi;

use super::Operation;
use super::life::Coroutine;
use crate::ffi::{GilCell, Instance, Owned, Raised, Result};

/// What all coroutines of one operation share.
pub struct Class {
    kind: OnceLock<usize>,
    free: GilCell<Vec<Memory>>,
}

/// Memory of one instance, from `PyObject_GC_New`, untracked, its payload gone.
struct Memory(*mut ffi::PyObject);

// SAFETY: nobody else knows the memory.
unsafe impl Send for Memory {}

impl Class {
    /// How many blocks are kept, 100 bytes or so each.
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

    /// A new instance, tracked by the collector.
    #[inline]
    pub(super) fn create<O: Operation>(&self, payload: Coroutine<O>) -> Result {
        let memory = if cfg!(Py_GIL_DISABLED) { None } else { self.free.with(Vec::pop) };
        // SAFETY: F1; the memory has the type's size and is complete before the collector can see it.
        unsafe {
            let object = match memory {
                Some(Memory(object)) => ffi::PyObject_Init(object, self.type_object()),
                None => ffi::PyObject_GC_New::<ffi::PyObject>(self.type_object()),
            };
            if object.is_null() {
                return Err(Raised);
            }
            Instance::initialise(object, payload);
            ffi::PyObject_GC_Track(object.cast::<c_void>());
            Owned::from_new(object)
        }
    }

    /// Takes back the memory of an instance that ended.
    /// # Safety
    /// The object is untracked and unreachable, its payload gone.
    #[inline]
    pub(super) unsafe fn give_back(&self, object: *mut ffi::PyObject) {
        // An object that was finalized once would have no finalizer in its next life.
        // SAFETY: the header is still whole.
        let reusable = cfg!(not(Py_GIL_DISABLED)) && unsafe { ffi::PyObject_GC_IsFinalized(object) } == 0;
        let kept = reusable
            && self.free.with(|free| {
                let room = free.len() < Self::MOST;
                if room {
                    free.push(Memory(object));
                }
                room
            });
        if !kept {
            // SAFETY: by the caller's word.
            unsafe { ffi::PyObject_GC_Del(object.cast()) };
        }
    }
}
