//! What the watchdog finds, on its way to the Python thread that reports it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use antiphon_engine::watch::{
    EndedStep, Interpreter, OnOverdue, OverdueStep, Stall, StepKind, Then, ThreadSample, ThreadState,
};

use super::Driver;
use super::interpreter::holder;
use crate::hand_off::bell::Bell;
use crate::words::this_thread;

/// The shortest time between the two looks that a kind of stall is told from.
const SHORTEST_WINDOW: Duration = Duration::from_millis(4);
/// A thread that computes in Python lets others have the interpreter after five milliseconds, the switch interval, and not
/// before: who gets it sooner found it free.
const FREE_WITHIN: Duration = Duration::from_millis(2);
/// How often a step that sleeps is looked at with `on_block="handoff"`, and after how many looks the bell is rung again.
const RING_TICK: Duration = Duration::from_millis(1);
const RING_EVERY: u64 = 10;
/// How many findings wait for a Python thread that does not come back from a callback of the program.
const MOST_FINDINGS: usize = 1000;

/// The thread in which the cycle collector runs, 0: in none.
static COLLECTING: AtomicUsize = AtomicUsize::new(0);

/// Notes a phase of a collection in this thread; from `gc.callbacks`.
pub fn note_collection(begins: bool) {
    COLLECTING.store(if begins { this_thread() } else { 0 }, Ordering::Release);
}

/// One finding.
pub enum Finding {
    /// A step is overdue.
    Overdue {
        /// What Python knows its loop by.
        key: u64,
        /// Its number.
        number: u64,
        /// What it does.
        stall: Stall,
        /// Whether it is a step, and no work of the loop itself between two.
        in_step: bool,
        /// How long it has taken.
        age: Duration,
        /// The loop's thread, by its number in Python.
        ident: usize,
        /// The same thread's number in the kernel.
        thread: i32,
        /// What `stall` was told from.
        seen: ThreadSample,
    },
    /// A step was blocked in a call, and another thread has gone on with its loop.
    Rescued {
        /// What Python knows its loop by.
        key: u64,
        /// Its number.
        number: u64,
        /// How long the call has lasted, at least.
        age: Duration,
        /// The step's thread, by its number in Python.
        ident: usize,
    },
    /// A step that was overdue has ended, or one that was rescued has come back.
    Ended {
        /// What Python knows its loop by.
        key: u64,
        /// Its number.
        number: u64,
        /// How long it took.
        took: Duration,
        /// Whether it was rescued.
        rescued: bool,
    },
}

/// The line of findings from the watchdog's thread to Python's.
#[derive(Default)]
pub struct Findings {
    line: Mutex<Line>,
    filled: Condvar,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Finding>,
    closed: bool,
}

impl Findings {
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one, unless too many wait already.
    pub fn push(&self, finding: Finding) {
        let mut line = self.lock();
        if line.waiting.len() < MOST_FINDINGS {
            line.waiting.push_back(finding);
            self.filled.notify_one();
        }
    }

    /// Waits for findings; with them, whether there were none at first. `None` once it is closed and empty.
    pub fn take(&self) -> Option<(VecDeque<Finding>, bool)> {
        let line = self.lock();
        let waits = line.waiting.is_empty();
        let mut line = self
            .filled
            .wait_while(line, |line| line.waiting.is_empty() && !line.closed)
            .unwrap_or_else(PoisonError::into_inner);
        let found = std::mem::take(&mut line.waiting);
        (!found.is_empty()).then_some((found, waits))
    }

    /// Lets [`Self::take`] wait no more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }
}

/// The hook of one loop.
pub struct Reporter {
    /// What Python knows the loop by.
    pub key: u64,
    /// Who drives the loop.
    pub driver: Arc<Driver>,
    /// Where findings go.
    pub findings: Arc<Findings>,
    /// What is rung when a step seems to be blocked, with `on_block="handoff"`.
    pub bell: Option<Arc<Bell>>,
    /// The step that it was last rung for, and how often that was asked about since.
    pub rung: AtomicU64,
    /// See above.
    pub asked: AtomicU64,
    /// The step that was last reported in that mode.
    pub told: AtomicU64,
}

