//! Rust futures as Python coroutines, and Python awaitables as Rust futures: for extension modules written with PyO3.
//!
//! ```text
//! use antiphon_pyo3::{Coroutine, awaited, coroutine, sleep};
//!
//! /// Calls an async function twice, a second apart, and adds up what it returns.
//! #[pyfunction]
//! fn twice<'py>(py: Python<'py>, function: Py<PyAny>) -> PyResult<Bound<'py, Coroutine>> {
//!     coroutine(py, "twice", async move {
//!         let first: i64 = awaited(|py| function.bind(py).call0()).await?;
//!         sleep(Duration::from_secs(1)).await?;
//!         let second: i64 = awaited(|py| function.bind(py).call0()).await?;
//!         Ok(first + second)
//!     })
//! }
//! ```
//!
//! The program of `example/` does all of this, and `tests/test_rust_futures.py` runs it.
//!
//! # One loop
//! There is no runtime here. A future is polled by the step of the Python task that awaits its coroutine, on that task's thread; what
//! a Python awaitable yields goes to that task as if Python had awaited it. A future that waits for something else is woken by
//! the loop: `set_result` from the loop's thread, `call_soon_threadsafe` from others. It works on antiphon's loop and on any other
//! of asyncio's kind.
//!
//! # Timers and descriptors
//! [`sleep`] waits on the loop's clock, and an [`AsyncFd`] for what the loop's own poller tells of a socket or a pipe: there is no second
//! reactor, and no other thread.
//!
//! # One cancellation
//! An exception that the task throws is thrown into the Python awaitable that the future waits for. If it waits for none,
//! [`cancellable`] is where it arrives; without one, the future is dropped and the exception goes on to whoever awaits the coroutine.
//! Code that gets the exception may clean up, which may await, and passes it on with `?`.
//!
//! # One context
//! A poll runs inside of its task's step, so `contextvars` are the task's: what Rust sets Python sees, and the other way round.
//!
//! # Threads
//! Futures are `Send`, for a coroutine may be stepped by one thread after another. Nothing here holds a lock while Python runs. A wake from
//! another thread attaches to the interpreter: whoever waits for that thread must be detached.

#![forbid(unsafe_code)]

mod awaited;
mod cancel;
mod coroutine;
mod descriptor;
mod step;
mod wake;

pub use awaited::{Awaited, awaited, sleep};
pub use cancel::{Cancellable, cancellable};
pub use coroutine::{Coroutine, coroutine, create_task};
pub use descriptor::{AsyncFd, Direction};
