//! The loop at hand: ours as a rule, any other that keeps asyncio's interface if need be.

use std::sync::OnceLock;

use pyo3::ffi;

use crate::event_loop::EventLoop;
use crate::ffi::{Instance, Owned, Payload, Result, call, call_method};
use crate::future::FutureRef;
use crate::names::names;

/// The class of the first loop of ours that was asked about, kept alive: nearly every other is of that class, too.
static USUAL: OnceLock<Owned> = OnceLock::new();

/// The loop as one of ours, if it is.
#[inline(always)]
pub fn native(owner: &Owned) -> Option<&Instance<EventLoop>> {
    // SAFETY: F1; a living object, taken for one of ours (F2) only if it is of a class that was found to be.
    unsafe {
        let usual = USUAL.get().is_some_and(|class| owner.is_exactly(class.as_ptr().cast()));
        (usual || is_native(owner)).then(|| Instance::from_ptr(owner.as_ptr()))
    }
}

#[cold]
fn is_native(owner: &Owned) -> bool {
    // SAFETY: F1; living objects.
    unsafe {
        let class = ffi::Py_TYPE(owner.as_ptr());
        let native = ffi::PyType_IsSubtype(class, EventLoop::type_object()) != 0;
        if native {
            let _ = USUAL.set(Owned::from_borrowed(class.cast()));
        }
        native
    }
}

/// Whether it is one of ours, and this thread runs it.
#[inline]
pub fn runs_here(owner: &Owned) -> bool {
    native(owner).is_some_and(|native| native.is_running() && native.seat().is_mine())
}

/// The task that runs in the loop now.
#[inline]
pub fn current_task(owner: &Owned) -> Result<Option<Owned>> {
    if let Some(native) = native(owner) {
        return Ok(crate::task::current(native));
    }
    let names = names();
    let task = call(&names.tasks_module.attr(&names.current_task)?, [owner])?;
    Ok(if task.is_none() { None } else { Some(task) })
}

/// `asyncio.get_event_loop()`: the running one, else the policy's.
///
/// # Errors
/// `RuntimeError` where neither is to be had.
pub fn event_loop() -> Result {
    let names = names();
    let running = call(&names.events_module.attr(&names._get_running_loop)?, [])?;
    if !running.is_none() {
        return Ok(running);
    }
    call(&names.events_module.attr(&names.get_event_loop)?, [])
}

/// `loop.create_future()`.
#[inline]
pub fn create_future(owner: &Owned) -> Result {
    match native(owner) {
        Some(native) => FutureRef::new(native).map(FutureRef::into_object),
        None => call_method(owner, &names().create_future, []),
    }
}

/// `loop.call_exception_handler(context)` with these entries.
#[cold]
pub fn report(owner: &Owned, message: &str, exception: &Owned, more: &[(&Owned, &Owned)]) -> Result<()> {
    report_object(owner, &Owned::str(message)?, exception, more)
}

/// [`report`] with a message that Python has made.
#[cold]
pub fn report_object(
    owner: &Owned,
    message: &Owned,
    exception: &Owned,
    more: &[(&Owned, &Owned)],
) -> Result<()> {
    let names = names();
    // SAFETY: F1; living objects.
    unsafe {
        let context = Owned::from_new(ffi::PyDict_New())?;
        let entries = [(&names.message, message), (&names.exception, exception)];
        for (key, value) in entries.iter().chain(more) {
            crate::ffi::check(ffi::PyDict_SetItem(context.as_ptr(), key.as_ptr(), value.as_ptr()))?;
        }
        call_method(owner, &names.call_exception_handler, [&context]).map(drop)
    }
}
