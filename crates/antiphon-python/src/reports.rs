//! What Python code tells of our objects (`antiphon.reports`, `antiphon.streams`): reports of finalizers, representations.

use pyo3::ffi;

use crate::ffi::raise;
use crate::ffi::{Owned, Raised, Result, call};
use crate::names::import;

/// Has `module.reporter(object)` tell of an object that its finalizer found open.
///
/// At the interpreter's end its modules are gone, and with them who would hear of it: then nothing is said. No exception
/// may be set on entry, none is afterwards.
pub fn tell(module: &str, reporter: &str, object: &Owned) {
    let told = import(module, reporter).and_then(|report| call(&report, [object]));
    match told {
        Ok(_) => {}
        // SAFETY: the class is alive while the interpreter is.
        Err(Raised) if raise::matches(unsafe { ffi::PyExc_ImportError }) => drop(raise::take()),
        Err(Raised) => raise::write_unraisable(Some(object)),
    }
}

/// What `antiphon.reports` has `describer` say of an object: its `repr`.
///
/// At the interpreter's end, when finalizers of others still ask for it (asyncio's own `StreamWriter`), that is `instead`.
///
/// # Errors
/// What the function raises.
pub fn describe<const N: usize>(describer: &str, values: [&Owned; N], instead: &str) -> Result {
    match import("antiphon.reports", describer) {
        Ok(describe) => call(&describe, values),
        // SAFETY: the class is alive while the interpreter is.
        Err(Raised) if raise::matches(unsafe { ffi::PyExc_ImportError }) => {
            drop(raise::take());
            Owned::str(instead)
        }
        Err(raised) => Err(raised),
    }
}
