//! `Timeout`, `timeout` and `timeout_at`: a deadline around a block.
//!
//! The states and whose cancellation it was are `antiphon_core::timeout`'s; this file keeps the task and the alarm.
//! Entering and leaving are coroutines that never wait ([`super::timeout_block`]).
//!
//! Source: CPython Lib/asyncio/timeouts.py.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use antiphon_core::{NotAllowed, TimeoutExit, TimeoutState};
use pyo3::ffi;

use super::alarm::{Alarm, When};
use super::{child, owner, timeout_block};
#[cfg(Py_3_12)]
use crate::ffi::instance::Typed;
use crate::ffi::raise::{self, runtime_error};
use crate::ffi::visitor::Visitor;
use crate::ffi::{Args, GilCell, HeapType, Instance, Owned, Payload, Raised, Result, call_method};
use crate::names::names;
use crate::{collected_slots, initialiser, method, method_noargs, unary_slot};

#[derive(Default)]
struct State {
    rules: antiphon_core::Timeout,
    when: Option<When>,
    /// The task whose block it is; from entering to leaving.
    task: Option<Owned>,
    /// The loop: where it was made, then where it was entered.
    owner: Option<Owned>,
}

/// The payload of `Timeout`.
#[derive(Default)]
pub struct Timeout {
    state: GilCell<State>,
    alarm: Alarm,
}

static TIMEOUT: OnceLock<usize> = OnceLock::new();

impl Payload for Timeout {
    type BaseSlots = ();
    type Dictionary = crate::ffi::instance::DictionarySlot;
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        TIMEOUT.get().map_or(ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }
}

/// Makes one that is not entered; `None`: it never expires.
#[inline]
fn make(owner: Option<Owned>, when: Option<When>) -> Result {
    let state = State { when, owner, ..State::default() };
    Instance::<Timeout>::create(Timeout { state: GilCell::new(state), alarm: Alarm::default() })
}

/// The deadline `delay` seconds from now; `None`: never.
///
/// # Errors
/// `TypeError` for a delay that cannot be added to a number.
#[inline]
pub fn deadline_in(owner: &Owned, delay: &Owned) -> Result<Option<When>> {
    if delay.is_none() {
        return Ok(None);
    }
    // SAFETY: F1; living objects.
    unsafe {
        let pointer = delay.as_ptr();
        let plain = ffi::PyFloat_CheckExact(pointer) != 0 || ffi::PyLong_CheckExact(pointer) != 0;
        if let (true, Some(native)) = (plain, owner::native(owner)) {
            let seconds = crate::event_loop::schedule::seconds(delay)?;
            return Ok(Some(When::Seconds(native.now_seconds()? + seconds)));
        }
        let now = call_method(owner, &names().time, [])?;
        Ok(Some(When::Given(Owned::from_new(ffi::PyNumber_Add(now.as_ptr(), pointer))?)))
    }
}

/// One that expires `delay` seconds from now, for `wait_for`.
#[cfg(Py_3_12)]
#[inline]
pub fn make_in(delay: &Owned) -> Result<Typed<Timeout>> {
    let owner = crate::event_loop::running()?;
    let when = deadline_in(&owner, delay)?;
    // SAFETY: just made.
    make(Some(owner), when).map(|made| unsafe { Typed::new_unchecked(made) })
}

/// The object as a timeout, if its class derives from `Timeout`.
pub fn derived(object: &Owned) -> Option<&Instance<Timeout>> {
    // SAFETY: F1; the type is compared before the object is taken for one (F2).
    unsafe {
        let derived = ffi::PyObject_TypeCheck(object.as_ptr(), Timeout::type_object()) != 0;
        derived.then(|| Instance::from_ptr(object.as_ptr()))
    }
}

/// `timeout(delay)`.
fn timeout(args: Args<'_>) -> Result {
    let [delay] = args.exactly([&names().delay])?;
    let owner = crate::event_loop::running()?;
    let when = deadline_in(&owner, &delay)?;
    make(Some(owner), when)
}

/// `timeout_at(when)`.
fn timeout_at(args: Args<'_>) -> Result {
    let [when] = args.required([&names().when])?;
    make(None, given(when))
}

fn given(when: Owned) -> Option<When> {
    if when.is_none() { None } else { Some(When::Given(when)) }
}

