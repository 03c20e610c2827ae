//! `LoopBase`: the native half of the event loop, everything that runs per callback or per packet.
//!
//! `python/antiphon/loop.py` derives `Loop` from it and adds what runs per connection or per loop. One concept a file:
//! [`schedule`] takes callbacks in, [`run`] drives turns, [`watch`] follows descriptors, [`create`] makes tasks and futures,
//! [`collect`] answers the cycle collector, this file holds the state and its life from open to closed.

pub mod collect;
pub mod create;
mod own_methods;
pub mod run;
pub mod schedule;
mod signals;
pub mod watch;

pub use run::running;

use std::ffi::c_void;
use std::ptr;
#[cfg(not(Py_3_14))]
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use antiphon_engine::{Clock, Inbox, Instant, SignalPipe};
use pyo3::ffi;

use crate::datagram::batch::Batch;
use crate::driver::{self, LoopClock, LoopDriver};
use crate::ffi::raise::{os_error, runtime_error, type_error};
use crate::ffi::{Args, GilCell, HeapType, Instance, Owned, Payload, Result, call};
use crate::hand_off::HandOff;
use crate::handle::FreeHandles;
use crate::handle::finished::RunningThreadsafe;
use crate::io_table::IoTable;
use crate::names::{import, names};
use crate::seat::Seat;
use crate::task::registry::Tasks;
use crate::watch::Watch;
use crate::work::{Kind, Work};
use crate::{getter, method, method_noargs, method_one, setter};

/// The wake-ups and queues that only the seat's holder touches (S1).
pub struct Core {
    /// The engine's queues, timers and driver.
    pub engine: antiphon_engine::Core<Work, LoopDriver>,
    /// Who waits for which descriptor.
    pub io: IoTable,
    /// Memory of dead handles.
    pub free_handles: FreeHandles,
    /// Futures at rest.
    pub free_futures: Vec<Owned>,
    /// Tasks at rest.
    pub free_tasks: Vec<Owned>,
    /// Where reads land before they become right-sized objects; made on first use.
    pub read_buffer: Vec<u8>,
    /// Where datagrams land; made on first use.
    pub datagrams: Option<Box<Batch>>,
}

impl Core {
    /// The objects of all free lists, for the caller to drop.
    pub fn take_resting(&mut self) -> [Vec<Owned>; 3] {
        let futures = std::mem::take(&mut self.free_futures);
        [self.free_handles.take_all(), futures, std::mem::take(&mut self.free_tasks)]
    }
}

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const FORKED: u8 = 2;

/// The payload of `LoopBase`.
pub struct EventLoop {
    seat: Seat<Core>,
    inbox: Arc<Inbox<Work>>,
    clock: LoopClock,
    /// OPEN, CLOSED or FORKED.
    state: AtomicU8,
    running: AtomicBool,
    stopping: AtomicBool,
    debug: AtomicBool,
    /// Whether a subclass replaced `time()`: then its clock moves the timers.
    own_clock: AtomicBool,
    running_threadsafe: RunningThreadsafe,
    /// Handles at rest for threads without the seat.
    foreign_handles: GilCell<Vec<Owned>>,
    /// The handle that debug mode runs now, for reports.
    current_handle: GilCell<Option<Owned>>,
    slow_callback_seconds: AtomicU64,
    task_factory: GilCell<Option<Owned>>,
    /// Tasks that are not done (J2).
    tasks: GilCell<Tasks>,
    /// Whether asyncio was told of a current task that has not been taken back.
    shows_task: AtomicBool,
    /// The place of its entry in asyncio's dict of current tasks, when it was last looked for.
    #[cfg(not(Py_3_14))]
    shown_place: AtomicUsize,
    signal_pipe: GilCell<Option<SignalPipe>>,
    /// Set once, before the first run, unless `on_block` is "ignore".
    watch: OnceLock<Watch>,
    /// With `on_block="handoff"`.
    hand_off: OnceLock<Box<HandOff>>,
}

static LOOP: OnceLock<usize> = OnceLock::new();

