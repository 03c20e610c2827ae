//! `Queue`, `PriorityQueue` and `LifoQueue`, over [`antiphon_core::Queue`].
//!
//! While nobody looks at `_queue`, the items of a queue that orders by arrival are kept natively, in one cell with the
//! rules: a put or get is one access, complete also when threads do it without a GIL. Once somebody did, they are in a
//! real `deque` or list for good ([`items`]), as a priority queue's are from the start.
//!
//! | module | is |
//! |---|---|
//! | [`items`] | where the items are |
//! | [`access`] | full and empty, putting and getting without waiting |
//! | [`wait`] | the coroutines: `put`, `get`, `join` |
//! | [`methods`] | what Python sees |
//!
//! Source: CPython Lib/asyncio/queues.py.

pub mod access;
pub mod items;
pub mod methods;
pub mod wait;

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering as Atomic};

use pyo3::ffi;

use crate::ffi::derived::TypeCell;
use crate::ffi::instance::{DictionarySlot, Typed};
use crate::ffi::raise::{self, runtime_error};
use crate::ffi::visitor::Visitor;
use crate::ffi::{GilCell, Instance, Owned, Payload, Raised, Result, call_method};
use crate::names::names;

use super::bound::Bound;
use super::event::Event;
use super::object::Object;
use super::waiter::Waiter;
use items::{Items, Order};

/// What changes together.
#[derive(Default)]
pub struct State {
    rules: antiphon_core::Queue<Waiter>,
    items: Items,
    /// How many items there may be; 0: as many as you like.
    limit: usize,
}

/// A look at an instance's dictionary.
#[derive(Default, Clone, Copy)]
struct Attributes {
    /// Which dictionary it was, and how many attributes it had.
    dictionary: usize,
    len: ffi::Py_ssize_t,
    /// Whether a method that a queue calls by name was among them.
    method: bool,
}

/// The payload of all three.
#[derive(Default)]
pub struct Queue {
    bound: Bound,
    state: GilCell<State>,
    order: GilCell<Order>,
    /// Whether a subclass has methods of its own for what asyncio's calls by name.
    by_name: AtomicBool,
    /// What the attributes of a subclass's instance were when they were last looked at.
    attributes: GilCell<Attributes>,
    /// `_maxsize`; nothing until `__init__` ran.
    max_size: GilCell<Option<Owned>>,
    /// `_finished`, once somebody waits for it or looks at it.
    finished: GilCell<Option<Typed<Event>>>,
}

static QUEUE: TypeCell = TypeCell::new();
static PRIORITY_QUEUE: TypeCell = TypeCell::new();
static LIFO_QUEUE: TypeCell = TypeCell::new();

impl Payload for Queue {
    type BaseSlots = ();
    type Dictionary = DictionarySlot;
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        QUEUE.get()
    }
}

