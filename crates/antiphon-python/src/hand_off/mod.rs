//! The hand-off: a step that blocks loses the seat, another thread goes on with the loop, and the step waits behind a fence
//! until it is granted the seat again. So a blocking call behaves like an `await`.
//!
//! ```text
//!   holder ──▶ window open: a step is in user code ──▶ window closed: the loop's own code
//!                     │ revoked (by a spare thread, on the watchdog's word)
//!                     ▼
//!              blocked, without the seat ── the call returns ──▶ fence ──▶ claimant ── granted at a boundary ──▶ holder
//! ```
//!
//! All of it is for loops with `on_block="handoff"`; others have no [`HandOff`], and one predictable branch a step finds that out.
//! Threads exchange the interpreter's lock, so what this module keeps is in a [`GilCell`]: that lock orders a revocation against
//! the step's end. Free-threaded builds refuse the mode.
//!
//! **Invariant P1**: the seat leaves a thread against its will only while that thread's window is open, that is inside
//! `coro.send`, `coro.throw` or a plain callback. Closing the window is the first act after that, and a thread which finds
//! its window gone claims the seat before it touches anything of the loop.
//! **Invariant P2**: the code of every Python frame of a step that lost the seat is armed before it loses it ([`fence`]), with
//! the interpreter held from the look at its frames to the loss: it does not run one instruction beside the loop.
//! **Invariant P3**: a claimant is granted the seat where the driver is between two work items. Nothing about the turn is on
//! the driver's stack there: how much of the turn is left is in the core.
//!
//! | file | is |
//! |---|---|
//! | [`bell`] | the watchdog's part |
//! | [`window`] | where a step may lose the seat (P1) |
//! | [`revoke`] | taking the seat from a blocked step (P2) |
//! | [`call_sites`] | places that have blocked |
//! | [`give`] | giving the seat away as a call begins at such a place |
//! | [`fence`] | stopping a thread before its next Python instruction |
//! | [`claim`] | the way back to the seat, and who gets it next (P3) |
//! | [`defer`] | work that has to wait for a blocked step's context |
//! | [`pin`] | tasks that stay on the main thread |
//! | [`spare`] | the threads that take over |
//! | [`signal`] | how threads wait for each other |

pub mod bell;
pub mod call_sites;
pub mod claim;
pub mod defer;
pub mod fence;
pub mod give;
pub mod pin;
pub mod revoke;
pub mod signal;
pub mod spare;
pub mod window;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use antiphon_engine::watch::current_thread_number;
use pyo3::ffi;

use crate::event_loop::EventLoop;
use crate::ffi::frames::ThreadState;
use crate::ffi::function::{Function, add_functions};
use crate::ffi::{Args, GilCell, Instance, Owned, Result};
use crate::work::Work;
use bell::Bell;
use claim::{Blocked, Grant};
use pin::Pinned;
use signal::Signal;

/// A thread that drives a loop: by turns, or for the rest of its own step.
#[derive(Copy, Clone)]
pub struct Driver {
    /// As in [`crate::words::this_thread`].
    thread: usize,
    /// Its number in the kernel.
    number: i32,
    state: ThreadState,
    /// The thread that called `run_forever`, to which the seat goes back.
    is_main: bool,
}

/// Work that waits until some blocked step has ended, with the context that it needs.
struct Deferred {
    context: Owned,
    work: Work,
}

/// What threads exchange about one loop.
#[derive(Default)]
struct State {
    /// Who has the seat, if it may be taken away.
    driver: Option<Driver>,
    /// Steps that have lost the seat and not got it back.
    blocked: Vec<Arc<Blocked>>,
    /// Those of them that want it back, in the order in which they get it.
    claimants: VecDeque<Arc<Blocked>>,
    /// Set while the main thread, between two work items, waits for the seat.
    idle_main: Option<(Driver, Arc<Signal<Grant>>)>,
    /// Nobody drives: the run is over, and its thread is inside a blocking call.
    driverless: bool,
    /// Nobody has the seat, and a spare is on its way to it: whoever comes first takes it.
    vacant: bool,
    /// What must leave the loop, on its way from a spare to the main thread.
    failure: Option<Owned>,
    deferred: VecDeque<Deferred>,
    /// Tasks that run on the main thread alone.
    pinned: Pinned,
    /// Steps of theirs that came up on spares.
    for_main: Vec<Work>,
    /// Whether a blocked step came back since the last look at `deferred`.
    retry: bool,
}

/// The hand-off's part of a loop.
pub struct HandOff {
    state: GilCell<State>,
    bell: Arc<Bell>,
    /// Whether the present work item may lose the seat: task steps and plain callbacks may.
    allowed: AtomicBool,
    /// The task whose step it is, borrowed; null for other work.
    task: AtomicPtr<ffi::PyObject>,
    /// Whether the driver has to look after others at its next boundary.
    wanted: AtomicBool,
    /// How many steps are without the seat, plus how much work is deferred.
    out: AtomicUsize,
    /// Whether places that block are learned.
    learns: AtomicBool,
    /// How often steps lost the seat, and how often they gave it away.
    revoked: AtomicU64,
    given: AtomicU64,
}

static NUMBERS: AtomicU64 = AtomicU64::new(1);

