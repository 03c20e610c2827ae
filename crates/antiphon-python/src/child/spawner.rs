//! `Spawner`: the threads of one loop that start its children, and wait for them where the kernel has no pidfd.
//!
//! **Invariant K2**: threads of the spawner touch no Python object. They carry numbers; the references that the numbers stand
//! for wait in [`Shared::pending`], and a thread only moves them from there to the loop's inbox.
//! **Invariant K3**: all children of a loop are started by one thread, which ends after them: a child may have asked for a
//! signal at the end of the thread that started it (prctl(2), `PR_SET_PDEATHSIG`).
//! **Invariant K4**: once [`Shared::close`] has returned no child is being started, and none will be.

use std::collections::{HashMap, HashSet};
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use antiphon_engine::{BlockingPool, ChildCommand, EngineError, Inbox, Job, PoolOptions, await_end};
use pyo3::ffi;

use super::process::{self, ChildProcess, Outcome, Unclaimed, integer};
use super::request::command;
use crate::event_loop::EventLoop;
use crate::ffi::raise::{runtime_error, type_error, value_error};
use crate::ffi::{Args, HeapType, Instance, Owned, Payload, Result, detached};
use crate::work::Work;
use crate::{method, method_noargs};

/// What the threads and the loop share.
pub struct Shared {
    inbox: Arc<Inbox<Work>>,
    /// Work that waits for a thread to deliver it, by number (K2).
    pending: Mutex<HashMap<u64, Work>>,
    /// Starts that the loop has not been told of, by the same number.
    outcomes: Mutex<HashMap<u64, Outcome>>,
    next_number: AtomicU64,
    closed: AtomicBool,
    /// Whether a child is being started at this moment.
    busy: Mutex<bool>,
    idle: Condvar,
    /// Children that the spawner's thread started and nobody has reaped yet.
    unreaped: Mutex<HashSet<u32>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here panics halfway through a change, so a poisoned value is a sound one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Keeps `work` until a thread delivers it.
    fn deposit(&self, work: Work) -> u64 {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        lock(&self.pending).insert(number, work);
        number
    }

    /// Takes work back that nobody is going to deliver.
    fn withdraw(&self, number: u64) -> Option<Work> {
        lock(&self.pending).remove(&number)
    }

    /// Sends the loop its work. Any thread (K2).
    fn deliver(&self, number: u64) {
        let Some(work) = self.withdraw(number) else {
            return;
        };
        if let Some(refused) = self.inbox.push(work) {
            // The loop has closed without the spawner: a reference cannot be given back on this thread, so it is kept.
            lock(&self.pending).insert(number, refused);
        }
    }

    /// Starts a child and keeps how that ended, unless the loop has been closed (K4).
    fn start(&self, number: u64, command: &ChildCommand) {
        let mut busy = lock(&self.busy);
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        *busy = true;
        drop(busy);
        let outcome = command.spawn().map(|child| {
            lock(&self.unreaped).insert(child.pid);
            Unclaimed::new(child)
        });
        lock(&self.outcomes).insert(number, outcome);
        *lock(&self.busy) = false;
        self.idle.notify_all();
    }

    /// How a start ended; the child is the caller's.
    pub fn take_outcome(&self, number: u64) -> Option<Outcome> {
        lock(&self.outcomes).remove(&number)
    }

    /// Lets no further child be started, waits for the one that is, and ends those that the loop does not know (K4, K1).
    fn close(&self) {
        let busy = lock(&self.busy);
        self.closed.store(true, Ordering::Relaxed);
        drop(self.idle.wait_while(busy, |busy| *busy).unwrap_or_else(PoisonError::into_inner));
        let untold = std::mem::take(&mut *lock(&self.outcomes));
        drop(untold);
    }

    /// The child `pid` has been reaped; its number may mean another process from now on.
    pub fn forget(&self, pid: u32) {
        lock(&self.unreaped).remove(&pid);
    }

    fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Relaxed)
    }
}

/// The payload of `Spawner`.
pub struct Spawner {
    shared: Arc<Shared>,
    /// One thread (K3), made with the first child.
    starting: BlockingPool,
    /// One thread a child, only without pidfd.
    waiting: BlockingPool,
}

static SPAWNER: OnceLock<usize> = OnceLock::new();

impl Payload for Spawner {
    type BaseSlots = ();
    type Dictionary = ();
    const COLLECTED: bool = false;
    fn type_object() -> *mut ffi::PyTypeObject {
        SPAWNER.get().map_or(std::ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }
}

impl Spawner {
    /// What children keep of the spawner.
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Lets the thread start a child; then the loop is told.
    fn submit(&self, command: ChildCommand, child: &Instance<ChildProcess>) -> Result<()> {
        let shared = self.shared();
        let number = shared.deposit(child.work_to_start());
        child.set_number(number);
        self.run(&self.starting, number, move || {
            shared.start(number, &command);
            shared.deliver(number);
        })
    }

