//! `Handle` and `TimerHandle`: a user's callback on its way through the loop, and the means to cancel it.
//!
//! Both types share one layout and one free list (the loop's). They are not tracked by the cycle collector: a handle that
//! ran or was cancelled has dropped its callback, arguments and context, so it can be in no cycle, and one that waits is
//! visited by the loop's own traversal (see `event_loop/collect.rs`).
//!
//! Source: CPython Lib/asyncio/events.py, classes Handle and TimerHandle.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use antiphon_engine::TimerKey;
use pyo3::ffi;

use crate::event_loop::EventLoop;
use crate::ffi::instance::Typed;
use crate::ffi::{Args, GilCell, HeapType, Instance, Owned, Payload, Raised, Result, call, raise};
use crate::names::{import, names};
use crate::work::{Kind, Work};
use crate::{getter, method_noargs, unary_slot};

/// Arguments that fit into the handle itself.
const INLINE: usize = 3;
/// `Call::count` of a call whose arguments are in a tuple in the first place.
const IN_TUPLE: u8 = u8::MAX;

/// A callback with its arguments and context, ready to be called.
#[derive(Clone, Default)]
pub struct Call {
    callback: Option<Owned>,
    arguments: [Option<Owned>; INLINE],
    count: u8,
    context: Option<Owned>,
}

impl Call {
    /// Binds `arguments` (borrowed) to `callback`, to be called in `context`.
    #[inline]
    pub fn new(callback: Owned, arguments: &[*mut ffi::PyObject], context: Owned) -> Result<Self> {
        let mut call = Self {
            callback: Some(callback),
            arguments: [const { None }; INLINE],
            count: arguments.len() as u8,
            context: Some(context),
        };
        if arguments.len() <= INLINE {
            for (place, argument) in arguments.iter().enumerate() {
                // SAFETY: the caller's arguments are alive.
                call.arguments[place] = Some(unsafe { Owned::from_borrowed(*argument) });
            }
            return Ok(call);
        }
        // SAFETY: F1; every place of the new tuple is filled once with a reference of its own.
        let tuple = unsafe {
            let tuple = Owned::from_new(ffi::PyTuple_New(arguments.len() as isize))?;
            for (place, argument) in arguments.iter().enumerate() {
                ffi::Py_INCREF(*argument);
                ffi::PyTuple_SET_ITEM(tuple.as_ptr(), place as isize, *argument);
            }
            tuple
        };
        call.arguments[0] = Some(tuple);
        call.count = IN_TUPLE;
        Ok(call)
    }

    /// Calls the callback in its context. `Ok` also where there is none (cancelled).
    ///
    /// The caller keeps `self` alive during the call: the callback may cancel the handle it came from.
    #[inline(always)]
    fn run(&self) -> Result<()> {
        let (Some(callback), Some(context)) = (&self.callback, &self.context) else {
            return Ok(());
        };
        // SAFETY: F1. The argument array has a free place in front; borrowed values outlive the call. A context that was
        // entered is left on every path.
        unsafe {
            if ffi::PyContext_Enter(context.as_ptr()) != 0 {
                return Err(Raised);
            }
            let result = if self.count == IN_TUPLE {
                let tuple = self.arguments[0].as_ref().map_or(ptr::null_mut(), Owned::as_ptr);
                ffi::PyObject_Call(callback.as_ptr(), tuple, ptr::null_mut())
            } else {
                let mut values = [ptr::null_mut(); INLINE + 1];
                for (place, argument) in self.arguments.iter().enumerate() {
                    values[place + 1] = argument.as_ref().map_or(ptr::null_mut(), Owned::as_ptr);
                }
                ffi::PyObject_Vectorcall(
                    callback.as_ptr(),
                    values.as_mut_ptr().add(1),
                    usize::from(self.count) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                    ptr::null_mut(),
                )
            };
            if result.is_null() {
                // Leaving a context needs no exception set; CPython's own `Context.run` does it the same way.
                ffi::PyContext_Exit(context.as_ptr());
                return Err(Raised);
            }
            let left = ffi::PyContext_Exit(context.as_ptr());
            ffi::Py_DECREF(result);
            if left != 0 { Err(Raised) } else { Ok(()) }
        }
    }

