//! What a loop does at this moment, as one word that other threads may read.
//!
//! ```text
//!   63 ─────────────── 8 │ 7 ── 4 │ 3 │   2    │ 1 ─ 0
//!   number of the step   │  kind  │   │ parked │ state
//! ```

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering, fence};

const STATE: u64 = 0b11;
/// No thread runs the loop.
const OUT: u64 = 0;
/// The loop waits for events.
const ASLEEP: u64 = 1;
/// Between two steps: the loop's own work, the signal handlers and clocks of the program included.
const TURN: u64 = 2;
/// In a step.
const STEP: u64 = 3;
/// The watchdog sleeps, and is to be woken by the loop as it goes on.
const PARKED: u64 = 1 << 2;
const KIND: u32 = 4;
const NUMBER: u32 = 8;

/// What kind of work a step is.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[repr(u8)]
pub enum StepKind {
    /// Work of the loop itself between two steps.
    Turn = 0,
    /// A step of a task.
    Task = 1,
    /// A callback.
    Callback = 2,
    /// Anything else that is queued: transports, protocols.
    Native = 3,
}

/// What a loop's word said at one moment.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Reading(u64);

impl Reading {
    /// Nothing can hold the loop up: it sleeps, or nobody runs it.
    pub(super) const fn is_idle(self) -> bool {
        matches!(self.0 & STATE, OUT | ASLEEP)
    }

    /// The number of the step (H1).
    pub(super) const fn number(self) -> u64 {
        self.0 >> NUMBER
    }

    /// The kind of the step.
    pub(super) const fn kind(self) -> StepKind {
        if self.0 & STATE != STEP {
            return StepKind::Turn;
        }
        match (self.0 >> KIND) & 0xf {
            1 => StepKind::Task,
            2 => StepKind::Callback,
            _ => StepKind::Native,
        }
    }

    /// The same, whether the watchdog is parked or not.
    pub(super) const fn unparked(self) -> Self {
        Self(self.0 & !PARKED)
    }
}

/// The number after the one in `word`, with nothing beside it.
#[inline(always)]
const fn next(word: u64) -> u64 {
    (word | ((1 << NUMBER) - 1)) + 1
}

/// The word of one loop, and what belongs to it.
///
/// [`begin`](Self::begin), [`end`](Self::end), [`begin_turn`](Self::begin_turn), [`sleep`](Self::sleep),
/// [`awake`](Self::awake) and [`leave`](Self::leave) are for the thread that drives the loop; anybody may read.
///
/// ```
/// use antiphon_engine::watch::{StepKind, StepWord};
///
/// let word = StepWord::new();
/// word.awake();
/// word.begin(StepKind::Task);
/// let step = word.step();
/// assert!(!word.end(), "nobody found it overdue");
/// assert_ne!(word.step(), step);
/// ```
#[derive(Debug)]
#[repr(align(64))] // the watchdog's reads must not slow down neighbours
pub struct StepWord {
    word: AtomicU64,
    /// The number of the turn.
    turn: AtomicU64,
    /// The word as it was in the overdue step; zero was never so.
    overdue: AtomicU64,
    /// When the overdue step ended, on the monotonic clock; meaningful once the word has changed.
    ended_ns: AtomicI64,
    /// How many steps were overdue.
    overdue_count: AtomicU64,
}

impl Default for StepWord {
    fn default() -> Self {
        Self::new()
    }
}

impl StepWord {
    /// The word of a loop that nobody runs.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            word: AtomicU64::new(1 << NUMBER | OUT),
            turn: AtomicU64::new(0),
            overdue: AtomicU64::new(0),
            ended_ns: AtomicI64::new(0),
            overdue_count: AtomicU64::new(0),
        }
    }

    /// A step begins.
    #[inline(always)]
    pub fn begin(&self, kind: StepKind) {
        let before = self.word.load(Ordering::Relaxed);
        self.word.store(next(before) | (kind as u64) << KIND | STEP, Ordering::Relaxed);
    }

    /// The step has ended; whether it was [found overdue](Self::overdue_step) by then.
    #[inline(always)]
    #[must_use]
    pub fn end(&self) -> bool {
        let before = self.word.load(Ordering::Relaxed);
        if self.overdue.load(Ordering::Relaxed) == before {
            self.note_end();
            self.word.store(next(before) | TURN, Ordering::Release);
            return true;
        }
        self.word.store(next(before) | TURN, Ordering::Relaxed);
        false
    }

    #[cold]
    fn note_end(&self) {
        use crate::{Clock, Monotonic};
        self.ended_ns.store(Monotonic.now().as_ns(), Ordering::Relaxed);
    }

    /// A turn begins.
    #[inline(always)]
    pub fn begin_turn(&self) {
        self.turn.store(self.turn.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// The loop is about to wait.
    #[inline]
    pub fn sleep(&self) {
        self.rest(ASLEEP);
    }

    /// Nobody runs the loop any more.
    #[inline]
    pub fn leave(&self) {
        self.rest(OUT);
    }

    fn rest(&self, state: u64) {
        let before = self.word.load(Ordering::Relaxed);
        self.word.store(next(before) | state, Ordering::Release);
    }

    /// The loop goes on, after a wait or as a thread begins to run it; whether the watchdog must be
    /// [woken](super::Watchdog::wake).
    #[inline]
    #[must_use]
    pub fn awake(&self) -> bool {
        let before = self.word.load(Ordering::Relaxed);
        // A swap: whoever parked before it is seen, whoever parks after it fails (H2).
        self.word.swap(next(before) | TURN, Ordering::AcqRel) & PARKED != 0
    }

    /// The number of the present step.
    pub fn step(&self) -> u64 {
        self.word.load(Ordering::Acquire) >> NUMBER
    }

    /// The number of the step that was found overdue last; zero: none was.
    pub fn overdue_step(&self) -> u64 {
        self.overdue.load(Ordering::Acquire) >> NUMBER
    }

    /// How many steps were found overdue.
    pub fn overdue_count(&self) -> u64 {
        self.overdue_count.load(Ordering::Relaxed)
    }

    pub(super) fn read(&self) -> Reading {
        Reading(self.word.load(Ordering::Acquire)).unparked()
    }

    pub(super) fn turn(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    pub(super) fn ended_ns(&self) -> i64 {
        self.ended_ns.load(Ordering::Relaxed)
    }

    /// Calls the step overdue; whether it still is the present one.
    ///
    /// A step that ends at this very moment may miss it: then nothing comes of it but the report.
    pub(super) fn mark_overdue(&self, reading: Reading) -> bool {
        self.overdue.store(reading.0, Ordering::Release);
        fence(Ordering::SeqCst);
        let is_present = self.read() == reading;
        if is_present {
            self.overdue_count.fetch_add(1, Ordering::Relaxed);
        }
        is_present
    }

    /// Marks a loop as one that wakes the watchdog, if it rests as it did at `reading`.
    pub(super) fn park(&self, reading: Reading) -> bool {
        let (bare, parked) = (reading.0, reading.0 | PARKED);
        match self.word.compare_exchange(bare, parked, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => true,
            Err(found) => found == parked,
        }
    }
}