fn init(this: &Instance<Timeout>, args: Args<'_>) -> Result<()> {
    let [when] = args.required([&names().when])?;
    drop(this.state.replace(State { when: given(when), ..State::default() }));
    Ok(())
}

impl Instance<Timeout> {
    fn state(&self) -> TimeoutState {
        self.state.with(|state| state.rules.state())
    }

    /// The block begins.
    ///
    /// # Errors
    /// `RuntimeError` for a second entry and outside of tasks.
    #[inline]
    pub fn enter(&self) -> Result<()> {
        if self.state() != TimeoutState::Created {
            return Err(runtime_error("Timeout has already been entered"));
        }
        let owner = match self.state.with(|state| state.owner.clone()) {
            // The loop that runs here: nobody has to be asked which that is.
            Some(made_in) if owner::runs_here(&made_in) => made_in,
            _ => crate::event_loop::running()?,
        };
        let Some(task) = owner::current_task(&owner)? else {
            return Err(runtime_error("Timeout should be used inside a task"));
        };
        let requests = super::task::cancelling(&task)?;
        let (entered, when, before) = self.state.with(|state| {
            let entered = state.rules.enter(requests);
            let mut before = (None, None);
            if entered.is_ok() {
                before = (state.task.replace(task), state.owner.replace(owner.clone()));
            }
            (entered, state.when.clone(), before)
        });
        drop(before);
        if entered.is_err() {
            return Err(runtime_error("Timeout has already been entered"));
        }
        self.arm(&owner, when.as_ref())
    }

    fn arm(&self, owner: &Owned, when: Option<&When>) -> Result<()> {
        let Some(when) = when else {
            return Ok(());
        };
        let this = self.owned();
        self.alarm.set(owner, &this, when, || this.attr(&names()._on_timeout))
    }

    /// The block is left, by `exception` or at its end.
    ///
    /// # Errors
    /// `TimeoutError` if it expired and nobody else cancelled the task.
    #[inline]
    pub fn leave(&self, exception: Option<&Owned>) -> Result<()> {
        let (exit, task, owner) =
            self.state.with(|state| (state.rules.exit(), state.task.take(), state.owner.take()));
        if let Some(owner) = &owner {
            self.alarm.cancel(owner)?;
        }
        let (TimeoutExit::Expired, Some(task)) = (exit, task) else {
            return Ok(());
        };
        let left = super::task::uncancel(&task)?;
        if !self.state.with(|state| state.rules.explains_cancellation(left)) {
            return Ok(());
        }
        match exception {
            Some(exception) => super::timeout_block::explain(exception),
            None => Ok(()),
        }
    }

    /// Its turn has come: the deadline.
    ///
    /// # Errors
    /// `KeyboardInterrupt` and `SystemExit` of a task's own `cancel`.
    pub fn on_alarm(&self) -> Result<()> {
        if !self.alarm.rang() {
            return Ok(());
        }
        match self.expire() {
            Ok(()) => Ok(()),
            Err(Raised) => self.report(),
        }
    }

    fn expire(&self) -> Result<()> {
        let (expired, task) = self.state.with(|state| (state.rules.expire(), state.task.clone()));
        match task {
            Some(task) if expired => child::cancel(&task, None).map(drop),
            _ => Ok(()),
        }
    }

    #[cold]
    fn report(&self) -> Result<()> {
        let Some(exception) = raise::take() else {
            return Ok(());
        };
        if raise::leaves_loop(&exception) {
            return Err(raise::restore(exception));
        }
        match self.state.with(|state| state.owner.clone()) {
            Some(owner) => {
                owner::report(&owner, "Exception in callback Timeout._on_timeout()", &exception, &[])
            }
            None => Ok(()),
        }
    }

    /// Shows what it refers to.
    fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        // SAFETY: called from the traverse slot with its own visitor.
        let visitor = unsafe { Visitor::new(visit, arg) };
        let status = self.traverse_dictionary(visit, arg);
        if status != 0 {
            return status;
        }
        let status = self.alarm.traverse(|handle| visitor.all([handle]));
        if status != 0 {
            return status;
        }
        self.state.with(|state| {
            let when = match &state.when {
                Some(When::Given(given)) => Some(given),
                _ => None,
            };
            visitor.all(when.into_iter().chain(&state.task).chain(&state.owner))
        })
    }

    fn clear(&self) {
        self.clear_dictionary();
        self.alarm.clear();
        drop(self.state.take());
    }
}

