//! A number of permits.

use super::{Place, wait_in, wake_all};
use crate::Cancelled;
use crate::wait_node::WaitNode;
use std::cell::RefCell;
use std::fmt;

/// Permits that tasks take in the order of arrival: `asyncio.Semaphore`.
///
/// ```
/// use antiphon::{Cancelled, Semaphore, gather, yield_now};
/// use std::rc::Rc;
///
/// antiphon::run(async {
///     let two = Rc::new(Semaphore::new(2));
///     gather((0..6).map(|_| {
///         let two = Rc::clone(&two);
///         async move {
///             let _permit = two.acquire().await?;
///             yield_now().await
///         }
///     }))
///     .await
///     .unwrap();
///     assert_eq!(two.permits(), 2);
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
pub struct Semaphore {
    machine: RefCell<antiphon_core::Semaphore<WaitNode>>,
}

/// A permit; given back when dropped.
///
/// ```
/// use antiphon::Semaphore;
///
/// antiphon::run(async {
///     let semaphore = Semaphore::new(2);
///     drop(semaphore.acquire().await.unwrap()); // given back
///     semaphore.acquire().await.unwrap().forget();
///     assert_eq!(semaphore.permits(), 1);
///     semaphore.release();
///     assert_eq!(semaphore.permits(), 2);
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[must_use = "a permit is held as long as this"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
}

impl Semaphore {
    /// With this many permits.
    #[must_use]
    pub fn new(permits: usize) -> Self {
        Self { machine: RefCell::new(antiphon_core::Semaphore::new(permits)) }
    }

    /// Takes a permit, waiting for it if need be.
    ///
    /// # Errors
    /// [`Cancelled`]; no permit is held then.
    pub async fn acquire(&self) -> Result<Permit<'_>, Cancelled> {
        if let Some(permit) = self.try_acquire() {
            return Ok(permit);
        }
        wait_in(self).await?;
        Ok(Permit { semaphore: self })
    }

    /// Takes a permit if there is one and nobody's turn.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.machine.borrow_mut().try_acquire().then(|| Permit { semaphore: self })
    }

    /// Adds a permit, or gives one back that was [forgotten](Permit::forget).
    pub fn release(&self) {
        let wake = self.machine.borrow_mut().release();
        if let Ok(wake) = wake {
            wake_all(wake);
        }
    }

    /// How many permits are free.
    #[must_use]
    pub fn permits(&self) -> usize {
        self.machine.borrow().permits()
    }
}

impl Permit<'_> {
    /// Keeps the permit for good, until somebody calls [`Semaphore::release`].
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.semaphore.release();
    }
}

impl Place for Semaphore {
    const WHAT: &'static str = "a semaphore";

    fn enter(&self, node: WaitNode) {
        self.machine.borrow_mut().wait(node);
    }

    fn resume(&self, node: &WaitNode) {
        let left = self.machine.borrow_mut().resume(node);
        wake_all(left.wake);
    }

    fn abandon(&self, node: &WaitNode) {
        let left = self.machine.borrow_mut().abandon(node);
        wake_all(left.wake);
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("permits", &self.permits()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}
