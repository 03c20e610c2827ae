//! What a coroutine yields to its task, and what the task does about it.
//!
//! Futures of ours take the task itself among their callbacks. Anything else with `_asyncio_future_blocking` is asked by
//! asyncio's protocol. Nothing else may be yielded but `None`.
//!
//! Source: CPython Lib/asyncio/tasks.py (`__step_run_and_handle_result`), Modules/_asynciomodule.c
//! (`task_step_handle_result_impl`) for the order of the questions.

use std::ffi::CStr;

use pyo3::ffi;

use super::{TaskObject, registry, sleep, task_type};
use crate::ffi::call::call_with_keywords;
use crate::ffi::raise;
use crate::ffi::{Owned, Raised, Result, This, call_method, check};
use crate::future::{FutureObject, FutureRef, future_type};
use crate::names::names;
use crate::work::{Kind, Work};

impl TaskObject {
    /// Waits for what the coroutine yielded.
    #[inline(always)]
    pub(super) fn wait_for(&self, value: Owned) -> Result<()> {
        if value.is_exactly(future_type()) || value.is_exactly(task_type()) {
            // SAFETY: the type was compared.
            let future: &FutureObject = unsafe { This::from_ptr(value.as_ptr()) };
            return self.wait_for_native(future, value);
        }
        if value.is_none() {
            return self.schedule_step();
        }
        self.wait_for_foreign(value)
    }

    /// Has the next step come in the next turn.
    #[inline(always)]
    pub(super) fn schedule_step(&self) -> Result<()> {
        match self.as_future().native_owner() {
            Some(owner) => {
                owner.check_open()?;
                owner.push(Work::new(Kind::Step, self.owned()));
                Ok(())
            }
            None => self.call_soon_foreign(),
        }
    }

    #[inline(always)]
    fn wait_for_native(&self, future: &FutureObject, value: Owned) -> Result<()> {
        if future.as_ptr() == self.as_ptr() {
            return self.refuse(c"Task cannot await on itself: %R", &value, false);
        }
        if !future.is_of_same_loop(self.as_future()) {
            return self.refuse(c"Task %R got Future %R attached to a different loop", &value, true);
        }
        if !future.take_offer() {
            return self.refuse(c"yield was used instead of yield from in task %R with %R", &value, true);
        }
        if cfg!(Py_3_14) && value.is_exactly(task_type()) {
            registry::draw_edge(self, &value, true)?;
        }
        if !self.fall_asleep(future) {
            drop(self.inner.with(|inner| inner.wait_for(value)));
            future.add_task(self)?;
        }
        self.hand_on_cancellation()
    }

    /// A cancellation that came while the task ran goes to what it waits for now.
    #[inline(always)]
    fn hand_on_cancellation(&self) -> Result<()> {
        if !self.inner.with(|inner| inner.cancellation.is_due()) {
            return Ok(());
        }
        let message = self.as_future().cancel_message();
        if self.cancel_waiter(message.as_ref())? {
            self.inner.with(|inner| inner.cancellation.take_due());
        }
        Ok(())
    }

    /// Anything that is no future of ours: asyncio's protocol decides.
    fn wait_for_foreign(&self, value: Owned) -> Result<()> {
        let outcome = self.ask_foreign(&value);
        let Err(Raised) = outcome else {
            return outcome;
        };
        // What the object's own methods raise goes back into the coroutine.
        let Some(exception) = raise::take() else {
            return Ok(());
        };
        if raise::leaves_loop(&exception) {
            return Err(raise::restore(exception));
        }
        self.throw_next(exception)
    }

