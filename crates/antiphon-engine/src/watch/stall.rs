//! What an overdue step is doing, told from two looks at its thread.

use super::{ThreadSample, ThreadState};
use std::time::Duration;

/// Who holds the interpreter, as far as that can be told from beside it.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Interpreter {
    /// The step's own thread.
    Held,
    /// Another thread.
    HeldElsewhere,
    /// Nobody.
    Free,
    /// It cannot be told, or the interpreter has no lock to hold.
    Unknown,
}

/// The kinds of stall.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[repr(u8)]
pub enum Stall {
    /// Asleep in a call that has released the interpreter: other threads can go on.
    Blocked = 0,
    /// Asleep in native code that holds the interpreter: nobody can go on.
    KeepingInterpreter = 1,
    /// Computing, in Python or in native code that holds the interpreter.
    Computing = 2,
    /// Computing in native code that has released the interpreter.
    ComputingReleased = 3,
    /// The cycle collector runs.
    Collecting = 4,
    /// Ready to run, and gets no processor.
    Starved = 5,
    /// Waits for the interpreter, which another thread holds.
    WaitingForInterpreter = 6,
}

/// The part of a window from which a thread counts as computing.
const COMPUTING_PER_CENT: u128 = 50;
/// The part of a window up to which a runnable thread counts as starved.
const STARVED_PER_CENT: u128 = 20;
/// A thread that waits for the interpreter wakes every five milliseconds, the switch interval; half of that counts.
const INTERPRETER_WAKE_UP: Duration = Duration::from_millis(10);

impl Stall {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Blocked,
        Self::KeepingInterpreter,
        Self::Computing,
        Self::ComputingReleased,
        Self::Collecting,
        Self::Starved,
        Self::WaitingForInterpreter,
    ];

    /// What a step does whose thread was looked at twice, the second time together with the interpreter.
    ///
    /// `collecting`: the cycle collector runs in this thread.
    #[must_use]
    pub fn of(
        before: &ThreadSample,
        after: &ThreadSample,
        interpreter: Interpreter,
        collecting: bool,
    ) -> Self {
        let window = after.at.saturating_duration_since(before.at);
        let cpu = after.cpu.saturating_sub(before.cpu);
        let per_cent = cpu.as_nanos() * 100 / window.as_nanos().max(1);
        let always_runnable = before.state == ThreadState::Runnable && after.state == ThreadState::Runnable;
        if always_runnable && per_cent <= STARVED_PER_CENT {
            return Self::Starved;
        }
        if collecting {
            return Self::Collecting;
        }
        if per_cent >= COMPUTING_PER_CENT || always_runnable {
            return match interpreter {
                Interpreter::Free | Interpreter::HeldElsewhere => Self::ComputingReleased,
                Interpreter::Held | Interpreter::Unknown => Self::Computing,
            };
        }
        let woken_often = after.sleeps.saturating_sub(before.sleeps) as u128 * INTERPRETER_WAKE_UP.as_nanos()
            >= window.as_nanos();
        match interpreter {
            Interpreter::Held => Self::KeepingInterpreter,
            Interpreter::HeldElsewhere | Interpreter::Unknown if woken_often => Self::WaitingForInterpreter,
            _ => Self::Blocked,
        }
    }

    /// The kind in words, as reports have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::KeepingInterpreter => "keeping the interpreter",
            Self::Computing => "computing",
            Self::ComputingReleased => "computing in C",
            Self::Collecting => "collecting garbage",
            Self::Starved => "starved",
            Self::WaitingForInterpreter => "waiting for the GIL",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instant;

    /// Two looks, 100 ms apart: CPU time used in between, both states, sleeps in between.
    fn window(cpu_ms: u64, states: [ThreadState; 2], sleeps: u64) -> [ThreadSample; 2] {
        let at = |ms: i64| Instant::from_ns(ms * 1_000_000);
        let before = ThreadSample { at: at(0), cpu: Duration::from_secs(3), state: states[0], sleeps: 70 };
        let cpu = before.cpu + Duration::from_millis(cpu_ms);
        [before, ThreadSample { at: at(100), cpu, state: states[1], sleeps: 70 + sleeps }]
    }

    const R: ThreadState = ThreadState::Runnable;
    const S: ThreadState = ThreadState::Asleep;

    #[track_caller]
    fn is(expected: Stall, looks: [ThreadSample; 2], interpreter: Interpreter, collecting: bool) {
        assert_eq!(Stall::of(&looks[0], &looks[1], interpreter, collecting), expected);
    }

    // Each row was measured: a thread that does what the name says, looked at twice.
    #[test]
    fn measured_rows_get_their_names() {
        use Interpreter::{Free, Held, HeldElsewhere};
        is(Stall::Blocked, window(0, [S, S], 0), Free, false);
        is(Stall::Blocked, window(0, [S, S], 0), HeldElsewhere, false);
        is(Stall::KeepingInterpreter, window(0, [S, S], 0), Held, false);
        is(Stall::Computing, window(99, [R, R], 3), Held, false);
        is(Stall::ComputingReleased, window(100, [R, R], 0), Free, false);
        is(Stall::ComputingReleased, window(100, [R, R], 0), HeldElsewhere, false);
        is(Stall::Collecting, window(100, [R, R], 0), Held, true);
        is(Stall::Starved, window(4, [R, R], 0), Held, false);
        is(Stall::Starved, window(4, [R, R], 0), Free, false);
        is(Stall::WaitingForInterpreter, window(27, [S, S], 22), HeldElsewhere, false);
    }

    #[test]
    fn without_a_word_about_the_interpreter_the_rest_is_told_apart() {
        use Interpreter::Unknown;
        is(Stall::Blocked, window(0, [S, S], 0), Unknown, false);
        is(Stall::Computing, window(98, [R, R], 1), Unknown, false);
        is(Stall::WaitingForInterpreter, window(10, [S, S], 20), Unknown, false);
        is(Stall::Starved, window(0, [R, R], 0), Unknown, false);
    }

    #[test]
    fn starved_collection_is_starved_and_slow_computing_is_computing() {
        is(Stall::Starved, window(3, [R, R], 0), Interpreter::Held, true);
        is(Stall::Computing, window(33, [R, R], 0), Interpreter::Held, false);
    }

    #[test]
    fn many_short_sleeps_with_a_free_interpreter_are_blocking() {
        is(Stall::Blocked, window(10, [S, S], 400), Interpreter::Free, false);
    }

    #[test]
    fn empty_window_is_not_divided_by() {
        let [before, _] = window(0, [S, S], 0);
        assert_eq!(Stall::of(&before, &before, Interpreter::Free, false), Stall::Blocked);
    }
}
