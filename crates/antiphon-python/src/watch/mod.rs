//! Reports of blocking steps: the native side of `on_block`.
//!
//! The engine's watchdog ([`antiphon_engine::watch`]) finds overdue steps; this module is what a loop tells it and what it
//! tells Python. A loop with `on_block="ignore"` has no [`Watch`], and nothing here runs for it.
//!
//! Invariant Q1: the watchdog's thread touches no Python object and never attaches. What it finds it hands to a Python
//! thread ([`reporter::Findings`]), which waits for the interpreter, reads stacks and reports. So nothing that happens in
//! Python, a step that keeps the interpreter or a slow log handler, keeps the watchdog from looking at the loops.
//! Invariant Q2: what is done to a step that blocked is done by the loop's own thread at that step's end, and only if the
//! number that the watchdog marked is this step's. So it never meets another step, nor anything outside of the loop.
//!
//! | file | is |
//! |---|---|
//! | [`reporter`] | what the watchdog finds, on its way to Python |
//! | [`interpreter`] | who holds the interpreter, seen from beside it |
//! | [`thread`] | `Watchdog`: the watchdog's thread, and the door of the Python thread that reports |
//! | [`methods`] | the loop's methods |
//! | [`verdict`] | `on_block="raise"`: what becomes of a task whose step blocked |

pub mod interpreter;
pub mod methods;
pub mod reporter;
pub mod thread;
pub mod verdict;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use antiphon_engine::watch::{StepKind, Watchdog, Watched, current_thread_number};
use pyo3::ffi;

use crate::ffi::{Owned, Result};
use crate::words::this_thread;
use crate::work::Kind;
use reporter::{Finding, Findings};

/// What is done about a step that blocks, other than nothing.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum OnBlock {
    /// Somebody is told.
    Report,
    /// Its task fails.
    Raise,
    /// Another thread goes on with the loop ([`crate::hand_off`]).
    HandOff,
}

/// The thread that drives a loop, as others know it.
#[derive(Default)]
pub struct Driver {
    ident: AtomicUsize,
    thread_state: AtomicUsize,
}

impl Driver {
    /// Its number in Python (`threading.get_ident`).
    pub fn ident(&self) -> usize {
        self.ident.load(Ordering::Acquire)
    }

    /// The address of its thread state, to be compared and never followed.
    pub fn thread_state(&self) -> usize {
        self.thread_state.load(Ordering::Acquire)
    }
}

/// A loop's side of the watch.
pub struct Watch {
    watched: Arc<Watched>,
    watchdog: Arc<Watchdog>,
    driver: Arc<Driver>,
    on_block: OnBlock,
    /// Where findings go.
    findings: Arc<Findings>,
    /// What Python knows the loop by.
    key: u64,
    /// Whether a task of the loop has ever been condemned.
    condemns: AtomicBool,
}

impl Watch {
    /// This thread begins to drive the loop.
    pub fn enter(&self) {
        self.driver.ident.store(this_thread(), Ordering::Release);
        // SAFETY: F1; never null on an attached thread.
        self.driver.thread_state.store(unsafe { ffi::PyThreadState_Get() } as usize, Ordering::Release);
        self.watched.set_thread(current_thread_number());
        self.awake();
    }

    /// Nobody drives the loop any more.
    pub fn leave(&self) {
        self.watched.word.leave();
    }

    /// A turn begins.
    #[inline(always)]
    pub fn begin_turn(&self) {
        self.watched.word.begin_turn();
    }

    /// The loop is about to wait for events.
    pub fn sleep(&self) {
        self.watched.word.sleep();
    }

    /// The wait is over.
    pub fn awake(&self) {
        if self.watched.word.awake() {
            self.watchdog.wake();
        }
    }

    /// A step of a task begins.
    #[inline(always)]
    pub fn begin_task(&self) {
        self.watched.word.begin(StepKind::Task);
    }

    /// A step that was without the seat goes on.
    pub fn begin_again(&self, in_task: bool) {
        self.watched.word.begin(if in_task { StepKind::Task } else { StepKind::Callback });
    }

    /// The part of a task's step that is the user's has ended; whether there is a verdict to be passed on its task.
    #[inline(always)]
    pub fn ends_with_a_verdict(&self) -> bool {
        self.watched.word.end() || self.condemns.load(Ordering::Relaxed)
    }

    /// The number of the step that has just ended, if it was overdue.
    pub fn overdue_before(&self) -> Option<u64> {
        let word = &self.watched.word;
        (word.overdue_step() + 1 == word.step()).then(|| word.overdue_step())
    }

    /// From now on every step asks whether its task is condemned.
    pub fn note_condemned(&self) {
        self.condemns.store(true, Ordering::Relaxed);
    }

    /// Work other than a task's step begins.
    #[inline(always)]
    pub fn begin_work(&self, kind: Kind) {
        self.watched.word.begin(if kind == Kind::Handle { StepKind::Callback } else { StepKind::Native });
    }

    /// It has ended.
    #[inline(always)]
    pub fn end_work(&self) {
        if self.watched.word.end() {
            verdict::on_callback(self, self.watched.word.overdue_step());
        }
    }

    /// The number of the present step.
    pub fn step(&self) -> u64 {
        self.watched.word.step()
    }

    /// Tells that another thread goes on while the step with this number, of the thread `ident`, is blocked.
    pub fn tell_rescue(&self, number: u64, age: Duration, ident: usize) {
        self.findings.push(Finding::Rescued { key: self.key, number, age, ident });
    }

    /// Tells that it has come back.
    pub fn tell_return(&self, number: u64, took: Duration) {
        self.findings.push(Finding::Ended { key: self.key, number, took, rescued: true });
    }

    fn raises(&self) -> bool {
        self.on_block == OnBlock::Raise
    }
}

/// Adds the types and functions to the module.
pub fn load(module: &Owned) -> Result<()> {
    thread::load(module)
}
