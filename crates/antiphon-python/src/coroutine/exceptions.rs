//! The exceptions of the coroutine protocol: `StopIteration` with a result, `GeneratorExit`, what `throw` is given.

use std::ptr;

use pyo3::ffi;

use crate::ffi::raise::{self, type_error};
use crate::ffi::{Owned, Raised, Result, check};

/// Raises `StopIteration(value)`, made here: the interpreter would take a tuple for several arguments and an exception
/// for itself.
#[inline]
pub fn stop_iteration(value: &Owned) -> Raised {
    // SAFETY: comparing addresses only.
    let is_true = value.as_ptr() == unsafe { ffi::Py_True() };
    match if is_true { true_result::get(value) } else { stopped(value) } {
        Ok(exception) => raise::restore(exception),
        Err(raised) => raised,
    }
}

/// What calling the class gives, without the call: nearly every `await` that has a result ends with one of these.
///
/// The fields are public (cpython/pyerrors.h); an exception with all others zero is a complete one.
#[inline]
fn stopped(value: &Owned) -> Result {
    let arguments = Owned::tuple([value.clone()])?;
    // SAFETY: F1; the class's own allocator, and the two fields own a reference each. Nobody sees the object before.
    unsafe {
        let made = Owned::from_new(ffi::PyType_GenericAlloc(ffi::PyExc_StopIteration.cast(), 0))?;
        let fields = made.as_ptr().cast::<ffi::PyStopIterationObject>();
        (*fields).args = arguments.into_ptr();
        (*fields).value = value.clone().into_ptr();
        Ok(made)
    }
}

/// `StopIteration(True)`, which ends every wait for a lock or event, is one object as long as nobody keeps it. It holds
/// nothing but `True`, so that no result lives longer for it.
#[cfg(all(Py_3_12, not(Py_GIL_DISABLED)))]
mod true_result {
    use pyo3::ffi;

    use super::stopped;
    use crate::ffi::{GilCell, Owned, Result};

    static KEPT: GilCell<Option<Owned>> = GilCell::new(None);

    /// The exception, which nobody else has.
    #[inline]
    pub fn get(value: &Owned) -> Result {
        match KEPT.get().filter(is_unused) {
            Some(kept) => Ok(kept),
            None => {
                let made = stopped(value)?;
                drop(KEPT.replace(Some(made.clone())));
                Ok(made)
            }
        }
    }

    /// Whether only [`KEPT`] and `kept` refer to it, and whoever had it left it as it was.
    #[inline]
    fn is_unused(kept: &Owned) -> bool {
        // SAFETY: F1; a living `StopIteration`, whose arguments are a tuple.
        unsafe {
            let fields = kept.as_ptr().cast::<ffi::PyStopIterationObject>();
            let left =
                [(*fields).dict, (*fields).notes, (*fields).traceback, (*fields).context, (*fields).cause];
            ffi::Py_REFCNT(kept.as_ptr()) == 2
                && left.iter().all(|place| place.is_null())
                && (*fields).value == ffi::Py_True()
                && ffi::PyTuple_GET_SIZE((*fields).args) == 1
        }
    }
}

/// Before 3.12 an `await` needs no exception; without a GIL nobody knows who else has an object.
#[cfg(not(all(Py_3_12, not(Py_GIL_DISABLED))))]
mod true_result {
    pub(super) use super::stopped as get;
}

/// Raises `GeneratorExit`.
#[cold]
pub fn generator_exit() -> Raised {
    // SAFETY: F1; the class is alive while the interpreter is.
    unsafe { ffi::PyErr_SetNone(ffi::PyExc_GeneratorExit) };
    Raised
}

/// The exception that `throw(exception)` or `throw(type, value, traceback)` names; one argument at least.
pub fn exception_given(given: &[*mut ffi::PyObject]) -> Result {
    let place = |index: usize| given.get(index).copied().unwrap_or(ptr::null_mut());
    // SAFETY: F1; the arguments are alive during the call.
    unsafe {
        #[cfg(Py_3_12)]
        if given.len() > 1 {
            check(ffi::PyErr_WarnEx(
                ffi::PyExc_DeprecationWarning,
                c"the (type, exc, tb) signature of throw() is deprecated, use the single-arg signature instead."
                    .as_ptr(),
                1,
            ))?;
        }
        let value = Owned::from_optional(place(1));
        if ffi::PyExceptionInstance_Check(given[0]) != 0 {
            if value.is_some() {
                return Err(type_error("instance exception may not have a separate value"));
            }
            return Ok(Owned::from_borrowed(given[0]));
        }
        if ffi::PyExceptionClass_Check(given[0]) == 0 {
            return Err(type_error("exceptions must be classes or instances deriving from BaseException"));
        }
        // The interpreter's own rules make an instance of the class and the value.
        ffi::PyErr_SetObject(given[0], value.as_ref().map_or(ptr::null_mut(), Owned::as_ptr));
        let exception = raise::take().ok_or_else(|| type_error("throw() needs an exception"))?;
        if let Some(traceback) = Owned::from_optional(place(2)) {
            check(ffi::PyException_SetTraceback(exception.as_ptr(), traceback.as_ptr()))?;
        }
        Ok(exception)
    }
}
