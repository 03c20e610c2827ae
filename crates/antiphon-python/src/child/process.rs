//! `ChildProcess`: one child as the loop sees it, from its start to its end.
//!
//! ```text
//!   Starting ──spawner's thread──▶ Running ──pidfd, or a thread that waits──▶ Ended
//! ```
//!
//! **Invariant K1**: a child that was started is reaped: by [`Instance::<ChildProcess>::on_ended`], or, if its loop closes before
//! it was told of the start, by the closing (nobody else knows the child). From the moment that its start was told the
//! child is the transport's, which may leave it to its `Popen` object.
//!
//! Source: pidfd_open(2); CPython Lib/asyncio/unix_events.py (`_PidfdChildWatcher`).

use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use antiphon_engine::{EngineError, PidFd, SpawnStage, Spawned, try_wait, wait_blocking};
use pyo3::ffi;

use super::spawner::{Shared, Spawner};
use crate::event_loop::EventLoop;
use crate::ffi::instance::Typed;
use crate::ffi::raise::{self, os_error, overflow_error};
use crate::ffi::{GilCell, HeapType, Instance, Owned, Payload, Raised, Result, call, check};
use crate::io_table::{Direction, Mode};
use crate::names::import;
use crate::work::{Kind, Work};
use crate::{getter, method_one};

/// How a start ended.
pub type Outcome = std::result::Result<Unclaimed, EngineError>;

/// A child that nobody knows of but whoever has this; it does not outlive it (K1).
pub struct Unclaimed {
    pid: u32,
    pidfd: Option<PidFd>,
    claimed: bool,
}

impl Unclaimed {
    /// Takes a child that was just started.
    pub fn new(child: Spawned) -> Self {
        Self { pid: child.pid, pidfd: child.pidfd, claimed: false }
    }

    /// From here on somebody else sees to the child's end.
    fn claim(mut self) {
        self.claimed = true;
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if !self.claimed {
            // SAFETY: the child is ours and was not reaped, so the number is still its own.
            unsafe { libc::kill(self.pid as libc::pid_t, libc::SIGKILL) };
            let _ = wait_blocking(self.pid);
        }
    }
}

/// The payload of `ChildProcess`.
pub struct ChildProcess {
    owner: Owned,
    spawner: GilCell<Option<Typed<Spawner>>>,
    shared: Arc<Shared>,
    /// What callbacks run in.
    context: Owned,
    started: GilCell<Option<Owned>>,
    exited: GilCell<Option<Owned>>,
    /// What the spawner knows its start by.
    number: AtomicU64,
    /// 0 before the start and after the end.
    pid: AtomicU32,
    pidfd: GilCell<Option<PidFd>>,
}

static CHILD_PROCESS: OnceLock<usize> = OnceLock::new();

impl Payload for ChildProcess {
    type BaseSlots = ();
    type Dictionary = ();
    const COLLECTED: bool = true;
    fn type_object() -> *mut ffi::PyTypeObject {
        CHILD_PROCESS.get().map_or(std::ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }
}

/// Makes the object of a child that is not there yet. `started`, `exited`: callables or `None`.
pub fn make(
    owner: Owned,
    spawner: &Instance<Spawner>,
    started: Owned,
    exited: Owned,
) -> Result<Typed<ChildProcess>> {
    let given = |callable: Owned| GilCell::new(Some(callable).filter(|callable| !callable.is_none()));
    // SAFETY: F1; a new reference or null.
    let context = unsafe { Owned::from_new(ffi::PyContext_CopyCurrent())? };
    let made = Instance::create(ChildProcess {
        owner,
        spawner: GilCell::new(Typed::new(spawner.owned())),
        shared: spawner.shared(),
        context,
        started: given(started),
        exited: given(exited),
        number: AtomicU64::new(0),
        pid: AtomicU32::new(0),
        pidfd: GilCell::new(None),
    })?;
    Typed::new(made).ok_or(Raised)
}

impl Instance<ChildProcess> {
    fn owner(&self) -> &Instance<EventLoop> {
        // SAFETY: children are made by the Python half of the loop, for itself.
        unsafe { Instance::from_ptr(self.owner.as_ptr()) }
    }

    /// The work item that tells of the start.
    pub fn work_to_start(&self) -> Work {
        Work::new(Kind::Advance, self.owned())
    }

