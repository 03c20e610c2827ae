//! `Barrier`, over [`antiphon_core::Barrier`].
//!
//! Source: CPython Lib/asyncio/locks.py.

use std::ffi::{CStr, c_int};
use std::ptr;

use antiphon_core::{BarrierArrival, BarrierOutcome, BarrierState, Wake};
use pyo3::ffi;

use crate::coroutine::{self, Class, Operation, Resume, Step};
use crate::ffi::derived::TypeCell;
use crate::ffi::instance::{DictionarySlot, Typed};
use crate::ffi::raise::{raise, value_error};
use crate::ffi::visitor::Visitor;
use crate::ffi::{Args, GilCell, Instance, Owned, Payload, Raised, Result};
use crate::future::FutureRef;
use crate::names::{import, names};
use crate::{getter, method, method_noargs, setter, unary_slot};

use super::bound::Bound;
use super::context;
use super::object::{self, Object};
use super::view;
use super::waiter::{self, Waiter};

/// The payload of `Barrier`.
pub struct Barrier {
    bound: Bound,
    machine: GilCell<antiphon_core::Barrier<Waiter>>,
}

impl Default for Barrier {
    fn default() -> Self {
        Self { bound: Bound::default(), machine: GilCell::new(antiphon_core::Barrier::new(1)) }
    }
}

static BARRIER: TypeCell = TypeCell::new();

impl Payload for Barrier {
    type BaseSlots = ();
    type Dictionary = DictionarySlot;
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        BARRIER.get()
    }
}

#[cfg(Py_3_14)]
const TOO_FEW: &str = "parties must be >= 1";
#[cfg(not(Py_3_14))]
const TOO_FEW: &str = "parties must be > 0";

impl Object for Barrier {
    const ARGUMENT: Option<(&'static str, bool)> = Some(("parties", true));

    fn visit(&self, visitor: Visitor) -> c_int {
        match self.bound.visit(visitor) {
            0 => self.machine.with(|barrier| visitor.all(barrier.waiters().iter().map(Waiter::object))),
            status => status,
        }
    }

    fn clear(&self) {
        self.bound.set(None);
        drop(self.machine.with(|barrier| barrier.waiters_mut().take()));
    }

    fn init(this: &Instance<Self>, parties: Option<&Owned>) -> Result<()> {
        let parties = parties.ok_or(Raised)?;
        // SAFETY: F1; a living object.
        let parties = unsafe { ffi::PyNumber_AsSsize_t(parties.as_ptr(), ptr::null_mut()) };
        // SAFETY: F1.
        if parties == -1 && !unsafe { ffi::PyErr_Occurred() }.is_null() {
            return Err(Raised);
        }
        let parties = usize::try_from(parties).unwrap_or(0);
        if parties == 0 {
            return Err(value_error(TOO_FEW));
        }
        drop(this.machine.replace(antiphon_core::Barrier::new(parties)));
        Ok(())
    }
}

impl Barrier {
    fn wake(wake: Wake<Waiter>) {
        waiter::wake(wake, &Owned::bool(false), waiter::nobody);
    }

    fn leave(&self) {
        Self::wake(self.machine.with(antiphon_core::Barrier::leave));
    }

    /// Whether who arrives now will wait.
    fn has_to_wait(&self) -> bool {
        self.machine.with(|barrier| match barrier.state() {
            BarrierState::Broken => false,
            BarrierState::Filling => barrier.count() + 1 < barrier.parties(),
            BarrierState::Draining | BarrierState::Resetting => true,
        })
    }
}

#[cold]
fn broken(message: &str) -> Raised {
    raise(names().broken_barrier_error.as_ptr(), message)
}

/// Where a wait is.
enum Phase {
    Created,
    /// Others leave first.
    HeldUp(FutureRef),
    /// With his number.
    Counted(usize, FutureRef),
}

/// The body of `wait()`.
pub struct BarrierWait {
    barrier: Typed<Barrier>,
    phase: Phase,
}

impl BarrierWait {
    fn arrive(&mut self) -> Result<Step> {
        let barrier = &self.barrier;
        // Made before he is counted: what fails here has no consequences.
        let future = match barrier.has_to_wait() {
            true => Some(barrier.bound.future(barrier.object())?),
            false => None,
        };
        let mut waiter = future.clone().map(Waiter::Native);
        let arrival = barrier.machine.with(|machine| {
            let arrival = machine.arrive();
            if let BarrierArrival::Waits(_) | BarrierArrival::HeldUp = arrival
                && let Some(waiter) = waiter.take()
            {
                machine.wait(waiter);
            }
            arrival
        });
        match (arrival, future) {
            (BarrierArrival::Trips(number, everybody), _) => {
                Barrier::wake(everybody);
                barrier.leave();
                Owned::int(number as i64).map(Step::Returned)
            }
            (BarrierArrival::Waits(number), Some(future)) => {
                let yielded = waiter::suspend(&future);
                self.phase = Phase::Counted(number, future);
                Ok(yielded)
            }
            (BarrierArrival::HeldUp, Some(future)) => {
                let yielded = waiter::suspend(&future);
                self.phase = Phase::HeldUp(future);
                Ok(yielded)
            }
            (BarrierArrival::Broken, _) => Err(broken("Barrier aborted")),
            // Another thread changed the barrier between two looks at it.
            (BarrierArrival::Waits(_), None) => {
                barrier.leave();
                self.arrive()
            }
            (BarrierArrival::HeldUp, None) => self.arrive(),
        }
    }