    /// The positional arguments as a tuple.
    fn arguments_tuple(&self) -> Result {
        if self.count == IN_TUPLE {
            return self.arguments[0].clone().ok_or(Raised);
        }
        // SAFETY: F1; every place of the new tuple is filled once.
        unsafe {
            let tuple = Owned::from_new(ffi::PyTuple_New(self.count as isize))?;
            for (place, argument) in self.arguments.iter().flatten().enumerate() {
                ffi::PyTuple_SET_ITEM(tuple.as_ptr(), place as isize, argument.clone().into_ptr());
            }
            Ok(tuple)
        }
    }

    /// Visits what this call refers to, for the collector.
    pub fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        let references = self.callback.iter().chain(self.arguments.iter().flatten()).chain(self.context.iter());
        for reference in references {
            // SAFETY: called from a traverse slot with its own visitor.
            let status = unsafe { visit(reference.as_ptr(), arg) };
            if status != 0 {
                return status;
            }
        }
        0
    }
}

/// The payload of both handle types.
pub struct Handle {
    owner: Owned,
    call: GilCell<Call>,
    source_traceback: GilCell<Option<Owned>>,
    /// Seconds on the loop's clock, as bits; meaningful for timers only.
    when: AtomicU64,
    /// Where the timer heap keeps this timer while it is armed.
    key: GilCell<Option<TimerKey>>,
    cancelled: AtomicBool,
    /// Readers and writers are called again and again; every other handle gives its call away when it runs.
    repeats: AtomicBool,
}

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

/// The handle behind a work item of kind `Handle`, `ArmTimer` or `DisarmTimer`.
#[inline(always)]
pub fn of_work(work: &Work) -> &Instance<Handle> {
    debug_assert!(matches!(work.kind(), Kind::Handle | Kind::ArmTimer | Kind::DisarmTimer));
    // SAFETY: such entries are made from handles only.
    unsafe { Instance::from_ptr(work.as_ptr()) }
}

/// Makes a handle for `call` on `owner`.
#[inline(always)]
pub fn new_handle(owner: &Instance<EventLoop>, call: Call) -> Result {
    create(owner, call, 0.0, false)
}

/// Makes a timer's handle, not yet armed. `when`: seconds on the loop's clock.
#[inline(always)]
pub fn new_timer(owner: &Instance<EventLoop>, call: Call, when: f64) -> Result {
    create(owner, call, when, true)
}

#[inline(always)]
fn create(owner: &Instance<EventLoop>, call: Call, when: f64, timer: bool) -> Result {
    let payload = Handle {
        owner: owner.owned(),
        call: GilCell::new(call),
        source_traceback: GilCell::new(None),
        when: AtomicU64::new(when.to_bits()),
        key: GilCell::new(None),
        cancelled: AtomicBool::new(false),
        repeats: AtomicBool::new(false),
    };
    let recycled = owner.seat().with(|core| core.free_handles.pop()).flatten();
    // SAFETY: F1; the block is fresh from the allocator or one that `dealloc` put aside, as large as a handle.
    let handle = unsafe {
        let memory = match recycled {
            Some(block) => block.into_ptr(),
            None => ffi::PyObject_Malloc(Instance::<Handle>::SIZE).cast(),
        };
        if memory.is_null() {
            ffi::PyErr_NoMemory();
            return Err(Raised);
        }
        ffi::PyObject_Init(memory, if timer { timer_type() } else { Handle::type_object() });
        Instance::<Handle>::initialise(memory, payload);
        Owned::from_new(memory)?
    };
    if owner.debug() {
        // SAFETY: made above.
        let this = unsafe { Instance::<Handle>::from_ptr(handle.as_ptr()) };
        let stack = call_stack()?;
        drop(this.source_traceback.replace(Some(stack)));
    }
    Ok(handle)
}

