//! `Condition`, over [`antiphon_core::Condition`] and any lock.
//!
//! As in asyncio, `acquire`, `release` and `locked` are the lock's own and can be set. While nobody did and the lock is
//! a plain [`Lock`], nothing is looked up.
//!
//! Source: CPython Lib/asyncio/locks.py.

use std::ffi::c_int;
use std::ptr;

use pyo3::ffi;

use crate::coroutine;
use crate::ffi::derived::TypeCell;
use crate::ffi::instance::{DictionarySlot, Typed};
use crate::ffi::raise::{runtime_error, type_error};
use crate::ffi::visitor::Visitor;
use crate::ffi::{Args, GilCell, Instance, Owned, Payload, Result, call, call_method};
use crate::names::names;
use crate::{getter, method, method_noargs, setter, unary_slot};

use super::acquire::Acquirable;
use super::bound::Bound;
use super::condition_wait::{ConditionWait, ConditionWaitFor};
use super::context::{self, Block, BlockNames};
use super::lock::{self, Lock};
use super::object::{self, Object};
use super::view;
use super::waiter::{self, Waiter};

/// The lock, and what was put in place of its methods.
#[derive(Default, Clone)]
struct Methods {
    lock: Option<Owned>,
    acquire: Option<Owned>,
    release: Option<Owned>,
    locked: Option<Owned>,
}

/// The payload of `Condition`.
#[derive(Default)]
pub struct Condition {
    pub(super) bound: Bound,
    pub(super) machine: GilCell<antiphon_core::Condition<Waiter>>,
    methods: GilCell<Methods>,
}

static CONDITION: TypeCell = TypeCell::new();

impl Payload for Condition {
    type BaseSlots = ();
    type Dictionary = DictionarySlot;
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        CONDITION.get()
    }
}

impl Object for Condition {
    const ARGUMENT: Option<(&'static str, bool)> = Some(("lock", false));

    fn visit(&self, visitor: Visitor) -> c_int {
        match self.bound.visit(visitor) {
            0 => {}
            status => return status,
        }
        let status = self.methods.with(|methods| {
            visitor.all(
                [&methods.lock, &methods.acquire, &methods.release, &methods.locked].into_iter().flatten(),
            )
        });
        if status != 0 {
            return status;
        }
        self.machine.with(|condition| visitor.all(condition.waiters().iter().map(Waiter::object)))
    }

    fn clear(&self) {
        self.bound.set(None);
        drop(self.methods.take());
        drop(self.machine.with(|condition| condition.waiters_mut().take()));
    }

    fn init(this: &Instance<Self>, lock: Option<&Owned>) -> Result<()> {
        let lock = match lock.filter(|lock| !lock.is_none()) {
            Some(lock) => lock.clone(),
            None => lock::make()?,
        };
        if Instance::<Lock>::downcast(&lock).is_none() {
            // What has not all three is refused here, as asyncio does it.
            for name in [&names().locked, &names().acquire, &names().release] {
                drop(lock.attr(name)?);
            }
        }
        drop(this.methods.replace(Methods { lock: Some(lock), ..Methods::default() }));
        Ok(())
    }
}

/// How a condition's lock is reached.
pub enum Way {
    /// It is a plain lock with methods of its own.
    Plain(Typed<Lock>),
    /// By name.
    ByName,
}

impl Instance<Condition> {
    /// How the lock is reached.
    #[inline]
    pub fn way(&self) -> Way {
        let plain = self.methods.with(|methods| {
            let replaced = methods.acquire.is_some() || methods.release.is_some() || methods.locked.is_some();
            if replaced { None } else { methods.lock.clone() }
        });
        match plain.filter(|_| self.is_as_made()).and_then(Typed::new) {
            Some(lock) => Way::Plain(lock),
            None => Way::ByName,
        }
    }

    /// Whether the lock is held.
    pub fn is_locked(&self) -> Result<bool> {
        match self.way() {
            Way::Plain(lock) => Ok(lock.is_locked()),
            Way::ByName => call_method(&self.owned(), &names().locked, [])?.truth(),
        }
    }

    /// Gives the lock back.
    pub fn release(&self) -> Result<()> {
        match self.way() {
            Way::Plain(lock) => lock.give_back(),
            Way::ByName => context::release_by_method(&self.owned()),
        }
    }

    /// Wakes the first `most` who wait.
    pub fn notify(&self, most: usize) {
        let wake = self.machine.with(|condition| condition.notify(most));
        if !wake.is_empty() {
            let instead = || self.machine.with(antiphon_core::Condition::pass_on);
            waiter::wake(wake, &Owned::bool(false), instead);
        }
    }

    fn method(&self, replaced: fn(&Methods) -> &Option<Owned>, name: &Owned) -> Result {
        let (replaced, lock) = self.methods.with(|methods| (replaced(methods).clone(), methods.lock.clone()));
        match (replaced, lock) {
            (Some(method), _) => Ok(method),
            (None, Some(lock)) => lock.attr(name),
            (None, None) => Err(no_lock()),
        }
    }

