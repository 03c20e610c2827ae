//! The synchronisation machines under random histories of tasks that arrive, are woken, cancelled, run and leave.
//!
//! What is checked is the specification, not the code again: exclusion, turns among those who were not cancelled, no
//! wake-up lost, nothing made or lost on the way.

mod barrier;
mod condition;
mod event;
mod lock;
mod queue;
mod semaphore;
mod tasks;