impl Payload for EventLoop {
    type BaseSlots = ();
    type Dictionary = ();
    const COLLECTED: bool = true;
    fn type_object() -> *mut ffi::PyTypeObject {
        LOOP.get().map_or(ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }
}

impl EventLoop {
    fn open(own_clock: bool) -> std::io::Result<Self> {
        let (driver, clock) = driver::open()?;
        let engine = antiphon_engine::Core::new(driver)?;
        let inbox = Arc::clone(&engine.inbox);
        Ok(Self {
            seat: Seat::new(Core {
                engine,
                io: IoTable::default(),
                free_handles: FreeHandles::default(),
                free_futures: Vec::new(),
                free_tasks: Vec::new(),
                read_buffer: Vec::new(),
                datagrams: None,
            }),
            inbox,
            clock,
            state: AtomicU8::new(OPEN),
            running: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            debug: AtomicBool::new(false),
            own_clock: AtomicBool::new(own_clock),
            running_threadsafe: RunningThreadsafe::default(),
            foreign_handles: GilCell::new(Vec::new()),
            current_handle: GilCell::new(None),
            slow_callback_seconds: AtomicU64::new(0.1f64.to_bits()),
            task_factory: GilCell::new(None),
            tasks: GilCell::new(Vec::new()),
            shows_task: AtomicBool::new(false),
            #[cfg(not(Py_3_14))]
            shown_place: AtomicUsize::new(0),
            signal_pipe: GilCell::new(None),
            watch: OnceLock::new(),
            hand_off: OnceLock::new(),
        })
    }

    /// The seat and the core behind it.
    #[inline(always)]
    pub fn seat(&self) -> &Seat<Core> {
        &self.seat
    }

    /// What takes the seat from steps that block, if that is asked for.
    #[inline(always)]
    pub fn hand_off(&self) -> Option<&HandOff> {
        self.hand_off.get().map(Box::as_ref)
    }

    /// Switches the hand-off on, for good, before the loop runs.
    ///
    /// # Errors
    /// As [`HandOff::new`].
    pub fn begin_hand_off(&self) -> Result<&HandOff> {
        if let Some(hand_off) = self.hand_off() {
            return Ok(hand_off);
        }
        let made = Box::new(HandOff::new()?);
        Ok(self.hand_off.get_or_init(|| made))
    }

    /// The present instant of the loop's own clock, whatever a subclass has made of `time()`.
    #[inline(always)]
    pub fn clock_now(&self) -> Instant {
        self.clock.now()
    }

    /// Entry from threads without the seat.
    #[inline(always)]
    pub fn inbox(&self) -> &Inbox<Work> {
        &self.inbox
    }

    /// Tasks that are not done.
    #[inline(always)]
    pub fn tasks(&self) -> &GilCell<Tasks> {
        &self.tasks
    }

    /// Whether tasks are made by a task factory.
    #[inline(always)]
    pub fn has_task_factory(&self) -> bool {
        self.task_factory.with(|factory| factory.is_some())
    }

    /// Whether asyncio has been told of a current task, which is to be taken back before anything but a task runs.
    #[inline(always)]
    pub fn shows_task(&self) -> bool {
        self.shows_task.load(Ordering::Relaxed)
    }

    /// See [`Self::shows_task`].
    #[inline(always)]
    pub fn set_shows_task(&self, shows: bool) {
        self.shows_task.store(shows, Ordering::Relaxed);
    }

    /// Who is told of this loop's steps, if they are watched.
    #[inline(always)]
    pub fn watch_for_blocking(&self) -> Option<&Watch> {
        self.watch.get()
    }

    /// Lets the steps be watched; gives the watch back if they are already.
    pub fn set_watch(&self, watch: Watch) -> Option<Watch> {
        self.watch.set(watch).err()
    }

    /// Where [`crate::task::current`] found the loop's entry.
    #[cfg(not(Py_3_14))]
    #[inline(always)]
    pub fn shown_place(&self) -> &AtomicUsize {
        &self.shown_place
    }

    /// Handles at rest for threads without the seat.
    #[inline(always)]
    pub fn foreign_handles(&self) -> &GilCell<Vec<Owned>> {
        &self.foreign_handles
    }

    /// Which of `call_soon_threadsafe`'s handles runs now.
    pub fn running_threadsafe(&self) -> &RunningThreadsafe {
        &self.running_threadsafe
    }

    /// Whether debug mode is on.
    #[inline(always)]
    pub fn debug(&self) -> bool {
        self.debug.load(Ordering::Relaxed)
    }

