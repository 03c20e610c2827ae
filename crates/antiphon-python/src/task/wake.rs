//! A task's step and wake-up as Python callables: for loops that know `call_soon` only, and for futures that are not ours.
//!
//! Both run in a context that the caller has entered.
//!
//! Source: CPython Modules/_asynciomodule.c (`TaskStepMethWrapper`, `task_wakeup`).

use pyo3::ffi;

use super::{TaskObject, current, registry};
use crate::ffi::call::call_with_keywords;
use crate::ffi::derived::{BoundMethod, bind, bound_method};
use crate::ffi::raise;
use crate::ffi::{Owned, Raised, Result, This, call_method, guard};
use crate::future::FutureRef;
use crate::names::names;

static STEP: BoundMethod = bound_method(c"task_step", step, ffi::METH_NOARGS);
static WAKE_UP: BoundMethod = bound_method(c"task_wakeup", wake_up, ffi::METH_O);

unsafe extern "C" fn step(task: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    guard(|| {
        // SAFETY: bound to tasks only.
        let this: &TaskObject = unsafe { This::from_ptr(task) };
        this.step_by_call(None).map(|()| Owned::none())
    })
}

unsafe extern "C" fn wake_up(task: *mut ffi::PyObject, future: *mut ffi::PyObject) -> *mut ffi::PyObject {
    guard(|| {
        // SAFETY: bound to tasks only; the argument is alive during the call.
        let (this, future) = unsafe { (TaskObject::from_ptr(task), Owned::from_borrowed(future)) };
        registry::draw_edge(this, &future, false)?;
        this.step_by_call(ending_of(&future)?).map(|()| Owned::none())
    })
}

/// What `future.result()` raises.
fn ending_of(future: &Owned) -> Result<Option<Owned>> {
    if let Some(native) = FutureRef::cast(future) {
        return native.exception_to_raise();
    }
    match call_method(future, &names().result, []) {
        Ok(_) => Ok(None),
        Err(Raised) => Ok(raise::take()),
    }
}

/// The task of ours that `function` is the wake-up of, if it is one: whoever is about to call it may step the task itself.
pub fn woken_by(function: &Owned) -> Option<Owned> {
    // SAFETY: F1; the object's type is compared before it is read as a function; what it is bound to lives as long as it.
    unsafe {
        if ffi::PyCFunction_CheckExact(function.as_ptr()) == 0 {
            return None;
        }
        let entry = ffi::PyCFunction_GetFunction(function.as_ptr())?;
        let expected: ffi::PyCFunction = wake_up;
        if entry as usize != expected as usize {
            return None;
        }
        Some(Owned::from_borrowed(ffi::PyCFunction_GetSelf(function.as_ptr())))
    }
}

impl TaskObject {
    /// The wake-up as a callable.
    pub fn wake_up(&self) -> Result {
        bind(&WAKE_UP, &self.owned())
    }

    /// `loop.call_soon(step, context=context)` of a loop that is not ours.
    #[cold]
    pub(super) fn call_soon_foreign(&self) -> Result<()> {
        let names = names();
        let future = self.as_future();
        let call_soon = future.owner_or_none().attr(&names.call_soon)?;
        let step = bind(&STEP, &self.owned())?;
        let context = self.context().unwrap_or_else(Owned::none);
        call_with_keywords(&call_soon, &[&step, &context], Some(&names.context_keyword))?;
        Ok(())
    }

    /// A step that a callback brought about.
    fn step_by_call(&self, ending: Option<Owned>) -> Result<()> {
        if self.as_future().state().is_done() {
            return Err(self.already_done());
        }
        let (_waiter, thrown) = self.inner.with(|inner| inner.stop_waiting());
        let thrown = self.with_cancellation(thrown.or(ending))?;
        let owner = self.as_future().owner_or_none();
        let task = self.owned();
        current::enter(&owner, &task)?;
        let stepped = self.step_here(thrown);
        let exception = if stepped.is_err() { raise::take() } else { None };
        let left = current::leave(&owner, &task);
        match exception {
            Some(exception) => {
                if left.is_err() {
                    drop(raise::take());
                }
                Err(raise::restore(exception))
            }
            None => left,
        }
    }
}