impl Reporter {
    /// What kind of stall this is, by the looks at its thread. `None`: they are too close together, or there is no thread.
    fn stall(&self, before: &ThreadSample, now: &ThreadSample) -> Option<Stall> {
        if now.at.saturating_duration_since(before.at) < SHORTEST_WINDOW {
            return None;
        }
        let collecting = COLLECTING.load(Ordering::Acquire);
        // A free-threaded build stops every thread for a collection.
        let collecting = collecting != 0 && (cfg!(Py_GIL_DISABLED) || collecting == self.driver.ident());
        let stall = Stall::of(before, now, holder(self.driver.thread_state()), collecting);
        // There, nothing has to be waited for: many short sleeps are many short calls that block.
        let waits_for_nothing = cfg!(Py_GIL_DISABLED) && stall == Stall::WaitingForInterpreter;
        Some(if waits_for_nothing { Stall::Blocked } else { stall })
    }
}

impl OnOverdue for Reporter {
    fn on_overdue(&self, step: &OverdueStep<'_>) -> Then {
        if let Some(bell) = &self.bell {
            return self.relieve(bell, step);
        }
        let (Some(before), Some(seen)) = (step.before, step.now) else {
            return Then::AgainIn(SHORTEST_WINDOW);
        };
        let Some(stall) = self.stall(&before, &seen) else {
            return Then::AgainIn(SHORTEST_WINDOW);
        };
        self.find(step, stall, seen);
        Then::Done
    }

    fn on_ended(&self, step: &EndedStep<'_>) {
        if self.bell.is_some() && self.told.load(Ordering::Relaxed) != step.number {
            return; // it has lost the seat, and is not over
        }
        let (key, number, took) = (self.key, step.number, step.took);
        self.findings.push(Finding::Ended { key, number, took, rescued: false });
    }
}

impl Reporter {
    fn find(&self, step: &OverdueStep<'_>, stall: Stall, seen: ThreadSample) {
        self.findings.push(Finding::Overdue {
            key: self.key,
            number: step.number,
            stall,
            in_step: step.kind != StepKind::Turn,
            age: step.age,
            ident: self.driver.ident(),
            thread: step.watched.thread(),
            seen,
        });
    }

    /// With `on_block="handoff"`: a step that sleeps is relieved, by a spare who makes sure that it does; one that holds the
    /// loop up in other ways cannot be, and is reported. It is asked about until it ends: it may block later.
    fn relieve(&self, bell: &Bell, step: &OverdueStep<'_>) -> Then {
        let Some(now) = step.now else {
            return Then::AgainIn(SHORTEST_WINDOW);
        };
        let slept_on = |before: &ThreadSample| before.sleeps == now.sleeps && before.cpu == now.cpu;
        let sleeps = now.state == ThreadState::Asleep;
        if sleeps && self.is_time_to_ring(step.number) {
            bell.ring(Some(step.before.filter(slept_on).unwrap_or(now)));
        }
        if self.told.load(Ordering::Relaxed) != step.number
            && step.age >= step.watched.block_after
            && let Some(stall) = step.before.and_then(|before| self.stall(&before, &now))
            && stall != Stall::Blocked
        {
            self.told.store(step.number, Ordering::Relaxed);
            self.find(step, stall, now);
        }
        // The next step of the turn may block, too: it is to be seen soon.
        Then::AgainIn(if sleeps { RING_TICK } else { SHORTEST_WINDOW })
    }

    /// Whether the bell is to be rung for the step: the spare that answers takes a few ticks.
    fn is_time_to_ring(&self, step: u64) -> bool {
        if self.rung.swap(step, Ordering::Relaxed) != step {
            self.asked.store(0, Ordering::Relaxed);
            return true;
        }
        (self.asked.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(RING_EVERY)
    }
}

/// The kind of stall once more, where the interpreter does not tell who holds it: by how long a thread that asked for it
/// right then has waited.
pub fn corrected(stall: Stall, thread: i32, seen: &ThreadSample, waited: Duration) -> Stall {
    if cfg!(Py_GIL_DISABLED) || holder(0) != Interpreter::Unknown {
        return stall;
    }
    match stall {
        Stall::Computing if waited < FREE_WITHIN => Stall::ComputingReleased,
        Stall::Blocked if waited >= SHORTEST_WINDOW => {
            // If it has slept on, somebody else had the interpreter. If not, nobody got it before it went on.
            let slept_on = ThreadSample::of(thread).is_some_and(|now| now.sleeps == seen.sleeps);
            if slept_on { stall } else { Stall::KeepingInterpreter }
        }
        stall => stall,
    }
}
