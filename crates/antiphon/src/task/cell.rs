//! A task in one piece of memory: header, future and outcome; and who refers to it.
//!
//! ```text
//!   TaskHandle, JoinHandle, Due ─ handles ─▶ ┌────────┬──────────────────┐
//!     (the loop's thread)                    │ Header │ future │ outcome │
//!   Waker, Crossing ─────────── memory ────▶ └────────┴──────────────────┘
//!     (any thread)
//! ```
//!
//! [`TaskHandle`]s never leave the loop's thread. While there is one, the contents live; dropping the last drops the contents.
//! Wakers go anywhere, and keep the memory alone: they touch the counts ([`word`]) and the loop's inbox. All handles
//! together count as one reference to the memory.
//!
//! The rules that the `unsafe` code of this folder rests on, beside Q1 and Q2 of [`word`] and Q7 of [`pool`]:
//!
//! Invariant Q3: a cell's first part is its [`Header`], and `Header::vtable` is the one of the cell's own type. Both are written
//! before the first handle exists and never change.
//! Invariant Q4: but for the word, the vtable and the inbox's address, a cell is touched by the thread of its loop alone, and by
//! others never. That is the thread that made it and on which `running::here` names the loop's inbox; handles are not
//! `Send`, so they are proof of it.
//! Invariant Q5: the stage is borrowed by one function of [`vtable`] at a time. A step borrows it while it polls and drops the future,
//! and [`Header::running`] keeps all others out meanwhile; the others run no code of the user while they borrow it.
//! Invariant Q6: a future is pinned where it was written, and dropped there.

#![allow(unsafe_code)] // the one folder of this crate; each block cites the rule it rests on

mod handle;
mod pool;
mod running;
mod vtable;
mod waker;
mod word;

pub(crate) use handle::{Base, Due, JoinHandle, TaskHandle};
pub(crate) use pool::Pool;
pub(crate) use running::{Current, Thread, running, with_running};
pub(crate) use waker::Crossing;

#[cfg(doc)]
use super::Header;
