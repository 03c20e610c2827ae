//! The running loop: the engine's five phases, with Python's side of each.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use antiphon_engine::{
    Clock, Driver, Event, Host, Instant, Monotonic, begin_turn, go_on_with_turn, run_once,
};
use pyo3::ffi;

use super::{Core, EventLoop, schedule};
use crate::driver::LoopDriver;
use crate::ffi::raise::{os_error, runtime_error};
use crate::ffi::thread_end::Kept;
use crate::ffi::{HeapType, Instance, Owned, Raised, Result, call, detached, raise};
use crate::hand_off::HandOff;
use crate::hand_off::claim::{Boundary, Grant};
use crate::hand_off::signal::Signal;
use crate::handle::{self, FreeHandles, of_work};
use crate::names::{import, names};
use crate::task::{asleep, current, step};
use crate::watch::Watch;
use crate::work::{Kind, Work};
use crate::{method_noargs, method_one};

/// One run of the loop, from the moment its thread took the seat.
struct Turns<'a> {
    this: &'a Instance<EventLoop>,
    /// Who is told of the steps, if anybody.
    watch: Option<&'a Watch>,
    /// What must leave the loop: `KeyboardInterrupt`, `SystemExit`, a failing clock.
    failure: Option<Owned>,
    hand_off: Option<&'a HandOff>,
    /// Whether this is the thread that began the run, and not a spare.
    is_main: bool,
}

impl Turns<'_> {
    #[cold]
    fn fail(&mut self, Raised: Raised) {
        if self.failure.is_none() {
            self.failure = raise::take();
        } else {
            raise::write_unraisable(None);
        }
    }

    #[inline(always)]
    fn outcome(&mut self, outcome: Result<()>) {
        if let Err(raised) = outcome {
            self.fail(raised);
        }
    }

    /// Python's signal handlers run here: the wait was interrupted, or is about to begin.
    fn run_signal_handlers(&mut self) {
        // SAFETY: F1.
        let status = unsafe { ffi::PyErr_CheckSignals() };
        if status != 0 {
            self.fail(Raised);
        }
    }

    #[cold]
    fn run_debug(&mut self, work: Work) {
        let started = Monotonic.now();
        let handle = work.clone().into_object();
        drop(self.this.current_handle.replace(Some(handle.clone())));
        let outcome = of_work(&work).run_readable();
        self.outcome(outcome);
        let outcome = self.report_if_slow(&handle, started);
        self.outcome(outcome);
        of_work(&work).finish_run();
        // Another callback may run now, if this one blocked and lost the seat for a while.
        let is_shown = |shown: &Owned| shown.as_ptr() == handle.as_ptr();
        drop(self.this.current_handle.with(|place| place.take_if(|shown| is_shown(shown))));
    }
}

impl Turns<'_> {
    /// A task's turn.
    #[inline(always)]
    fn step(&mut self, work: Work) {
        if self.this.debug() {
            return self.step_measured(work.into_object());
        }
        let task = work.into_object();
        let outcome = step::run(self.this, &task);
        if let Err(raised) = outcome {
            self.step_failed(&task, raised);
        }
    }

    #[cold]
    fn step_measured(&mut self, task: Owned) {
        let started = Monotonic.now();
        let outcome = step::run(self.this, &task);
        if let Err(raised) = outcome {
            self.step_failed(&task, raised);
        }
        let outcome = self.report_if_slow(&task, started);
        self.outcome(outcome);
    }

    /// What a step lets through leaves the loop, or is a fault of the task's own machinery.
    #[cold]
    fn step_failed(&mut self, task: &Owned, Raised: Raised) {
        let Some(exception) = raise::take() else {
            return;
        };
        let outcome = if raise::leaves_loop(&exception) {
            Err(raise::restore(exception))
        } else {
            report_step(self.this, task, &exception)
        };
        self.outcome(outcome);
    }

    fn report_if_slow(&self, culprit: &Owned, started: Instant) -> Result<()> {
        let took = Monotonic.now().saturating_duration_since(started).as_secs_f64();
        let threshold = f64::from_bits(self.this.slow_callback_seconds.load(Ordering::Relaxed));
        if took >= threshold { report_slow(culprit, took) } else { Ok(()) }
    }

    #[inline(always)]
    fn run_native(&self, kind: Kind, object: Owned) -> Result<()> {
        if kind == Kind::Advance {
            if let Some(outcome) = crate::future::schedule::run(self.this, &object) {
                return outcome;
            }
            if let Some(outcome) = crate::group::run(&object) {
                return outcome;
            }
        }
        crate::transport::run(self.this, kind, object)
    }
}