    /// Whether some thread runs the loop.
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    /// Whether the loop was closed (or belongs to the parent of a fork).
    #[inline(always)]
    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::Relaxed) != OPEN
    }

    /// # Errors
    /// `RuntimeError` with asyncio's words once the loop is closed; a clear one in the child of a fork.
    #[inline(always)]
    pub fn check_open(&self) -> Result<()> {
        if self.is_closed() { Err(self.not_open()) } else { Ok(()) }
    }

    #[cold]
    fn not_open(&self) -> crate::ffi::Raised {
        if self.state.load(Ordering::Relaxed) == FORKED {
            runtime_error(
                "This event loop was inherited through os.fork() and cannot be used in the child process; make a new \
                 one there",
            )
        } else {
            runtime_error("Event loop is closed")
        }
    }

    /// # Errors
    /// In debug mode, `RuntimeError` on a thread other than the running loop's.
    pub fn check_thread(&self) -> Result<()> {
        if self.is_running() && !self.seat.is_mine() && !self.hand_off().is_some_and(HandOff::is_blocked_here)
        {
            return Err(runtime_error(
                "Non-thread-safe operation invoked on an event loop other than the current one",
            ));
        }
        Ok(())
    }

    /// Short access to the core, as by [`Seat::with`]. A thread that is inside a blocked step takes the seat back first: code
    /// that the fence does not stop may come here.
    #[inline(always)]
    pub fn with_core<R>(&self, f: impl FnOnce(&mut Core) -> R) -> Option<R> {
        if self.seat.is_mine() {
            return Some(self.seat.enter(f));
        }
        if let Some(hand_off) = self.hand_off() {
            hand_off.regain();
        }
        self.seat.with(f)
    }

    /// Adds work to the ready queue, from whatever thread; wakes a sleeping loop that another thread drives.
    ///
    /// What comes after the loop was closed goes the way of everything queued before: kept in the queue, it would keep
    /// alive whom nobody calls any more.
    #[inline(always)]
    pub fn push(&self, work: Work) {
        if self.is_closed() {
            return;
        }
        let mut work = Some(work);
        self.seat.with(|core| {
            if let Some(work) = work.take() {
                core.engine.ready.push(work);
            }
        });
        if let Some(work) = work {
            // A closed inbox gives the work back: it goes the way of everything queued when the loop was closed.
            drop(self.inbox.push(work));
        }
    }

    /// The loop's share of a fork in the child: nothing of the parent's may be used, its epoll least of all.
    ///
    /// A loop that was running on the thread that forked ends its run when the child gets back to it.
    fn mark_forked(&self) {
        self.state.store(FORKED, Ordering::Relaxed);
        if !self.seat.is_mine() {
            self.running.store(false, Ordering::Relaxed);
            self.seat.reset();
        }
    }

    /// Whether this is the child of a fork that the loop did not take part in.
    #[inline(always)]
    pub fn is_forked(&self) -> bool {
        self.state.load(Ordering::Relaxed) == FORKED
    }
}

fn close_native(this: &Instance<EventLoop>) -> Result {
    if this.is_running() {
        return Err(runtime_error("Cannot close a running event loop"));
    }
    if this.state.swap(CLOSED, Ordering::AcqRel) == CLOSED {
        return Ok(Owned::none());
    }
    this.inbox.close();
    if let Some(hand_off) = this.hand_off() {
        hand_off.close();
    }
    let dropped = this.seat.with(|core| {
        let mut work = core.engine.ready.take_all();
        work.extend(core.engine.timers.take_all());
        core.engine.inbox.drain_into(&mut core.engine.ready);
        work.extend(core.engine.ready.take_all());
        let watched = core.io.take_all(&mut core.engine.driver);
        let buffers = (std::mem::take(&mut core.read_buffer), core.datagrams.take());
        (work, watched, buffers, core.take_resting())
    });
    // References go only now, outside of the core: dropping them may run Python code.
    if let Some((work, watched, buffers, resting)) = dropped {
        for entry in &work {
            match entry.kind() {
                Kind::Handle => crate::handle::of_work(entry).abandon(),
                Kind::Step if cfg!(Py_3_14) => crate::task::of_work(entry).stay_with_waiter(),
                _ => {}
            }
        }
        drop((work, watched, buffers, resting));
    }
    drop(this.tasks.take());
    drop(this.foreign_handles.take());
    drop(this.signal_pipe.take());
    if let Some(closed) = this.seat.with(|core| core.engine.driver.close()) {
        closed.map_err(|error| os_error(&error))?;
    }
    Ok(Owned::none())
}

