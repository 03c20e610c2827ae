//! `SocketWaiter`: what a waiting operation hands up to its task, a future as far as a task looks at it.
//!
//! asyncio lets any object stand in for a future (`_asyncio_future_blocking`, see `asyncio.isfuture`). A stand-in costs
//! half of what a future of CPython's costs, and whoever waits is woken in the very turn of the event: no task can be cancelled
//! between the receipt of its data and the step that gets it, so none loses data that way.
//!
//! It carries no result: that it is done says only that the operation may go on, and the operation has the outcome.
//!
//! Source: CPython Lib/asyncio/futures.py, Modules/_asynciomodule.c (`task_wakeup`).

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::ffi;

use crate::context::CallContext;
use crate::event_loop::EventLoop;
use crate::ffi::call::call_with_keywords;
use crate::ffi::raise;
use crate::ffi::{GilCell, Instance, Owned, Payload, Raised, Result, call, call_method, check};
use crate::handle::{Call, new_handle, of_work};
use crate::names::{import, names};
use crate::task::{step, wake};
use crate::work::{Kind, Work};

/// Whether the wait is over.
#[derive(Clone, Default)]
enum Outcome {
    #[default]
    Pending,
    Done,
    /// With the message of `cancel(msg)`.
    Cancelled(Option<Owned>),
}

/// To be called when the wait is over.
struct Callback {
    function: Owned,
    context: Owned,
}

#[derive(Default)]
struct State {
    outcome: Outcome,
    /// A task's wake-up, as a rule the only one.
    first: Option<Callback>,
    others: Vec<Callback>,
}

impl State {
    fn take_callbacks(&mut self) -> impl Iterator<Item = Callback> + use<> {
        self.first.take().into_iter().chain(std::mem::take(&mut self.others))
    }
}

/// The payload of `SocketWaiter`.
pub struct SocketWaiter {
    owner: Owned,
    state: GilCell<State>,
    /// `_asyncio_future_blocking`: set on the way up to the task, which takes it back.
    blocking: AtomicBool,
}

static WAITER: OnceLock<usize> = OnceLock::new();

/// A finished future of CPython's, of no loop.
///
/// A task's wake-up looks at the future it is called with only to see how the wait ended, and sees that at once in one of
/// these; of any other object it calls `result()` by name, which costs as much as the rest of the step. The waiter itself
/// was asked already: it calls nobody before it is done, and the operation has the outcome.
static FINISHED: OnceLock<Owned> = OnceLock::new();

impl Payload for SocketWaiter {
    type BaseSlots = ();
    type Dictionary = ();
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        WAITER.get().map_or(ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }
}

/// A reference to a waiter.
pub type WaiterRef = crate::ffi::instance::Typed<SocketWaiter>;

/// Makes a waiter that is ready to be yielded.
#[inline]
pub fn make(owner: &Instance<EventLoop>) -> Result<WaiterRef> {
    let made = Instance::<SocketWaiter>::create(SocketWaiter {
        owner: owner.owned(),
        state: GilCell::new(State::default()),
        blocking: AtomicBool::new(true),
    })?;
    // SAFETY: made above.
    Ok(unsafe { WaiterRef::new_unchecked(made) })
}

impl Instance<SocketWaiter> {
    /// The loop.
    pub fn owner(&self) -> &Instance<EventLoop> {
        // SAFETY: waiters are made for loops only.
        unsafe { Instance::from_ptr(self.owner.as_ptr()) }
    }

    /// Whether the wait goes on.
    #[inline]
    pub fn is_pending(&self) -> bool {
        self.state.with(|state| matches!(state.outcome, Outcome::Pending))
    }

    /// Ends the wait and calls who waits, at once.
    ///
    /// # Errors
    /// `KeyboardInterrupt` and `SystemExit` from a callback; the others are called in later turns then.
    #[inline]
    pub fn wake(&self) -> Result<()> {
        let ended = self.state.with(|state| {
            let pending = matches!(state.outcome, Outcome::Pending);
            pending.then(|| {
                state.outcome = Outcome::Done;
                (state.first.take(), std::mem::take(&mut state.others))
            })
        });
        let Some((first, others)) = ended else {
            return Ok(());
        };
        let woken = first.map_or(Ok(()), |callback| self.call(callback));
        for callback in others {
            self.queue(callback);
        }
        woken
    }

