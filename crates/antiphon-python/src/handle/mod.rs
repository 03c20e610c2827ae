//! `Handle` and `TimerHandle`: a user's callback on its way through the loop, and the means to cancel it.
//!
//! Both types share one layout and one free list (the loop's). They are not tracked by the cycle collector: a handle that
//! ran or was cancelled has dropped its callback, arguments and context, so it can be in no cycle, and one that waits is
//! visited by the loop's own traversal (see `event_loop/collect.rs`).
//!
//! Source: CPython Lib/asyncio/events.py, classes Handle and TimerHandle.

pub mod bound_call;
pub mod finished;
pub mod free_list;

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use antiphon_engine::TimerKey;
use pyo3::ffi;

use crate::context::CallContext;
use crate::event_loop::EventLoop;
use crate::ffi::instance::Typed;
use crate::ffi::{GilCell, HeapType, Instance, Owned, Payload, Raised, Result, call, raise};
use crate::names::{import, names};
use crate::work::{Kind, Work};
use crate::{getter, method_noargs, unary_slot};
pub use bound_call::{Call, call_from_args, is_crowd};
pub use free_list::{FreeHandles, retire};

/// The payload of both handle types.
pub struct Handle {
    /// The loop, owned; null while the handle rests in a free list.
    owner: AtomicPtr<ffi::PyObject>,
    call: GilCell<Call>,
    /// What few handles need; made when they do.
    rare: GilCell<Option<Box<Rare>>>,
    /// Seconds on the loop's clock, as bits; meaningful for timers only.
    when: AtomicU64,
    /// Where the timer heap keeps this timer while it is armed.
    key: GilCell<Option<TimerKey>>,
    cancelled: AtomicBool,
    /// Readers and writers are called again and again; every other handle gives its call away when it runs.
    repeats: AtomicBool,
    /// Whether it came from `call_soon_threadsafe`, whose `cancel()` and `cancelled()` wait from 3.14 on ([`finished`]).
    threadsafe: AtomicBool,
    /// Whether a thread without the seat made it: then it rests where such threads can find it.
    foreign: AtomicBool,
}

/// What debug mode keeps of a handle.
#[derive(Default)]
struct Rare {
    /// The stack of the code that made it.
    source_traceback: Option<Owned>,
    /// What it looked like when it was cancelled.
    repr: Option<Owned>,
}

// A million timers are a million of these.
// (Debug builds keep a flag in every cell.)
const _: () = assert!(cfg!(debug_assertions) || cfg!(Py_GIL_DISABLED) || Instance::<Handle>::SIZE <= 112);

static HANDLE: OnceLock<usize> = OnceLock::new();
static TIMER_HANDLE: OnceLock<usize> = OnceLock::new();

impl Payload for Handle {
    type BaseSlots = ();
    type Dictionary = ();
    const COLLECTED: bool = false;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        HANDLE.get().map_or(ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }
}