/// Switches the hand-off on, for good.
fn enable_hand_off(this: &Instance<EventLoop>) -> Result {
    this.check_open()?;
    if this.is_running() {
        return Err(runtime_error("on_block is set before the loop runs"));
    }
    this.begin_hand_off().map(|_| Owned::none())
}

/// How many steps have lost the seat and not got it back.
fn blocked_steps(this: &Instance<EventLoop>) -> Result {
    Owned::int(this.hand_off().map_or(0, HandOff::blocked_count) as i64)
}

/// Takes the seat from the step that runs now, if it is blocked; for tests.
fn summon_spare(this: &Instance<EventLoop>) -> Result {
    Ok(Owned::bool(this.hand_off().is_some_and(|hand_off| hand_off.bell().ring(None))))
}

fn mark_forked(this: &Instance<EventLoop>) -> Result {
    this.mark_forked();
    Ok(Owned::none())
}

fn is_running(this: &Instance<EventLoop>) -> Result {
    Ok(Owned::bool(this.is_running()))
}

fn is_closed(this: &Instance<EventLoop>) -> Result {
    Ok(Owned::bool(this.is_closed()))
}

fn check_closed(this: &Instance<EventLoop>) -> Result {
    this.check_open().map(|()| Owned::none())
}

fn check_callback(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    args.at_least(2, &["callback", "method"])?;
    let _ = this;
    // SAFETY: the arguments are alive during the call.
    let [callback, method] = unsafe { [0, 1].map(|place| Owned::from_borrowed(args.positional()[place])) };
    call(&import("antiphon.debug", "check_callback")?, [&callback, &method])
}

fn stop(this: &Instance<EventLoop>) -> Result {
    this.stopping.store(true, Ordering::Release);
    if this.is_running() && !this.seat.is_mine() {
        this.inbox.wake();
    }
    Ok(Owned::none())
}

fn get_debug(this: &Instance<EventLoop>) -> Result {
    Ok(Owned::bool(this.debug()))
}

fn set_debug(this: &Instance<EventLoop>, enabled: &Owned) -> Result {
    // SAFETY: F1; the argument is alive.
    let enabled = crate::ffi::check(unsafe { ffi::PyObject_IsTrue(enabled.as_ptr()) })? != 0;
    this.debug.store(enabled, Ordering::Relaxed);
    Ok(Owned::none())
}

fn get_slow(this: &Instance<EventLoop>) -> Result {
    Owned::float(f64::from_bits(this.slow_callback_seconds.load(Ordering::Relaxed)))
}

fn set_slow(this: &Instance<EventLoop>, seconds: Option<&Owned>) -> Result<()> {
    let seconds = seconds.ok_or_else(|| type_error("slow_callback_duration cannot be deleted"))?;
    let seconds = schedule::seconds(seconds)?;
    this.slow_callback_seconds.store(seconds.to_bits(), Ordering::Relaxed);
    Ok(())
}

/// The tasks that are not done, for `all_tasks`.
fn unfinished_tasks(this: &Instance<EventLoop>) -> Result {
    crate::task::registry::all(this)
}

fn thread_id(this: &Instance<EventLoop>) -> Result {
    if this.is_running() { Owned::int(this.seat.holder() as i64) } else { Ok(Owned::none()) }
}

unsafe extern "C" fn new(
    kind: *mut ffi::PyTypeObject,
    _args: *mut ffi::PyObject,
    _keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    crate::ffi::guard(|| {
        // SAFETY: F1; `kind` is `LoopBase` or a subclass. The payload is built before the object, so that the collector
        // never meets an object without one.
        unsafe {
            let inherited = Owned::from_borrowed(EventLoop::type_object().cast()).attr(&names().time)?;
            let own = Owned::from_borrowed(kind.cast()).attr(&names().time)?;
            let payload =
                EventLoop::open(own.as_ptr() != inherited.as_ptr()).map_err(|error| os_error(&error))?;
            let Some(allocate) = (*kind).tp_alloc else {
                return Err(runtime_error("the loop's type has no allocator"));
            };
            let object = allocate(kind, 0);
            let object = Owned::from_new(object)?;
            Instance::<EventLoop>::initialise(object.as_ptr(), payload);
            Ok(object)
        }
    })
}

fn current_handle(this: &Instance<EventLoop>) -> Result {
    Ok(this.current_handle.get().unwrap_or_else(Owned::none))
}

