//! What tasks of one loop synchronise with: asyncio's primitives, by the machines of [`antiphon_core`].
//!
//! None of them is for threads: they are shared by `Rc`, and cost no atomic operation. Everybody has his turn in the order
//! of arrival, and a task that is cancelled after it was woken passes its turn on.

mod barrier;
mod condition;
mod event;
mod lock;
mod queue;
mod semaphore;

pub use barrier::{Barrier, BarrierError};
pub use condition::Condition;
pub use event::Event;
pub use lock::{Lock, LockGuard};
pub use queue::{LifoQueue, PriorityQueue, Queue, QueueError, QueueOf, Storage, TryQueueError};
pub use semaphore::{Permit, Semaphore};

use crate::Cancelled;
use crate::wait_node::{WaitNode, set_waiting};
use std::future::poll_fn;
use std::task::Poll;

/// A list that one can wait in.
trait Place {
    /// What a task that waits here is said to wait for.
    const WHAT: &'static str;
    /// Queues up.
    fn enter(&self, node: WaitNode);
    /// It was woken, and runs.
    fn resume(&self, node: &WaitNode);
    /// It gives up, woken or not.
    fn abandon(&self, node: &WaitNode);
}

/// One who waits in a place, and gives up when dropped.
struct Waiting<'a, P: Place> {
    place: &'a P,
    node: Option<WaitNode>,
}

impl<P: Place> Drop for Waiting<'_, P> {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            node.cancel();
            self.place.abandon(&node);
        }
    }
}

/// Waits in `place` until woken.
async fn wait_in<P: Place>(place: &P) -> Result<(), Cancelled> {
    let mut waiting = Waiting { place, node: None };
    poll_fn(|context| {
        if crate::cancel::take_due() {
            return Poll::Ready(Err(Cancelled)); // the drop gives up
        }
        match &waiting.node {
            Some(node) if node.is_woken() => {
                place.resume(node);
                waiting.node = None;
                return Poll::Ready(Ok(()));
            }
            Some(node) => node.renew(context.waker()),
            None => {
                let node = WaitNode::new(context.waker());
                place.enter(node.clone());
                waiting.node = Some(node);
            }
        }
        set_waiting(P::WHAT);
        Poll::Pending
    })
    .await
}

/// Wakes everybody who is named, outside of any machine.
fn wake_all(wake: antiphon_core::Wake<WaitNode>) {
    wake.into_iter().for_each(|node| node.wake());
}
