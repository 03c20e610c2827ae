//! `SocketWaiter`: what a waiting operation hands up to its task, a future as far as a task looks at it.
//!
//! asyncio lets any object stand in for a future (`_asyncio_future_blocking`, see `asyncio.isfuture`). A stand-in costs a
//! third of a future of CPython's, and whoever waits is woken in the very turn of the event: no task can be cancelled
//! between the receipt of its data and the step that gets it, so none loses data that way.
//!
//! It carries no result: that it is done says only that the operation may go on, and the operation has the outcome.
//!
//! Source: asyncio's documentation of Future; CPython Lib/asyncio/futures.py, Modules/_asynciomodule.c
//! (`task_step_handle_result_impl`).

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::ffi;

use crate::context::CallContext;
use crate::event_loop::EventLoop;
use crate::ffi::call::call_with_keywords;
use crate::ffi::raise::{self, runtime_error, type_error};
use crate::ffi::{
    Args, GilCell, HeapType, Instance, Owned, Payload, Raised, Result, call, call_method, check,
};
use crate::handle::{Call, new_handle, of_work};
use crate::names::{import, names};
use crate::work::{Kind, Work};
use crate::{getter, method, method_noargs, method_one, setter, unary_slot};

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
    fn owner(&self) -> &Instance<EventLoop> {
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

    /// Calls a callback as the loop would: in its context, with failures reported. Debug mode wants to measure it, which
    /// is done to what comes from the ready queue.
    #[inline]
    fn call(&self, callback: Callback) -> Result<()> {
        if self.owner().debug() {
            self.queue(callback);
            return Ok(());
        }
        let handle = Work::new(Kind::Handle, self.handle(callback)?);
        of_work(&handle).run()
    }

    #[inline]
    fn handle(&self, callback: Callback) -> Result {
        let done = self.state.with(|state| matches!(state.outcome, Outcome::Done));
        let argument = match FINISHED.get() {
            Some(finished) if done && is_wake_up(&callback.function) => finished.as_ptr(),
            _ => self.as_ptr(),
        };
        let context = CallContext::given(callback.context);
        new_handle(self.owner(), Call::new(callback.function, &[argument], context)?)
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

    /// As [`Self::check_not_cancelled`], for who asks too early too.
    fn check_done(&self) -> Result {
        self.check_not_cancelled()?;
        if self.is_pending() {
            // SAFETY: F1; a living class object.
            unsafe {
                ffi::PyErr_SetString(names().invalid_state_error.as_ptr(), c"Result is not set.".as_ptr());
            }
            return Err(Raised);
        }
        Ok(Owned::none())
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

fn add_done_callback(this: &Instance<SocketWaiter>, args: Args<'_>) -> Result {
    args.at_least(1, &["fn"])?;
    let context = args.only_keyword(&names().context)?;
    // SAFETY: F1; the arguments are alive during the call.
    let callback = unsafe {
        Callback {
            function: Owned::from_borrowed(args.positional()[0]),
            context: match context.and_then(|context| Owned::from_optional(*context)) {
                Some(context) => context,
                None => Owned::from_new(ffi::PyContext_CopyCurrent())?,
            },
        }
    };
    let late = this.state.with(|state| {
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
        this.queue(callback);
    }
    Ok(Owned::none())
}

fn remove_done_callback(this: &Instance<SocketWaiter>, function: &Owned) -> Result {
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
    let mut kept = this.state.with(State::take_callbacks).filter(stays).collect::<Vec<_>>().into_iter();
    this.state.with(|state| {
        // Whatever was added meanwhile comes after them.
        let added = state.take_callbacks();
        state.first = kept.next();
        state.others.extend(kept);
        state.others.extend(added);
    });
    Owned::int(outcome?)
}

fn cancel(this: &Instance<SocketWaiter>, args: Args<'_>) -> Result {
    let [message] = args.bind([&names().msg], 0)?;
    // SAFETY: the argument is alive during the call.
    let message = message.and_then(|message| unsafe { Owned::from_optional(message) });
    let callbacks = this.state.with(|state| {
        if !matches!(state.outcome, Outcome::Pending) {
            return None;
        }
        state.outcome = Outcome::Cancelled(message);
        Some(state.take_callbacks())
    });
    let Some(callbacks) = callbacks else {
        return Ok(Owned::bool(false));
    };
    for callback in callbacks {
        this.queue(callback);
    }
    Ok(Owned::bool(true))
}

fn cancelled(this: &Instance<SocketWaiter>) -> Result {
    Ok(Owned::bool(this.state.with(|state| matches!(state.outcome, Outcome::Cancelled(_)))))
}

fn done(this: &Instance<SocketWaiter>) -> Result {
    Ok(Owned::bool(!this.is_pending()))
}

fn result(this: &Instance<SocketWaiter>) -> Result {
    this.check_done()
}

/// `_loop`, where asyncio looks when an object has no `get_loop`; it saves the task a call.
fn get_loop(this: &Instance<SocketWaiter>) -> Result {
    Ok(this.owner.clone())
}

fn get_blocking(this: &Instance<SocketWaiter>) -> Result {
    Ok(Owned::bool(this.blocking.load(Ordering::Relaxed)))
}

fn set_blocking(this: &Instance<SocketWaiter>, value: Option<&Owned>) -> Result<()> {
    let value = value.ok_or_else(|| type_error("_asyncio_future_blocking cannot be deleted"))?;
    // SAFETY: F1; a living object.
    let blocking = check(unsafe { ffi::PyObject_IsTrue(value.as_ptr()) })? != 0;
    this.blocking.store(blocking, Ordering::Relaxed);
    Ok(())
}

fn iter(this: &Instance<SocketWaiter>) -> Result {
    Ok(this.owned())
}

/// One step of `await waiter`: itself while the wait goes on, then the end.
fn next(this: &Instance<SocketWaiter>) -> Result {
    this.check_not_cancelled()?;
    if !this.is_pending() {
        return Err(Raised);
    }
    if this.blocking.swap(true, Ordering::Relaxed) {
        return Err(runtime_error("await wasn't used with future"));
    }
    Ok(this.owned())
}

fn repr(this: &Instance<SocketWaiter>) -> Result {
    Owned::str(match this.state.with(|state| state.outcome.clone()) {
        Outcome::Pending => "<SocketWaiter pending>",
        Outcome::Done => "<SocketWaiter finished>",
        Outcome::Cancelled(_) => "<SocketWaiter cancelled>",
    })
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
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

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: F2.
    let this = unsafe { Instance::<SocketWaiter>::from_ptr(object) };
    drop(this.state.take());
    0
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
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

/// Makes the type and adds it to the module.
pub fn load(module: &Owned) -> Result<()> {
    if WAITER.get().is_none() {
        let _ = FINISHED.set(finished_future()?);
        let made = HeapType::new(c"antiphon._antiphon.SocketWaiter", Instance::<SocketWaiter>::SIZE)
            .collected()
            .no_constructor()
            .doc(c"What a task waits for while a sock_* operation waits for its socket.")
            .slot(ffi::Py_tp_traverse, traverse as *mut c_void)
            .slot(ffi::Py_tp_clear, clear as *mut c_void)
            .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
            .slot(ffi::Py_tp_repr, unary_slot!(repr))
            .slot(ffi::Py_am_await, unary_slot!(iter))
            .slot(ffi::Py_tp_iter, unary_slot!(iter))
            .slot(ffi::Py_tp_iternext, unary_slot!(next))
            .weak_references(Instance::<SocketWaiter>::WEAKREF_OFFSET)
            .method(
                c"add_done_callback",
                method!(c"add_done_callback", add_done_callback),
                c"add_done_callback(fn, *, context=None): call it when the wait is over.",
            )
            .method_one(
                c"remove_done_callback",
                method_one!(remove_done_callback),
                c"Take a callback back; how many there were.",
            )
            .method(
                c"cancel",
                method!(c"cancel", cancel),
                c"cancel(msg=None): end the wait; whether it went on.",
            )
            .method_noargs(c"cancelled", method_noargs!(cancelled), c"Whether it was cancelled.")
            .method_noargs(c"done", method_noargs!(done), c"Whether the wait is over.")
            .method_noargs(c"result", method_noargs!(result), c"None once the wait is over.")
            .method_noargs(c"exception", method_noargs!(result), c"None once the wait is over.")
            .attribute(c"_loop", getter!(get_loop), None, c"The loop.")
            .attribute(
                c"_asyncio_future_blocking",
                getter!(get_blocking),
                Some(setter!(set_blocking)),
                c"Whether it is on its way to a task (asyncio's protocol).",
            )
            .build(None, Instance::<SocketWaiter>::PAYLOAD_OFFSET)?;
        let _ = WAITER.set(made as usize);
    }
    crate::add_type(module, c"SocketWaiter", SocketWaiter::type_object())
}
