//! `Future`: asyncio's future, native.
//!
//! The type derives from CPython's own `_asyncio.Future`, so that `isinstance` holds everywhere, and keeps its state behind
//! the base's part, which stays empty. [`FutureRef`] is what the rest of the crate works with.
//!
//! | file | is |
//! |---|---|
//! | [`callback`] | who is to hear that a future is done |
//! | [`schedule`] | how they hear it: one queue entry, or the calls of a loop that is not ours |
//! | [`outcome`] | results, exceptions, cancellation |
//! | [`awaiting`] | `await`: a future is its own iterator |
//! | [`iterator`] | the iterator with `send`, `throw` and `close` for everybody else |
//! | [`sleeping`] | the future of a `sleep`, which a task can do without |
//! | [`life`] | allocation, the free list, the collector, the report of exceptions that nobody saw |
//! | [`methods`], [`attributes`] | what Python sees |
//!
//! The rules are [`antiphon_core::future`]'s.
//!
//! Source: CPython Lib/asyncio/futures.py and Modules/_asynciomodule.c.

pub mod attributes;
pub mod awaiting;
pub mod callback;
pub mod iterator;
pub mod life;
pub mod methods;
pub mod outcome;
pub mod schedule;
pub mod sleeping;

use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use antiphon_core::future::FutureState;
use pyo3::ffi;

use crate::event_loop::EventLoop;
use crate::ffi::derived::{Base, TypeCell, payload_offset, set_payload_offset};
use crate::ffi::raise::runtime_error;
use crate::ffi::{Derived, DerivedPayload, GilCell, HeapType, Instance, Owned, Payload, Result, This};
use crate::names::names;
use callback::Callbacks;
pub use callback::register_observer;

/// What few futures need.
#[derive(Default)]
struct Rare {
    /// What `cancel(msg)` was given.
    cancel_message: Option<Owned>,
    /// The very `CancelledError` that ended a task, to be raised to the first who asks.
    cancelled_error: Option<Owned>,
    /// The traceback that the exception came with; every raise starts from it again.
    traceback: Option<Owned>,
    /// In debug mode, the stack of the code that made the future.
    source_traceback: Option<Owned>,
}

/// The part of a future that changes.
#[derive(Default)]
struct Inner {
    state: FutureState,
    /// The result, or the exception.
    outcome: Option<Owned>,
    /// Once the future is done: those that its queue entry has not called yet.
    callbacks: Callbacks,
    rare: Option<Box<Rare>>,
}

impl Inner {
    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

/// The payload of `Future`, and the first part of `Task`'s.
#[derive(Default)]
pub struct FutureData {
    /// The loop, owned; null until `__init__` ran.
    owner: AtomicPtr<ffi::PyObject>,
    /// [`NATIVE`] if the loop is one of ours; and the address of the sleep that waits by it, if one does.
    origin: AtomicUsize,
    inner: GilCell<Inner>,
}

/// The loop is one of ours.
const NATIVE: usize = 1;

impl DerivedPayload for FutureData {}

/// A future as slots and methods get it.
pub type FutureObject = Derived<FutureData>;

static FUTURE: TypeCell = TypeCell::new();
static BASE: OnceLock<Base> = OnceLock::new();

/// The type object of `Future`.
#[inline(always)]
pub fn future_type() -> *mut ffi::PyTypeObject {
    FUTURE.get()
}

/// A reference known to be to a native future: `Future`, `Task` or a subclass.
#[derive(Clone)]
#[repr(transparent)]
pub struct FutureRef(Owned);

impl FutureRef {
    /// A pending future of the loop. No Python code runs, except in debug mode, which notes where it was made.
    #[inline]
    pub fn new(owner: &Instance<EventLoop>) -> Result<FutureRef> {
        let made = FutureRef(life::create(owner)?);
        if owner.debug() {
            made.this().remember_origin()?;
        }
        Ok(made)
    }

    /// The object as a future, if it is a native one.
    #[inline]
    pub fn cast(object: &Owned) -> Option<&FutureRef> {
        // SAFETY: F1; a living object. A future is what a `FutureRef` says it is, which has no other content.
        unsafe {
            let kind = ffi::Py_TYPE(object.as_ptr());
            let known = kind == future_type()
                || kind == crate::task::task_type()
                || ffi::PyType_IsSubtype(kind, future_type()) != 0;
            known.then(|| &*ptr::from_ref(object).cast::<FutureRef>())
        }
    }

    /// The object.
    #[inline(always)]
    pub fn object(&self) -> &Owned {
        &self.0
    }

    /// The object, given away.
    #[inline(always)]
    pub fn into_object(self) -> Owned {
        self.0
    }

    /// The payload.
    #[inline(always)]
    pub fn this(&self) -> &FutureObject {
        // SAFETY: a future, by this type's promise; alive as long as this reference.
        unsafe { This::from_ptr(self.0.as_ptr()) }
    }

    /// Whether it has a result or an exception, or was cancelled.
    #[inline(always)]
    pub fn is_done(&self) -> bool {
        self.this().state().is_done()
    }

    /// Whether it was cancelled.
    #[inline(always)]
    pub fn is_cancelled(&self) -> bool {
        self.this().state().is_cancelled()
    }

    /// Whether it ended with an exception (cancellation is none).
    #[inline(always)]
    pub fn has_exception(&self) -> bool {
        self.this().state().is_failed()
    }

    /// Its loop; `None` (Python's) where `__init__` never ran.
    pub fn owner(&self) -> Owned {
        self.this().owner_or_none()
    }

    /// Its exception, if it has one, needs no report any more.
    pub fn silence(&self) {
        self.this().silence();
    }

