//! Spares: threads that take over when a step blocks. They are the process's, and one of them is kept warm.
//!
//! A spare is a `threading.Thread`, so that what programs set for all threads (tracers, profilers, hooks) holds on it. It
//! sleeps without the interpreter until it is summoned, which takes no interpreter either: the watchdog does it.

use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use antiphon_engine::watch::ThreadSample;
use antiphon_engine::{Clock, Monotonic};
use pyo3::ffi;

use super::revoke::{self, Revoked};
use super::signal::Signal;
use crate::event_loop::{EventLoop, run};
use crate::ffi::function::{Function, add_functions};
use crate::ffi::thread_end::Kept;
use crate::ffi::{Args, GilCell, Instance, Owned, Result, call, detached, raise};
use crate::names::import;
use crate::words::this_thread;

/// How many threads may be spares at once, driving and blocked ones included: beyond that a step that blocks keeps the seat.
const MOST: usize = 256;
/// How many sleep for the next time; others end.
const WARM: usize = 8;

/// Take the seat of a loop from a step, if that is blocked.
#[derive(Copy, Clone)]
pub struct Order {
    /// The loop's number.
    pub number: u64,
    /// What the step's window reads.
    pub window: u64,
    /// A look at the step's thread.
    pub before: ThreadSample,
}

/// The word to a sleeping spare.
#[derive(Copy, Clone)]
enum Word {
    Relieve(Order),
    /// Take the vacant seat of the loop with this number, if it still is.
    Occupy(u64),
    End,
}

/// A sleeping spare.
pub struct Sleeper {
    signal: Arc<Signal<Word>>,
    thread: usize,
}

impl Sleeper {
    /// Sends it to the vacant seat of the loop with this number.
    pub fn send_to_vacant_seat(&self, number: u64) {
        self.signal.send(Word::Occupy(number));
    }
}

/// Sleeping spares. In the child of a fork it is replaced: a lock may have been held, and the threads are gone.
#[derive(Default)]
struct Pool {
    idle: Mutex<Vec<Sleeper>>,
    /// All of them, those that have yet to begin included.
    count: AtomicUsize,
    /// Open loops that may need one.
    users: AtomicUsize,
}

impl Pool {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Sleeper>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

static FIRST: OnceLock<Pool> = OnceLock::new();
static POOL: AtomicPtr<Pool> = AtomicPtr::new(std::ptr::null_mut());
/// Loops that run, by number, borrowed: each is alive while it runs.
static RUNNING: GilCell<Vec<(u64, usize)>> = GilCell::new(Vec::new());

fn pool() -> &'static Pool {
    // SAFETY: only leaked pools are put there.
    unsafe { POOL.load(Ordering::Acquire).as_ref() }.unwrap_or_else(|| FIRST.get_or_init(Pool::default))
}

/// One more open loop may need spares.
pub fn enlist() {
    pool().users.fetch_add(1, Ordering::Relaxed);
}

/// One less; with the last one the sleeping spares end. Returns when they have: a thread that asks for the interpreter while
/// that ends is ended in the middle of native code.
pub fn resign() -> Result<()> {
    let before = pool().users.fetch_sub(1, Ordering::Relaxed);
    if before == 1 {
        let idle = std::mem::take(&mut *pool().idle());
        for spare in &idle {
            spare.signal.send(Word::End);
        }
        for spare in idle {
            call(&import("antiphon.spares", "join")?, [&Owned::int(spare.thread as i64)?])?;
        }
    }
    Ok(())
}

/// In the child of a fork: no spare is left.
pub fn forget_all() {
    let users = pool().users.load(Ordering::Relaxed);
    let fresh = Box::leak(Box::<Pool>::default());
    fresh.users.store(users, Ordering::Relaxed);
    POOL.store(fresh, Ordering::Release);
    RUNNING.take();
}

/// A loop begins to run: spares find it by its number.
pub fn announce(number: u64, owner: &Instance<EventLoop>) {
    RUNNING.with(|running| running.push((number, owner.as_ptr() as usize)));
}

