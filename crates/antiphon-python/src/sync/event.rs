//! `Event`, over [`antiphon_core::Event`].
//!
//! Source: CPython Lib/asyncio/locks.py.

use std::ffi::{CStr, c_int};

use pyo3::ffi;

use crate::coroutine::{self, Class, Operation, Resume, Step};
use crate::ffi::derived::TypeCell;
use crate::ffi::instance::{DictionarySlot, Typed};
use crate::ffi::visitor::Visitor;
use crate::ffi::{GilCell, Instance, Owned, Payload, Result};
use crate::future::FutureRef;
use crate::{getter, method_noargs, setter, unary_slot};

use super::bound::Bound;
use super::object::{self, Object};
use super::view;
use super::waiter::{self, Waiter};

/// The payload of `Event`.
#[derive(Default)]
pub struct Event {
    bound: Bound,
    machine: GilCell<antiphon_core::Event<Waiter>>,
}

static EVENT: TypeCell = TypeCell::new();

impl Payload for Event {
    type BaseSlots = ();
    type Dictionary = DictionarySlot;
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        EVENT.get()
    }
}

impl Object for Event {
    const ARGUMENT: Option<(&'static str, bool)> = None;

    fn visit(&self, visitor: Visitor) -> c_int {
        match self.bound.visit(visitor) {
            0 => self.machine.with(|event| visitor.all(event.waiters().iter().map(Waiter::object))),
            status => status,
        }
    }

    fn clear(&self) {
        self.bound.set(None);
        drop(self.machine.with(|event| event.waiters_mut().take()));
    }

    fn init(_: &Instance<Self>, _: Option<&Owned>) -> Result<()> {
        Ok(())
    }
}

impl Event {
    /// `set()`
    pub fn set(&self) {
        let wake = self.machine.with(antiphon_core::Event::set);
        if !wake.is_empty() {
            waiter::wake(wake, &Owned::bool(true), waiter::nobody);
        }
    }

    /// `clear()`
    pub fn reset(&self) {
        self.machine.with(antiphon_core::Event::clear);
    }

    /// `is_set()`
    pub fn is_set(&self) -> bool {
        self.machine.with(|event| event.is_set())
    }
}

/// A wait for an event under way.
pub struct EventWait {
    event: Typed<Event>,
    waits_with: Option<FutureRef>,
}

impl EventWait {
    /// To be stepped.
    pub fn new(event: Typed<Event>) -> Self {
        Self { event, waits_with: None }
    }

    fn wait(&mut self) -> Result<Step> {
        let future = self.event.bound.future(self.event.object())?;
        let mut waiter = Some(Waiter::Native(future.clone()));
        let set = self.event.machine.with(|event| {
            // It may have been set while the future was made.
            if !event.is_set()
                && let Some(waiter) = waiter.take()
            {
                event.wait(waiter);
            }
            event.is_set()
        });
        if set {
            return Ok(Step::Returned(Owned::bool(true)));
        }
        let yielded = waiter::suspend(&future);
        self.waits_with = Some(future);
        Ok(yielded)
    }
}

static WAIT: Class = Class::new();

impl Operation for EventWait {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.EventOperation";
    type Binding = ();

    fn class() -> &'static Class {
        &WAIT
    }

    #[inline]
    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        let Some(future) = self.waits_with.take() else {
            return if self.event.is_set() { Ok(Step::Returned(Owned::bool(true))) } else { self.wait() };
        };
        let waited = waiter::resumed(&future, resume);
        let waiter = Waiter::Native(future);
        let removed = self.event.machine.with(|event| event.leave(&waiter));
        match waited {
            Ok(()) => Ok(Step::Returned(Owned::bool(true))),
            Err(raised) => Err(waiter::cleaning_up(raised, || drop((removed, waiter)))),
        }
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        visitor.all([self.event.object()].into_iter().chain(self.waits_with.as_ref().map(FutureRef::object)))
    }
}

fn is_set(this: &Instance<Event>) -> Result {
    Ok(Owned::bool(this.is_set()))
}

fn set(this: &Instance<Event>) -> Result {
    Event::set(this);
    Ok(Owned::none())
}

fn clear(this: &Instance<Event>) -> Result {
    this.reset();
    Ok(Owned::none())
}

fn wait(this: &Instance<Event>) -> Result {
    coroutine::make("Event.wait", EventWait::new(this.typed()))
}

fn repr(this: &Instance<Event>) -> Result {
    let (set, waiters) = this.machine.with(|event| (event.is_set(), event.waiters().len()));
    object::repr_with(&this.owned(), if set { "set" } else { "unset" }, waiters)
}

fn get_waiters(this: &Instance<Event>) -> Result {
    view::make(this.owned(), |owner, change| {
        // SAFETY: made for events alone.
        let event = unsafe { Instance::<Event>::from_ptr(owner.as_ptr()) };
        event.machine.with(|event| change(event.waiters_mut()));
    })
}

super::loop_attributes!(Event);

/// Makes the type and adds it to the module.
pub fn load(module: &Owned) -> Result<()> {
    coroutine::load::<EventWait>(module)?;
    if EVENT.get().is_null() {
        let made = object::heap_type::<Event>(c"antiphon._antiphon.Event", c"Event(): a flag to wait for.")
            .slot(ffi::Py_tp_repr, unary_slot!(repr))
            .method_noargs(c"is_set", method_noargs!(is_set), c"Whether it is set.")
            .method_noargs(c"set", method_noargs!(set), c"Set it: everybody who waits goes on.")
            .method_noargs(c"clear", method_noargs!(clear), c"Take it back.")
            .method_noargs(c"wait", method_noargs!(wait), c"Wait until it is set, return True.")
            .method_noargs(
                c"_get_loop",
                method_noargs!(get_running),
                c"The running loop, which must be the event's.",
            )
            .attribute(
                c"_loop",
                getter!(get_loop),
                Some(setter!(set_loop)),
                c"The loop, once somebody waited.",
            )
            .attribute(c"_value", getter!(is_set), None, c"Whether it is set.")
            .attribute(c"_waiters", getter!(get_waiters), None, c"The futures of those who wait.")
            .build(None, Instance::<Event>::PAYLOAD_OFFSET)?;
        EVENT.set(made);
    }
    object::publish(module, Event::type_object(), c"Event")
}