    /// Marks the future as being on its way to a task; what an awaitable yields that waits for it.
    pub fn awaited(&self) -> Owned {
        self.this().inner.with(|inner| inner.state.set_offered(true));
        self.0.clone()
    }
}

impl FutureObject {
    /// How far it has come.
    #[inline(always)]
    pub fn state(&self) -> FutureState {
        self.inner.with(|inner| inner.state)
    }

    /// The loop, if it is one of ours.
    #[inline(always)]
    pub fn native_owner(&self) -> Option<&Instance<EventLoop>> {
        if self.origin.load(Ordering::Relaxed) == 0 {
            return None;
        }
        // SAFETY: set together with the word, to a `LoopBase` or a subclass; a future keeps its loop alive.
        Some(unsafe { Instance::from_ptr(self.owner.load(Ordering::Relaxed)) })
    }

    /// Its loop; `None` (Python's) where `__init__` never ran.
    pub fn owner_or_none(&self) -> Owned {
        // SAFETY: null or a loop that the future keeps alive.
        unsafe { Owned::from_optional(self.owner.load(Ordering::Relaxed)) }.unwrap_or_else(Owned::none)
    }

    /// Whether `__init__` ran.
    fn is_initialised(&self) -> bool {
        !self.owner.load(Ordering::Relaxed).is_null()
    }

    /// # Errors
    /// `RuntimeError`: a subclass did not call `__init__`.
    #[inline(always)]
    pub fn check_initialised(&self) -> Result<()> {
        if self.owner.load(Ordering::Relaxed).is_null() {
            Err(runtime_error("Future object is not initialized."))
        } else {
            Ok(())
        }
    }

    /// The loop's address; null where `__init__` never ran.
    #[inline(always)]
    pub fn owner_ptr(&self) -> *mut ffi::PyObject {
        self.owner.load(Ordering::Relaxed)
    }

    /// Whether both belong to the same loop.
    #[inline(always)]
    pub fn is_of_same_loop(&self, other: &FutureObject) -> bool {
        self.owner_ptr() == other.owner_ptr()
    }

    /// Binds a new future to a loop of ours.
    #[inline(always)]
    pub fn bind(&self, owner: &Instance<EventLoop>) {
        self.origin.store(NATIVE, Ordering::Relaxed);
        self.owner.store(owner.owned().into_ptr(), Ordering::Relaxed);
    }

    /// Takes the loop out of a future that is being freed; and whether it is one of ours.
    pub fn unbind(&self) -> Option<(Owned, bool)> {
        // SAFETY: the reference was owned.
        let owner = unsafe { Owned::from_new(self.owner.swap(ptr::null_mut(), Ordering::Relaxed)) };
        owner.ok().map(|owner| (owner, self.origin.load(Ordering::Relaxed) != 0))
    }

    /// The task that it went up to takes note of it; whether it was offered.
    #[inline(always)]
    pub fn take_offer(&self) -> bool {
        self.inner.with(|inner| inner.state.take_offer())
    }

    /// Its exception, if it has one, needs no report any more.
    pub fn silence(&self) {
        self.inner.with(|inner| inner.state.retrieve());
    }

    /// In debug mode, the stack of the code that made it.
    pub fn source_traceback(&self) -> Option<Owned> {
        self.inner.with(|inner| inner.source_traceback())
    }

    /// What `cancel(msg)` was given.
    pub fn cancel_message(&self) -> Option<Owned> {
        self.inner.with(|inner| inner.rare.as_ref().and_then(|rare| rare.cancel_message.clone()))
    }

    /// Sets that.
    pub fn set_cancel_message(&self, message: Option<Owned>) {
        let mut message = message;
        self.inner.with(|inner| {
            if message.is_some() || inner.rare.is_some() {
                std::mem::swap(&mut inner.rare().cancel_message, &mut message);
            }
        });
    }

    /// Keeps the very exception that a task was cancelled with.
    pub fn keep_cancelled_error(&self, error: Owned) {
        drop(self.inner.with(|inner| inner.rare().cancelled_error.replace(error)));
    }

    /// Binds the future to its loop.
    fn set_owner(&self, owner: Owned) {
        // SAFETY: F1; a living object.
        let native = unsafe { ffi::PyObject_TypeCheck(owner.as_ptr(), EventLoop::type_object()) } != 0;
        self.origin.store(if native { NATIVE } else { 0 }, Ordering::Relaxed);
        // A second `__init__` keeps the loop of the first alive for good: somebody may be using it right now.
        self.owner.store(owner.into_ptr(), Ordering::Relaxed);
    }

    /// In debug mode: where the future was made.
    #[cold]
    pub fn remember_origin(&self) -> Result<()> {
        let stack = crate::ffi::call(&crate::names::import("antiphon.debug", "call_stack")?, [])?;
        drop(self.inner.with(|inner| inner.rare().source_traceback.replace(stack)));
        Ok(())
    }
}

/// Adds the methods and attributes that futures and tasks share.
pub fn add_members(kind: HeapType) -> HeapType {
    attributes::add(methods::add_shared(kind))
}

/// Makes the types and adds them to the module.
pub fn load(module: &Owned) -> Result<()> {
    if future_type().is_null() {
        let names = names();
        set_payload_offset(&[&names.base_future_class, &names.base_task_class]);
        let _ = BASE.set(Base::of(&names.base_future_class)?);
        let kind = life::add_slots(HeapType::new(
            c"antiphon._antiphon.Future",
            payload_offset() + size_of::<FutureData>(),
        ));
        let kind = methods::add_own(add_members(kind));
        let made = kind.derive(&Owned::tuple([names.base_future_class.clone()])?)?;
        awaiting::patch(made);
        FUTURE.set(made);
        iterator::load()?;
    }
    crate::add_type(module, c"Future", future_type())
}