    fn ask_foreign(&self, value: &Owned) -> Result<()> {
        let names = names();
        let Some(blocking) = optional_attribute(value, &names._asyncio_future_blocking)? else {
            return self.refuse_stranger(value);
        };
        if blocking.is_none() {
            return self.refuse_stranger(value);
        }
        let owner = loop_of(value)?;
        if owner.as_ptr() != self.as_future().owner_ptr() {
            return self.refuse(c"Task %R got Future %R attached to a different loop", value, true);
        }
        if !blocking.truth()? {
            return self.refuse(c"yield was used instead of yield from in task %R with %R", value, true);
        }
        if value.as_ptr() == self.as_ptr() {
            return self.refuse(c"Task cannot await on itself: %R", value, false);
        }
        // SAFETY: F1; living objects.
        check(unsafe {
            ffi::PyObject_SetAttr(value.as_ptr(), names._asyncio_future_blocking.as_ptr(), ffi::Py_False())
        })?;
        let add = value.attr(&names.add_done_callback)?;
        let context = self.context().unwrap_or_else(Owned::none);
        call_with_keywords(&add, &[&self.wake_up()?, &context], Some(&names.context_keyword))?;
        let before = self.inner.with(|inner| inner.wait_for(value.clone()));
        drop(before);
        registry::draw_edge(self, value, true)?;
        self.hand_on_cancellation()
    }

    #[cold]
    fn refuse_stranger(&self, value: &Owned) -> Result<()> {
        // SAFETY: F1; comparing the type of a living object.
        if unsafe { ffi::PyGen_CheckExact(value.as_ptr()) } != 0 {
            let words = c"yield was used instead of yield from for generator in task %R with %R";
            return self.refuse(words, value, true);
        }
        self.refuse(c"Task got bad yield: %R", value, false)
    }

    /// Throws a `RuntimeError` into the coroutine in the next turn. `words` takes the task if `with_task`, then the value.
    #[cold]
    fn refuse(&self, words: &'static CStr, value: &Owned, with_task: bool) -> Result<()> {
        // SAFETY: F1; the format takes as many objects as it is given.
        unsafe {
            if with_task {
                let task = self.as_ptr();
                ffi::PyErr_Format(ffi::PyExc_RuntimeError, words.as_ptr(), task, value.as_ptr());
            } else {
                ffi::PyErr_Format(ffi::PyExc_RuntimeError, words.as_ptr(), value.as_ptr());
            }
        }
        match raise::take() {
            Some(exception) => self.throw_next(exception),
            None => Ok(()),
        }
    }

    /// Throws into the coroutine in the next turn.
    fn throw_next(&self, exception: Owned) -> Result<()> {
        let before = self.inner.with(|inner| inner.throw_next(exception));
        drop(before);
        self.schedule_step()
    }

    /// Cancels what it waits for; whether that took the cancellation upon itself.
    pub(super) fn cancel_waiter(&self, message: Option<&Owned>) -> Result<bool> {
        let Some(waiter) = self.inner.with(|inner| inner.waiter()) else {
            return Ok(false);
        };
        if let Some(cancelled) = sleep::cast(&waiter).and_then(|asleep| self.cancel_sleep(asleep, message)) {
            return cancelled;
        }
        let waiter = self.shown_waiter()?.unwrap_or(waiter);
        if let Some(future) = FutureRef::cast(&waiter) {
            return future.cancel(message);
        }
        let names = names();
        let none = Owned::none();
        let message = message.unwrap_or(&none);
        let cancel = waiter.attr(&names.cancel)?;
        call_with_keywords(&cancel, &[message], Some(&names.msg_keyword))?.truth()
    }
}

/// `getattr(object, name, None)`.
fn optional_attribute(object: &Owned, name: &Owned) -> Result<Option<Owned>> {
    match object.attr(name) {
        Ok(value) => Ok(Some(value)),
        // SAFETY: F1; the class is alive while the interpreter is.
        Err(Raised) if raise::matches(unsafe { ffi::PyExc_AttributeError }) => {
            drop(raise::take());
            Ok(None)
        }
        Err(raised) => Err(raised),
    }
}

/// The loop of a future-like object: what `get_loop()` says, `_loop` where there is no such method.
fn loop_of(future: &Owned) -> Result {
    let names = names();
    match optional_attribute(future, &names.get_loop)? {
        Some(_) => call_method(future, &names.get_loop, []),
        None => future.attr(&names._loop),
    }
}