    /// Calls a callback as the loop would: in its context, with failures reported. Debug mode wants to measure it, and the
    /// hand-off to take the seat from it, which is done to what comes from the ready queue.
    #[inline]
    fn call(&self, callback: Callback) -> Result<()> {
        if self.owner().debug() || self.owner().hand_off().is_some() {
            self.queue(callback);
            return Ok(());
        }
        if let Some(task) = wake::woken_by(&callback.function) {
            return match step::run(self.owner(), &task) {
                Ok(()) => Ok(()),
                Err(Raised) => self.report(callback),
            };
        }
        if let Some(finished) = FINISHED.get()
            && is_wake_up(&callback.function)
        {
            return match wake_task(&callback, finished) {
                Ok(()) => Ok(()),
                Err(Raised) => self.report(callback),
            };
        }
        let handle = Work::new(Kind::Handle, self.handle(callback)?);
        of_work(&handle).run()
    }

    fn handle(&self, callback: Callback) -> Result {
        let context = CallContext::given(callback.context);
        new_handle(self.owner(), Call::new(callback.function, &[self.as_ptr()], context)?)
    }

    /// What a task's coroutine raises is the task's own; this is something else, such as a task that runs already.
    #[cold]
    fn report(&self, callback: Callback) -> Result<()> {
        let Some(exception) = raise::take() else {
            return Ok(());
        };
        if raise::leaves_loop(&exception) {
            return Err(raise::restore(exception));
        }
        let reporter = import("antiphon.debug", "callback_failed")?;
        let function = callback.function.clone();
        let handle = self.handle(callback)?;
        let arguments = Owned::tuple([self.owned()])?;
        call(&reporter, [&self.owner, &handle, &function, &arguments, &exception]).map(drop)
    }

    fn queue(&self, callback: Callback) {
        match self.handle(callback) {
            Ok(handle) => self.owner().push(Work::new(Kind::Handle, handle)),
            Err(Raised) => raise::write_unraisable(Some(&self.owned())),
        }
    }

    /// `CancelledError` with the message that `cancel` was given, if it was cancelled.
    pub fn check_not_cancelled(&self) -> Result<()> {
        let Outcome::Cancelled(message) = self.state.with(|state| state.outcome.clone()) else {
            return Ok(());
        };
        let class = &names().cancelled_error;
        let error = match &message {
            Some(message) => call(class, [message]),
            None => call(class, []),
        };
        Err(error.map_or_else(|raised| raised, raise::restore))
    }

    /// As [`Self::check_not_cancelled`], and `InvalidStateError` for who asks too early.
    pub fn check_done(&self) -> Result<()> {
        self.check_not_cancelled()?;
        if self.is_pending() {
            // SAFETY: F1; a living class object.
            unsafe {
                ffi::PyErr_SetString(names().invalid_state_error.as_ptr(), c"Result is not set.".as_ptr());
            }
            return Err(Raised);
        }
        Ok(())
    }

    /// Adds what is to be called when the wait is over; in the next turn if it is.
    pub fn add(&self, function: Owned, context: Owned) {
        let callback = Callback { function, context };
        let late = self.state.with(|state| {
            if !matches!(state.outcome, Outcome::Pending) {
                return Some(callback);
            }
            match state.first {
                None => state.first = Some(callback),
                Some(_) => state.others.push(callback),
            }
            None
        });
        if let Some(callback) = late {
            self.queue(callback);
        }
    }

    /// Removes what equals `function`; how many there were.
    pub fn remove(&self, function: &Owned) -> Result<i64> {
        // Comparing may run Python code, so the callbacks leave the cell meanwhile (F3).
        let mut outcome = Ok(0);
        let stays = |callback: &Callback| match outcome {
            Err(Raised) => true,
            Ok(removed) => {
                // SAFETY: F1; living objects.
                let equal = check(unsafe {
                    ffi::PyObject_RichCompareBool(callback.function.as_ptr(), function.as_ptr(), ffi::Py_EQ)
                });
                outcome = equal.map(|equal| removed + i64::from(equal));
                !matches!(equal, Ok(1))
            }
        };
        let mut kept = self.state.with(State::take_callbacks).filter(stays).collect::<Vec<_>>().into_iter();
        self.state.with(|state| {
            // Whatever was added meanwhile comes after them.
            let added = state.take_callbacks();
            state.first = kept.next();
            state.others.extend(kept);
            state.others.extend(added);
        });
        outcome
    }