    /// Takes him out of the list, and says how his wait for the future ended.
    fn resumed(&self, future: FutureRef, resume: Resume<'_>, counted: bool) -> Result<()> {
        let waited = waiter::resumed(&future, resume);
        let waiter = Waiter::Native(future);
        let removed = self.barrier.machine.with(|barrier| barrier.resume(&waiter));
        waited.map_err(|raised| {
            waiter::cleaning_up(raised, || {
                drop(removed);
                if counted {
                    self.barrier.leave();
                }
            })
        })
    }

    fn look_again(&mut self, number: usize) -> Result<Step> {
        match self.barrier.machine.with(|barrier| barrier.outcome()) {
            BarrierOutcome::Passed => {
                self.barrier.leave();
                Owned::int(number as i64).map(Step::Returned)
            }
            BarrierOutcome::Broken => {
                self.barrier.leave();
                Err(broken("Abort or reset of barrier"))
            }
            BarrierOutcome::Waits => {
                let future = match self.barrier.bound.future(self.barrier.object()) {
                    Ok(future) => future,
                    Err(raised) => {
                        return Err(waiter::cleaning_up(raised, || self.barrier.leave()));
                    }
                };
                let waiter = Waiter::Native(future.clone());
                self.barrier.machine.with(|barrier| barrier.wait(waiter));
                let yielded = waiter::suspend(&future);
                self.phase = Phase::Counted(number, future);
                Ok(yielded)
            }
        }
    }
}

static WAIT: Class = Class::new();

impl Operation for BarrierWait {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.BarrierOperation";
    type Binding = ();

    fn class() -> &'static Class {
        &WAIT
    }

    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        match std::mem::replace(&mut self.phase, Phase::Created) {
            Phase::Created => self.arrive(),
            Phase::HeldUp(future) => {
                self.resumed(future, resume, false)?;
                self.arrive()
            }
            Phase::Counted(number, future) => {
                self.resumed(future, resume, true)?;
                self.look_again(number)
            }
        }
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        let future = match &self.phase {
            Phase::Created => None,
            Phase::HeldUp(future) | Phase::Counted(_, future) => Some(future.object()),
        };
        visitor.all([self.barrier.object()].into_iter().chain(future))
    }
}

/// The body of `reset()`, of `abort()`, and of leaving an `async with`, which does nothing.
pub struct BarrierChange {
    barrier: Typed<Barrier>,
    change: fn(&mut antiphon_core::Barrier<Waiter>) -> Wake<Waiter>,
}

static CHANGE: Class = Class::new();

impl Operation for BarrierChange {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.BarrierChangeOperation";
    type Binding = ();

    fn class() -> &'static Class {
        &CHANGE
    }

    fn step(&mut self, _: Resume<'_>) -> Result<Step> {
        Barrier::wake(self.barrier.machine.with(self.change));
        Ok(Step::Returned(Owned::none()))
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        visitor.all([self.barrier.object()])
    }
}

fn wait(this: &Instance<Barrier>) -> Result {
    coroutine::make("Barrier.wait", BarrierWait { barrier: this.typed(), phase: Phase::Created })
}

fn reset(this: &Instance<Barrier>) -> Result {
    let change = antiphon_core::Barrier::reset;
    coroutine::make("Barrier.reset", BarrierChange { barrier: this.typed(), change })
}

fn abort(this: &Instance<Barrier>) -> Result {
    let change = antiphon_core::Barrier::abort;
    coroutine::make("Barrier.abort", BarrierChange { barrier: this.typed(), change })
}