/// Tells the loop's exception handler that a task could not be stepped.
#[cold]
fn report_step(this: &Instance<EventLoop>, task: &Owned, exception: &Owned) -> Result<()> {
    call(&import("antiphon.debug", "step_failed")?, [&this.owned(), task, exception]).map(drop)
}

fn report_slow(handle: &Owned, seconds: f64) -> Result<()> {
    call(&import("antiphon.debug", "report_slow")?, [handle, &Owned::float(seconds)?])?;
    Ok(())
}

impl Host for Turns<'_> {
    type Work = Work;
    type Driver = LoopDriver;

    #[inline(always)]
    fn core<R>(&mut self, f: impl FnOnce(&mut antiphon_engine::Core<Work, Self::Driver>) -> R) -> R {
        self.this.seat.enter(|core| f(&mut core.engine))
    }

    #[inline]
    fn now(&mut self) -> Instant {
        if !self.this.own_clock.load(Ordering::Relaxed) {
            return self.this.clock_now();
        }
        match self.this.now_seconds() {
            Ok(seconds) => schedule::instant(seconds),
            Err(raised) => {
                self.fail(raised);
                Instant::from_ns(i64::MIN)
            }
        }
    }

    fn wait(&mut self, timeout: Option<Duration>) -> std::io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            return self.core(|core| core.wait(timeout));
        }
        if self.this.shows_task() {
            current::hide(self.this);
        }
        let deadline = self.core(|core| core.timers.next_deadline());
        self.run_signal_handlers();
        if self.failure.is_some() {
            return Ok(());
        }
        let mut surplus = self.this.seat.enter(|core| core.free_handles.shrink());
        self.this.foreign_handles.with(|list| FreeHandles::take_surplus(list, &mut surplus));
        drop(surplus);
        // A signal's handler, or what a dropped reference ran, may have queued something or set an earlier timer, which
        // `timeout` does not know of.
        if self.core(|core| !core.ready.is_empty() || core.timers.next_deadline() != deadline) {
            return self.core(|core| core.wait(Some(Duration::ZERO)));
        }
        if let Some(watch) = self.watch {
            watch.sleep();
        }
        let core: *mut Core = self.this.seat.as_ptr();
        // SAFETY: S1: this thread holds the seat. Only the driver and its event buffer are borrowed while the interpreter
        // is released, so that the collector may read the queues meanwhile.
        let waited = unsafe {
            let driver = &mut (*core).engine.driver;
            let events = &mut (*core).engine.events;
            detached(|| driver.wait(timeout, events))
        };
        if let Some(watch) = self.watch {
            watch.awake();
        }
        match waited {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
                self.run_signal_handlers();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    #[inline(always)]
    fn dispatch(&mut self, event: Event) {
        self.this.seat.enter(|core| {
            core.io.dispatch(event, &mut core.engine.ready);
            core.io.rearm(&mut core.engine.driver, event);
        });
    }

    #[inline(always)]
    fn run(&mut self, work: Work) {
        let kind = work.kind();
        let work = match self.hand_off {
            None => work,
            Some(hand_off) => {
                let deferred = if hand_off.is_anybody_out() { hand_off.defer(work) } else { Some(work) };
                let Some(work) = deferred else { return };
                let kept = if self.is_main { Some(work) } else { hand_off.keep_for_main(work) };
                let Some(work) = kept else { return };
                hand_off.allow(&work);
                work
            }
        };
        if kind == Kind::Step {
            return self.step(work);
        }
        if let Some(watch) = self.watch {
            watch.begin_work(kind);
        }
        self.run_work(kind, work);
        if let Some(watch) = self.watch {
            watch.end_work();
        }
    }

    #[inline(always)]
    fn interrupted(&self) -> bool {
        self.failure.is_some()
            || self.this.is_forked()
            || self.hand_off.is_some_and(|hand_off| hand_off.is_wanted() || !self.this.seat.is_mine())
    }
}

