//! `Lock`, over [`antiphon_core::Lock`].
//!
//! Source: CPython Lib/asyncio/locks.py.

use std::ffi::c_int;

use pyo3::ffi;

use crate::coroutine::{self, Class};
use crate::ffi::derived::TypeCell;
use crate::ffi::instance::{DictionarySlot, Typed};
use crate::ffi::raise::runtime_error;
use crate::ffi::visitor::Visitor;
use crate::ffi::{GilCell, Instance, Owned, Payload, Result};
use crate::{getter, method_noargs, setter, unary_slot};

use super::acquire::{self, Acquirable, AcquireOperation, CoroutineType};
use super::bound::Bound;
use super::context::{Block, BlockNames};
use super::object::{self, Object};
use super::view;
use super::waiter::{self, Waiter};

/// The payload of `Lock`.
#[derive(Default)]
pub struct Lock {
    bound: Bound,
    machine: GilCell<antiphon_core::Lock<Waiter>>,
}

static LOCK: TypeCell = TypeCell::new();

impl Payload for Lock {
    type BaseSlots = ();
    type Dictionary = DictionarySlot;
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        LOCK.get()
    }
}

impl Object for Lock {
    const ARGUMENT: Option<(&'static str, bool)> = None;

    fn visit(&self, visitor: Visitor) -> c_int {
        match self.bound.visit(visitor) {
            0 => self.machine.with(|lock| visitor.all(lock.waiters().iter().map(Waiter::object))),
            status => status,
        }
    }

    fn clear(&self) {
        self.bound.set(None);
        drop(self.machine.with(|lock| lock.waiters_mut().take()));
    }

    fn init(_: &Instance<Self>, _: Option<&Owned>) -> Result<()> {
        Ok(())
    }
}

static ACQUIRE: Class = Class::new();
static ENTER: Class = Class::new();
static EXIT: Class = Class::new();

impl Acquirable for Lock {
    const ACQUIRE: CoroutineType = (c"antiphon._antiphon.LockAcquireOperation", &ACQUIRE);
    const ENTER: CoroutineType = (c"antiphon._antiphon.LockEnterOperation", &ENTER);
    const EXIT: CoroutineType = (c"antiphon._antiphon.LockExitOperation", &EXIT);

    #[inline]
    fn cast(object: &Owned) -> Option<Typed<Self>> {
        Typed::new(object.clone())
    }

    fn bound(&self) -> &Bound {
        &self.bound
    }

    #[inline]
    fn try_acquire(&self) -> bool {
        self.machine.with(antiphon_core::Lock::try_acquire)
    }

    fn acquire_or_wait(&self, waiter: Waiter) -> bool {
        let mut waiter = Some(waiter);
        self.machine.with(|lock| {
            let taken = lock.try_acquire();
            if !taken && let Some(waiter) = waiter.take() {
                lock.wait(waiter);
            }
            taken
        })
    }

    fn resume(&self, waiter: &Waiter) {
        drop(self.machine.with(|lock| lock.resume(waiter)));
    }

    fn abandon(&self, waiter: &Waiter) {
        let left = self.machine.with(|lock| lock.abandon(waiter));
        drop(left.removed);
        // One that is missed was cancelled meanwhile, and passes the turn on itself.
        waiter::wake(left.wake, &Owned::bool(true), waiter::nobody);
    }

    #[inline]
    fn give_back(&self) -> Result<()> {
        match self.machine.with(antiphon_core::Lock::release) {
            Ok(wake) if wake.is_empty() => Ok(()),
            Ok(wake) => {
                waiter::wake(wake, &Owned::bool(true), waiter::nobody);
                Ok(())
            }
            Err(antiphon_core::NotLocked) => Err(runtime_error("Lock is not acquired.")),
        }
    }
}

impl Lock {
    /// Whether somebody has it.
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.machine.with(|lock| lock.is_locked())
    }
}

/// A new lock.
pub fn make() -> Result {
    // SAFETY: F1; a type is called without arguments.
    unsafe { Owned::from_new(ffi::PyObject_CallNoArgs(Lock::type_object().cast())) }
}

impl Block for Lock {
    type Lock = Self;
    const NAMES: BlockNames = BlockNames { enter: "Lock.__aenter__", exit: "Lock.__aexit__" };

    #[inline]
    fn short_way(object: &Owned) -> Option<Owned> {
        Instance::<Self>::downcast(object)?.is_as_made().then(|| object.clone())
    }
}

fn acquire(this: &Instance<Lock>) -> Result {
    coroutine::make("Lock.acquire", AcquireOperation::new(this.typed()))
}

fn release(this: &Instance<Lock>) -> Result {
    this.give_back().map(|()| Owned::none())
}

fn locked(this: &Instance<Lock>) -> Result {
    Ok(Owned::bool(this.is_locked()))
}

fn repr(this: &Instance<Lock>) -> Result {
    let (locked, waiters) = this.machine.with(|lock| (lock.is_locked(), lock.waiters().len()));
    object::repr_with(&this.owned(), if locked { "locked" } else { "unlocked" }, waiters)
}

fn get_waiters(this: &Instance<Lock>) -> Result {
    view::make(this.owned(), |owner, change| {
        // SAFETY: made for locks alone.
        let lock = unsafe { Instance::<Lock>::from_ptr(owner.as_ptr()) };
        lock.machine.with(|lock| change(lock.waiters_mut()));
    })
}

super::loop_attributes!(Lock);

/// Makes the type and adds it to the module.
pub fn load(module: &Owned) -> Result<()> {
    acquire::load::<Lock>(module)?;
    if LOCK.get().is_null() {
        let made = object::heap_type::<Lock>(
            c"antiphon._antiphon.Lock",
            c"Lock(): mutual exclusion between tasks, in turn.",
        )
        .slot(ffi::Py_tp_repr, unary_slot!(repr))
        .method_noargs(
            c"acquire",
            method_noargs!(acquire),
            c"Wait until the lock is free, take it, return True.",
        )
        .method_noargs(c"release", method_noargs!(release), c"Give it back; the first who waits is next.")
        .method_noargs(c"locked", method_noargs!(locked), c"Whether somebody has it.")
        .method_noargs(
            c"_get_loop",
            method_noargs!(get_running),
            c"The running loop, which must be the lock's.",
        )
        .attribute(c"_loop", getter!(get_loop), Some(setter!(set_loop)), c"The loop, once somebody waited.")
        .attribute(c"_locked", getter!(locked), None, c"Whether somebody has it.")
        .attribute(c"_waiters", getter!(get_waiters), None, c"The futures of those who wait.");
        let made = super::block_methods!(made, Lock).build(None, Instance::<Lock>::PAYLOAD_OFFSET)?;
        LOCK.set(made);
        #[cfg(not(Py_3_14))]
        super::context::add_block::<Lock>(made)?;
    }
    object::publish(module, Lock::type_object(), c"Lock")
}