    /// Remembers by which number the spawner knows the start.
    pub fn set_number(&self, number: u64) {
        self.number.store(number, Ordering::Relaxed);
    }

    fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    /// The spawner's thread is done.
    pub fn on_started(&self) -> Result<()> {
        let Some(outcome) = self.shared.take_outcome(self.number.load(Ordering::Relaxed)) else {
            return Ok(());
        };
        let told = match outcome {
            Ok(child) => self.begin(child)?,
            Err(error) => failure(&error)?,
        };
        match self.started.take() {
            Some(started) => self.tell(&started, &told),
            None => Ok(()),
        }
    }

    /// The child runs: watches it, unless that is somebody else's business. What the transport is told.
    fn begin(&self, mut child: Unclaimed) -> Result {
        self.pid.store(child.pid, Ordering::Relaxed);
        drop(self.pidfd.replace(child.pidfd.take()));
        if self.exited.with(|exited| exited.is_some()) && self.watch().is_err() {
            // Neither a descriptor nor a thread: what cannot be reaped must not be (K1).
            drop((raise::take(), self.pidfd.take()));
            self.pid.store(0, Ordering::Relaxed);
            let source = std::io::Error::from_raw_os_error(libc::EAGAIN);
            return failure(&EngineError::Spawn { stage: SpawnStage::Create, source });
        }
        child.claim();
        Ok(Owned::none())
    }

    /// Watches a child that somebody else started.
    pub fn adopt(&self, pid: u32) -> Result<()> {
        self.pid.store(pid, Ordering::Relaxed);
        drop(self.pidfd.replace(PidFd::open(pid).ok()));
        self.watch()
    }

    /// Waits for the child's end, by its descriptor if there is one.
    fn watch(&self) -> Result<()> {
        let work = Work::new(Kind::Readable, self.owned());
        if let Some(fd) = self.pidfd.with(|pidfd| pidfd.as_ref().map(|pidfd| pidfd.as_fd().as_raw_fd())) {
            match self.owner().watch(fd, Direction::Read, Mode::Persistent, work.clone()) {
                Ok(()) => return Ok(()),
                // Out of memory for watches: then a thread has to do.
                Err(Raised) => drop((raise::take(), self.pidfd.take())),
            }
        }
        match (self.spawner.get(), self.pid()) {
            (Some(spawner), Some(pid)) => spawner.await_end(pid, work),
            _ => Ok(()),
        }
    }

    /// The child has ended: reaps it and tells.
    pub fn on_ended(&self) -> Result<()> {
        let reaped = match (self.pidfd.with(|pidfd| pidfd.as_ref().map(PidFd::try_wait)), self.pid()) {
            (Some(reaped), _) => reaped,
            // A thread has seen the end and left the child to be reaped here: so its number is its own until the
            // transport knows that it is no more.
            (None, Some(pid)) => try_wait(pid),
            (None, None) => return Ok(()),
        };
        let exit = match reaped {
            Ok(None) => return Ok(()),
            Ok(exit) => exit,
            Err(_) => None,
        };
        self.let_go();
        let Some(exited) = self.exited.take() else {
            return Ok(());
        };
        let told = exit.map_or_else(|| Ok(Owned::none()), |exit| Owned::int(exit.returncode().into()))?;
        self.tell(&exited, &told)
    }

    /// The child is reaped: its number and descriptor mean nothing any more.
    fn let_go(&self) {
        if let Some(pidfd) = self.pidfd.take() {
            self.owner().unwatch(pidfd.as_fd().as_raw_fd(), Direction::Read);
        }
        self.shared.forget(self.pid.swap(0, Ordering::Relaxed));
        drop(self.spawner.take());
    }