/// The type object of `TimerHandle`.
#[inline(always)]
fn timer_type() -> *mut ffi::PyTypeObject {
    TIMER_HANDLE.get().map_or(ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
}

/// A reference known to be a handle of either type.
pub type HandleRef = Typed<Handle>;

/// Takes a reference over, if it is a handle of either type.
pub fn reference(object: Owned) -> Option<HandleRef> {
    let known = object.is_exactly(Handle::type_object()) || object.is_exactly(timer_type());
    // SAFETY: both types have this payload, and the type was compared.
    known.then(|| unsafe { Typed::new_unchecked(object) })
}

/// The handle behind a work item of kind `Handle` or `Timer`.
#[inline(always)]
pub fn of_work(work: &Work) -> &Instance<Handle> {
    debug_assert!(matches!(work.kind(), Kind::Handle | Kind::Timer));
    // SAFETY: such entries are made from handles only.
    unsafe { Instance::from_ptr(work.as_ptr()) }
}

/// Makes a handle for `call` and queues it.
#[inline(always)]
pub fn queue(owner: &Instance<EventLoop>, call: Call) -> Result {
    let mut call = Some(call);
    let queued = owner.seat().with(|core| {
        let handle = core.free_handles.plain.pop()?;
        revive(&handle, owner, call.take()?, 0.0);
        core.engine.ready.push(Work::new(Kind::Handle, handle.clone()));
        Some(handle)
    });
    match (queued.flatten(), call) {
        (Some(handle), _) => {
            if owner.debug() {
                remember_origin(&handle)?;
            }
            Ok(handle)
        }
        (None, Some(call)) => {
            let handle = if owner.seat().is_elsewhere() {
                foreign(owner, call)?
            } else {
                create(owner, call, 0.0, Handle::type_object())?
            };
            owner.push(Work::new(Kind::Handle, handle.clone()));
            Ok(handle)
        }
        (None, None) => unreachable!("the call is taken only together with a handle"),
    }
}

/// A handle for a thread without the seat: the loop's own list is not its to take from.
fn foreign(owner: &Instance<EventLoop>, call: Call) -> Result {
    let rested = owner.foreign_handles().with(Vec::pop);
    let handle = match rested {
        Some(handle) => {
            revive(&handle, owner, call, 0.0);
            if owner.debug() {
                remember_origin(&handle)?;
            }
            handle
        }
        None => create(owner, call, 0.0, Handle::type_object())?,
    };
    // SAFETY: made as a handle.
    let this = unsafe { Instance::<Handle>::from_ptr(handle.as_ptr()) };
    this.foreign.store(true, Ordering::Relaxed);
    Ok(handle)
}

/// Makes a handle for `call` that is not queued: a reader's or writer's.
pub fn new_handle(owner: &Instance<EventLoop>, call: Call) -> Result {
    create(owner, call, 0.0, Handle::type_object())
}

/// Makes a timer's handle, not yet armed. `when`: seconds on the loop's clock.
#[inline(always)]
pub fn new_timer(owner: &Instance<EventLoop>, call: Call, when: f64) -> Result {
    let Some(handle) = owner.seat().with(|core| core.free_handles.timers.pop()).flatten() else {
        return create(owner, call, when, timer_type());
    };
    revive(&handle, owner, call, when);
    if owner.debug() {
        remember_origin(&handle)?;
    }
    Ok(handle)
}

/// Gives a handle from the free list a new life. Runs no Python code: what the handle had was dropped before.
#[inline(always)]
fn revive(handle: &Owned, owner: &Instance<EventLoop>, call: Call, when: f64) {
    // SAFETY: free lists hold handles only.
    let this = unsafe { Instance::<Handle>::from_ptr(handle.as_ptr()) };
    this.owner.store(owner.owned().into_ptr(), Ordering::Relaxed);
    std::mem::forget(this.call.replace(call)); // an empty call, which owns nothing
    this.when.store(when.to_bits(), Ordering::Relaxed);
    this.cancelled.store(false, Ordering::Relaxed);
    this.threadsafe.store(false, Ordering::Relaxed);
    this.foreign.store(false, Ordering::Relaxed);
}

fn create(owner: &Instance<EventLoop>, call: Call, when: f64, kind: *mut ffi::PyTypeObject) -> Result {
    let payload = Handle {
        owner: AtomicPtr::new(owner.owned().into_ptr()),
        call: GilCell::new(call),
        rare: GilCell::new(None),
        when: AtomicU64::new(when.to_bits()),
        key: GilCell::new(None),
        cancelled: AtomicBool::new(false),
        repeats: AtomicBool::new(false),
        threadsafe: AtomicBool::new(false),
        foreign: AtomicBool::new(false),
    };
    // SAFETY: F1; the block is fresh from the allocator and as large as a handle.
    let handle = unsafe {
        let memory: *mut ffi::PyObject = ffi::PyObject_Malloc(Instance::<Handle>::SIZE).cast();
        if memory.is_null() {
            ffi::PyErr_NoMemory();
            return Err(Raised);
        }
        ffi::PyObject_Init(memory, kind);
        Instance::<Handle>::initialise(memory, payload);
        Owned::from_new(memory)?
    };
    if owner.debug() {
        remember_origin(&handle)?;
    }
    Ok(handle)
}

#[cold]
fn remember_origin(handle: &Owned) -> Result<()> {
    let stack = call_stack()?;
    // SAFETY: called with handles only.
    let this = unsafe { Instance::<Handle>::from_ptr(handle.as_ptr()) };
    drop(this.rare.replace(Some(Box::new(Rare { source_traceback: Some(stack), repr: None }))));
    Ok(())
}

#[cold]
fn call_stack() -> Result {
    call(&import("antiphon.debug", "call_stack")?, [])
}

impl Instance<Handle> {
    /// Whether `cancel()` was called.
    #[inline(always)]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// The timer's deadline in seconds on the loop's clock.
    pub fn when(&self) -> f64 {
        f64::from_bits(self.when.load(Ordering::Relaxed))
    }

    /// Where the timer heap keeps it.
    #[inline(always)]
    pub fn key(&self) -> &GilCell<Option<TimerKey>> {
        &self.key
    }

    /// The call it stands for; empty once it ran or was cancelled.
    pub fn call(&self) -> &GilCell<Call> {
        &self.call
    }

    /// The context of its call, which the collector sees from here on.
    pub fn context(&self) -> Option<Owned> {
        self.call.with(|call| call.context.as_mut().map(CallContext::shown_object))
    }

    /// The loop it belongs to, borrowed; null while the handle rests.
    pub fn owner(&self) -> *mut ffi::PyObject {
        self.owner.load(Ordering::Relaxed)
    }

    fn owner_object(&self) -> Owned {
        // SAFETY: a handle that Python code can see has its loop.
        unsafe { Owned::from_optional(self.owner()) }.unwrap_or_else(Owned::none)
    }

    /// Lets go of the loop and of what debug mode kept, on the way to a free list.
    #[inline(always)]
    fn rest(&self) {
        let owner = self.owner.swap(ptr::null_mut(), Ordering::Relaxed);
        if !owner.is_null() {
            // SAFETY: the reference was owned. The loop lives on: it is running this, or somebody else refers to it.
            unsafe { ffi::Py_DECREF(owner) };
        }
        if self.rare.with(|rare| rare.is_some()) {
            drop(self.rare.take());
        }
        self.key.replace(None);
    }

    fn is_timer(&self) -> bool {
        // SAFETY: a live object.
        unsafe { ffi::Py_TYPE(self.as_ptr()) == timer_type() }
    }

    /// The loop, unless it was closed while the handle waited.
    fn owner_loop(&self) -> Option<&Instance<EventLoop>> {
        let owner = self.owner();
        // SAFETY: handles are made by loops only, for themselves.
        (!owner.is_null()).then(|| unsafe { Instance::from_ptr(owner) })
    }

    /// The loop was closed, and this will never run: it lets go of everything.
    ///
    /// Of the loop, too, since the collector does not see handles: one that user code keeps (a timeout its timer) would keep
    /// alive a loop and all that its tasks refer to. Without a GIL another thread may be about to cancel it, and it does not.
    pub fn abandon(&self) {
        self.key.take();
        drop(self.call.take());
        if cfg!(not(Py_GIL_DISABLED)) {
            let owner = self.owner.swap(ptr::null_mut(), Ordering::Relaxed);
            // SAFETY: the reference was owned, or null.
            drop(unsafe { Owned::from_new(owner) });
        }
    }

    /// Makes this the handle of a reader or writer: it keeps its call when it runs.
    pub fn set_repeats(&self) {
        self.repeats.store(true, Ordering::Relaxed);
    }

    /// Whether it is one.
    pub fn repeats(&self) -> bool {
        self.repeats.load(Ordering::Relaxed)
    }

    /// Makes `cancel()` wait for a callback that runs on another thread.
    #[cfg(Py_3_14)]
    pub fn set_threadsafe(&self) {
        self.threadsafe.store(true, Ordering::Relaxed);
    }

    /// Calls what the handle stands for. A raising callback is reported to the loop's exception handler.
    ///
    /// # Errors
    /// `KeyboardInterrupt` and `SystemExit`, and whatever a raising exception handler lets through.
    #[inline(always)]
    pub fn run(&self) -> Result<()> {
        if self.repeats.load(Ordering::Relaxed) {
            return self.run_readable();
        }
        if cfg!(Py_3_14) && self.threadsafe.load(Ordering::Relaxed) {
            return self.run_threadsafe();
        }
        let mut call = self.call.take();
        match call.run_in_window(self.owner_loop()) {
            Ok(()) => Ok(()),
            Err(Raised) => self.report(call),
        }
    }

    fn run_threadsafe(&self) -> Result<()> {
        let owner = self.owner_object();
        if self.owner_loop().is_some_and(|owner| owner.hand_off().is_some()) {
            return self.run_threadsafe_in_window();
        }
        let running = self.owner_loop().map(|owner| owner.running_threadsafe());
        running.inspect(|running| running.begin(self.as_ptr()));
        let mut call = self.call.take();
        let outcome = match call.run() {
            Ok(()) => Ok(()),
            Err(Raised) => self.report(call),
        };
        running.inspect(|running| running.end());
        drop(owner);
        outcome
    }

    /// The same where it may lose the seat meanwhile.
    #[cold]
    fn run_threadsafe_in_window(&self) -> Result<()> {
        let owner = self.owner_object();
        let running = self.owner_loop().map(|owner| owner.running_threadsafe());
        running.inspect(|running| running.begin_one(self.as_ptr()));
        let mut call = self.call.take();
        let outcome = match call.run_in_window(self.owner_loop()) {
            Ok(()) => Ok(()),
            Err(Raised) => self.report(call),
        };
        running.inspect(|running| running.end_one(self.as_ptr()));
        drop(owner);
        outcome
    }

    /// [`Self::run`] that leaves the call readable meanwhile: for readers and writers, and for debug mode, whose reports
    /// of slow callbacks show it.
    pub fn run_readable(&self) -> Result<()> {
        let mut call = self.call.with(Call::duplicate);
        // A reader that lost the seat would be called again meanwhile.
        let owner = if self.repeats.load(Ordering::Relaxed) { None } else { self.owner_loop() };
        match call.run_in_window(owner) {
            Ok(()) => Ok(()),
            Err(Raised) => self.report(call),
        }
    }

    /// The handle ran for the last time: nothing refers to the callback any more.
    pub fn finish_run(&self) {
        if !self.repeats.load(Ordering::Relaxed) {
            drop(self.call.take());
        }
    }

    #[cold]
    fn report(&self, mut call: Call) -> Result<()> {
        let Some(exception) = raise::take() else {
            return Ok(());
        };
        if raise::leaves_loop(&exception) {
            return Err(raise::restore(exception));
        }
        if !self.is_cancelled() {
            drop(self.call.replace(call.duplicate()));
        }
        let reported = self.report_with(&call, exception);
        self.finish_run();
        reported
    }

    fn report_with(&self, call: &Call, exception: Owned) -> Result<()> {
        let callback = call.callback.clone().unwrap_or_else(Owned::none);
        let reporter = import("antiphon.debug", "callback_failed")?;
        let arguments = call.arguments_tuple()?;
        crate::ffi::call(
            &reporter,
            [&self.owner_object(), &self.owned(), &callback, &arguments, &exception],
        )?;
        Ok(())
    }

    /// Cancels it; a timer leaves the heap at once.
    pub fn cancel(&self) -> Result {
        if self.cancelled.swap(true, Ordering::Relaxed) {
            return Ok(Owned::none());
        }
        if self.owner_loop().is_some_and(|owner| owner.debug()) {
            self.keep_repr()?;
        }
        let Some(owner) = self.owner_loop() else {
            return Ok(Owned::none());
        };
        let call = self.call.take();
        if let Some(key) = self.key.take() {
            match owner.seat().with(|core| core.engine.timers.cancel(key)) {
                Some(work) => drop(work),
                None => {
                    self.key.replace(Some(key));
                    drop(owner.inbox().push(Work::new(Kind::Timer, self.owned())));
                }
            }
        }
        drop(call);
        self.wait_while_it_runs();
        Ok(Owned::none())
    }

    /// What a thread-safe handle does before it answers another thread, from CPython 3.14 on ([`finished`]).
    fn wait_while_it_runs(&self) {
        if cfg!(Py_3_14)
            && self.threadsafe.load(Ordering::Relaxed)
            && let Some(owner) = self.owner_loop()
        {
            owner.running_threadsafe().wait(self.as_ptr());
        }
    }

    /// asyncio shows a handle that was cancelled in debug mode as it was, callback and arguments included.
    #[cold]
    fn keep_repr(&self) -> Result<()> {
        let text = repr(self)?;
        let replaced = self.rare.with(|rare| rare.get_or_insert_with(Box::default).repr.replace(text));
        drop(replaced);
        Ok(())
    }
}

fn cancel(this: &Instance<Handle>) -> Result {
    this.cancel()
}

fn cancelled(this: &Instance<Handle>) -> Result {
    this.wait_while_it_runs();
    Ok(Owned::bool(this.is_cancelled()))
}

fn get_cancelled(this: &Instance<Handle>) -> Result {
    Ok(Owned::bool(this.is_cancelled()))
}

fn when(this: &Instance<Handle>) -> Result {
    Owned::float(this.when())
}

fn get_context(this: &Instance<Handle>) -> Result {
    Ok(this.context().unwrap_or_else(Owned::none))
}

fn get_callback(this: &Instance<Handle>) -> Result {
    Ok(this.call.with(|call| call.callback.clone()).unwrap_or_else(Owned::none))
}

fn get_args(this: &Instance<Handle>) -> Result {
    let call = this.call.with(Call::duplicate);
    if call.callback.is_none() { Ok(Owned::none()) } else { call.arguments_tuple() }
}

fn get_loop(this: &Instance<Handle>) -> Result {
    Ok(this.owner_object())
}

fn get_source_traceback(this: &Instance<Handle>) -> Result {
    let stack = this.rare.with(|rare| rare.as_ref().and_then(|rare| rare.source_traceback.clone()));
    Ok(stack.unwrap_or_else(Owned::none))
}

fn get_scheduled(this: &Instance<Handle>) -> Result {
    Ok(Owned::bool(this.key.with(|key| key.is_some())))
}

fn repr(this: &Instance<Handle>) -> Result {
    if let Some(kept) = this.rare.with(|rare| rare.as_ref().and_then(|rare| rare.repr.clone())) {
        return Ok(kept);
    }
    call(&import("antiphon.debug", "handle_repr")?, [&this.owned(), &Owned::bool(this.is_timer())])
}

/// asyncio's class: code that asks `isinstance(handle, asyncio.Handle)` means what this is. Deriving from it would cost
/// 64 bytes a handle for slots that nothing uses.
fn stand_in(this: &Instance<Handle>) -> Result {
    let names = names();
    if cfg!(Py_3_14) && this.threadsafe.load(Ordering::Relaxed) {
        return import("asyncio.events", "_ThreadSafeHandle");
    }
    Ok(if this.is_timer() { names.timer_handle_class.clone() } else { names.handle_class.clone() })
}

fn run_by_hand(this: &Instance<Handle>) -> Result {
    this.run().map(|()| Owned::none())
}

/// Timers compare by deadline, so that foreign code may keep them in a heap as it does with asyncio's.
fn compare(left: &Instance<Handle>, right: &Instance<Handle>, operation: c_int) -> bool {
    let (a, b) = (left.when(), right.when());
    let same = ptr::eq(left, right);
    match operation {
        ffi::Py_LT => a < b,
        ffi::Py_LE => a < b || same,
        ffi::Py_GT => a > b,
        ffi::Py_GE => a > b || same,
        ffi::Py_EQ => same,
        _ => !same,
    }
}

unsafe extern "C" fn rich_compare(
    left: *mut ffi::PyObject,
    right: *mut ffi::PyObject,
    operation: c_int,
) -> *mut ffi::PyObject {
    crate::ffi::guard(|| {
        // SAFETY: the slot belongs to the timer type, `right`'s type is compared.
        unsafe {
            if ffi::Py_TYPE(right) != timer_type() || ffi::Py_TYPE(left) != timer_type() {
                return Ok(Owned::from_borrowed(ffi::Py_NotImplemented()));
            }
            Ok(Owned::bool(compare(Instance::from_ptr(left), Instance::from_ptr(right), operation)))
        }
    })
}

unsafe extern "C" fn timer_hash(this: *mut ffi::PyObject) -> ffi::Py_hash_t {
    // SAFETY: F2.
    let when = unsafe { Instance::<Handle>::from_ptr(this) }.when.load(Ordering::Relaxed) as ffi::Py_hash_t;
    if when == -1 { -2 } else { when }
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable. Its loop is kept alive until its free list was asked. A handle that the list
    // takes is alive again, with one reference, and was emptied before.
    unsafe {
        let this = Instance::<Handle>::from_ptr(object);
        let owner = Owned::from_new(this.owner.swap(ptr::null_mut(), Ordering::Relaxed));
        this.clear_weak_references();
        drop(this.call.take());
        this.rest();
        if cfg!(not(Py_GIL_DISABLED))
            && !this.repeats.load(Ordering::Relaxed)
            && let Ok(owner) = &owner
        {
            let home = Instance::<EventLoop>::from_ptr(owner.as_ptr());
            if home.seat().is_mine() && home.seat().enter(|core| core.free_handles.has_room(object)) {
                ffi::Py_INCREF(object); // from zero
                if let Ok(handle) = Owned::from_new(object) {
                    let refused = home.seat().enter(|core| core.free_handles.push(handle));
                    debug_assert!(refused.is_none(), "there was room");
                    std::mem::forget(refused);
                }
                return;
            }
        }
        let kind = ffi::Py_TYPE(object);
        Instance::<Handle>::finish(object);
        ffi::PyObject_Free(object.cast());
        ffi::Py_DECREF(kind.cast());
        drop(owner);
    }
}

fn common(name: &'static std::ffi::CStr) -> HeapType {
    HeapType::new(name, Instance::<Handle>::SIZE)
        .no_constructor()
        .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
        .slot(ffi::Py_tp_repr, unary_slot!(repr))
        .attribute(c"__class__", getter!(stand_in), None, c"asyncio's class of the same name.")
        .weak_references(Instance::<Handle>::WEAKREF_OFFSET)
}

/// Makes the types and adds them to the module.
pub fn load(module: &Owned) -> Result<()> {
    if HANDLE.get().is_none() {
        let plain = common(c"antiphon._antiphon.Handle")
            .base()
            .doc(c"A callback that was handed to the loop; `cancel()` takes it back.")
            .method_noargs(
                c"cancel",
                method_noargs!(cancel),
                c"Take the callback back; it is not called any more.",
            )
            .method_noargs(c"cancelled", method_noargs!(cancelled), c"Whether `cancel()` was called.")
            .method_noargs(
                c"get_context",
                method_noargs!(get_context),
                c"The context that the callback runs in.",
            )
            .method_noargs(c"_run", method_noargs!(run_by_hand), c"Call the callback now.")
            .attribute(c"_callback", getter!(get_callback), None, c"The callback, None once it ran.")
            .attribute(c"_args", getter!(get_args), None, c"Its arguments, None once it ran.")
            .attribute(c"_loop", getter!(get_loop), None, c"The loop.")
            .attribute(c"_context", getter!(get_context), None, c"The context that the callback runs in.")
            .attribute(c"_cancelled", getter!(get_cancelled), None, c"Whether `cancel()` was called.")
            .attribute(
                c"_source_traceback",
                getter!(get_source_traceback),
                None,
                c"In debug mode, the stack of the code that made it.",
            )
            .build(None, Instance::<Handle>::PAYLOAD_OFFSET)?;
        // SAFETY: a type object is an object.
        let base = unsafe { Owned::from_borrowed(plain.cast()) };
        let timer = common(c"antiphon._antiphon.TimerHandle")
            .doc(c"A callback that is due at a time on the loop's clock.")
            .slot(ffi::Py_tp_richcompare, rich_compare as *mut c_void)
            .slot(ffi::Py_tp_hash, timer_hash as *mut c_void)
            .method_noargs(
                c"when",
                method_noargs!(when),
                c"The time it is due, in seconds on the loop's clock.",
            )
            .attribute(c"_when", getter!(when), None, c"The time it is due.")
            .attribute(c"_scheduled", getter!(get_scheduled), None, c"Whether it waits for its time.")
            .build(Some(&base), Instance::<Handle>::SIZE)?;
        let _ = HANDLE.set(plain as usize);
        let _ = TIMER_HANDLE.set(timer as usize);
    }
    crate::add_type(module, c"Handle", Handle::type_object())?;
    crate::add_type(module, c"TimerHandle", timer_type())
}
