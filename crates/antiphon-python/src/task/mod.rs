//! `Task`: a coroutine on its way through the loop, native.
//!
//! The type derives from CPython's `_asyncio.Task` and from [`crate::future`]'s `Future` (F4 makes that possible). A task is
//! its own entry in the ready queue: its first step, a bare yield and the wake-up by a future queue the task itself, so a
//! step makes no handle, bound method or argument.
//!
//! ```text
//!             ┌───────────────── yields None ────────────────┐
//!             ▼                                              │
//! made ──▶ due (in the queue) ──▶ running ──▶ yields a future, waits ──▶ future done ──▶ due …
//!                                   └──▶ returns, raises ──▶ done
//! ```
//!
//! **Invariant J1**: a task that is not done is in exactly one of these states: its step is due (one entry of the queue or
//! one call of another loop's refers to it), it is running, or it waits for `waiter`, which has it among its callbacks or is
//! its own sleep (J3).
//! **Invariant J2**: a loop of ours refers to its tasks until they are done: one that nobody keeps is not lost.
//!
//! | file | is |
//! |---|---|
//! | [`create`] | tasks made by native code and by `create_task` |
//! | [`step`] | one step: send, throw, and what the coroutine gave |
//! | [`watched`] | the end of a step that blocked the loop |
//! | [`yielded`] | what to do with what it yielded |
//! | [`wake`] | steps and wake-ups as callables, for loops and futures that are not ours |
//! | [`eager`] | the first step before the constructor returns |
//! | [`cancel`] | `cancel` and its kin, by [`antiphon_core::task`]'s rules |
//! | [`current`] | which task runs now, for everybody who asks asyncio |
//! | [`registry`] | which tasks there are |
//! | [`sleep`] | `sleep` |
//! | [`asleep`] | a task that waits for its sleep without a future |
//! | `shown` | what `python -m asyncio ps` reads, from 3.14 on |
//! | [`name`] | its name, one word |
//! | [`life`] | allocation, the free list, the collector, reports |
//! | [`methods`] | what Python sees |
//!
//! Source: CPython Lib/asyncio/tasks.py and Modules/_asynciomodule.c.

pub mod asleep;
pub mod cancel;
pub mod create;
pub mod current;
pub mod eager;
pub mod life;
pub mod methods;
mod name;
pub mod registry;
#[cfg(Py_3_14)]
pub mod shown;
pub mod sleep;
pub mod step;
pub mod wake;
pub mod watched;
pub mod yielded;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use antiphon_core::task::Cancellation;
use pyo3::ffi;

use crate::event_loop::EventLoop;
use crate::ffi::derived::{Base, TypeCell, payload_offset, with_plain_layout};
use crate::ffi::{Derived, DerivedPayload, GilCell, HeapType, Instance, Owned, Result, This};
use crate::future::{FutureData, FutureObject, FutureRef, future_type};
use crate::names::names;
use crate::work::{Kind, Work};
use name::{Name, NameIs};

/// The part of a task that changes.
#[derive(Default)]
struct Inner {
    coro: Option<Owned>,
    context: Option<Owned>,
    /// What it waits for: a future, or its own sleep (`_fut_waiter` shows a future in either case).
    waiter: Option<Owned>,
    name: Name,
    cancellation: Cancellation,
    /// Whether `waiter` is what its next step throws: its step is due then, and it waits for nothing.
    throws: bool,
    /// Whether it is reported if it is dropped before it is done.
    reports_its_loss: bool,
    /// Whether the interpreter's own list of tasks has it.
    listed: bool,
    /// Whether it fails at its end because a step of its blocked the loop ([`crate::watch::verdict`]).
    condemned: bool,
}

impl Inner {
    /// What it waits for.
    #[inline(always)]
    fn waiter(&self) -> Option<Owned> {
        if self.throws { None } else { self.waiter.clone() }
    }

    /// It waits for this from here on; gives back what was there, for the caller to drop.
    #[inline(always)]
    fn wait_for(&mut self, waiter: Owned) -> Option<Owned> {
        self.throws = false;
        self.waiter.replace(waiter)
    }

    /// Its next step throws this.
    fn throw_next(&mut self, exception: Owned) -> Option<Owned> {
        self.throws = true;
        self.waiter.replace(exception)
    }

    /// It waits for nothing from here on: what it waited for, and what its step throws.
    #[inline(always)]
    fn stop_waiting(&mut self) -> (Option<Owned>, Option<Owned>) {
        let taken = self.waiter.take();
        if std::mem::take(&mut self.throws) { (None, taken) } else { (taken, None) }
    }
}