/// The stack of the code that is running, as asyncio keeps it for debug mode.
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

    /// The loop it belongs to.
    pub fn owner(&self) -> &Owned {
        &self.owner
    }

    fn is_timer(&self) -> bool {
        // SAFETY: a live object.
        unsafe { ffi::Py_TYPE(self.as_ptr()) == timer_type() }
    }

    fn owner_loop(&self) -> &Instance<EventLoop> {
        // SAFETY: handles are made by loops only, for themselves.
        unsafe { Instance::from_ptr(self.owner.as_ptr()) }
    }

    /// Makes this the handle of a reader or writer: it keeps its call when it runs.
    pub fn set_repeats(&self) {
        self.repeats.store(true, Ordering::Relaxed);
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
        let call = self.call.take();
        match call.run() {
            Ok(()) => Ok(()),
            Err(Raised) => self.report(call),
        }
    }

    /// [`Self::run`] that leaves the call readable meanwhile: for readers and writers, and for debug mode, whose reports
    /// of slow callbacks show it.
    pub fn run_readable(&self) -> Result<()> {
        let call = self.call.get();
        match call.run() {
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
    fn report(&self, call: Call) -> Result<()> {
        let Some(exception) = raise::take() else {
            return Ok(());
        };
        if raise::leaves_loop(&exception) {
            return Err(raise::restore(exception));
        }
        if !self.is_cancelled() {
            drop(self.call.replace(call.clone()));
        }
        let reported = self.report_with(&call, exception);
        self.finish_run();
        reported
    }

    fn report_with(&self, call: &Call, exception: Owned) -> Result<()> {
        let callback = call.callback.clone().unwrap_or_else(Owned::none);
        let reporter = import("antiphon.debug", "callback_failed")?;
        let arguments = call.arguments_tuple()?;
        crate::ffi::call(&reporter, [&self.owner, &self.owned(), &callback, &arguments, &exception])?;
        Ok(())
    }

    /// Cancels it; a timer leaves the heap at once.
    pub fn cancel(&self) -> Result {
        if self.cancelled.swap(true, Ordering::Relaxed) {
            return Ok(Owned::none());
        }
        let owner = self.owner_loop();
        let call = self.call.take();
        if let Some(key) = self.key.take() {
            match owner.seat().with(|core| core.engine.timers.cancel(key)) {
                Some(work) => drop(work),
                None => {
                    self.key.replace(Some(key));
                    owner.inbox().push(Work::new(Kind::DisarmTimer, self.owned()));
                }
            }
        }
        drop(call);
        Ok(Owned::none())
    }
}

fn cancel(this: &Instance<Handle>) -> Result {
    this.cancel()
}

fn cancelled(this: &Instance<Handle>) -> Result {
    Ok(Owned::bool(this.is_cancelled()))
}

fn when(this: &Instance<Handle>) -> Result {
    Owned::float(this.when())
}

fn get_context(this: &Instance<Handle>) -> Result {
    Ok(this.call.get().context.unwrap_or_else(Owned::none))
}

fn get_callback(this: &Instance<Handle>) -> Result {
    Ok(this.call.get().callback.unwrap_or_else(Owned::none))
}

fn get_args(this: &Instance<Handle>) -> Result {
    let call = this.call.get();
    if call.callback.is_none() { Ok(Owned::none()) } else { call.arguments_tuple() }
}

fn get_loop(this: &Instance<Handle>) -> Result {
    Ok(this.owner.clone())
}

fn get_source_traceback(this: &Instance<Handle>) -> Result {
    Ok(this.source_traceback.get().unwrap_or_else(Owned::none))
}

fn get_scheduled(this: &Instance<Handle>) -> Result {
    Ok(Owned::bool(this.key.with(|key| key.is_some())))
}

fn repr(this: &Instance<Handle>) -> Result {
    call(&import("antiphon.debug", "handle_repr")?, [&this.owned(), &Owned::bool(this.is_timer())])
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
    // SAFETY: the object is unreachable. The loop is kept alive until its free list was asked.
    unsafe {
        let this = Instance::<Handle>::from_ptr(object);
        let owner = this.owner.clone();
        let kind = ffi::Py_TYPE(object);
        Instance::<Handle>::finish(object);
        let owner_loop = Instance::<EventLoop>::from_ptr(owner.as_ptr());
        let kept = owner_loop.seat().is_mine()
            && owner_loop.seat().enter(|core| core.free_handles.push(FreeBlock::new(object)));
        if !kept {
            ffi::PyObject_Free(object.cast());
        }
        ffi::Py_DECREF(kind.cast());
        drop(owner);
    }
}

/// The memory of a dead handle.
pub struct FreeBlock(ptr::NonNull<ffi::PyObject>);

// SAFETY: plain memory that nobody else knows.
unsafe impl Send for FreeBlock {}

impl FreeBlock {
    /// # Safety
    /// `object` is a handle whose payload was dropped.
    unsafe fn new(object: *mut ffi::PyObject) -> Self {
        // SAFETY: objects are never at address zero.
        Self(unsafe { ptr::NonNull::new_unchecked(object) })
    }

    fn into_ptr(self) -> *mut ffi::PyObject {
        std::mem::ManuallyDrop::new(self).0.as_ptr()
    }
}

impl Drop for FreeBlock {
    fn drop(&mut self) {
        // SAFETY: F1; the block came from `PyObject_Malloc`.
        unsafe { ffi::PyObject_Free(self.0.as_ptr().cast()) }
    }
}

/// Dead handles' memory, for the next ones: allocation is a tenth of what a callback costs.
#[derive(Default)]
pub struct FreeHandles(Vec<FreeBlock>);

impl FreeHandles {
    const MOST: usize = 1024;

    #[inline(always)]
    fn pop(&mut self) -> Option<FreeBlock> {
        self.0.pop()
    }

    /// Keeps the block, or says that there are enough (then it is the caller's again).
    #[inline(always)]
    fn push(&mut self, block: FreeBlock) -> bool {
        if self.0.len() < Self::MOST {
            self.0.push(block);
            true
        } else {
            std::mem::forget(block);
            false
        }
    }
}

fn common(name: &'static std::ffi::CStr) -> HeapType {
    HeapType::new(name, Instance::<Handle>::SIZE)
        .no_constructor()
        .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
        .slot(ffi::Py_tp_repr, unary_slot!(repr))
        .weak_references(Instance::<Handle>::WEAKREF_OFFSET)
}

/// Makes the types and adds them to the module.
pub fn load(module: &Owned) -> Result<()> {
    if HANDLE.get().is_none() {
        let plain = common(c"antiphon._antiphon.Handle")
            .base()
            .doc(c"A callback that was handed to the loop; `cancel()` takes it back.")
            .method_noargs(c"cancel", method_noargs!(cancel), c"Take the callback back; it is not called any more.")
            .method_noargs(c"cancelled", method_noargs!(cancelled), c"Whether `cancel()` was called.")
            .method_noargs(c"get_context", method_noargs!(get_context), c"The context that the callback runs in.")
            .method_noargs(c"_run", method_noargs!(run_by_hand), c"Call the callback now.")
            .attribute(c"_callback", getter!(get_callback), None, c"The callback, None once it ran.")
            .attribute(c"_args", getter!(get_args), None, c"Its arguments, None once it ran.")
            .attribute(c"_loop", getter!(get_loop), None, c"The loop.")
            .attribute(c"_context", getter!(get_context), None, c"The context that the callback runs in.")
            .attribute(c"_cancelled", getter!(cancelled), None, c"Whether `cancel()` was called.")
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
            .method_noargs(c"when", method_noargs!(when), c"The time it is due, in seconds on the loop's clock.")
            .attribute(c"_when", getter!(when), None, c"The time it is due.")
            .attribute(c"_scheduled", getter!(get_scheduled), None, c"Whether it waits for its time.")
            .build(Some(&base), Instance::<Handle>::SIZE)?;
        let _ = HANDLE.set(plain as usize);
        let _ = TIMER_HANDLE.set(timer as usize);
    }
    crate::add_type(module, c"Handle", Handle::type_object())?;
    crate::add_type(module, c"TimerHandle", timer_type())
}

/// What `call_soon` and its kin share: `callback, *args, context=None` to a call.
#[inline(always)]
pub fn call_from_args(args: &Args<'_>, callback_at: usize) -> Result<Call> {
    let positional = args.positional();
    let context = if args.has_keywords() { args.only_keyword(&names().context)? } else { None };
    // SAFETY: F1; the values are the caller's living arguments.
    unsafe {
        let context = match context.and_then(|value| Owned::from_optional(*value)) {
            Some(context) => context,
            None => Owned::from_new(ffi::PyContext_CopyCurrent())?,
        };
        Call::new(Owned::from_borrowed(positional[callback_at]), &positional[callback_at + 1..], context)
    }
}