/// It runs no more.
pub fn retract(number: u64) {
    RUNNING.with(|running| running.retain(|(other, _)| *other != number));
}

pub(super) fn find(number: u64) -> Option<Owned> {
    RUNNING.with(|running| {
        let (_, address) = running.iter().find(|(other, _)| *other == number)?;
        // SAFETY: a running loop is alive, and leaves the list before it ends its run.
        Some(unsafe { Owned::from_borrowed(*address as *mut ffi::PyObject) })
    })
}

/// The loop that this thread drives.
pub(super) fn find_driven_here() -> Option<Owned> {
    RUNNING.with(|running| {
        running.iter().find_map(|(_, address)| {
            let object = *address as *mut ffi::PyObject;
            // SAFETY: as in `find`; only loops of ours are announced.
            let owner: &Instance<EventLoop> = unsafe { Instance::from_ptr(object) };
            // SAFETY: it is alive.
            owner.seat().is_mine().then(|| unsafe { Owned::from_borrowed(object) })
        })
    })
}

/// A sleeping spare, to be sent at once. `None`: none sleeps now.
pub(super) fn take_idle() -> Option<Sleeper> {
    pool().idle().pop()
}

/// Starts a spare unless one sleeps or there are enough.
pub fn keep_one_warm() -> Result<()> {
    let pool = pool();
    if !pool.idle().is_empty() || pool.count.load(Ordering::Relaxed) >= MOST {
        return Ok(());
    }
    // Comes back once the thread runs, so that it is counted by then.
    call(&import("antiphon.spares", "start")?, []).map(drop)
}

/// Sends a spare to carry an order out. Takes no interpreter. False: none sleeps now.
pub fn summon(order: Order) -> bool {
    let Some(spare) = take_idle() else {
        return false;
    };
    spare.signal.send(Word::Relieve(order));
    true
}

/// The life of a spare: what its thread runs.
fn serve(_args: Args<'_>) -> Result {
    let _kept = Kept::new();
    pool().count.fetch_add(1, Ordering::Relaxed);
    let mine = Arc::new(Signal::new());
    loop {
        {
            // Asked for anew each time: a fork may have replaced it.
            let pool = pool();
            let mut idle = pool.idle();
            if idle.len() >= WARM || pool.users.load(Ordering::Relaxed) == 0 {
                break;
            }
            idle.push(Sleeper { signal: Arc::clone(&mine), thread: this_thread() });
        }
        match detached(|| wait(&mine)) {
            Word::End => break,
            Word::Relieve(order) => relieve(&order),
            Word::Occupy(number) => super::give::drive_vacant(number),
        }
    }
    pool().count.fetch_sub(1, Ordering::Relaxed);
    Ok(Owned::none())
}

/// Sleeps until there is a word; with an order, until the look that it brings is old enough to tell something.
fn wait(mine: &Signal<Word>) -> Word {
    let word = mine.wait();
    if let Word::Relieve(order) = &word {
        let age = Monotonic.now().saturating_duration_since(order.before.at);
        std::thread::sleep(revoke::telling_sleep().saturating_sub(age));
    }
    word
}

fn relieve(order: &Order) {
    let Some(object) = find(order.number) else {
        return;
    };
    // SAFETY: only loops of ours are announced.
    let owner: &Instance<EventLoop> = unsafe { Instance::from_ptr(object.as_ptr()) };
    let Some(hand_off) = owner.hand_off() else {
        return;
    };
    match hand_off.revoke(owner, order.window, &order.before) {
        Ok(Revoked::Taken) => run::drive_on_spare(owner, hand_off),
        Ok(Revoked::Passed | Revoked::Missed) => {}
        Err(crate::ffi::Raised) => raise::write_unraisable(Some(&object)),
    }
}

const FUNCTIONS: [Function; 1] = [(
    c"_serve_as_spare",
    crate::function!(c"_serve_as_spare", serve),
    c"_serve_as_spare(): take over loops whose steps block, until the last one is closed.",
)];

/// Adds the function.
pub fn load(module: &Owned) -> Result<()> {
    add_functions(module, FUNCTIONS)
}
