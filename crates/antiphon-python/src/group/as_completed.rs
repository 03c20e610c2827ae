//! `as_completed`: an iterator over children in the order of their ends.
//!
//! Iterated plainly it gives one coroutine a child, which returns or raises what the next child to end has; from CPython
//! 3.13 on it can be iterated asynchronously, and gives the children themselves. Up to 3.12 it is a generator: nothing
//! happens before the first `next()`.
//!
//! Source: CPython Lib/asyncio/tasks.py (`as_completed`, `_AsCompletedIterator`).

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use antiphon_core::{Arrival, AsCompleted};
use pyo3::ffi;

use super::alarm::Alarm;
use super::identity::IdentitySet;
use super::next_completed;
use super::wait::{distinct, type_name};
use super::waiter::Waiter;
use super::{awaited_by, child, ensure, owner};
use crate::ffi::raise::type_error;
use crate::ffi::visitor::Visitor;
use crate::ffi::{Args, GilCell, HeapType, Instance, Owned, Payload, Raised, Result};
use crate::names::names;
use crate::{method_noargs, unary_slot};

/// What an iterator that has begun keeps.
struct Running {
    rules: AsCompleted<Owned, Waiter>,
    /// Children that are not done, or have not told yet.
    pending: IdentitySet,
    owner: Owned,
    /// The task that asked, for the call graph.
    task: Option<Owned>,
}

enum State {
    /// Of what is to be iterated, and within how many seconds.
    Unstarted {
        children: Owned,
        limit: Option<Owned>,
    },
    Running(Running),
    /// Emptied by the collector, or the start has failed.
    Gone,
}

/// The payload of the iterator.
pub struct Completing {
    state: GilCell<State>,
    alarm: Alarm,
}

static COMPLETING: OnceLock<usize> = OnceLock::new();

impl Payload for Completing {
    type BaseSlots = ();
    type Dictionary = ();
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        COMPLETING.get().map_or(ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }
}

fn as_completed(args: Args<'_>) -> Result {
    let names = names();
    args.at_most(1)?;
    let [children, limit] = args.bind([&names.fs, &names.timeout], 1)?;
    // SAFETY: the arguments are alive during the call.
    let (children, limit) = unsafe {
        (
            children.map_or_else(Owned::none, |children| Owned::from_borrowed(children)),
            limit.and_then(|limit| Owned::from_optional(limit)),
        )
    };
    let made = Instance::<Completing>::create(Completing {
        state: GilCell::new(State::Unstarted { children, limit }),
        alarm: Alarm::default(),
    })?;
    if cfg!(Py_3_13) {
        of(&made).begin()?;
    }
    Ok(made)
}

/// The iterator behind an object that this module made.
pub fn of(object: &Owned) -> &Instance<Completing> {
    // SAFETY: by the caller's word (F2): such objects are made above only.
    unsafe { Instance::from_ptr(object.as_ptr()) }
}

/// Refuses a single awaitable in the words of the running CPython.
fn check_children(children: &Owned) -> Result<()> {
    let (single, wanted) = if cfg!(Py_3_13) {
        (ensure::is_awaitable(children)?, "expects an iterable of awaitables")
    } else {
        let single = ensure::is_future(children)? || ensure::is_coroutine(children)?;
        (single, "expect an iterable of futures")
    };
    if single { Err(type_error(&format!("{wanted}, not {}", type_name(children)))) } else { Ok(()) }
}

impl Instance<Completing> {
    /// Makes futures of the children and begins to watch them.
    fn begin(&self) -> Result<()> {
        let unstarted = self.state.with(|state| match std::mem::replace(state, State::Gone) {
            State::Unstarted { children, limit } => Some((children, limit)),
            begun => {
                *state = begun;
                None
            }
        });
        let Some((children, limit)) = unstarted else {
            return Ok(());
        };
        check_children(&children)?;
        let owner = owner::event_loop()?;
        let task = awaited_by::current(&owner)?;
        let (_, different) = distinct(&children)?;
        let mut pending = IdentitySet::default();
        for awaitable in &different {
            pending.insert(ensure::ensure_future(awaitable, Some(&owner))?);
        }
        let futures = pending.to_vec();
        let rules = AsCompleted::new(futures.len());
        let running = Running { rules, pending, owner: owner.clone(), task: task.clone() };
        drop(self.state.replace(State::Running(running)));
        let this = self.owned();
        for future in &futures {
            child::watch(future, &this)?;
            if let Some(task) = &task {
                awaited_by::add(future, task)?;
            }
        }
        match limit {
            Some(limit) if !futures.is_empty() => {
                self.alarm.set_in(&owner, &this, &limit, || this.attr(&names()._handle_timeout))
            }
            _ => Ok(()),
        }
    }

    fn running<R>(&self, f: impl FnOnce(&mut Running) -> R) -> Option<R> {
        self.state.with(|state| match state {
            State::Running(running) => Some(f(running)),
            _ => None,
        })
    }

    /// Claims one more child; false: there is none.
    ///
    /// # Errors
    /// What the start raises, up to CPython 3.12.
    fn claim(&self) -> Result<bool> {
        self.begin()?;
        Ok(self.running(|running| running.rules.claim()).unwrap_or(false))
    }

    /// A claim was given up before anything was taken for it.
    pub fn give_up_claim(&self) {
        self.running(|running| running.rules.give_up_claim());
    }

    /// Takes what arrived first.
    pub fn take(&self) -> Option<Arrival<Owned>> {
        self.running(|running| running.rules.take()).flatten()
    }

    /// Queues who found nothing.
    pub fn wait(&self) -> Result<Waiter> {
        let owner = self.running(|running| running.owner.clone()).unwrap_or_else(Owned::none);
        let waiter = Waiter::new(&owner)?;
        self.running(|running| running.rules.wait(waiter.clone()));
        Ok(waiter)
    }

