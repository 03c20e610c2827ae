//! How those who wait hear that a future is done.
//!
//! On a loop of ours the future itself becomes one entry of the ready queue, which calls everybody in order, each in its
//! context: asyncio queues one handle each, next to each other, so nobody can tell the difference. Debug mode wants to
//! measure each, and another kind of loop knows `call_soon` only: there every callback goes by itself.
//!
//! Source: CPython Lib/asyncio/futures.py (`__schedule_callbacks`, `add_done_callback`, `remove_done_callback`).

use pyo3::ffi;

use super::callback::{Callback, Callee, observe};
use super::{FutureObject, FutureRef};
use crate::context::CallContext;
use crate::event_loop::EventLoop;
use crate::ffi::call::call_with_keywords;
use crate::ffi::raise;
use crate::ffi::{Instance, Owned, Raised, Result, This, call, check};
use crate::handle::{Call, new_handle, queue};
use crate::names::{import, names};
use crate::task::{TaskObject, current, sleep, step};
use crate::work::{Kind, Work};

impl FutureObject {
    /// Has the callbacks called in the next turn. The future is done.
    ///
    /// # Errors
    /// `RuntimeError`: the loop is closed; then nobody is called. They stay here until the future goes: a coroutine may be
    /// closing itself by this call, and the last reference to the task that runs it may be among them. Were it dropped now,
    /// the coroutine around that one would be closed while the inner one still runs, which is an error.
    pub(super) fn schedule(&self) -> Result<()> {
        match self.native_owner() {
            Some(owner) if owner.is_closed() => {
                if self.inner.with(|inner| inner.callbacks.is_empty()) {
                    Ok(())
                } else {
                    owner.check_open()
                }
            }
            Some(owner) if !owner.debug() => {
                if let Some(task) = self.inner.with(|inner| inner.callbacks.take_only_task()) {
                    owner.push(Work::new(Kind::Step, task));
                    return Ok(());
                }
                if owner.hand_off().is_some() {
                    // One that blocks must not keep the others waiting.
                    return self.schedule_each();
                }
                owner.push(Work::new(Kind::Advance, self.owned()));
                Ok(())
            }
            _ => self.schedule_each(),
        }
    }

    /// One `call_soon` each.
    #[cold]
    fn schedule_each(&self) -> Result<()> {
        let mut outcome = Ok(());
        while let Some(callback) = self.inner.with(|inner| inner.callbacks.pop()) {
            // After a failure the others are dropped, as asyncio drops them.
            if outcome.is_ok() {
                outcome = self.schedule_one(&callback);
            }
        }
        outcome
    }

    /// `loop.call_soon(callback, future, context=context)`.
    fn schedule_one(&self, callback: &Callback) -> Result<()> {
        if callback.callee() == Callee::Task
            && let Some(owner) = self.native_owner()
        {
            owner.check_open()?;
            owner.push(Work::new(Kind::Step, callback.object()));
            return Ok(());
        }
        let (callable, context) = callback.shown()?;
        let Some(owner) = self.native_owner() else {
            let names = names();
            let call_soon = self.owner_or_none().attr(&names.call_soon)?;
            let arguments = [&callable, &self.owned(), &context];
            call_with_keywords(&call_soon, &arguments, Some(&names.context_keyword))?;
            return Ok(());
        };
        owner.check_open()?;
        if owner.debug() {
            owner.check_thread()?;
        }
        queue(owner, Call::new(callable, &[self.as_ptr()], CallContext::given(context))?)?;
        Ok(())
    }

    /// Adds one who is to hear of the end, or tells them in the next turn when it has come.
    #[inline(always)]
    fn add(&self, callback: Callback) -> Result<()> {
        let late = self.inner.with(|inner| {
            if inner.state.is_done() {
                return Some(callback);
            }
            inner.callbacks.push(callback);
            None
        });
        match late {
            None => Ok(()),
            Some(callback) => self.schedule_one(&callback),
        }
    }

    /// `add_done_callback`; the context is a copy of the current one if none is given.
    #[inline(always)]
    pub fn add_callback(&self, callable: Owned, context: Option<Owned>) -> Result<()> {
        let context = match context {
            Some(context) => context,
            // SAFETY: F1; gives a new reference or null.
            None => unsafe { Owned::from_new(ffi::PyContext_CopyCurrent())? },
        };
        self.add(Callback::function(callable, context))
    }

    /// Lets a task wait for it.
    #[inline(always)]
    pub fn add_task(&self, task: &TaskObject) -> Result<()> {
        self.add(Callback::task(task.owned()))
    }

    /// The callbacks of a pending future, copied: comparing and showing them runs Python code (F3).
    pub(super) fn callbacks(&self) -> Vec<Callback> {
        self.inner.with(|inner| {
            if inner.state.is_done() { Vec::new() } else { inner.callbacks.iter().cloned().collect() }
        })
    }

    /// `remove_done_callback`: how many were equal to `function`.
    pub fn remove_callback(&self, function: &Owned) -> Result<usize> {
        let mut removed = 0;
        for callback in self.callbacks() {
            let same = match callback.callee() {
                Callee::Function => equal(function, &callback.object())?,
                Callee::Observer | Callee::Task => equal(function, &callback.shown()?.0)?,
            };
            if same {
                removed += usize::from(self.forget(callback.as_ptr()));
            }
        }
        Ok(removed)
    }

