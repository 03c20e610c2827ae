//! Watching loops: who blocks one, seen from beside it while it is blocked.
//!
//! A watched loop tells a [`StepWord`] when a step begins and ends, which costs two relaxed stores. A [`Watchdog`] looks at
//! the words of all loops from a thread of its own. A step that is still the same one after `block_after` is overdue: the
//! loop's [`OnOverdue`] hears of it, with what the system knows about the thread ([`ThreadSample`]), from which
//! [`Stall::of`] tells what the step is doing.
//!
//! ```text
//!   loop's thread                              watchdog's thread
//!   begin ─▶ word = step 7                     tick: word is step 7, new          (since = now)
//!     …the step sleeps…                        tick: still 7, half of the budget  (first sample)
//!                                              tick: still 7, overdue             (second sample) ─▶ on_overdue
//!   end   ─▶ word = turn 7                     tick: word has changed             ─▶ on_ended
//! ```
//!
//! Invariant H1: the numbers of a loop's steps never repeat, so a word that reads the same is the same step.
//! Invariant H2: the watchdog sleeps without a timeout only after it has marked the word of every loop as parked while that
//! loop slept, and a loop that finds the mark as it wakes wakes the watchdog. So loops that sleep cost no wake-up, and no
//! step goes unwatched for longer than a tick.
//! Invariant H3: no lock is held while a hook runs.

mod sampler;
mod stall;
mod step_word;
mod thread_sample;
mod watchdog;

pub use sampler::{EndedStep, OnOverdue, OverdueStep, Then, Watched};
pub use stall::{Interpreter, Stall};
pub use step_word::{StepKind, StepWord};
pub use thread_sample::{ThreadSample, ThreadState, current_thread_number};
pub use watchdog::Watchdog;