    /// A waiter gives up. If it was woken, whoever is next takes its place.
    pub fn forget(&self, waiter: &Waiter) -> Result<()> {
        let queued = self.running(|running| running.rules.remove_waiter(|queued| queued.is(waiter)));
        let left = self.running(|running| running.rules.has_arrivals()).unwrap_or(false);
        drop(queued);
        if left && !waiter.is_cancelled()? { self.wake_next() } else { Ok(()) }
    }

    /// Wakes the first waiter that still waits.
    fn wake_next(&self) -> Result<()> {
        while let Some(waiter) = self.running(|running| running.rules.next_waiter()).flatten() {
            if !child::is_done(waiter.future())? {
                return waiter.wake();
            }
        }
        Ok(())
    }

    /// A child is done.
    pub fn child_done(&self, child: &Owned) -> Result<()> {
        let told = self.running(|running| {
            let child = running.pending.remove(child)?;
            Some((running.rules.child_done(child), running.rules.is_complete(), running.task.clone()))
        });
        let Some((true, complete, task)) = told.flatten() else {
            return Ok(());
        };
        if let Some(task) = task {
            awaited_by::discard(child, &task)?;
        }
        self.wake_next()?;
        if complete && let Some(owner) = self.running(|running| running.owner.clone()) {
            self.alarm.cancel(&owner)?;
        }
        Ok(())
    }

    /// Its turn has come: the time is up.
    pub fn on_alarm(&self) -> Result<()> {
        if self.alarm.rang() { self.time_out() } else { Ok(()) }
    }

    fn time_out(&self) -> Result<()> {
        let Some((late, task)) = self.running(|running| {
            running.rules.time_out();
            (std::mem::take(&mut running.pending), running.task.clone())
        }) else {
            return Ok(());
        };
        let this = self.owned();
        for future in late.iter() {
            child::unwatch(future, &this)?;
            if let Some(task) = &task {
                awaited_by::discard(future, task)?;
            }
            self.wake_next()?;
        }
        Ok(())
    }
}

fn next(this: &Instance<Completing>) -> Result {
    if this.claim()? { next_completed::make(this.owned(), true) } else { Err(Raised) }
}

fn anext(this: &Instance<Completing>) -> Result {
    // As in asyncio's coroutine, the claim is made in its first step.
    next_completed::make(this.owned(), false)
}

/// The claim of `__anext__`.
///
/// # Errors
/// `StopAsyncIteration`.
pub fn claim_or_stop(this: &Instance<Completing>) -> Result<()> {
    if this.claim()? {
        return Ok(());
    }
    // SAFETY: F1; the class is alive while the interpreter is.
    unsafe { ffi::PyErr_SetNone(ffi::PyExc_StopAsyncIteration) };
    Err(Raised)
}

fn itself(this: &Instance<Completing>) -> Result {
    Ok(this.owned())
}

fn handle_timeout(this: &Instance<Completing>) -> Result {
    this.time_out().map(|()| Owned::none())
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: F2, and `visit` is the collector's own.
    unsafe {
        let status = visit(ffi::Py_TYPE(object).cast(), arg);
        if status != 0 {
            return status;
        }
        let this = Instance::<Completing>::from_ptr(object);
        let visitor = Visitor::new(visit, arg);
        let status = this.alarm.traverse(|handle| visitor.all([handle]));
        if status != 0 {
            return status;
        }
        this.state.with(|state| match &*state {
            State::Gone => 0,
            State::Unstarted { children, limit } => visitor.all([children].into_iter().chain(limit)),
            State::Running(running) => {
                let waiters = running.rules.waiters().map(Waiter::future);
                let held = running.rules.arrivals().chain(running.pending.iter()).chain(waiters);
                visitor.all([&running.owner].into_iter().chain(&running.task).chain(held))
            }
        })
    }
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: F2.
    let this = unsafe { Instance::<Completing>::from_ptr(object) };
    this.alarm.clear();
    drop(this.state.replace(State::Gone));
    0
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let kind = ffi::Py_TYPE(object);
        Instance::<Completing>::finish(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

/// The functions of this file.
pub const FUNCTIONS: [crate::ffi::function::Function; 1] = [(
    c"as_completed",
    crate::function!(c"as_completed", as_completed),
    c"as_completed(fs, *, timeout=None)\n--\n\nIterate over awaitables in the order of their ends.",
)];

/// Makes the type.
pub fn load(module: &Owned) -> Result<()> {
    if COMPLETING.get().is_none() {
        let kind = HeapType::new(c"antiphon._antiphon.AsCompletedIterator", Instance::<Completing>::SIZE)
            .collected()
            .no_constructor()
            .doc(c"What as_completed() gives.")
            .slot(ffi::Py_tp_traverse, traverse as *mut c_void)
            .slot(ffi::Py_tp_clear, clear as *mut c_void)
            .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
            .slot(ffi::Py_tp_iter, unary_slot!(itself))
            .slot(ffi::Py_tp_iternext, unary_slot!(next))
            .weak_references(Instance::<Completing>::WEAKREF_OFFSET)
            .method_noargs(c"_handle_timeout", method_noargs!(handle_timeout), c"The time is up.");
        let kind = if cfg!(Py_3_13) {
            kind.slot(ffi::Py_am_aiter, unary_slot!(itself)).slot(ffi::Py_am_anext, unary_slot!(anext))
        } else {
            kind
        };
        let made = kind.build(None, Instance::<Completing>::PAYLOAD_OFFSET)?;
        let _ = COMPLETING.set(made as usize);
    }
    crate::add_type(module, c"AsCompletedIterator", Completing::type_object())
}