impl Turns<'_> {
    /// Work other than a task's step.
    #[inline(always)]
    fn run_work(&mut self, kind: Kind, work: Work) {
        if self.this.shows_task() {
            current::hide(self.this);
        }
        let outcome = match kind {
            Kind::Handle => {
                if self.this.debug() {
                    return self.run_debug(work);
                }
                let outcome = of_work(&work).run();
                handle::retire(self.this, work);
                outcome
            }
            Kind::Timer => {
                schedule::set_from_inbox(self.this, work.into_object());
                return;
            }
            Kind::Wake => asleep::wake(self.this, &work.into_object()),
            kind => self.run_native(kind, work.into_object()),
        };
        self.outcome(outcome);
    }
}

/// The loop that runs in this thread (`asyncio.get_running_loop`).
///
/// # Errors
/// `RuntimeError`: none does.
pub fn running() -> Result {
    call(&names().get_running_loop, [])
}

/// The loop that runs in this thread, or None. asyncio's function is looked up each time: programs replace it.
fn running_loop() -> Result {
    call(&names().events_module.attr(&names()._get_running_loop)?, [])
}

/// Tells asyncio which loop runs in this thread; looked up each time, as [`running_loop`].
fn set_running_loop(current: &Owned) -> Result {
    call(&names().events_module.attr(&names()._set_running_loop)?, [current])
}

/// Ends a run on every path: the seat goes back, the thread has no running loop any more.
struct Run<'a>(&'a Instance<EventLoop>);

impl<'a> Run<'a> {
    fn begin(this: &'a Instance<EventLoop>) -> Result<Self> {
        this.check_open()?;
        if this.is_running() || !this.seat.take() {
            return Err(runtime_error("This event loop is already running"));
        }
        let none = Owned::none();
        let other = running_loop().inspect_err(|_| this.seat.give_back())?;
        if !other.is_none() {
            this.seat.give_back();
            return Err(runtime_error("Cannot run the event loop while another loop is running"));
        }
        drop(none);
        this.running.store(true, Ordering::Release);
        if let Some(watch) = this.watch_for_blocking() {
            watch.enter();
        }
        let run = Self(this);
        set_running_loop(&this.owned())?;
        Ok(run)
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if let Some(watch) = self.0.watch_for_blocking() {
            watch.leave();
        }
        let pending = raise::take();
        if self.0.shows_task() {
            current::hide(self.0);
        }
        self.0.stopping.store(false, Ordering::Release);
        if set_running_loop(&Owned::none()).is_err() {
            raise::write_unraisable(None);
        }
        self.0.running.store(false, Ordering::Release);
        self.0.seat.give_back();
        if let Some(pending) = pending {
            raise::restore(pending);
        }
    }
}

/// Runs turns until `stop()`.
fn run_native(this: &Instance<EventLoop>) -> Result {
    let _kept = Kept::new();
    let _run = Run::begin(this)?;
    let mut turns = Turns {
        this,
        watch: this.watch_for_blocking(),
        failure: None,
        hand_off: this.hand_off(),
        is_main: true,
    };
    this.seat.enter(|core| core.engine.force_poll());
    if let Some(hand_off) = turns.hand_off {
        return run_with_hand_off(&mut turns, hand_off);
    }
    loop {
        if let Some(watch) = turns.watch {
            watch.begin_turn();
        }
        run_once(&mut turns).map_err(|error| os_error(&error))?;
        if let Some(failure) = turns.failure.take() {
            return Err(raise::restore(failure));
        }
        if this.is_forked() {
            this.check_open()?;
        }
        if this.stopping.load(Ordering::Acquire) {
            return Ok(Owned::none());
        }
    }
}

/// Why a thread no longer drives the loop.
enum Left {
    /// `stop()` was called, and the turn is over.
    Stopped,
    /// Something must leave the loop.
    Failed(Owned),
    /// This is the child of a fork.
    Forked,
    /// Another thread has the seat, or the loop was closed: nothing of it may be touched.
    Seat,
}

/// Drives the loop, with what was left of a turn first. `main`: how the thread that began the run is told of the seat when it
/// has passed it on; others have done their part then.
fn drive(turns: &mut Turns<'_>, hand_off: &HandOff, main: Option<&Arc<Signal<Grant>>>) -> Left {
    let this = turns.this;
    loop {
        if hand_off.is_wanted() {
            if hand_off.at_boundary(this, main) == Boundary::Gone {
                return Left::Seat;
            }
            if let Some(failure) = hand_off.take_failure() {
                return Left::Failed(failure);
            }
        }
        go_on_with_turn(turns);
        if !this.seat.is_mine() {
            return Left::Seat;
        }
        if let Some(failure) = turns.failure.take() {
            return Left::Failed(failure);
        }
        if this.is_forked() {
            return Left::Forked;
        }
        if hand_off.is_wanted() {
            continue;
        }
        if this.stopping.load(Ordering::Acquire) {
            return Left::Stopped;
        }
        if let Some(watch) = turns.watch {
            watch.begin_turn();
        }
        if let Err(error) = begin_turn(turns) {
            turns.fail(os_error(&error));
        }
    }
}