/// `loop.time = f` on one loop moves its timers as an overridden method does.
unsafe extern "C" fn set_attribute(
    this: *mut ffi::PyObject,
    name: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> std::ffi::c_int {
    crate::ffi::guard_int(|| {
        // SAFETY: F2; the interpreter passes a string as the name.
        unsafe {
            if ffi::PyUnicode_Compare(name, names().time.as_ptr()) == 0 {
                Instance::<EventLoop>::from_ptr(this).own_clock.store(true, Ordering::Relaxed);
            }
            crate::ffi::check(ffi::PyObject_GenericSetAttr(this, name, value))
        }
    })
}

/// Makes the type and adds it to the module.
pub fn load(module: &Owned) -> Result<()> {
    if LOOP.get().is_none() {
        let made = HeapType::new(c"antiphon._antiphon.LoopBase", Instance::<EventLoop>::SIZE)
            .base()
            .collected()
            .doc(c"The native half of antiphon's event loop; use `antiphon.Loop`.")
            .slot(ffi::Py_tp_new, new as *mut c_void)
            .slot(ffi::Py_tp_setattro, set_attribute as *mut c_void)
            .slot(ffi::Py_tp_traverse, collect::traverse as *mut c_void)
            .slot(ffi::Py_tp_clear, collect::clear as *mut c_void)
            .slot(ffi::Py_tp_dealloc, collect::dealloc as *mut c_void)
            .weak_references(Instance::<EventLoop>::WEAKREF_OFFSET)
            .method_noargs(c"is_running", method_noargs!(is_running), c"Whether the loop runs now.")
            .method_noargs(c"is_closed", method_noargs!(is_closed), c"Whether the loop was closed.")
            .method_noargs(c"stop", method_noargs!(stop), c"Stop after the turn that runs now.")
            .method_noargs(c"get_debug", method_noargs!(get_debug), c"Whether debug mode is on.")
            .method_one(c"set_debug", method_one!(set_debug), c"Switch debug mode.")
            .method_noargs(c"_check_closed", method_noargs!(check_closed), c"Raise RuntimeError when closed.")
            .method(
                c"_check_callback",
                method!(c"_check_callback", check_callback),
                c"_check_callback(callback, method): refuse coroutines and what cannot be called.",
            )
            .method_noargs(
                c"_close_native",
                method_noargs!(close_native),
                c"Release descriptors and queued work.",
            )
            .method_noargs(
                c"_enable_hand_off",
                method_noargs!(enable_hand_off),
                c"Let steps that block lose the seat, for good.",
            )
            .method_noargs(
                c"_blocked_steps",
                method_noargs!(blocked_steps),
                c"How many steps have lost the seat and not got it back.",
            )
            .method_noargs(
                c"_summon_spare",
                method_noargs!(summon_spare),
                c"Have a spare take the seat from the present step if it is blocked; whether there was a step and a spare.",
            )
            .method_noargs(
                c"_mark_forked",
                method_noargs!(mark_forked),
                c"In the child of a fork: refuse every further use.",
            )
            .method_noargs(
                c"_unfinished_tasks",
                method_noargs!(unfinished_tasks),
                c"The tasks that are not done, as a list.",
            )
            .attribute(
                c"slow_callback_duration",
                getter!(get_slow),
                Some(setter!(set_slow)),
                c"Seconds from which debug mode reports a callback as slow.",
            )
            .attribute(
                c"_current_handle",
                getter!(current_handle),
                None,
                c"In debug mode, the handle that runs now.",
            )
            .attribute(
                c"_thread_id",
                getter!(thread_id),
                None,
                c"The running loop's thread, None while it rests.",
            );
        let made = schedule::add_methods(made);
        let made = watch::add_methods(made);
        let made = create::add_methods(made);
        let made = run::add_methods(made);
        let made = crate::sock::add_methods(made);
        let made = crate::transport::add_methods(made);
        let made = crate::tls::add_methods(made);
        let made = crate::pipe::add_methods(made);
        let made = crate::child::add_methods(made);
        let made = crate::datagram::add_methods(made);
        let made = crate::watch::methods::add_methods(made);
        let made = signals::add_methods(made);
        let made = crate::hand_off::pin::add_methods(made);
        let made = crate::hand_off::give::add_methods(made);
        let made = made.build(None, Instance::<EventLoop>::PAYLOAD_OFFSET)?;
        let _ = LOOP.set(made as usize);
    }
    own_methods::load(module)?;
    crate::add_type(module, c"LoopBase", EventLoop::type_object())
}
