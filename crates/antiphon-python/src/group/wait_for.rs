//! `wait_for`: one awaitable, for a limited time.
//!
//! Source: CPython Lib/asyncio/tasks.py (`wait_for`).

use pyo3::ffi;

use super::child;
use super::timeout_block::timeout_error;
#[cfg(not(Py_3_12))]
use super::wait_for_311::{WaitFor, make};
#[cfg(Py_3_12)]
use super::wait_for_312::{WaitFor, make};
use crate::coroutine::{self, Step};
use crate::ffi::{Args, Owned, Raised, Result, raise};
use crate::names::names;

/// `limit <= 0`.
pub fn is_past(limit: &Owned) -> Result<bool> {
    // SAFETY: F1; living objects.
    unsafe {
        if ffi::PyFloat_CheckExact(limit.as_ptr()) != 0 {
            return Ok(ffi::PyFloat_AS_DOUBLE(limit.as_ptr()) <= 0.0);
        }
        let zero = Owned::int(0)?;
        crate::ffi::check(ffi::PyObject_RichCompareBool(limit.as_ptr(), zero.as_ptr(), ffi::Py_LE))
            .map(|past| past != 0)
    }
}

/// After the cancellation of a child for which there was no time: what it returned all the same, or `TimeoutError`.
pub fn result_or_timeout(future: &Owned) -> Result<Step> {
    match child::result(future) {
        Ok(value) => Ok(Step::Returned(value)),
        Err(Raised) if raise::matches(names().cancelled_error.as_ptr()) => {
            let Some(cancelled) = raise::take() else {
                return Err(Raised);
            };
            Err(raise::restore(timeout_error(&cancelled)?))
        }
        Err(raised) => Err(raised),
    }
}

fn wait_for(args: Args<'_>) -> Result {
    let names = names();
    let [awaited, limit] = args.exactly([&names.fut, &names.timeout])?;
    make(awaited, limit)
}

/// The functions of this file.
pub const FUNCTIONS: [crate::ffi::function::Function; 1] = [(
    c"wait_for",
    crate::function!(c"wait_for", wait_for),
    c"wait_for(fut, timeout)\n--\n\nAwait `fut`; after `timeout` seconds cancel it and raise TimeoutError.",
)];

/// Makes the type.
pub fn load(module: &Owned) -> Result<()> {
    coroutine::load::<WaitFor>(module)
}
