//! `Semaphore` and `BoundedSemaphore`, over [`antiphon_core::Semaphore`].
//!
//! Source: CPython Lib/asyncio/locks.py.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};

use antiphon_core::TooManyReleases;
use pyo3::ffi;

use crate::coroutine::{self, Class};
use crate::ffi::derived::TypeCell;
use crate::ffi::instance::{DictionarySlot, Typed};
use crate::ffi::raise::{self, value_error};
use crate::ffi::visitor::Visitor;
use crate::ffi::{GilCell, Instance, Owned, Payload, Raised, Result};
use crate::{getter, method_noargs, setter, unary_slot};

use super::acquire::{self, Acquirable, AcquireOperation, CoroutineType};
use super::bound::Bound;
use super::context::{Block, BlockNames};
use super::object::{self, Object};
use super::view;
use super::waiter::{self, Waiter};

/// The payload of both.
pub struct Semaphore {
    bound: Bound,
    machine: GilCell<antiphon_core::Semaphore<Waiter>>,
    /// Whether it is a `BoundedSemaphore`.
    bounded: AtomicBool,
    /// The value to begin with.
    initial: GilCell<usize>,
}

impl Default for Semaphore {
    fn default() -> Self {
        Self {
            bound: Bound::default(),
            machine: GilCell::new(antiphon_core::Semaphore::new(1)),
            bounded: AtomicBool::new(false),
            initial: GilCell::new(1),
        }
    }
}

static SEMAPHORE: TypeCell = TypeCell::new();
static BOUNDED: TypeCell = TypeCell::new();

fn bounded_type() -> *mut ffi::PyTypeObject {
    BOUNDED.get()
}

impl Payload for Semaphore {
    type BaseSlots = ();
    type Dictionary = DictionarySlot;
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        SEMAPHORE.get()
    }
}

impl Object for Semaphore {
    const ARGUMENT: Option<(&'static str, bool)> = Some(("value", false));

    fn visit(&self, visitor: Visitor) -> c_int {
        match self.bound.visit(visitor) {
            0 => self.machine.with(|machine| visitor.all(machine.waiters().iter().map(Waiter::object))),
            status => status,
        }
    }

    fn clear(&self) {
        self.bound.set(None);
        drop(self.machine.with(|machine| machine.waiters_mut().take()));
    }

    fn init(this: &Instance<Self>, value: Option<&Owned>) -> Result<()> {
        let value = value.map_or(Ok(1), initial_value)?;
        // SAFETY: F1; a living object.
        let bounded = unsafe { ffi::PyObject_TypeCheck(this.as_ptr(), bounded_type()) } != 0;
        let machine = if bounded {
            antiphon_core::Semaphore::bounded(value)
        } else {
            antiphon_core::Semaphore::new(value)
        };
        this.bounded.store(bounded, Ordering::Relaxed);
        this.initial.replace(value);
        drop(this.machine.replace(machine));
        Ok(())
    }
}

/// As many permits as `value` says: more than there can be tasks is as good as without limit, such as `math.inf`.
fn initial_value(value: &Owned) -> Result<usize> {
    // SAFETY: F1; living objects.
    unsafe {
        let zero = Owned::int(0)?;
        if raise::check(ffi::PyObject_RichCompareBool(value.as_ptr(), zero.as_ptr(), ffi::Py_LT))? != 0 {
            return Err(value_error("Semaphore initial value must be >= 0"));
        }
        let number = ffi::PyFloat_AsDouble(value.as_ptr());
        if number == -1.0 && !ffi::PyErr_Occurred().is_null() {
            if !raise::matches(ffi::PyExc_OverflowError) {
                return Err(Raised);
            }
            drop(raise::take());
            return Ok(UNLIMITED);
        }
        Ok(if number >= UNLIMITED as f64 { UNLIMITED } else { number as usize })
    }
}

const UNLIMITED: usize = 1 << 62;

static ACQUIRE: Class = Class::new();
static ENTER: Class = Class::new();
static EXIT: Class = Class::new();

impl Acquirable for Semaphore {
    const ACQUIRE: CoroutineType = (c"antiphon._antiphon.SemaphoreAcquireOperation", &ACQUIRE);
    const ENTER: CoroutineType = (c"antiphon._antiphon.SemaphoreEnterOperation", &ENTER);
    const EXIT: CoroutineType = (c"antiphon._antiphon.SemaphoreExitOperation", &EXIT);

    #[inline]
    fn cast(object: &Owned) -> Option<Typed<Self>> {
        // SAFETY: both types have this payload.
        is_plain(object).then(|| unsafe { Typed::new_unchecked(object.clone()) })
    }

    fn bound(&self) -> &Bound {
        &self.bound
    }

    #[inline]
    fn try_acquire(&self) -> bool {
        self.machine.with(antiphon_core::Semaphore::try_acquire)
    }

    fn acquire_or_wait(&self, waiter: Waiter) -> bool {
        let mut waiter = Some(waiter);
        self.machine.with(|semaphore| {
            let taken = semaphore.try_acquire();
            if !taken && let Some(waiter) = waiter.take() {
                semaphore.wait(waiter);
            }
            taken
        })
    }