/// The payload of `Task`.
#[derive(Default)]
#[repr(C)]
pub struct TaskData {
    future: FutureData,
    inner: GilCell<Inner>,
    /// Its place in the loop's registry, counted from 1; 0: it is not there.
    place: AtomicUsize,
}

impl DerivedPayload for TaskData {}

/// A task as slots and methods get it.
pub type TaskObject = Derived<TaskData>;

static TASK: TypeCell = TypeCell::new();
static BASE: OnceLock<Base> = OnceLock::new();
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// The type object of `Task`.
#[inline(always)]
pub fn task_type() -> *mut ffi::PyTypeObject {
    TASK.get()
}

/// The object as a task, if it is a native one, of a subclass perhaps.
#[inline]
pub fn cast(object: &Owned) -> Option<&TaskObject> {
    // SAFETY: F1; a living object, whose type is compared.
    unsafe {
        let kind = ffi::Py_TYPE(object.as_ptr());
        let known = kind == task_type() || ffi::PyType_IsSubtype(kind, task_type()) != 0;
        known.then(|| TaskObject::from_ptr(object.as_ptr()))
    }
}

/// The task behind a work item of kind `Step`.
pub fn of_work(work: &Work) -> &TaskObject {
    debug_assert!(work.kind() == Kind::Step);
    // SAFETY: such entries are made from tasks only.
    unsafe { TaskObject::from_ptr(work.as_ptr()) }
}

/// The task whose step the loop runs now.
pub fn current(owner: &Instance<EventLoop>) -> Option<Owned> {
    current::of_native(owner)
}

impl TaskObject {
    /// The same object as a future.
    #[inline(always)]
    pub fn as_future(&self) -> &FutureObject {
        // SAFETY: `TaskData` begins with a `FutureData`.
        unsafe { FutureObject::from_ptr(self.as_ptr()) }
    }

    /// Nobody is to be told if it is dropped before it is done.
    pub fn ignore_loss(&self) {
        self.inner.with(|inner| inner.reports_its_loss = false);
    }

    /// Its loop was closed before its turn came: from 3.14 on what it waited for keeps it, as asyncio's call graph does
    /// there, until the collector finds both. Else the last reference to it may be inside of what it awaits, and its
    /// coroutine would be closed while that is being closed.
    pub fn stay_with_waiter(&self) {
        let waiter = self.inner.with(|inner| inner.waiter());
        if let Some(future) = waiter.as_ref().and_then(FutureRef::cast) {
            future.keep(self);
        }
    }

    /// The context that it runs in.
    pub fn context(&self) -> Option<Owned> {
        self.inner.with(|inner| inner.context.clone())
    }

    /// Its name, made up now if it was not given one.
    fn name(&self) -> Result {
        let number = match self.inner.with(|inner| inner.name.get()) {
            NameIs::None => return Ok(Owned::none()),
            NameIs::Number(number) => number,
            NameIs::Text(text) => return Ok(text),
        };
        let text = Owned::str(&format!("Task-{number}"))?;
        self.set_name(text.clone());
        Ok(text)
    }

    fn set_name(&self, text: Owned) {
        let before = self.inner.with(|inner| std::mem::replace(&mut inner.name, Name::text(text)));
        drop(before);
        #[cfg(Py_3_14)]
        if shown::fill_name(self).is_err() {
            crate::ffi::raise::write_unraisable(Some(&self.owned()));
        }
    }
}

/// The next default name's number.
fn next_number() -> u64 {
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

/// Makes the type and adds it to the module.
pub fn load(module: &Owned) -> Result<()> {
    if task_type().is_null() {
        let base = &names().base_task_class;
        let _ = BASE.set(Base::of(base)?);
        let kind = HeapType::new(c"antiphon._antiphon.Task", payload_offset() + size_of::<TaskData>());
        let kind = methods::add(crate::future::add_members(life::add_slots(kind)));
        // SAFETY: a type object is an object.
        let future = unsafe { Owned::from_borrowed(future_type().cast()) };
        let bases = Owned::tuple([future, base.clone()])?;
        let made = with_plain_layout(future_type(), || kind.derive(&bases))?;
        crate::future::awaiting::patch(made);
        TASK.set(made);
    }
    #[cfg(Py_3_14)]
    shown::load()?;
    create::load(module)?;
    current::load()?;
    registry::load(module)?;
    sleep::load(module)?;
    step::load()?;
    if cfg!(Py_3_12) {
        crate::ffi::function::add_functions(module, eager::FUNCTIONS)?;
    }
    crate::add_type(module, c"Task", task_type())
}