    /// Ends the wait without what it waited for; whether it went on. Who waits is called in the next turn.
    pub fn cancel(&self, message: Option<Owned>) -> bool {
        let callbacks = self.state.with(|state| {
            if !matches!(state.outcome, Outcome::Pending) {
                return None;
            }
            state.outcome = Outcome::Cancelled(message);
            Some(state.take_callbacks())
        });
        let Some(callbacks) = callbacks else {
            return false;
        };
        for callback in callbacks {
            self.queue(callback);
        }
        true
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.state.with(|state| matches!(state.outcome, Outcome::Cancelled(_)))
    }

    /// `_asyncio_future_blocking`.
    pub fn blocking(&self) -> bool {
        self.blocking.load(Ordering::Relaxed)
    }

    /// Sets it, and gives what it was.
    pub fn set_blocking(&self, blocking: bool) -> bool {
        self.blocking.swap(blocking, Ordering::Relaxed)
    }
}

/// Whether this is the wake-up of one of CPython's tasks: a C function bound to it.
#[inline]
fn is_wake_up(function: &Owned) -> bool {
    // SAFETY: F1; the object's type is compared before it is read as one.
    unsafe {
        if ffi::PyCFunction_CheckExact(function.as_ptr()) == 0 {
            return false;
        }
        let bound_to = ffi::PyCFunction_GetSelf(function.as_ptr());
        !bound_to.is_null() && ffi::Py_TYPE(bound_to).cast() == names().task_class.as_ptr()
    }
}

/// Steps a task in its context.
#[inline]
fn wake_task(callback: &Callback, finished: &Owned) -> Result<()> {
    let context = callback.context.as_ptr();
    // SAFETY: F1; living objects. A context that was entered is left on every path, as `Context.run` does it.
    unsafe {
        check(ffi::PyContext_Enter(context))?;
        let stepped = call(&callback.function, [finished]);
        let left = check(ffi::PyContext_Exit(context));
        stepped.and(left).map(drop)
    }
}

/// `tp_traverse`.
pub(super) unsafe extern "C" fn traverse(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: F2, and `visit` is the collector's own.
    unsafe {
        let this = Instance::<SocketWaiter>::from_ptr(object);
        let visit = |object: *mut ffi::PyObject| visit(object, arg);
        this.state.with(|state| {
            let fixed = [ffi::Py_TYPE(object).cast(), this.owner.as_ptr()].into_iter();
            let message = match &state.outcome {
                Outcome::Cancelled(Some(message)) => Some(message.as_ptr()),
                _ => None,
            };
            let callbacks = state.first.iter().chain(&state.others);
            let called =
                callbacks.flat_map(|callback| [callback.function.as_ptr(), callback.context.as_ptr()]);
            fixed.chain(message).chain(called).map(visit).find(|status| *status != 0).unwrap_or(0)
        })
    }
}

/// `tp_clear`.
pub(super) unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: F2.
    let this = unsafe { Instance::<SocketWaiter>::from_ptr(object) };
    drop(this.state.take());
    0
}

/// `tp_dealloc`.
pub(super) unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let kind = ffi::Py_TYPE(object);
        Instance::<SocketWaiter>::finish(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

/// A future needs something to ask whether it is in debug mode: `bool()` says no.
fn finished_future() -> Result {
    let names = names();
    let no_loop = call_with_keywords(
        &import("types", "SimpleNamespace")?,
        &[&import("builtins", "bool")?],
        Some(&Owned::tuple([names.get_debug.clone()])?),
    )?;
    let future = call_with_keywords(&names.future_class, &[&no_loop], Some(&names.loop_keyword))?;
    call_method(&future, &names.set_result, [&Owned::none()])?;
    Ok(future)
}

/// Remembers the type once it is made.
pub fn set_type(kind: *mut ffi::PyTypeObject) -> Result<()> {
    let _ = FINISHED.set(finished_future()?);
    let _ = WAITER.set(kind as usize);
    Ok(())
}
