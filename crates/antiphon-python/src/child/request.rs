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

#[derive(FromPyObject)]
struct Request {
    programs: Vec<Vec<u8>>,
    arguments: Vec<Vec<u8>>,
    /// `None`: the parent's.
    environment: Option<Vec<Vec<u8>>>,
    directory: Option<Vec<u8>>,
    /// -1: the parent's.
    stdio: [RawFd; 3],
    keep: Vec<RawFd>,
    close_others: bool,
    restore_signals: bool,
    new_session: bool,
    /// -1: the parent's.
    process_group: i32,
    /// Negative: the parent's.
    umask: i32,
}

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
    Ok(ChildCommand {
        programs: strings(request.programs)?,
        arguments: strings(request.arguments)?,
        environment: request.environment.map_or_else(|| Ok(environment_now()), strings)?,
        directory: request.directory.map(string).transpose()?,
        stdio: request.stdio.map(|fd| (fd >= 0).then_some(fd)),
        keep: request.keep,
        close_others: request.close_others,
        restore_signals: request.restore_signals,
        new_session: request.new_session,
        process_group: (request.process_group != -1).then_some(request.process_group),
        umask: u32::try_from(request.umask).ok(),
        signal_mask: SignalMask::of_this_thread(),
    })
}

fn strings(list: Vec<Vec<u8>>) -> PyResult<Vec<CString>> {
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
