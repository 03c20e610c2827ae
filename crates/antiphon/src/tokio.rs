//! Futures of tokio's as guests on a loop, and loops as guests of tokio (feature `tokio`).
//!
//! tokio's sockets and timers need a runtime of tokio's that drives them, on threads of its own. [`on_tokio`] polls a future of
//! theirs by antiphon's task and enters that runtime for each poll, so that the future finds it:
//!
//! ```
//! use antiphon::tokio::on_tokio;
//! use std::time::Duration;
//!
//! let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
//! antiphon::run(async {
//!     // Made inside, where there is a runtime.
//!     on_tokio(runtime.handle(), async { tokio::time::sleep(Duration::from_millis(1)).await }).await
//! })??;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The other way round, a loop blocks its thread, so inside of tokio it belongs on a thread for what blocks:
//!
//! ```
//! # #[tokio::main(flavor = "multi_thread", worker_threads = 1)]
//! # async fn main() {
//! let answer = tokio::task::spawn_blocking(|| antiphon::run(async { 42 })).await.unwrap();
//! assert_eq!(answer.unwrap(), 42);
//! # }
//! ```
//!
//! Between the two, tokio's channels and antiphon's [`channel`](crate::channel) serve both sides.

use crate::Cancelled;
use crate::cancel::take_due;
use ::tokio::runtime::Handle;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// Awaits a future that needs a runtime of tokio's: enters `runtime` whenever it is polled, and when it is dropped.
///
/// The runtime has to be driven by other threads: a multi-thread one is, a current-thread one only inside its `block_on`.
///
/// ```
/// use antiphon::tokio::on_tokio;
///
/// let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
/// let sum = antiphon::run(async {
///     let guest = async { tokio::spawn(async { 20 + 22 }).await.unwrap() };
///     on_tokio(runtime.handle(), guest).await
/// })??;
/// assert_eq!(sum, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Cancelled`]; the future is dropped then, as with [`cancellable`](crate::cancellable).
pub async fn on_tokio<F: Future>(runtime: &Handle, future: F) -> Result<F::Output, Cancelled> {
    let mut guest = Guest { runtime: runtime.clone(), future: Some(Box::pin(future)) };
    poll_fn(|context| {
        let _entered = guest.runtime.enter();
        let Some(future) = guest.future.as_mut() else { return Poll::Ready(Err(Cancelled)) };
        match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending if take_due() => Poll::Ready(Err(Cancelled)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A future of tokio's, which is dropped inside its runtime, too.
struct Guest<F> {
    runtime: Handle,
    future: Option<Pin<Box<F>>>,
}

impl<F> Drop for Guest<F> {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
        self.future = None;
    }
}
