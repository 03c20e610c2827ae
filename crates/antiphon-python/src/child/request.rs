//! What Python asks a child to be, as the engine's command.
//!
//! Source: `antiphon.spawn.Command`, whose fields these are.

use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

use antiphon_engine::{ChildCommand, SignalMask};
use pyo3::Borrowed;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::ffi::{Owned, Result};

type Strings = Vec<Vec<u8>>;

/// `antiphon.spawn.Command`, field by field.
type Request = (
    Strings,         // programs
    Strings,         // arguments
    Option<Strings>, // environment; `None`: the parent's
    Option<Vec<u8>>, // directory
    [RawFd; 3],      // stdio; -1: the parent's
    Vec<RawFd>,      // keep
    bool,            // close_others
    bool,            // restore_signals
    bool,            // new_session
    i32,             // process_group; -1: the parent's
    i32,             // umask; negative: the parent's
);

/// The command that `object` describes. The child blocks the signals that this thread blocks.
///
/// # Errors
/// `ValueError` for strings with a NUL, `TypeError` and `OverflowError` for what does not fit.
pub fn command(object: &Owned) -> Result<ChildCommand> {
    // SAFETY: F1; the object is alive, and borrowed for this call only.
    let request = unsafe {
        let python = Python::assume_attached();
        Borrowed::from_ptr(python, object.as_ptr()).extract::<Request>()?
    };
    Ok(convert(request)?)
}

fn convert(request: Request) -> PyResult<ChildCommand> {
    let (
        programs,
        arguments,
        environment,
        directory,
        stdio,
        keep,
        close_others,
        restore_signals,
        new_session,
        group,
        umask,
    ) = request;
    Ok(ChildCommand {
        programs: strings(programs)?,
        arguments: strings(arguments)?,
        environment: environment.map_or_else(|| Ok(environment_now()), strings)?,
        directory: directory.map(string).transpose()?,
        stdio: stdio.map(|fd| (fd != -1).then_some(fd)),
        keep,
        close_others,
        restore_signals,
        new_session,
        process_group: (group != -1).then_some(group),
        umask: u32::try_from(umask).ok(),
        signal_mask: SignalMask::of_this_thread(),
    })
}

fn strings(list: Strings) -> PyResult<Vec<CString>> {
    list.into_iter().map(string).collect()
}

fn string(bytes: Vec<u8>) -> PyResult<CString> {
    CString::new(bytes).map_err(|_| PyValueError::new_err("embedded null byte"))
}

/// A copy of the process's environment, taken while nobody who runs Python can change it: the child is started later.
fn environment_now() -> Vec<CString> {
    let mut copies = Vec::new();
    // SAFETY: a list of strings that ends in null, or null itself; Python changes it only with the interpreter's lock held.
    unsafe {
        let mut variable: *const *mut std::ffi::c_char = libc::environ;
        while !variable.is_null() && !(*variable).is_null() {
            copies.push(CStr::from_ptr(*variable).to_owned());
            variable = variable.add(1);
        }
    }
    copies
}
