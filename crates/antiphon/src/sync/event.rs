//! A flag to wait for.

use super::{Place, wait_in, wake_all};
use crate::Cancelled;
use crate::wait_node::WaitNode;
use std::cell::RefCell;
use std::fmt;

/// A flag that tasks wait for: `asyncio.Event`.
///
/// ```
/// use antiphon::{Cancelled, Event, spawn};
/// use std::rc::Rc;
///
/// antiphon::run(async {
///     let started = Rc::new(Event::new());
///     let seen = Rc::clone(&started);
///     let waiter = spawn(async move { seen.wait().await });
///     started.set();
///     waiter.await.unwrap();
///     assert!(started.is_set());
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Default)]
pub struct Event {
    machine: RefCell<antiphon_core::Event<WaitNode>>,
}

impl Event {
    /// An event that is not set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets it and wakes everybody who waits, also if it is cleared before they run.
    pub fn set(&self) {
        let wake = self.machine.borrow_mut().set();
        wake_all(wake);
    }

    /// Takes it back.
    pub fn clear(&self) {
        self.machine.borrow_mut().clear();
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.machine.borrow().is_set()
    }

    /// Waits until it is set.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub async fn wait(&self) -> Result<(), Cancelled> {
        if self.is_set() { Ok(()) } else { wait_in(self).await }
    }
}

impl Place for Event {
    const WHAT: &'static str = "an event";

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

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("set", &self.is_set()).finish_non_exhaustive()
    }
}