fn on_timeout(this: &Instance<Timeout>) -> Result {
    this.alarm.clear();
    this.expire().map(|()| Owned::none())
}

fn when(this: &Instance<Timeout>) -> Result {
    match this.state.with(|state| state.when.clone()) {
        None => Ok(Owned::none()),
        Some(when) => when.object(),
    }
}

fn reschedule(this: &Instance<Timeout>, args: Args<'_>) -> Result {
    let [when] = args.required([&names().when])?;
    if let Err(NotAllowed(state)) = this.state.with(|state| state.rules.check_active()) {
        return Err(match state {
            TimeoutState::Created => runtime_error("Timeout has not been entered"),
            state => runtime_error(&format!("Cannot change state of {} Timeout", state.as_str())),
        });
    }
    let when = given(when);
    let (owner, before) =
        this.state.with(|state| (state.owner.clone(), std::mem::replace(&mut state.when, when.clone())));
    drop(before);
    if let Some(owner) = owner {
        this.alarm.cancel(&owner)?;
        this.arm(&owner, when.as_ref())?;
    }
    Ok(Owned::none())
}

fn expired(this: &Instance<Timeout>) -> Result {
    Ok(Owned::bool(this.state.with(|state| state.rules.is_expired())))
}

fn repr(this: &Instance<Timeout>) -> Result {
    let state = this.state();
    if state != TimeoutState::Active {
        return Owned::str(&format!("<Timeout [{}]>", state.as_str()));
    }
    let when = when(this)?;
    // SAFETY: F1; the format takes an object.
    unsafe {
        let rounded =
            if when.is_none() { when } else { call_method(&when, &names().__round__, [&Owned::int(3)?])? };
        Owned::from_new(ffi::PyUnicode_FromFormat(c"<Timeout [active] when=%S>".as_ptr(), rounded.as_ptr()))
    }
}

#[cfg(Py_3_14)]
fn aenter(this: &Instance<Timeout>, args: Args<'_>) -> Result {
    timeout_block::enter(&this.owned(), args)
}

#[cfg(Py_3_14)]
fn aexit(this: &Instance<Timeout>, args: Args<'_>) -> Result {
    timeout_block::leave(&this.owned(), args)
}

/// The functions of this file.
pub const FUNCTIONS: [crate::ffi::function::Function; 2] = [
    (
        c"timeout",
        crate::function!(c"timeout", timeout),
        c"timeout(delay)\n--\n\nA context manager that cancels its block `delay` seconds from now; None: never.",
    ),
    (
        c"timeout_at",
        crate::function!(c"timeout_at", timeout_at),
        c"timeout_at(when)\n--\n\nAs timeout, with a deadline on the loop's clock.",
    ),
];

/// Makes the type.
pub fn load(module: &Owned) -> Result<()> {
    if TIMEOUT.get().is_none() {
        let kind = HeapType::new(c"antiphon._antiphon.Timeout", Instance::<Timeout>::SIZE)
            .doc(c"Timeout(when)\n--\n\nA context manager that cancels its block at a deadline; see timeout().")
            .slot(ffi::Py_tp_repr, unary_slot!(repr))
            .method_noargs(c"when", method_noargs!(when), c"The deadline on the loop's clock, or None.")
            .method(
                c"reschedule",
                method!(c"reschedule", reschedule),
                c"reschedule(when): move the deadline; None: never.",
            )
            .method_noargs(c"expired", method_noargs!(expired), c"Whether the deadline came while the block ran.")
            .method_noargs(c"_on_timeout", method_noargs!(on_timeout), c"The deadline has come.");
        #[cfg(Py_3_14)]
        let kind = kind.method(c"__aenter__", method!(c"__aenter__", aenter), c"Begin the block.").method(
            c"__aexit__",
            method!(c"__aexit__", aexit),
            c"End the block.",
        );
        let made = collected_slots!(kind, Timeout, initialiser!(c"Timeout.__init__", Timeout, init))
            .build(None, Instance::<Timeout>::PAYLOAD_OFFSET)?;
        let _ = TIMEOUT.set(made as usize);
        #[cfg(not(Py_3_14))]
        timeout_block::add_methods(made)?;
    }
    crate::add_type(module, c"Timeout", Timeout::type_object())
}
