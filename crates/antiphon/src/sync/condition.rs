//! News about what a lock protects.

use super::{Lock, LockGuard, Place, wait_in, wake_all};
use crate::Cancelled;
use crate::wait_node::WaitNode;
use std::cell::RefCell;
use std::fmt;

/// A place to wait for news about what a [`Lock`] protects: `asyncio.Condition`.
///
/// ```
/// use antiphon::{Cancelled, Condition, Lock, spawn};
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// #[derive(Default)]
/// struct Shared { lock: Lock, changed: Condition, value: Cell<u32> }
///
/// antiphon::run(async {
///     let shared = Rc::new(Shared::default());
///     let seen = Rc::clone(&shared);
///     let waiter = spawn(async move {
///         let mut guard = seen.lock.acquire().await?;
///         while seen.value.get() == 0 {
///             guard = seen.changed.wait(guard).await?;
///         }
///         Ok::<_, Cancelled>(seen.value.get())
///     });
///     antiphon::yield_now().await.unwrap();
///     {
///         let guard = shared.lock.acquire().await.unwrap();
///         shared.value.set(7);
///         shared.changed.notify(&guard, 1);
///     }
///     assert_eq!(waiter.await.unwrap(), 7);
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Default)]
pub struct Condition {
    machine: RefCell<antiphon_core::Condition<WaitNode>>,
}

impl Condition {
    /// With nobody waiting.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Releases the lock, waits for news, and takes the lock again.
    ///
    /// A wait may end without news: look again at what you waited for.
    ///
    /// # Errors
    /// [`Cancelled`], after the lock was taken and released again, as everywhere where a lock protects the clean-up. A
    /// notification that came at the same time goes to another one.
    pub async fn wait<'a>(&self, guard: LockGuard<'a>) -> Result<LockGuard<'a>, Cancelled> {
        let lock: &'a Lock = guard.lock();
        // Queued up before the lock is free, or a notification could come between.
        let mut first = Some(guard);
        let waited = {
            let mut waiting = std::pin::pin!(wait_in(self));
            std::future::poll_fn(|context| {
                let poll = waiting.as_mut().poll(context);
                drop(first.take());
                poll
            })
            .await
        };
        let mut cancelled = waited.is_err();
        let guard = loop {
            match lock.acquire().await {
                Ok(guard) => break guard,
                Err(Cancelled) => cancelled = true, // the lock is taken again whatever comes
            }
        };
        if cancelled {
            let wake = self.machine.borrow_mut().pass_on();
            wake_all(wake);
            return Err(Cancelled);
        }
        Ok(guard)
    }

    /// Wakes the first `most` tasks that wait; they run when the lock, whose guard is shown here, is free.
    pub fn notify(&self, _guard: &LockGuard<'_>, most: usize) {
        let wake = self.machine.borrow_mut().notify(most);
        wake_all(wake);
    }

    /// Wakes everybody who waits.
    pub fn notify_all(&self, guard: &LockGuard<'_>) {
        self.notify(guard, usize::MAX);
    }
}

impl Place for Condition {
    const WHAT: &'static str = "a condition";

    fn enter(&self, node: WaitNode) {
        self.machine.borrow_mut().wait(node);
    }

    fn resume(&self, node: &WaitNode) {
        let removed = self.machine.borrow_mut().leave(node);
        drop(removed);
    }

    fn abandon(&self, node: &WaitNode) {
        self.resume(node);
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").finish_non_exhaustive()
    }
}
