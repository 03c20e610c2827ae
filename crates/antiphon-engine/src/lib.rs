//! The machinery of one event loop, without coroutines and without Python.
//!
//! A loop that runs a callback now, one later, and then ends:
//!
//! ```
//! use antiphon_engine::{Clock, Core, Epoll, Event, Host, Instant, Monotonic, run_once};
//! use std::time::Duration;
//!
//! struct Loop { core: Core<fn(&mut Loop), Epoll>, log: Vec<&'static str> }
//!
//! impl Host for Loop {
//!     type Work = fn(&mut Loop);
//!     type Driver = Epoll;
//!     fn core<R>(&mut self, f: impl FnOnce(&mut Core<Self::Work, Epoll>) -> R) -> R { f(&mut self.core) }
//!     fn now(&mut self) -> Instant { Monotonic.now() }
//!     fn dispatch(&mut self, _: Event) { /* no descriptors in this one */ }
//!     fn run(&mut self, work: Self::Work) { work(self) }
//! }
//!
//! let mut host = Loop { core: Core::new(Epoll::new()?)?, log: vec![] };
//! let soon = Monotonic.now().saturating_add(Duration::from_millis(2));
//! host.core.timers.push(soon, |host| host.log.push("later"));
//! host.core.ready.push(|host| host.log.push("now"));
//! while host.log.len() < 2 { run_once(&mut host)?; }
//! assert_eq!(host.log, ["now", "later"]);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # The parts
//! A [`Core`] holds four: the [`ReadyQueue`], the [`TimerHeap`], the [`Driver`] and the [`Inbox`]. [`run_once`] moves work
//! between them, and its [`Host`] decides what work is and how it runs:
//!
//! ```text
//!   other threads ──push──▶ Inbox ──────┐
//!   descriptors ──▶ Driver ──dispatch───┼──▶ ReadyQueue ──run──▶ Host
//!   deadlines ──▶ TimerHeap ──due───────┘
//! ```
//!
//! Beside the core stands what a loop needs from the system: the [`Clock`], signals ([`SignalPipe`]), the starts and exits
//! of child processes ([`ChildCommand`], [`PidFd`]), threads for what blocks ([`BlockingPool`]), and a
//! watchdog for what blocks nevertheless ([`watch`]).
//!
//! # Rules
//! - The work item is a type parameter. The engine stores and returns items; it never runs, clones or drops one.
//! - No loop state lives in a thread-local: one thread drives a loop at a time, but not always the same one.
//! - `unsafe` occurs in the modules that call the operating system, each of which says so.
//!
//! It runs on Linux; [`driver`] tells what a driver for another system has to keep.

#![deny(unsafe_code)]

mod affinity;
mod budget;
mod child;
mod clock;
mod core;
pub mod driver;
mod error;
mod inbox;
mod notifier;
pub mod partial_writes;
mod pool;
mod ready;
mod signals;
mod spawn;
pub mod switches;
mod sync;
mod timers;
mod turn;
pub mod watch;

pub use crate::affinity::{allowed_processors, pin_to};
pub use crate::child::{ChildExit, PidFd, await_end, try_wait, wait_blocking};
pub use crate::clock::{Clock, Instant, Monotonic, Virtual, coarse_now_ns};
pub use crate::core::Core;
pub use crate::driver::{Driver, Epoll, Event, Interest, NOTIFIER, Readiness, Simulated, Token};
pub use crate::error::EngineError;
pub use crate::inbox::{Inbox, Notify};
pub use crate::notifier::Notifier;
pub use crate::pool::{BlockingPool, Job, PoolOptions};
pub use crate::ready::ReadyQueue;
pub use crate::signals::SignalPipe;
pub use crate::spawn::{ChildCommand, SignalMask, SpawnStage, Spawned};
pub use crate::timers::{TimerHeap, TimerKey};
pub use crate::turn::{Host, begin_turn, go_on_with_turn, run_once};