    fn replace(&self, place: fn(&mut Methods) -> &mut Option<Owned>, method: Option<&Owned>) -> Result<()> {
        let method = method.cloned();
        drop(self.methods.with(|methods| std::mem::replace(place(methods), method)));
        Ok(())
    }
}

#[cold]
fn no_lock() -> crate::ffi::Raised {
    runtime_error("Condition.__init__() was not called")
}

fn get_acquire(this: &Instance<Condition>) -> Result {
    this.method(|methods| &methods.acquire, &names().acquire)
}

fn get_release(this: &Instance<Condition>) -> Result {
    this.method(|methods| &methods.release, &names().release)
}

fn get_locked(this: &Instance<Condition>) -> Result {
    this.method(|methods| &methods.locked, &names().locked)
}

fn set_acquire(this: &Instance<Condition>, method: Option<&Owned>) -> Result<()> {
    this.replace(|methods| &mut methods.acquire, method)
}

fn set_release(this: &Instance<Condition>, method: Option<&Owned>) -> Result<()> {
    this.replace(|methods| &mut methods.release, method)
}

fn set_locked(this: &Instance<Condition>, method: Option<&Owned>) -> Result<()> {
    this.replace(|methods| &mut methods.locked, method)
}

fn get_lock(this: &Instance<Condition>) -> Result {
    this.methods.with(|methods| methods.lock.clone()).ok_or_else(no_lock)
}

fn wait(this: &Instance<Condition>) -> Result {
    coroutine::make("Condition.wait", ConditionWait::new(this.typed()))
}

fn wait_for(this: &Instance<Condition>, args: Args<'_>) -> Result {
    let [predicate] = args.bind([&names().predicate], 1)?;
    let predicate = predicate.ok_or_else(|| type_error("predicate is missing"))?;
    // SAFETY: F1; the argument is alive during the call.
    let predicate = unsafe { Owned::from_borrowed(predicate) };
    coroutine::make("Condition.wait_for", ConditionWaitFor::new(this.typed(), predicate))
}

fn check_locked_to_notify(this: &Instance<Condition>) -> Result<()> {
    if this.is_locked()? { Ok(()) } else { Err(runtime_error("cannot notify on un-acquired lock")) }
}

fn notify(this: &Instance<Condition>, args: Args<'_>) -> Result {
    let [most] = args.bind([&names().n], 0)?;
    check_locked_to_notify(this)?;
    let most = match most {
        None => 1,
        // SAFETY: F1; the argument is alive during the call.
        Some(most) => match unsafe { ffi::PyNumber_AsSsize_t(most, ptr::null_mut()) } {
            // SAFETY: F1.
            -1 if !unsafe { ffi::PyErr_Occurred() }.is_null() => return Err(type_error("n must be an int")),
            most => usize::try_from(most).unwrap_or(0),
        },
    };
    Instance::<Condition>::notify(this, most);
    Ok(Owned::none())
}

fn notify_all(this: &Instance<Condition>) -> Result {
    let waiting = this.machine.with(|condition| condition.waiters().len());
    if this.is_as_made() {
        check_locked_to_notify(this)?;
        Instance::<Condition>::notify(this, waiting);
        return Ok(Owned::none());
    }
    call(&this.owned().attr(&names().notify)?, [&Owned::int(waiting as i64)?])
}

impl Block for Condition {
    type Lock = Lock;
    const NAMES: BlockNames = BlockNames { enter: "Condition.__aenter__", exit: "Condition.__aexit__" };

    #[inline]
    fn short_way(object: &Owned) -> Option<Owned> {
        match Instance::<Self>::downcast(object)?.way() {
            Way::Plain(lock) => Some(lock.into_object()),
            Way::ByName => None,
        }
    }
}

fn repr(this: &Instance<Condition>) -> Result {
    let extra = if this.is_locked()? { "locked" } else { "unlocked" };
    object::repr_with(&this.owned(), extra, this.machine.with(|condition| condition.waiters().len()))
}

fn get_waiters(this: &Instance<Condition>) -> Result {
    view::make(this.owned(), |owner, change| {
        // SAFETY: made for conditions alone.
        let condition = unsafe { Instance::<Condition>::from_ptr(owner.as_ptr()) };
        condition.machine.with(|condition| change(condition.waiters_mut()));
    })
}

super::loop_attributes!(Condition);

/// Makes the type and adds it to the module.
pub fn load(module: &Owned) -> Result<()> {
    coroutine::load::<ConditionWait>(module)?;
    coroutine::load::<ConditionWaitFor>(module)?;
    if CONDITION.get().is_null() {
        let made = object::heap_type::<Condition>(
            c"antiphon._antiphon.Condition",
            c"Condition(lock=None): to wait for news about what a lock protects.",
        )
        .slot(ffi::Py_tp_repr, unary_slot!(repr))
        .method_noargs(
            c"wait",
            method_noargs!(wait),
            c"Release the lock, wait for a notification, take it again.",
        )
        .method(
            c"wait_for",
            method!(c"wait_for", wait_for),
            c"wait_for(predicate): wait() until that is true; what it gave.",
        )
        .method(c"notify", method!(c"notify", notify), c"notify(n=1): wake so many who wait.")
        .method_noargs(c"notify_all", method_noargs!(notify_all), c"Wake everybody who waits.")
        .method_noargs(c"_get_loop", method_noargs!(get_running), c"The running loop, which must be its own.")
        .attribute(c"acquire", getter!(get_acquire), Some(setter!(set_acquire)), c"The lock's.")
        .attribute(c"release", getter!(get_release), Some(setter!(set_release)), c"The lock's.")
        .attribute(c"locked", getter!(get_locked), Some(setter!(set_locked)), c"The lock's.")
        .attribute(c"_lock", getter!(get_lock), None, c"The lock.")
        .attribute(c"_loop", getter!(get_loop), Some(setter!(set_loop)), c"The loop, once somebody waited.")
        .attribute(c"_waiters", getter!(get_waiters), None, c"The futures of those who wait.");
        let made =
            super::block_methods!(made, Condition).build(None, Instance::<Condition>::PAYLOAD_OFFSET)?;
        CONDITION.set(made);
        #[cfg(not(Py_3_14))]
        context::add_block::<Condition>(made)?;
    }
    object::publish(module, Condition::type_object(), c"Condition")
}
