//! Errors as the C API has them: the exception sits in the thread state, the result only says that there is one.

use std::any::Any;
use std::ffi::{CString, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::ffi;

use super::owned::Owned;

/// A Python exception is set on this thread.
#[derive(Debug, Copy, Clone)]
pub struct Raised;

/// What a function returns that may raise in Python.
pub type Result<T = Owned> = std::result::Result<T, Raised>;

impl From<pyo3::PyErr> for Raised {
    fn from(error: pyo3::PyErr) -> Self {
        // SAFETY: F1.
        error.restore(unsafe { pyo3::Python::assume_attached() });
        Raised
    }
}

/// Sets `kind(message)` and gives the marker to return.
#[cold]
pub fn raise(kind: *mut ffi::PyObject, message: &str) -> Raised {
    let message = CString::new(message.replace('\0', "\\0")).unwrap_or_default();
    // SAFETY: F1; `kind` is an exception class, the message ends in NUL.
    unsafe { ffi::PyErr_SetString(kind, message.as_ptr()) };
    Raised
}

/// `TypeError(message)`.
#[cold]
pub fn type_error(message: &str) -> Raised {
    // SAFETY: the class is alive while the interpreter is.
    raise(unsafe { ffi::PyExc_TypeError }, message)
}

/// `ValueError(message)`.
#[cold]
pub fn value_error(message: &str) -> Raised {
    // SAFETY: as above.
    raise(unsafe { ffi::PyExc_ValueError }, message)
}

/// `OverflowError(message)`.
#[cold]
pub fn overflow_error(message: &str) -> Raised {
    // SAFETY: as above.
    raise(unsafe { ffi::PyExc_OverflowError }, message)
}

/// `RuntimeError(message)`.
#[cold]
pub fn runtime_error(message: &str) -> Raised {
    // SAFETY: as above.
    raise(unsafe { ffi::PyExc_RuntimeError }, message)
}

/// `AssertionError(message)`, where asyncio has an `assert` statement that programs run into.
#[cold]
pub fn assertion_error(message: &str) -> Raised {
    // SAFETY: as above.
    raise(unsafe { ffi::PyExc_AssertionError }, message)
}

/// The statement `raise object`.
#[cold]
pub fn raise_object(object: &Owned) -> Raised {
    // SAFETY: F1; living objects.
    unsafe {
        if ffi::PyExceptionInstance_Check(object.as_ptr()) != 0 {
            ffi::PyErr_SetObject(ffi::Py_TYPE(object.as_ptr()).cast(), object.as_ptr());
        } else if ffi::PyExceptionClass_Check(object.as_ptr()) != 0 {
            ffi::PyErr_SetNone(object.as_ptr());
        } else {
            return type_error("exceptions must derive from BaseException");
        }
    }
    Raised
}

/// The `OSError` subclass that belongs to `error`'s errno, as Python itself raises it.
#[cold]
pub fn os_error(error: &std::io::Error) -> Raised {
    let number = error.raw_os_error().unwrap_or(libc::EIO);
    // SAFETY: F1; `PyErr_SetFromErrno` reads this thread's errno, which is set right before.
    unsafe {
        *libc::__errno_location() = number;
        ffi::PyErr_SetFromErrno(ffi::PyExc_OSError);
    }
    Raised
}

/// The `OSError` for `error` as an object, not raised.
#[cold]
pub fn os_error_object(error: &std::io::Error) -> Owned {
    os_error(error);
    take().unwrap_or_else(Owned::none)
}

/// Takes the exception that is set on this thread, with its traceback.
pub fn take() -> Option<Owned> {
    #[cfg(Py_3_12)]
    // SAFETY: F1; gives a new reference or null.
    unsafe {
        Owned::from_new(ffi::PyErr_GetRaisedException()).ok()
    }
    #[cfg(not(Py_3_12))]
    // SAFETY: F1; `PyErr_Fetch` gives three references that we own, normalised before use.
    unsafe {
        let (mut kind, mut value, mut traceback) =
            (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        ffi::PyErr_Fetch(&mut kind, &mut value, &mut traceback);
        if kind.is_null() {
            return None;
        }
        ffi::PyErr_NormalizeException(&mut kind, &mut value, &mut traceback);
        if !traceback.is_null() {
            ffi::PyException_SetTraceback(value, traceback);
            ffi::Py_DECREF(traceback);
        }
        ffi::Py_DECREF(kind);
        Owned::from_new(value).ok()
    }
}

/// Raises `exception` again (its traceback is kept).
pub fn restore(exception: Owned) -> Raised {
    #[cfg(Py_3_12)]
    // SAFETY: F1; the reference is given away.
    unsafe {
        ffi::PyErr_SetRaisedException(exception.into_ptr());
    }
    #[cfg(not(Py_3_12))]
    // SAFETY: F1; `PyErr_Restore` takes over the three references.
    unsafe {
        let value = exception.into_ptr();
        let kind = ffi::Py_TYPE(value).cast::<ffi::PyObject>();
        ffi::Py_INCREF(kind);
        let traceback = ffi::PyException_GetTraceback(value);
        ffi::PyErr_Restore(kind, value, traceback);
    }
    Raised
}

/// Adds a note to the exception that is set (PEP 678): what the interpreter's own words leave open.
#[cold]
pub fn add_note(note: &str) -> Raised {
    let Some(exception) = take() else {
        return Raised;
    };
    let noted = Owned::str(note)
        .and_then(|note| super::call_method(&exception, &crate::names::names().add_note, [&note]));
    if noted.is_err() {
        drop(take());
    }
    restore(exception)
}

/// Whether the exception that is set is an instance of `class`.
pub fn matches(class: *mut ffi::PyObject) -> bool {
    // SAFETY: F1; asked only while an exception is set.
    unsafe { ffi::PyErr_ExceptionMatches(class) != 0 }
}

/// Whether `exception` must leave the loop: `KeyboardInterrupt` and `SystemExit` (asyncio's rule).
pub fn leaves_loop(exception: &Owned) -> bool {
    // SAFETY: F1; both classes are alive while the interpreter is.
    unsafe {
        ffi::PyErr_GivenExceptionMatches(exception.as_ptr(), ffi::PyExc_KeyboardInterrupt) != 0
            || ffi::PyErr_GivenExceptionMatches(exception.as_ptr(), ffi::PyExc_SystemExit) != 0
    }
}

/// Reports the exception that is set through `sys.unraisablehook`; for places that have no caller.
pub fn write_unraisable(object: Option<&Owned>) {
    // SAFETY: F1; null is allowed.
    unsafe { ffi::PyErr_WriteUnraisable(object.map_or(std::ptr::null_mut(), Owned::as_ptr)) }
}

/// A status of the C API (negative: raised) as a result.
#[inline(always)]
pub fn check(status: c_int) -> Result<c_int> {
    if status < 0 { Err(Raised) } else { Ok(status) }
}

#[cold]
fn panicked(payload: Box<dyn Any + Send>) {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown cause".to_owned());
    // SAFETY: the class is alive while the interpreter is.
    raise(unsafe { ffi::PyExc_SystemError }, &format!("antiphon: internal error (please report it): {text}"));
}

/// Runs the body of a slot or method: a panic becomes `SystemError` instead of crossing into the interpreter.
#[inline(always)]
pub fn guard(body: impl FnOnce() -> Result) -> *mut ffi::PyObject {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value.into_ptr(),
        Ok(Err(Raised)) => std::ptr::null_mut(),
        Err(payload) => {
            panicked(payload);
            std::ptr::null_mut()
        }
    }
}

/// [`guard`] for slots that return a status.
#[inline(always)]
pub fn guard_int(body: impl FnOnce() -> Result<c_int>) -> c_int {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value,
        Ok(Err(Raised)) => -1,
        Err(payload) => {
            panicked(payload);
            -1
        }
    }
}