    fn resume(&self, waiter: &Waiter) {
        let left = self.machine.with(|semaphore| semaphore.resume(waiter));
        drop(left.removed);
        self.wake(left.wake);
    }

    fn abandon(&self, waiter: &Waiter) {
        let left = self.machine.with(|semaphore| semaphore.abandon(waiter));
        drop(left.removed);
        self.wake(left.wake);
    }

    #[inline]
    fn give_back(&self) -> Result<()> {
        match self.machine.with(antiphon_core::Semaphore::release) {
            Ok(wake) => {
                self.wake(wake);
                Ok(())
            }
            Err(TooManyReleases) => Err(value_error("BoundedSemaphore released too many times")),
        }
    }
}

impl Semaphore {
    #[inline]
    fn wake(&self, wake: antiphon_core::Wake<Waiter>) {
        if !wake.is_empty() {
            let instead = || self.machine.with(antiphon_core::Semaphore::not_woken);
            waiter::wake(wake, &Owned::bool(true), instead);
        }
    }
}

/// Whether it is no subclass of Python's.
fn is_plain(object: &Owned) -> bool {
    object.is_exactly(Semaphore::type_object()) || object.is_exactly(bounded_type())
}

impl Block for Semaphore {
    type Lock = Self;
    const NAMES: BlockNames = BlockNames { enter: "Semaphore.__aenter__", exit: "Semaphore.__aexit__" };

    #[inline]
    fn short_way(object: &Owned) -> Option<Owned> {
        let this = Self::cast(object)?;
        this.dictionary().is_null().then(|| this.into_object())
    }
}

fn acquire(this: &Instance<Semaphore>) -> Result {
    coroutine::make("Semaphore.acquire", AcquireOperation::new(this.typed()))
}

fn release(this: &Instance<Semaphore>) -> Result {
    this.give_back().map(|()| Owned::none())
}

fn locked(this: &Instance<Semaphore>) -> Result {
    Ok(Owned::bool(this.machine.with(|semaphore| semaphore.is_locked())))
}

fn repr(this: &Instance<Semaphore>) -> Result {
    let (locked, value, waiters) = this
        .machine
        .with(|semaphore| (semaphore.is_locked(), semaphore.permits(), semaphore.waiters().len()));
    let extra = if locked { "locked".to_owned() } else { format!("unlocked, value:{value}") };
    object::repr_with(&this.owned(), &extra, waiters)
}

fn get_value(this: &Instance<Semaphore>) -> Result {
    Owned::int(this.machine.with(|semaphore| semaphore.permits()) as i64)
}

fn get_initial(this: &Instance<Semaphore>) -> Result {
    Owned::int(this.initial.get() as i64)
}

fn get_waiters(this: &Instance<Semaphore>) -> Result {
    view::make(this.owned(), |owner, change| {
        // SAFETY: made for semaphores alone.
        let semaphore = unsafe { Instance::<Semaphore>::from_ptr(owner.as_ptr()) };
        semaphore.machine.with(|semaphore| change(semaphore.waiters_mut()));
    })
}

super::loop_attributes!(Semaphore);

/// Makes the types and adds them to the module.
pub fn load(module: &Owned) -> Result<()> {
    acquire::load::<Semaphore>(module)?;
    if SEMAPHORE.get().is_null() {
        let made = object::heap_type::<Semaphore>(
            c"antiphon._antiphon.Semaphore",
            c"Semaphore(value=1): a number of permits, given out in turn.",
        )
        .slot(ffi::Py_tp_repr, unary_slot!(repr))
        .method_noargs(c"acquire", method_noargs!(acquire), c"Wait for a permit, take it, return True.")
        .method_noargs(c"release", method_noargs!(release), c"Give a permit back, or add one.")
        .method_noargs(c"locked", method_noargs!(locked), c"Whether one would have to wait.")
        .method_noargs(c"_get_loop", method_noargs!(get_running), c"The running loop, which must be its own.")
        .attribute(c"_loop", getter!(get_loop), Some(setter!(set_loop)), c"The loop, once somebody waited.")
        .attribute(c"_value", getter!(get_value), None, c"How many permits are free.")
        .attribute(c"_waiters", getter!(get_waiters), None, c"The futures of those who wait.");
        let made =
            super::block_methods!(made, Semaphore).build(None, Instance::<Semaphore>::PAYLOAD_OFFSET)?;
        SEMAPHORE.set(made);
        #[cfg(not(Py_3_14))]
        super::context::add_block::<Semaphore>(made)?;
        // SAFETY: a type object is an object.
        let base = unsafe { Owned::from_borrowed(made.cast()) };
        let made = object::heap_type::<Semaphore>(
            c"antiphon._antiphon.BoundedSemaphore",
            c"BoundedSemaphore(value=1): a Semaphore that takes back no more permits than it had.",
        )
        .attribute(c"_bound_value", getter!(get_initial), None, c"How many permits there are at most.")
        .build(Some(&base), Instance::<Semaphore>::SIZE)?;
        BOUNDED.set(made);
    }
    object::publish(module, Semaphore::type_object(), c"Semaphore")?;
    object::publish(module, bounded_type(), c"BoundedSemaphore")
}