/// [`run_native`] where steps may lose the seat: this thread drives, and takes the seat back from those that relieve it.
fn run_with_hand_off(turns: &mut Turns<'_>, hand_off: &HandOff) -> Result {
    let this = turns.this;
    hand_off.begin_run(this)?;
    let signal = Arc::new(Signal::new());
    // At least one turn, even if `stop()` was called before.
    let left = match begin_turn(turns) {
        Ok(()) => drive(turns, hand_off, Some(&signal)),
        Err(error) => {
            os_error(&error);
            Left::Failed(raise::take().unwrap_or_else(Owned::none))
        }
    };
    hand_off.end_run();
    match left {
        Left::Stopped | Left::Seat => Ok(Owned::none()),
        Left::Failed(failure) => Err(raise::restore(failure)),
        Left::Forked => this.check_open().map(|()| Owned::none()),
    }
}

/// How often the end of blocked steps is looked for while a loop is being closed.
const CLOSING_TICK: Duration = Duration::from_millis(2);

/// Lets steps that have lost the seat come to their ends, for so many seconds at most; runs nothing else of the loop. How many
/// are left.
fn await_blocked_steps(this: &Instance<EventLoop>, seconds: &Owned) -> Result {
    let limit = schedule::seconds(seconds)?;
    let Some(hand_off) = this.hand_off() else {
        return Owned::int(0);
    };
    let _run = Run::begin(this)?;
    hand_off.begin_run(this)?;
    let signal = Arc::new(Signal::new());
    let end = Monotonic.now().as_ns() as f64 + limit * 1e9;
    while hand_off.blocked_count() > 0 && (Monotonic.now().as_ns() as f64) < end {
        if hand_off.is_wanted() {
            hand_off.at_boundary(this, Some(&signal));
            if let Some(failure) = hand_off.take_failure() {
                hand_off.end_run();
                return Err(raise::restore(failure));
            }
        }
        detached(|| std::thread::sleep(CLOSING_TICK));
    }
    hand_off.end_run();
    Owned::int(hand_off.blocked_count() as i64)
}

/// Drives the loop on a spare, which has taken the seat, until somebody else gets it.
pub fn drive_on_spare(this: &Instance<EventLoop>, hand_off: &HandOff) {
    let mut turns = Turns {
        this,
        watch: this.watch_for_blocking(),
        failure: None,
        hand_off: Some(hand_off),
        is_main: false,
    };
    let left = match adopt(this) {
        Ok(()) => drive(&mut turns, hand_off, None),
        Err(Raised) => Left::Failed(raise::take().unwrap_or_else(Owned::none)),
    };
    match left {
        Left::Seat => {}
        Left::Stopped | Left::Forked => hand_off.end_of_run_on_spare(this, None),
        Left::Failed(failure) => hand_off.end_of_run_on_spare(this, Some(failure)),
    }
    let gone = set_running_loop(&Owned::none()).and_then(|_| call(&import("antiphon.spares", "leave")?, []));
    if gone.is_err() {
        raise::write_unraisable(Some(&this.owned()));
    }
}

/// Makes this thread one that runs the loop, as far as the interpreter is concerned.
fn adopt(this: &Instance<EventLoop>) -> Result<()> {
    set_running_loop(&this.owned())?;
    call(&import("antiphon.spares", "adopt")?, [&this.owned()])?;
    crate::hand_off::spare::keep_one_warm()
}

/// Adds this file's methods to the type.
pub fn add_methods(kind: HeapType) -> HeapType {
    kind.method_noargs(
        c"_run_native",
        method_noargs!(run_native),
        c"Run turns until stop(); what belongs to the thread (asyncgen hooks) is the caller's.",
    )
    .method_one(
        c"_await_blocked_steps",
        method_one!(await_blocked_steps),
        c"Let steps that have lost the seat end, for so many seconds at most; how many are left.",
    )
}