fn enter(this: &Instance<Barrier>) -> Result {
    if this.is_as_made() {
        return coroutine::make(
            "Barrier.__aenter__",
            BarrierWait { barrier: this.typed(), phase: Phase::Created },
        );
    }
    context::enter_by_waiting("Barrier.__aenter__", this.owned())
}

fn exit(this: &Instance<Barrier>, _: Args<'_>) -> Result {
    let change = |_: &mut antiphon_core::Barrier<Waiter>| waiter::nobody();
    coroutine::make("Barrier.__aexit__", BarrierChange { barrier: this.typed(), change })
}

fn parties(this: &Instance<Barrier>) -> Result {
    Owned::int(this.machine.with(|barrier| barrier.parties()) as i64)
}

fn waiting(this: &Instance<Barrier>) -> Result {
    Owned::int(this.machine.with(|barrier| barrier.waiting()) as i64)
}

fn count(this: &Instance<Barrier>) -> Result {
    Owned::int(this.machine.with(|barrier| barrier.count()) as i64)
}

fn is_broken(this: &Instance<Barrier>) -> Result {
    Ok(Owned::bool(this.machine.with(|barrier| barrier.state()) == BarrierState::Broken))
}

/// The state in asyncio's words.
fn word(state: BarrierState) -> &'static str {
    match state {
        BarrierState::Filling => "filling",
        BarrierState::Draining => "draining",
        BarrierState::Resetting => "resetting",
        BarrierState::Broken => "broken",
    }
}

fn get_state(this: &Instance<Barrier>) -> Result {
    let state = Owned::str(word(this.machine.with(|barrier| barrier.state())))?;
    crate::ffi::call(&import("asyncio.locks", "_BarrierState")?, [&state])
}

fn repr(this: &Instance<Barrier>) -> Result {
    let (state, waiting, parties) =
        this.machine.with(|barrier| (barrier.state(), barrier.waiting(), barrier.parties()));
    let extra = match state {
        BarrierState::Broken => word(state).to_owned(),
        _ => format!("{}, waiters:{waiting}/{parties}", word(state)),
    };
    object::repr_with(&this.owned(), &extra, 0)
}

fn get_waiters(this: &Instance<Barrier>) -> Result {
    view::make(this.owned(), |owner, change| {
        // SAFETY: made for barriers alone.
        let barrier = unsafe { Instance::<Barrier>::from_ptr(owner.as_ptr()) };
        barrier.machine.with(|barrier| change(barrier.waiters_mut()));
    })
}

super::loop_attributes!(Barrier);

/// Makes the type and adds it to the module.
pub fn load(module: &Owned) -> Result<()> {
    coroutine::load::<BarrierWait>(module)?;
    coroutine::load::<BarrierChange>(module)?;
    if BARRIER.get().is_null() {
        let made = object::heap_type::<Barrier>(
            c"antiphon._antiphon.Barrier",
            c"Barrier(parties): a point that so many tasks reach before any of them goes on.",
        )
        .slot(ffi::Py_tp_repr, unary_slot!(repr))
        .method_noargs(c"wait", method_noargs!(wait), c"Wait for the others; a number from 0 to parties - 1.")
        .method_noargs(c"reset", method_noargs!(reset), c"Send away who waits, with BrokenBarrierError.")
        .method_noargs(c"abort", method_noargs!(abort), c"Break it: nobody may wait until it is reset.")
        .method_noargs(c"__aenter__", method_noargs!(enter), c"Wait for the others.")
        .method(c"__aexit__", method!(c"__aexit__", exit), c"Do nothing.")
        .method_noargs(c"_get_loop", method_noargs!(get_running), c"The running loop, which must be its own.")
        .attribute(c"parties", getter!(parties), None, c"How many it is for.")
        .attribute(c"n_waiting", getter!(waiting), None, c"How many wait for the others.")
        .attribute(c"broken", getter!(is_broken), None, c"Whether it was aborted.")
        .attribute(c"_parties", getter!(parties), None, c"How many it is for.")
        .attribute(c"_count", getter!(count), None, c"How many are in it, leaving ones included.")
        .attribute(c"_state", getter!(get_state), None, c"What the parties are doing.")
        .attribute(c"_loop", getter!(get_loop), Some(setter!(set_loop)), c"The loop, once somebody waited.")
        .attribute(c"_waiters", getter!(get_waiters), None, c"The futures of those who wait.")
        .build(None, Instance::<Barrier>::PAYLOAD_OFFSET)?;
        BARRIER.set(made);
    }
    object::publish(module, Barrier::type_object(), c"Barrier")
}