impl HandOff {
    /// A loop's, which holds a monitoring tool from here until [`Self::close`].
    ///
    /// # Errors
    /// `RuntimeError`: this interpreter has no fence, or all monitoring tools are taken.
    pub fn new() -> Result<Self> {
        fence::acquire()?;
        spare::enlist();
        Ok(Self {
            state: GilCell::new(State::default()),
            bell: Arc::new(Bell::new(NUMBERS.fetch_add(1, Ordering::Relaxed))),
            allowed: AtomicBool::new(false),
            task: AtomicPtr::new(std::ptr::null_mut()),
            wanted: AtomicBool::new(false),
            out: AtomicUsize::new(0),
            learns: AtomicBool::new(true),
            revoked: AtomicU64::new(0),
            given: AtomicU64::new(0),
        })
    }

    /// Whether the driver has to look after others before it goes on.
    #[inline(always)]
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Whether steps are without the seat, or work waits for one.
    #[inline(always)]
    pub fn is_anybody_out(&self) -> bool {
        self.out.load(Ordering::Relaxed) != 0
    }

    /// Whether this thread is inside a step of the loop that has lost the seat.
    pub fn is_blocked_here(&self) -> bool {
        let here = crate::words::this_thread();
        self.state.with(|state| state.blocked.iter().any(|blocked| blocked.is_of(here)))
    }

    /// The step of the thread `ident` that was rescued and has not come back: its number, its task if it is one of ours, and
    /// whether the place of its call is known as one that gives the loop away.
    pub fn rescued_step(&self, ident: usize) -> Option<(u64, Option<Owned>, bool)> {
        self.state.with(|state| {
            let blocked = state.blocked.iter().find(|blocked| blocked.is_of(ident))?;
            let rescue = blocked.rescue.as_ref()?;
            Some((rescue.number, rescue.task.clone(), rescue.learned))
        })
    }

    /// How many steps have lost the seat and not got it back.
    pub fn blocked_count(&self) -> usize {
        self.state.with(|state| state.blocked.len())
    }

    /// What must leave the loop and was left here by a spare.
    pub fn take_failure(&self) -> Option<Owned> {
        self.change(|state| state.failure.take())
    }

    /// Short access to the state that leaves `wanted` and `out` true.
    fn change<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        self.state.with(|state| {
            let result = f(state);
            let wanted = !state.claimants.is_empty()
                || state.idle_main.is_some()
                || state.failure.is_some()
                || (state.retry && !state.deferred.is_empty())
                || (!state.for_main.is_empty() && state.driver.is_some_and(|driver| driver.is_main));
            self.wanted.store(wanted, Ordering::Relaxed);
            self.out.store(state.blocked.len() + state.deferred.len(), Ordering::Relaxed);
            result
        })
    }

    /// The thread that called `run_forever` begins to drive.
    pub fn begin_run(&self, owner: &Instance<EventLoop>) -> Result<()> {
        revoke::look_at_switch_interval()?;
        spare::announce(self.bell.number, owner);
        self.become_driver(owner, true);
        spare::keep_one_warm()
    }

    /// The run is over; steps that are still blocked wait for the next one.
    pub fn end_run(&self) {
        spare::retract(self.bell.number);
        self.change(|state| state.driver = None);
    }

    fn become_driver(&self, owner: &Instance<EventLoop>, is_main: bool) {
        let driver = Driver {
            thread: crate::words::this_thread(),
            number: current_thread_number(),
            state: ThreadState::here(),
            is_main,
        };
        self.bell.kernel_thread.store(driver.number, Ordering::Relaxed);
        self.change(|state| state.driver = Some(driver));
        self.tell_watch(owner);
    }

    /// The watchdog hears that another thread drives.
    fn tell_watch(&self, owner: &Instance<EventLoop>) {
        if let Some(watch) = owner.watch_for_blocking() {
            watch.enter();
        }
    }

    /// What the watchdog rings.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// The loop is being closed: blocked steps get an exception instead of the seat.
    pub fn close(&self) {
        let (claimants, deferred, failure) = self.change(|state| {
            let claimants = std::mem::take(&mut state.claimants);
            let deferred = (std::mem::take(&mut state.deferred), std::mem::take(&mut state.for_main));
            (claimants, deferred, state.failure.take())
        });
        for claimant in claimants {
            claimant.grant(Grant::Closed);
        }
        drop((deferred, failure));
        if spare::resign().is_err() {
            crate::ffi::raise::write_unraisable(None);
        }
        fence::release();
    }
}

/// `_hand_off_after_fork()`: the other threads are gone in the child.
fn after_fork(_args: Args<'_>) -> Result {
    spare::forget_all();
    fence::forget_all();
    Ok(Owned::none())
}

const FUNCTIONS: [Function; 1] = [(
    c"_hand_off_after_fork",
    crate::function!(c"_hand_off_after_fork", after_fork),
    c"_hand_off_after_fork(): in the child of a fork, forget the threads that are gone.",
)];

/// Adds the functions of the module.
pub fn load(module: &Owned) -> Result<()> {
    add_functions(module, FUNCTIONS)?;
    spare::load(module)?;
    give::load(module)?;
    call_sites::load(module)?;
    fence::load(module)
}
