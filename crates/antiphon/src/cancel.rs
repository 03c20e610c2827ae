//! Where cancellation arrives.

use crate::Cancelled;
use crate::runtime::Loop;
use crate::task::Waiting;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

/// Whether the running task has to be interrupted here and now; it is asked once for each interruption.
#[inline]
pub(crate) fn take_due() -> bool {
    Loop::with_current(crate::task::Header::take_due).unwrap_or(false)
}

/// As [`take_due`]; if not, notes what the running task waits for.
#[inline]
pub(crate) fn take_due_or_wait_for(what: &'static str) -> bool {
    let take = |header: &crate::task::Header| {
        let due = header.take_due();
        if !due {
            header.waiting.set(Waiting::For(what));
        }
        due
    };
    Loop::with_current(take).unwrap_or(false)
}

/// Whether the running task has to be interrupted, without doing so.
pub(crate) fn is_due() -> bool {
    Loop::with_current(|header| header.cancellation.get().is_due()).unwrap_or(false)
}

/// Awaits a future that is not antiphon's, and stops waiting when the task is cancelled: the future is dropped then.
///
/// ```
/// use antiphon::{JoinError, cancellable, spawn, yield_now};
///
/// antiphon::run(async {
///     let stuck = spawn(async { cancellable(std::future::pending::<()>()).await });
///     yield_now().await.unwrap();
///     stuck.cancel();
///     assert!(matches!(stuck.await, Err(JoinError::Cancelled)));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
///
/// # Errors
/// [`Cancelled`]. A value that is there is not lost: the next await fails then.
pub async fn cancellable<F: Future>(future: F) -> Result<F::Output, Cancelled> {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Ok(value)),
        Poll::Pending if take_due() => Poll::Ready(Err(Cancelled)),
        Poll::Pending => Poll::Pending,
    })
    .await
}
