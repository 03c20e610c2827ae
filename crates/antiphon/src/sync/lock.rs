//! Mutual exclusion between tasks.

use super::{Place, wait_in, wake_all};
use crate::Cancelled;
use crate::wait_node::WaitNode;
use std::cell::RefCell;
use std::fmt;

/// A lock that tasks take in the order of arrival: `asyncio.Lock`.
///
/// ```
/// use antiphon::{Cancelled, Lock, gather, yield_now};
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// antiphon::run(async {
///     let shared = Rc::new((Lock::new(), Cell::new(0)));
///     gather((0..10).map(|_| {
///         let shared = Rc::clone(&shared);
///         async move {
///             let _guard = shared.0.acquire().await?;
///             let seen = shared.1.get();
///             yield_now().await?; // nobody comes between
///             shared.1.set(seen + 1);
///             Ok::<_, Cancelled>(())
///         }
///     }))
///     .await
///     .unwrap();
///     assert_eq!(shared.1.get(), 10);
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Default)]
pub struct Lock {
    machine: RefCell<antiphon_core::Lock<WaitNode>>,
}

/// The lock is held; released when dropped.
///
/// ```
/// use antiphon::Lock;
///
/// antiphon::run(async {
///     let lock = Lock::new();
///     let guard = lock.acquire().await.unwrap();
///     assert!(lock.try_acquire().is_none());
///     drop(guard);
///     assert!(lock.try_acquire().is_some());
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[must_use = "a lock is held as long as its guard"]
pub struct LockGuard<'a> {
    lock: &'a Lock,
}

impl Lock {
    /// A free lock.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the lock, waiting for it if need be.
    ///
    /// # Errors
    /// [`Cancelled`]; the lock is not held then.
    pub async fn acquire(&self) -> Result<LockGuard<'_>, Cancelled> {
        if let Some(guard) = self.try_acquire() {
            return Ok(guard);
        }
        wait_in(self).await?;
        Ok(LockGuard { lock: self })
    }

    /// Takes the lock if it is free and nobody's turn.
    pub fn try_acquire(&self) -> Option<LockGuard<'_>> {
        self.machine.borrow_mut().try_acquire().then(|| LockGuard { lock: self })
    }

    /// Whether somebody has it.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.machine.borrow().is_locked()
    }
}

impl Place for Lock {
    const WHAT: &'static str = "a lock";

    fn enter(&self, node: WaitNode) {
        self.machine.borrow_mut().wait(node);
    }

    fn resume(&self, node: &WaitNode) {
        let removed = self.machine.borrow_mut().resume(node);
        drop(removed);
    }

    fn abandon(&self, node: &WaitNode) {
        let left = self.machine.borrow_mut().abandon(node);
        wake_all(left.wake);
    }
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        let wake = self.lock.machine.borrow_mut().release();
        if let Ok(wake) = wake {
            wake_all(wake);
        }
    }
}

impl<'a> LockGuard<'a> {
    /// The lock that is held.
    pub(super) const fn lock(&self) -> &'a Lock {
        self.lock
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("locked", &self.is_locked()).finish_non_exhaustive()
    }
}

impl fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").finish_non_exhaustive()
    }
}
