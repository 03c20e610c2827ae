//! The rules of asyncio as state machines: what happens when, without I/O, threads, clocks or Python.
//!
//! The rules are written once, here; the Python door and the Rust door translate them. A machine is generic over who
//! waits, stores and gives back what it is handed, and calls nobody: its methods say what the caller has to do (wake this
//! one, drop those), so that no foreign code runs while a machine is borrowed.
//!
//! | module | is |
//! |---|---|
//! | [`protocol`] | what goes into a coroutine and what comes out |
//! | [`generator`](mod@generator) | generators written as async functions |
//! | [`async_generator`] | generators that await |
//! | [`as_completed`] | children in the order of their ends |
//! | [`ended`] | how a child ended |
//! | [`gather`] | many children, one outcome |
//! | [`group`] | tasks that end together |
//! | [`shield`] | cancellation that stops at an outer future |
//! | [`timeout`] | a deadline around a block, and whose cancellation it was |
//! | [`wait`] | until the first, the first exception, or all |
//! | [`waiters`] | who waits, in the order of arrival |
//! | [`lock`], [`semaphore`] | exclusion and permits, with turns |
//! | [`event`], [`condition`], [`barrier`] | waiting for a flag, for news, for each other |
//! | [`queue`] | between producers and consumers |
//! | [`future`] | pending, finished, cancelled; seen or not |
//! | [`stream_buffer`] | what has arrived on a stream and was not read yet |
//! | [`task`] | how often a task's cancellation was asked for, and whether it is still due |

#![forbid(unsafe_code)]

pub mod async_generator;
pub mod future;
pub mod generator;
pub mod protocol;
pub mod stream_buffer;

pub mod as_completed;
pub mod ended;
pub mod gather;
pub mod group;
pub mod shield;
pub mod timeout;
pub mod wait;

pub use as_completed::{Arrival, AsCompleted};
#[cfg(feature = "futures-core")]
pub use async_generator::from_stream;
pub use async_generator::{AsyncGenerator, AsyncStep};
pub use ended::Ended;
pub use gather::{Gather, GatherStep};
pub use generator::{
    BoxedGenerator, Exchange, FutureGenerator, GeneratorFuture, IterGenerator, SharedGenerator,
    StackGenerator, Values, Yield, Yielder, from_future, from_iter, into_future, values,
};
pub use group::Group;
pub use protocol::{Exception, Generator, ProtocolError, Resume, Sent, Step, StepOf};
pub use shield::{ShieldStep, shield_step};
pub use timeout::{NotAllowed, Timeout, TimeoutExit, TimeoutState};
pub use wait::{ReturnWhen, Wait};

pub mod barrier;
pub mod condition;
pub mod event;
pub mod lock;
pub mod queue;
pub mod semaphore;
pub mod waiters;

pub use barrier::{Barrier, BarrierArrival, BarrierOutcome, BarrierState};
pub use condition::Condition;
pub use event::Event;
pub use lock::{Lock, NotLocked};
pub use queue::{NothingUnfinished, Queue, Turn};
pub use semaphore::{Semaphore, TooManyReleases};
pub use waiters::{Few, Left, Waiter, Waiters, Wake};
pub mod task;
