//! A point that a number of tasks reach before any of them goes on.

use super::{Place, wait_in, wake_all};
use crate::wait_node::WaitNode;
use crate::{Cancelled, Failure};
use antiphon_core::{BarrierArrival, BarrierOutcome, BarrierState};
use std::cell::RefCell;
use std::error::Error;
use std::fmt;

/// A barrier for a number of tasks: `asyncio.Barrier`.
///
/// ```
/// use antiphon::{Barrier, gather};
/// use std::rc::Rc;
///
/// antiphon::run(async {
///     let barrier = Rc::new(Barrier::new(3));
///     let numbers = gather((0..3).map(|_| {
///         let barrier = Rc::clone(&barrier);
///         async move { barrier.wait().await }
///     }));
///     assert_eq!(numbers.await.unwrap(), [0, 1, 2]);
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
pub struct Barrier {
    machine: RefCell<antiphon_core::Barrier<WaitNode>>,
}

/// What waiting at a barrier fails with.
///
/// ```
/// use antiphon::{Barrier, BarrierError, spawn, yield_now};
/// use std::rc::Rc;
///
/// antiphon::run(async {
///     let barrier = Rc::new(Barrier::new(2));
///     let party = Rc::clone(&barrier);
///     let waiting = spawn(async move { party.wait().await.map(drop) });
///     yield_now().await.unwrap();
///     barrier.abort();
///     assert_eq!(waiting.await.unwrap_err().failed(), Some(BarrierError::Broken));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum BarrierError {
    /// The barrier was aborted, or reset while others waited.
    Broken,
    /// The task was cancelled; the others go on waiting.
    Cancelled,
}

impl Failure for BarrierError {
    fn is_cancelled(&self) -> bool {
        *self == Self::Cancelled
    }
}

impl From<Cancelled> for BarrierError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl fmt::Display for BarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken => f.write_str("the barrier was aborted or reset"),
            Self::Cancelled => Cancelled.fmt(f),
        }
    }
}

impl Error for BarrierError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Broken => None,
            Self::Cancelled => Some(&Cancelled),
        }
    }
}

/// A party that was counted; leaves when dropped.
struct Counted<'a>(&'a Barrier);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let wake = self.0.machine.borrow_mut().leave();
        wake_all(wake);
    }
}

impl Barrier {
    /// For this many parties; zero counts as one.
    #[must_use]
    pub fn new(parties: usize) -> Self {
        Self { machine: RefCell::new(antiphon_core::Barrier::new(parties.max(1))) }
    }

    /// Waits for the others. Comes back with a number, from zero on, that is this party's alone.
    ///
    /// # Errors
    /// [`BarrierError`].
    pub async fn wait(&self) -> Result<usize, BarrierError> {
        loop {
            let arrival = self.machine.borrow_mut().arrive();
            match arrival {
                BarrierArrival::Broken => return Err(BarrierError::Broken),
                BarrierArrival::HeldUp => wait_in(self).await?,
                BarrierArrival::Trips(number, wake) => {
                    let _counted = Counted(self);
                    wake_all(wake);
                    return Ok(number);
                }
                BarrierArrival::Waits(number) => {
                    let _counted = Counted(self);
                    loop {
                        wait_in(self).await?;
                        let outcome = self.machine.borrow().outcome();
                        match outcome {
                            BarrierOutcome::Waits => {}
                            BarrierOutcome::Passed => return Ok(number),
                            BarrierOutcome::Broken => return Err(BarrierError::Broken),
                        }
                    }
                }
            }
        }
    }

    /// Sends everybody away who waits, with an error, and makes a broken barrier whole.
    pub fn reset(&self) {
        let wake = self.machine.borrow_mut().reset();
        wake_all(wake);
    }

    /// Breaks it: everybody who waits or comes gets an error, until it is reset.
    pub fn abort(&self) {
        let wake = self.machine.borrow_mut().abort();
        wake_all(wake);
    }

    /// How many parties it is for.
    #[must_use]
    pub fn parties(&self) -> usize {
        self.machine.borrow().parties()
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.machine.borrow().waiting()
    }

    /// Whether it was aborted.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.machine.borrow().state() == BarrierState::Broken
    }
}

impl Place for Barrier {
    const WHAT: &'static str = "a barrier";

    fn enter(&self, node: WaitNode) {
        self.machine.borrow_mut().wait(node);
    }

    fn resume(&self, node: &WaitNode) {
        let removed = self.machine.borrow_mut().resume(node);
        drop(removed);
    }

    fn abandon(&self, node: &WaitNode) {
        self.resume(node);
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").field("state", &self.machine.borrow().state()).finish_non_exhaustive()
    }
}