impl Object for Queue {
    const ARGUMENT: Option<(&'static str, bool)> = Some(("maxsize", false));

    fn visit(&self, visitor: Visitor) -> c_int {
        let mut status = self.bound.visit(visitor);
        if status == 0 {
            status = self.max_size.with(|size| visitor.all(size.iter()));
        }
        if status == 0 {
            status = self.finished.with(|event| visitor.all(event.iter().map(Typed::object)));
        }
        if status == 0 {
            status = self.state.with(|state| {
                let waiters = state.rules.getters().iter().chain(state.rules.putters().iter());
                match visitor.all(waiters.map(Waiter::object)) {
                    0 => state.items.visit(visitor),
                    status => status,
                }
            });
        }
        status
    }

    fn clear(&self) {
        self.bound.set(None);
        drop((self.max_size.take(), self.finished.take()));
        drop(self.state.take());
    }

    fn init(this: &Instance<Self>, max_size: Option<&Owned>) -> Result<()> {
        let max_size = max_size.map_or_else(|| Owned::int(0), |size| Ok(size.clone()))?;
        let limit = limit_of(&max_size)?;
        this.order.replace(this.order_of_type());
        drop(this.max_size.replace(Some(max_size.clone())));
        drop(this.state.replace(State { limit, ..State::default() }));
        drop(this.finished.take());
        if this.is_plain() {
            return this.reset_items();
        }
        this.by_name.store(this.overrides_anything()?, Atomic::Relaxed);
        call_method(&this.owned(), &names()._init, [&max_size]).map(drop)
    }
}

/// Whether a dict has a key; a key that cannot be compared is another one.
fn has_key(dictionary: &Owned, key: &Owned) -> bool {
    // SAFETY: F1; a dict and a string.
    let found = unsafe { ffi::PyDict_Contains(dictionary.as_ptr(), key.as_ptr()) };
    if found < 0 {
        drop(raise::take());
    }
    found == 1
}

/// The methods that asyncio's queue calls by name.
fn called_by_name() -> [&'static Owned; 8] {
    let names = names();
    [
        &names._put,
        &names._get,
        &names.full,
        &names.empty,
        &names.qsize,
        &names.put_nowait,
        &names.get_nowait,
        &names._wakeup_next,
    ]
}

/// How many items `maxsize` allows: 0 for any number, as asyncio compares.
fn limit_of(max_size: &Owned) -> Result<usize> {
    // SAFETY: F1; living objects.
    unsafe {
        let zero = Owned::int(0)?;
        if raise::check(ffi::PyObject_RichCompareBool(max_size.as_ptr(), zero.as_ptr(), ffi::Py_LE))? != 0 {
            return Ok(0);
        }
        let number = ffi::PyFloat_AsDouble(max_size.as_ptr());
        if number == -1.0 && !ffi::PyErr_Occurred().is_null() {
            if !raise::matches(ffi::PyExc_OverflowError) {
                return Err(Raised);
            }
            drop(raise::take());
            return Ok(usize::MAX);
        }
        // As many as are less than that: the next whole number.
        Ok(number.ceil() as usize)
    }
}

impl Instance<Queue> {
    /// Whether it is one of the three types and no subclass of Python's.
    pub fn is_plain(&self) -> bool {
        let object = self.owned();
        [&QUEUE, &PRIORITY_QUEUE, &LIFO_QUEUE].into_iter().any(|kind| object.is_exactly(kind.get()))
    }

    fn order_of_type(&self) -> Order {
        // SAFETY: F1; a living object.
        let is = |kind: &TypeCell| unsafe { ffi::PyObject_TypeCheck(self.as_ptr(), kind.get()) != 0 };
        match () {
            () if is(&PRIORITY_QUEUE) => Order::Priority,
            () if is(&LIFO_QUEUE) => Order::Last,
            () => Order::First,
        }
    }

    fn overrides_anything(&self) -> Result<bool> {
        // SAFETY: F1; living types.
        let (own, base) = unsafe {
            let own = Owned::from_borrowed(ffi::Py_TYPE(self.as_ptr()).cast());
            (own, Owned::from_borrowed(Queue::type_object().cast()))
        };
        for name in called_by_name() {
            if own.attr(name)?.as_ptr() != base.attr(name)?.as_ptr() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether methods are called by name: a subclass has some of its own, or somebody set something on this very queue.
    /// Never asked inside of the cell, for it may meet keys of any kind.
    #[inline]
    fn is_by_name(&self) -> bool {
        if self.by_name.load(Atomic::Relaxed) {
            return true;
        }
        let dictionary = self.dictionary();
        !dictionary.is_null() && (self.is_plain() || self.has_own_method(dictionary))
    }

    /// Whether a method is among an instance's attributes. Instances of subclasses have some as a rule, so these are looked
    /// through only when there are more or fewer than the last time.
    fn has_own_method(&self, dictionary: *mut ffi::PyObject) -> bool {
        // SAFETY: F1; the instance's own dict.
        let len = unsafe { ffi::PyDict_Size(dictionary) };
        let seen = self.attributes.get();
        if seen.dictionary == dictionary as usize && seen.len == len {
            return seen.method;
        }
        // SAFETY: F1; the same dict, which is kept alive while its keys are compared.
        let object = unsafe { Owned::from_borrowed(dictionary) };
        let method = called_by_name().into_iter().any(|name| has_key(&object, name));
        self.attributes.replace(Attributes { dictionary: dictionary as usize, len, method });
        method
    }

    /// `_finished`, made on first use as things stand.
    fn finished_event(&self) -> Result<Typed<Event>> {
        if let Some(event) = self.finished.get() {
            return Ok(event);
        }
        // SAFETY: F1; a type is called without arguments.
        let event = unsafe { Owned::from_new(ffi::PyObject_CallNoArgs(Event::type_object().cast()))? };
        let Some(event) = Typed::<Event>::new(event) else {
            return Err(runtime_error("an event is no event"));
        };
        if self.state.with(|state| state.rules.unfinished()) == 0 {
            event.set();
        }
        let kept = self.finished.with(|place| place.get_or_insert(event).clone());
        Ok(kept)
    }
}

pub use methods::load;
