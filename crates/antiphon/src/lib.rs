//! asyncio's coroutines for Rust: an event loop whose tasks are cancelled by an error that they can handle.
//!
//! ```
//! use antiphon::{Cancelled, GroupError, sleep, task_group};
//! use std::time::Duration;
//!
//! antiphon::Runner::new().virtual_clock().run(async {
//!     task_group(async |group| {
//!         for n in 1..=3 {
//!             group.spawn(async move {
//!                 sleep(Duration::from_secs(n)).await?;
//!                 Ok::<_, Cancelled>(n)
//!             });
//!         }
//!         Ok::<_, Cancelled>(())
//!     })
//!     .await // waits for all of them
//! })??;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | asyncio | here |
//! |---|---|
//! | `run`, `Runner` | [`run`], [`Runner`] |
//! | `create_task`, `Task`, `current_task`, `all_tasks` | [`spawn`], [`Task`], [`current_task`], [`task_tree`] |
//! | `contextvars`, `create_task(context=)` | [`ContextVar`], [`Context`], [`copy_context`], [`spawn_in`] |
//! | `CancelledError` | [`Cancelled`], by [`Failure`] in any error type |
//! | `sleep`, `timeout`, `wait_for` | [`sleep`], [`Timeout`], [`timeout()`] |
//! | `gather`, `wait`, `as_completed`, `shield` | [`gather`], [`gather_all`], [`wait`], [`as_completed`], [`shield`] |
//! | `TaskGroup` | [`task_group`], [`TaskGroup`] |
//! | `Lock`, `Event`, `Condition`, `Semaphore`, `Barrier` | [`Lock`], [`Event`], [`Condition`], [`Semaphore`], [`Barrier`] |
//! | `Queue`, `PriorityQueue`, `LifoQueue` | [`Queue`], [`PriorityQueue`], [`LifoQueue`] |
//! | `to_thread`, `run_coroutine_threadsafe`, `call_soon_threadsafe` | [`to_thread`], [`Remote`] |
//! | sockets, `getaddrinfo` | [`net`] |
//! | `open_connection`, `start_server`, `StreamReader`, `StreamWriter` | [`open_connection`], [`start_server`], [`StreamReader`], [`StreamWriter`] |
//! | `create_subprocess_exec`, `create_subprocess_shell` | [`process`] |
//! | `add_signal_handler` | [`signal`] |
//! | generators, asynchronous generators | [`core`], re-exported |
//!
//! # Cancellation
//! [`Task::cancel`] asks a task to stop. The await of antiphon's own that it waits at fails with [`Cancelled`]; the task cleans up,
//! which may await, and passes the error on. Futures of others are told nothing; [`cancellable`] is where waiting for them
//! ends. A future is never dropped to cancel it.
//!
//! # Every core
//! A loop and its tasks stay on one thread. [`cores`] runs a loop on each of several, [`channel`] carries messages between them.
//!
//! # Tests
//! [`Runner::virtual_clock`] lets years pass in milliseconds, [`Runner::shuffled`] runs ready tasks in an order that a seed decides.
//!
//! # Looking inside
//! [`task_tree`] tells who waits for what, [`Runner::warn_after`] which step kept all others waiting.
//!
//! # Other crates
//! Sockets have the traits of `futures-io`, by which TLS and much else stands on them. Features, none of them on by itself:
//!
//! | feature | is |
//! |---|---|
//! | `hyper` | hyper's traits for connections, timers and executors |
//! | `tokio` | awaiting futures that need a runtime of tokio's |
//! | `tracing` | a span for each task, entered in its steps |

#![deny(unsafe_code)]

mod back_off;
mod cancel;
mod channel;
mod collect;
mod context;
mod cores;
mod error;
mod group;
#[cfg(feature = "hyper")]
pub mod hyper;
pub mod net;
pub mod process;
mod report;
mod runner;
mod runtime;
pub mod signal;
mod slow_step;
mod streams;
mod sync;
mod task;
mod threads;
mod time;
mod timeout;
#[cfg(feature = "tokio")]
pub mod tokio;
mod wait_node;
mod watched;

pub use antiphon_core as core;
pub use antiphon_core::TimeoutState;
/// Makes a `fn main` of an `async fn main`, run by [`run`].
///
/// ```
/// use std::time::Duration;
///
/// #[antiphon::main]
/// async fn main() -> Result<(), antiphon::Cancelled> {
///     antiphon::sleep(Duration::from_millis(1)).await
/// }
/// ```
pub use antiphon_macros::main;
pub use cancel::cancellable;
pub use channel::{Receiver, SendError, Sender, channel};
pub use collect::{AsCompleted, ReturnWhen, Waited, as_completed, gather, gather_all, shield, wait};
pub use context::{Context, ContextVar, Token, TokenError, copy_context};
pub use cores::{Core, CoreError, CoreErrorKind, Cores, CoresError, cores};
pub use error::{Cancelled, Failure, JoinError, NoLoop, Panic, RunError, WrongLoop};
pub use group::{ChildError, ChildErrorKind, ChildFailed, GroupClosed, GroupError, TaskGroup, task_group};
pub use runner::{Runner, run};
pub use slow_step::SlowStep;
pub use streams::{
    Lines, ReadError, Server, StreamReader, StreamWriter, TcpReader, TcpWriter, UnixReader, UnixWriter, copy,
    open_connection, open_unix_connection, start_server, start_unix_server,
};
pub use sync::{
    Barrier, BarrierError, Condition, Event, LifoQueue, Lock, LockGuard, Permit, PriorityQueue, Queue,
    QueueError, QueueOf, Semaphore, Storage, TryQueueError,
};
pub use task::{Task, TaskInfo, TaskRef, current_task, spawn, spawn_in, task_tree, try_spawn, try_spawn_in};
pub use threads::{Remote, RemoteError, to_thread};
pub use time::{Sleep, YieldNow, sleep, yield_now};
pub use timeout::{Timeout, TimeoutError, timeout};