    /// Calls back; what is raised there has no caller to tell.
    fn tell(&self, callback: &Owned, argument: &Owned) -> Result<()> {
        // SAFETY: F1; a context that was entered is left on every path.
        let called = unsafe {
            check(ffi::PyContext_Enter(self.context.as_ptr()))?;
            let called = call(callback, [argument]);
            check(ffi::PyContext_Exit(self.context.as_ptr()))?;
            called
        };
        if let Err(Raised) = called {
            let Some(exception) = raise::take() else {
                return Ok(());
            };
            if raise::leaves_loop(&exception) {
                return Err(raise::restore(exception));
            }
            call(&import("antiphon.reports", "child_failed")?, [&self.owner, &exception])?;
        }
        Ok(())
    }
}

/// A C `int` of Python's.
pub fn integer(object: &Owned) -> Result<i32> {
    // SAFETY: F1; a living object.
    let number = unsafe { ffi::PyLong_AsLong(object.as_ptr()) };
    // SAFETY: F1; -1 may be an honest value.
    if number == -1 && unsafe { !ffi::PyErr_Occurred().is_null() } {
        return Err(Raised);
    }
    i32::try_from(number).map_err(|_| overflow_error("signed integer is greater than maximum"))
}

/// A failure as Python is told it: `(stage, errno)`.
fn failure(error: &EngineError) -> Result {
    let stage = match error {
        EngineError::Spawn { stage: SpawnStage::Execute, .. } => "execute",
        EngineError::Spawn { stage: SpawnStage::ChangeDirectory, .. } => "chdir",
        EngineError::Spawn { stage: SpawnStage::Prepare, .. } => "prepare",
        _ => "create",
    };
    let number = error.raw_os_error().unwrap_or(libc::EIO);
    Owned::tuple([Owned::str(stage)?, Owned::int(number.into())?])
}

/// `send_signal(signum)`: to this child and nobody else; a child that was reaped gets none.
fn send_signal(this: &Instance<ChildProcess>, signum: &Owned) -> Result {
    let number = integer(signum)?;
    let sent = this.pidfd.with(|pidfd| pidfd.as_ref().map(|pidfd| pidfd.send_signal(number)));
    let error = match (sent, this.pid()) {
        (Some(Ok(())), _) | (None, None) => return Ok(Owned::none()),
        (Some(Err(error)), _) => std::io::Error::from(error),
        // SAFETY: takes integers only. The number is the child's as long as it is kept here.
        (None, Some(pid)) if unsafe { libc::kill(pid as libc::pid_t, number) } == 0 => {
            return Ok(Owned::none());
        }
        (None, Some(_)) => std::io::Error::last_os_error(),
    };
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(Owned::none()) } else { Err(os_error(&error)) }
}

fn get_pid(this: &Instance<ChildProcess>) -> Result {
    this.pid().map_or_else(|| Ok(Owned::none()), |pid| Owned::int(pid.into()))
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: F2, with the collector's own visitor.
    unsafe {
        let this = Instance::<ChildProcess>::from_ptr(object);
        let optional =
            [&this.started, &this.exited].map(|place| place.with(|place| place.as_ref().map(Owned::as_ptr)));
        let spawner = this.spawner.with(|spawner| spawner.as_ref().map(|spawner| spawner.object().as_ptr()));
        let fixed = [ffi::Py_TYPE(object).cast(), this.owner.as_ptr(), this.context.as_ptr()];
        for reference in fixed.into_iter().chain(optional.into_iter().flatten()).chain(spawner) {
            let status = visit(reference, arg);
            if status != 0 {
                return status;
            }
        }
        0
    }
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: F2.
    let this = unsafe { Instance::<ChildProcess>::from_ptr(object) };
    drop((this.started.take(), this.exited.take(), this.spawner.take()));
    0
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let kind = ffi::Py_TYPE(object);
        Instance::<ChildProcess>::finish(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

/// Makes the type.
pub fn load(module: &Owned) -> Result<()> {
    if ChildProcess::type_object().is_null() {
        let made = HeapType::new(c"antiphon._antiphon.ChildProcess", Instance::<ChildProcess>::SIZE)
            .collected()
            .no_constructor()
            .doc(c"A child process; made by a Spawner.")
            .slot(ffi::Py_tp_traverse, traverse as *mut c_void)
            .slot(ffi::Py_tp_clear, clear as *mut c_void)
            .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
            .method_one(
                c"send_signal",
                method_one!(send_signal),
                c"Send the child a signal, unless it has ended.",
            )
            .attribute(
                c"pid",
                getter!(get_pid),
                None,
                c"The process's number; None before its start and after its end.",
            )
            .weak_references(Instance::<ChildProcess>::WEAKREF_OFFSET)
            .build(None, Instance::<ChildProcess>::PAYLOAD_OFFSET)?;
        let _ = CHILD_PROCESS.set(made as usize);
    }
    crate::add_type(module, c"ChildProcess", ChildProcess::type_object())
}
