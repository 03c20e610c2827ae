//! Generators written as async functions: Python's, with `send`, `throw`, `close`, delegation and returned values.
//!
//! The body is an ordinary async function or block. It is given a [`Yielder`], and awaits what that makes:
//!
//! ```
//! use antiphon_core::{Exception, Generator, Step, Yielder, generator};
//!
//! async fn countdown(y: Yielder<'_, u32>, from: u32) -> Result<&'static str, Exception> {
//!     for n in (1..=from).rev() {
//!         y.yield_(n).await?;
//!     }
//!     Ok("lift-off")
//! }
//!
//! generator!(let mut count = |y| countdown(y, 2)); // on the stack: allocates nothing
//! assert_eq!(count.next(), Step::Yielded(2));
//! assert_eq!(count.next(), Step::Yielded(1));
//! assert_eq!(count.next(), Step::Returned("lift-off"));
//! ```
//!
//! A `yield` is `Result<S, Exception<E>>`: the value that was sent, or the exception that was thrown. `?` lets an exception
//! pass, `match` catches it. Body and driver share a cell, the [`Exchange`]; the driver polls the body with a waker that
//! does nothing, so a body that awaits anything but its own yields raises [`ProtocolError::AwaitedForeign`](crate::ProtocolError::AwaitedForeign). Bodies that
//! have to await more are for [`AsyncGenerator`](crate::AsyncGenerator).
//!
//! # Delegation
//! - `helper(y).await?` calls an async function with the same yielder, as a function calls another.
//! - `y.yield_from(other).await?` is Python's `yield from`, with any [`Generator`](crate::Generator). A [`BoxedGenerator`] costs the same at
//!   every depth: the driver keeps the chain as a list, and resumes the innermost directly.
//!
//! # The end
//! A generator that is dropped while it waits at a `yield` is closed first (PEP 342), unless its thread is panicking. A body
//! that panicked is finished.
//!
//! Source: PEP 342, PEP 380, PEP 479; CPython Objects/genobject.c.

mod adapters;
mod boxed;
pub(crate) mod delegation;
pub(crate) mod driver;
pub(crate) mod exchange;
mod shared;
mod stack;

pub use adapters::{
    FutureGenerator, GeneratorFuture, IterGenerator, Values, from_future, from_iter, into_future, values,
};
pub use boxed::BoxedGenerator;
#[doc(hidden)]
pub use delegation::Delegation;
pub use exchange::{Exchange, Yield, Yielder};
pub use shared::SharedGenerator;
pub use stack::StackGenerator;