    /// Takes out the first callback with this very object, unless they are on their way already.
    fn forget(&self, object: *mut ffi::PyObject) -> bool {
        let removed = self
            .inner
            .with(|inner| if inner.state.is_done() { None } else { inner.callbacks.remove(object) });
        removed.is_some()
    }

    /// The future's turn: everybody who waited for it is called, in order. One that is still pending comes from the timer
    /// heap: its time has come, and it ends with what its sleep is to give.
    ///
    /// # Errors
    /// `KeyboardInterrupt` and `SystemExit`; the others are called in the next turn then.
    pub fn run_callbacks(&self, owner: &Instance<EventLoop>) -> Result<()> {
        if !self.state().is_done() {
            return self.finish_sleep();
        }
        while let Some(callback) = self.inner.with(|inner| inner.callbacks.pop()) {
            if let Err(raised) = self.run_callback(owner, callback) {
                if self.inner.with(|inner| !inner.callbacks.is_empty()) {
                    owner.push(Work::new(Kind::Advance, self.owned()));
                }
                return Err(raised);
            }
        }
        Ok(())
    }

    /// Ends the future of a sleep.
    ///
    /// # Errors
    /// What a loop's `call_soon` raises.
    pub fn finish_sleep(&self) -> Result<()> {
        let result = self.sleep().and_then(|asleep| sleep::result_of(&asleep));
        self.finish(result.unwrap_or_else(Owned::none))
    }

    #[inline(always)]
    fn run_callback(&self, owner: &Instance<EventLoop>, callback: Callback) -> Result<()> {
        let callee = callback.callee();
        if callee != Callee::Task && owner.shows_task() {
            current::hide(owner);
        }
        let outcome = match callee {
            Callee::Function => self.call_function(&callback),
            Callee::Observer => observe(&callback.object(), &FutureRef(self.owned())),
            Callee::Task => step::run(owner, &callback.object()),
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(Raised) => self.report(owner, &callback),
        }
    }

    #[inline(always)]
    fn call_function(&self, callback: &Callback) -> Result<()> {
        let Some(context) = callback.context() else {
            return Ok(());
        };
        // SAFETY: F1; living objects, a free place before the argument. A context that was entered is left on every path,
        // as `Context.run` does it.
        unsafe {
            check(ffi::PyContext_Enter(context.as_ptr()))?;
            let arguments = [std::ptr::null_mut(), self.as_ptr()];
            let called = Owned::from_new(ffi::PyObject_Vectorcall(
                callback.as_ptr(),
                arguments.as_ptr().add(1),
                1 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                std::ptr::null_mut(),
            ));
            let left = check(ffi::PyContext_Exit(context.as_ptr()));
            called.and(left).map(drop)
        }
    }

    /// Tells the loop's exception handler of a callback that raised, as if a handle had run it.
    #[cold]
    fn report(&self, owner: &Instance<EventLoop>, callback: &Callback) -> Result<()> {
        let Some(exception) = raise::take() else {
            return Ok(());
        };
        if raise::leaves_loop(&exception) {
            return Err(raise::restore(exception));
        }
        let (callable, context) = callback.shown()?;
        let arguments = Owned::tuple([self.owned()])?;
        let handle =
            new_handle(owner, Call::new(callable.clone(), &[self.as_ptr()], CallContext::given(context))?)?;
        let reporter = import("antiphon.debug", "callback_failed")?;
        call(&reporter, [&owner.owned(), &handle, &callable, &arguments, &exception])?;
        Ok(())
    }
}

fn equal(left: &Owned, right: &Owned) -> Result<bool> {
    // SAFETY: F1; living objects.
    check(unsafe { ffi::PyObject_RichCompareBool(left.as_ptr(), right.as_ptr(), ffi::Py_EQ) })
        .map(|answer| answer != 0)
}

/// Gives a future its turn; `None`: the object is none.
#[inline(always)]
pub fn run(owner: &Instance<EventLoop>, object: &Owned) -> Option<Result<()>> {
    let future = FutureRef::cast(object)?;
    // SAFETY: cast just now.
    let this: &FutureObject = unsafe { This::from_ptr(future.object().as_ptr()) };
    Some(this.run_callbacks(owner))
}

impl FutureRef {
    /// Has `observer` called by its type's [`super::Observer`] when the future is done, in its place among the callbacks;
    /// in the next turn when it is done already. The future keeps the observer alive until then.
    pub fn watch(&self, observer: Owned) -> Result<()> {
        self.this().add(Callback::observer(observer))
    }

    /// Keeps a task that has heard of the end, and whose turn will never come.
    pub fn keep(&self, task: &TaskObject) {
        let mut kept = Some(Callback::task(task.owned()));
        self.this().inner.with(|inner| {
            if inner.state.is_done()
                && let Some(task) = kept.take()
            {
                inner.callbacks.push(task);
            }
        });
    }

    /// Takes [`Self::watch`] back; how often it had been called for this observer.
    pub fn unwatch(&self, observer: &Owned) -> usize {
        let mut removed = 0;
        while self.this().forget(observer.as_ptr()) {
            removed += 1;
        }
        removed
    }
}
