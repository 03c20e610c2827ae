//! The running loop: the engine's five phases, with Python's side of each.

use std::sync::atomic::Ordering;
use std::time::Duration;

use antiphon_engine::{Clock, Driver, Event, Host, Instant, Monotonic, run_once};
use pyo3::ffi;

use super::{Core, EventLoop, schedule};
use crate::driver::LoopDriver;
use crate::ffi::raise::{os_error, runtime_error};
use crate::ffi::{HeapType, Instance, Owned, Raised, Result, call, detached, raise};
use crate::handle::{self, FreeHandles, of_work};
use crate::method_noargs;
use crate::names::{import, names};
use crate::task::{current, step};
use crate::watch::Watch;
use crate::work::{Kind, Work};

/// One run of the loop, from the moment its thread took the seat.
struct Turns<'a> {
    this: &'a Instance<EventLoop>,
    /// Who is told of the steps, if anybody.
    watch: Option<&'a Watch>,
    /// What must leave the loop: `KeyboardInterrupt`, `SystemExit`, a failing clock.
    failure: Option<Owned>,
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
        drop(self.this.current_handle.take());
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
        self.run_signal_handlers();
        if self.failure.is_some() {
            return Ok(());
        }
        let mut surplus = self.this.seat.enter(|core| core.free_handles.shrink());
        self.this.foreign_handles.with(|list| FreeHandles::take_surplus(list, &mut surplus));
        drop(surplus);
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
        if kind == Kind::Step {
            return self.step(work);
        }
        match self.watch {
            None => self.run_work(kind, work),
            Some(watch) => self.run_watched(watch, kind, work),
        }
    }

    #[inline(always)]
    fn interrupted(&self) -> bool {
        self.failure.is_some() || self.this.is_forked()
    }
}

impl Turns<'_> {
    #[inline(never)]
    fn run_watched(&mut self, watch: &Watch, kind: Kind, work: Work) {
        watch.begin_work(kind);
        self.run_work(kind, work);
        watch.end_work();
    }

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
            Kind::ArmTimer => {
                schedule::arm_from_inbox(self.this, work.into_object());
                return;
            }
            Kind::DisarmTimer => {
                let key = of_work(&work).key().take();
                let disarmed =
                    key.and_then(|key| self.this.seat.enter(|core| core.engine.timers.cancel(key)));
                drop(disarmed);
                return;
            }
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
    let _run = Run::begin(this)?;
    let mut turns = Turns { this, watch: this.watch_for_blocking(), failure: None };
    this.seat.enter(|core| core.engine.force_poll());
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

/// Adds this file's methods to the type.
pub fn add_methods(kind: HeapType) -> HeapType {
    kind.method_noargs(
        c"_run_native",
        method_noargs!(run_native),
        c"Run turns until stop(); what belongs to the thread (asyncgen hooks) is the caller's.",
    )
}