    /// Lets a thread wait for a child's end; then the loop gets `work`, and the child to reap.
    pub fn await_end(&self, pid: u32, work: Work) -> Result<()> {
        let shared = self.shared();
        let number = shared.deposit(work);
        self.run(&self.waiting, number, move || {
            await_end(pid);
            shared.deliver(number);
        })
    }

    fn run(&self, pool: &BlockingPool, number: u64, job: impl FnOnce() + Send + 'static) -> Result<()> {
        let job: Job = Box::new(job);
        pool.submit(job).map_err(|error| {
            drop(self.shared.withdraw(number));
            match error {
                EngineError::PoolShutDown => runtime_error("Event loop is closed"),
                _ => runtime_error("can't start new thread"),
            }
        })
    }

    fn close(&self) {
        detached(|| self.shared.close());
        let pending = std::mem::take(&mut *lock(&self.shared.pending));
        drop(pending);
        let unreaped = std::mem::take(&mut *lock(&self.shared.unreaped));
        if !unreaped.is_empty() {
            // K3. That it cannot be submitted means that it was before.
            let _ = self.starting.submit(Box::new(move || unreaped.into_iter().for_each(await_end)));
        }
        self.starting.shutdown(false);
        self.waiting.shutdown(false);
    }
}

/// Makes the spawner of a loop.
pub fn make(owner: &Instance<EventLoop>) -> Result {
    owner.check_open()?;
    let inbox = owner.with_core(|core| Arc::clone(&core.engine.inbox));
    let inbox =
        inbox.ok_or_else(|| runtime_error("Children can be started on the loop's own thread only"))?;
    let options = |name: &str, thread_limit, keep_alive| PoolOptions {
        name: format!("antiphon-{name}"),
        thread_limit,
        keep_alive,
    };
    Instance::create(Spawner {
        shared: Arc::new(Shared {
            inbox,
            pending: Mutex::default(),
            outcomes: Mutex::default(),
            next_number: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            busy: Mutex::new(false),
            idle: Condvar::new(),
            unreaped: Mutex::default(),
        }),
        starting: BlockingPool::new(options("spawn", 1, Duration::MAX)),
        waiting: BlockingPool::new(options("waitpid", usize::MAX, PoolOptions::default().keep_alive)),
    })
}

/// `start(loop, command, started, exited)`.
fn start(this: &Instance<Spawner>, args: Args<'_>) -> Result {
    let [owner, request, started, exited] = exactly(args)?;
    let command = command(&request)?;
    let child = process::make(owner, this, started, exited)?;
    this.submit(command, &child)?;
    Ok(child.into_object())
}

/// `adopt(loop, pid, exited)`.
fn adopt(this: &Instance<Spawner>, args: Args<'_>) -> Result {
    let [owner, pid, exited] = exactly(args)?;
    let pid = u32::try_from(integer(&pid)?).map_err(|_| value_error("a process's number is positive"))?;
    let child = process::make(owner, this, Owned::none(), exited)?;
    child.adopt(pid)?;
    Ok(child.into_object())
}

/// `N` positional arguments.
fn exactly<const N: usize>(args: Args<'_>) -> Result<[Owned; N]> {
    let given = args.positional();
    if args.has_keywords() || given.len() != N {
        return Err(type_error(&format!("takes {N} positional arguments")));
    }
    // SAFETY: the arguments are alive during the call.
    Ok(std::array::from_fn(|place| unsafe { Owned::from_borrowed(given[place]) }))
}

fn close(this: &Instance<Spawner>) -> Result {
    if this.shared.is_open() {
        this.close();
    }
    Ok(Owned::none())
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable; closing is what a closing loop does, too.
    unsafe {
        let this = Instance::<Spawner>::from_ptr(object);
        if this.shared.is_open() {
            this.close();
        }
        let kind = ffi::Py_TYPE(object);
        Instance::<Spawner>::finish(object);
        ffi::PyObject_Free(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

/// Makes the type.
pub fn load(module: &Owned) -> Result<()> {
    if Spawner::type_object().is_null() {
        let made = HeapType::new(c"antiphon._antiphon.Spawner", Instance::<Spawner>::SIZE)
            .no_constructor()
            .doc(c"The threads that start a loop's children and wait for them; made by the loop.")
            .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
            .method(
                c"start",
                method!(c"start", start),
                c"start(loop, command, started, exited): start a child; started(None | (stage, errno)) is called by the \
                  loop, then exited(returncode), None if somebody else reaped it; exited=None: do not reap.",
            )
            .method(
                c"adopt",
                method!(c"adopt", adopt),
                c"adopt(loop, pid, exited): watch a child that somebody else started.",
            )
            .method_noargs(c"close", method_noargs!(close), c"Start no more children; wait for the one under way.")
            .weak_references(Instance::<Spawner>::WEAKREF_OFFSET)
            .build(None, Instance::<Spawner>::PAYLOAD_OFFSET)?;
        let _ = SPAWNER.set(made as usize);
    }
    crate::add_type(module, c"Spawner", Spawner::type_object())
}
