//! What the ready queue holds: one word an entry, an owned reference with a tag.
//!
//! A step is not a handle: transports, socket operations and (later) tasks are entries of their own, so that they need no
//! Handle object, bound method or argument tuple to get their turn.

use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;

use pyo3::ffi;

use crate::ffi::Owned;

/// What is to be done with the entry's object.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[repr(usize)]
pub enum Kind {
    /// Call a user's handle (`call_soon`, timers, readers and writers).
    Handle = 0,
    /// Tell a transport or socket operation that its descriptor is readable.
    Readable = 1,
    /// Tell it that the descriptor is writable.
    Writable = 2,
    /// Send what a transport's owner wrote since its last turn.
    Flush = 3,
    /// Go on with a transport's life: connection made, connection lost.
    Advance = 4,
    /// Arm a timer that was set from a thread without the seat, or take back one that was cancelled there.
    Timer = 5,
    /// Tell a task that it has slept long enough.
    Wake = 6,
    /// Give a task its next step.
    Step = 7,
}

const TAG: usize = 7;

/// One entry. Dropping it drops the reference, so never inside a cell (F3).
pub struct Work(NonZeroUsize);

impl Work {
    /// An entry that owns `object`.
    #[inline(always)]
    pub fn new(kind: Kind, object: Owned) -> Self {
        let address = object.into_ptr() as usize;
        debug_assert_eq!(address & TAG, 0, "objects are aligned to 8 bytes at least");
        // SAFETY: a reference is never null.
        Self(unsafe { NonZeroUsize::new_unchecked(address | kind as usize) })
    }

    /// What is to be done.
    #[inline(always)]
    pub fn kind(&self) -> Kind {
        match self.0.get() & TAG {
            0 => Kind::Handle,
            1 => Kind::Readable,
            2 => Kind::Writable,
            3 => Kind::Flush,
            4 => Kind::Advance,
            5 => Kind::Timer,
            6 => Kind::Wake,
            _ => Kind::Step,
        }
    }

    /// The object, borrowed.
    #[inline(always)]
    pub fn as_ptr(&self) -> *mut ffi::PyObject {
        (self.0.get() & !TAG) as *mut ffi::PyObject
    }

    /// The object, given away.
    #[inline(always)]
    pub fn into_object(self) -> Owned {
        let this = ManuallyDrop::new(self);
        // SAFETY: the entry owned one reference to a live object.
        unsafe { Owned::from_new(this.as_ptr()).unwrap_unchecked() }
    }
}

impl Clone for Work {
    fn clone(&self) -> Self {
        // SAFETY: the entry keeps the object alive.
        Self::new(self.kind(), unsafe { Owned::from_borrowed(self.as_ptr()) })
    }
}

impl Drop for Work {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the entry owned one reference.
        unsafe { ffi::Py_DECREF(self.as_ptr()) }
    }
}
