//! The one place where the door touches the interpreter's C API without a net.
//!
//! PyO3's classes cost about twice as much per call, are always tracked by the cycle collector and have no finalizer,
//! so whatever runs per callback or per packet is a raw heap type. This module wraps what such
//! types need in safe words: an owned reference, a cell that the interpreter's lock protects, typed instances, argument
//! lists and calls. The rest of the crate uses these; where it must go deeper it says why.
//!
//! Invariants that the SAFETY lines cite:
//! - **F1 attached**: every function of this crate that is reached from a slot, a method or a turn of the loop runs on a
//!   thread that is attached to the interpreter, except inside [`detached`].
//! - **F2 self is ours**: CPython's method descriptors check that `self` is an instance of the type they belong to, so a
//!   method may take its `self` for an [`Instance`] of its own payload.
//! - **F3 no Python inside a cell**: nothing that can run Python code (a call, an allocation of a collected object, the
//!   drop of a reference) happens inside [`GilCell::with`].

pub mod bytes;
pub mod call;
pub mod cell;
pub mod derived;
#[cfg(not(Py_3_14))]
pub mod dict_entry;
pub mod frames;
pub mod function;
pub mod heap_type;
pub mod instance;
pub mod new_bytes;
pub mod owned;
pub mod raise;
pub mod static_str;
pub mod step_cell;
pub mod thread_end;
pub mod visitor;
pub mod weak;

pub use call::{Args, call, call_method};
pub use cell::GilCell;
pub use derived::{Derived, DerivedPayload};
pub use heap_type::HeapType;
pub use instance::{Instance, Payload};
pub use new_bytes::NewBytes;
pub use owned::Owned;
pub use raise::{Raised, Result, check, guard, guard_int};

use pyo3::ffi;

/// What a slot or method may take its `self` for (F2).
pub trait This {
    /// The instance behind a pointer that the interpreter handed to a slot or method.
    /// # Safety
    /// `pointer` is a live instance of the type that `Self` belongs to, or of a subclass; its payload is initialised.
    unsafe fn from_ptr<'a>(pointer: *mut ffi::PyObject) -> &'a Self;
}

/// Runs `f` with the interpreter released, so that other threads run Python meanwhile.
///
/// `f` must not touch any Python object.
pub fn detached<R>(f: impl FnOnce() -> R) -> R {
    struct Attach(*mut ffi::PyThreadState);
    impl Drop for Attach {
        fn drop(&mut self) {
            // SAFETY: the state is the one that `PyEval_SaveThread` gave to this thread (also when `f` unwinds).
            unsafe { ffi::PyEval_RestoreThread(self.0) }
        }
    }
    // SAFETY: F1: this thread is attached.
    let _attach = Attach(unsafe { ffi::PyEval_SaveThread() });
    f()
}
