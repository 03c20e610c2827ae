//! Functions of the module itself, called by the interpreter's vectorcall protocol.

use std::ffi::CStr;

use pyo3::ffi;

use super::heap_type::FastMethod;
use super::owned::Owned;
use super::raise::{Result, check};

/// One function: its name, its entry (see [`crate::function!`]) and its docstring.
pub type Function = (&'static CStr, FastMethod, &'static CStr);

/// Adds functions to a module. Their table lives as long as the process: modules are loaded once.
pub fn add_functions<const N: usize>(module: &Owned, functions: [Function; N]) -> Result<()> {
    let mut table: Vec<ffi::PyMethodDef> = functions
        .into_iter()
        .map(|(name, function, doc)| ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: doc.as_ptr(),
        })
        .collect();
    // SAFETY: an all-zero entry ends the table; zero is a valid value for this plain struct.
    table.push(unsafe { std::mem::zeroed() });
    // SAFETY: F1; the table is complete and lives for ever.
    check(unsafe { ffi::PyModule_AddFunctions(module.as_ptr(), Vec::leak(table).as_mut_ptr()) })?;
    Ok(())
}

/// Wraps `fn(Args) -> Result` as a function of the module.
#[macro_export]
macro_rules! function {
    ($name:literal, $function:path) => {{
        unsafe extern "C" fn entry(
            _module: *mut pyo3::ffi::PyObject,
            values: *const *mut pyo3::ffi::PyObject,
            count: pyo3::ffi::Py_ssize_t,
            keywords: *mut pyo3::ffi::PyObject,
        ) -> *mut pyo3::ffi::PyObject {
            $crate::ffi::guard(|| {
                let name: &'static std::ffi::CStr = $name;
                // SAFETY: the arguments are those of this very call.
                $function(unsafe { $crate::ffi::Args::new(name, values, count, keywords) })
            })
        }
        entry
    }};
}
