//! The inbox: how other threads hand work to a loop, and wake it when it sleeps.
//!
//! Waking costs a system call on each side, so it happens once per sleep and never while the loop is awake. A state
//! byte tells which:
//!
//! ```text
//!             prepare_sleep                   push, wake: notify
//!   Awake ───────────────────▶ Sleeping ──────────────────────────▶ Notified
//!     ▲ │                         │                                   │  ▲
//!     │ └──── wake: no notify ────┼───────────────────────────────────┼──┘
//!     └────────── awake ──────────┴────────── awake, prepare_sleep ───┘
//! ```
//!
//! Invariant I1: after a `push` or `wake` has returned, the loop does not begin a sleep without having seen it, and a
//! sleep already begun has been notified.
//! Why it holds for `push`: queue and announcement change under one lock. A loop that takes it second finds the item
//! and announces nothing; a pusher that takes it second finds the announcement and notifies.
//! Why it holds for `wake`: there is no queue, only the state; each side changes it in one atomic step, and whichever is
//! second sees the other's.
//! Invariant I2: only the transition from `Sleeping` to `Notified` notifies, and only a loop that really goes to sleep is
//! ever `Sleeping`. So there is at most one notification for each sleep.
//!
//! `tests/loom_inbox.rs` tries every interleaving. Source: trio's entry queue for the reasoning about lost wake-ups.

use crate::ReadyQueue;
use crate::sync::{AtomicBool, AtomicU8, Mutex, MutexGuard, Ordering};
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

/// Interrupts a sleeping driver.
pub trait Notify {
    /// Ends the driver's present wait, or the next one if none is under way. Callable from any thread.
    fn notify(&self);
}

impl<N: Notify + ?Sized> Notify for Arc<N> {
    fn notify(&self) {
        (**self).notify();
    }
}

/// The loop runs, and looks into the inbox before it sleeps.
const AWAKE: u8 = 0;
/// The loop sleeps or is about to; somebody has to notify.
const SLEEPING: u8 = 1;
/// The sleep has been or will be cut short; nothing left to do for anybody else.
const NOTIFIED: u8 = 2;

/// Work from other threads on its way to a [`ReadyQueue`].
///
/// ```
/// use antiphon_engine::{Inbox, Notify, ReadyQueue};
/// use std::sync::Arc;
///
/// struct Silent;
/// impl Notify for Silent {
///     fn notify(&self) {}
/// }
///
/// let inbox = Arc::new(Inbox::new(Box::new(Silent)));
/// let sender = Arc::clone(&inbox);
/// std::thread::spawn(move || sender.push(42)).join().unwrap();
///
/// let mut ready = ReadyQueue::new();
/// assert_eq!(inbox.drain_into(&mut ready), 1);
/// assert_eq!(ready.pop(), Some(42));
/// ```
pub struct Inbox<W> {
    queue: Mutex<Queue<W>>,
    /// Whether the queue holds something; written under the lock, read without it.
    filled: AtomicBool,
    state: AtomicU8,
}

struct Queue<W> {
    items: VecDeque<W>,
    /// `None` once the inbox is closed.
    notify: Option<Arc<dyn Notify + Send + Sync>>,
}

impl<W> Inbox<W> {
    /// An empty inbox of a loop that is awake. `notify` ends the waits of that loop's driver.
    #[must_use]
    pub fn new(notify: Box<dyn Notify + Send + Sync>) -> Self {
        Self {
            queue: Mutex::new(Queue { items: VecDeque::new(), notify: Some(Arc::from(notify)) }),
            filled: AtomicBool::new(false),
            state: AtomicU8::new(AWAKE),
        }
    }

    /// Appends `work` and wakes the loop if it sleeps. Callable from any thread.
    ///
    /// Returns `work` if the inbox is [closed](Self::close), for the caller to drop.
    pub fn push(&self, work: W) -> Option<W> {
        let mut queue = self.lock();
        if queue.notify.is_none() {
            return Some(work);
        }
        queue.items.push_back(work);
        if queue.items.len() == 1 {
            self.filled.store(true, Ordering::Release);
        }
        if self.state.load(Ordering::Relaxed) == SLEEPING {
            self.notify_sleeper(queue);
        }
        None
    }

    /// Ends the loop's present sleep, or keeps it from the next one if it is awake. Callable from any thread.
    pub fn wake(&self) {
        if self.state.swap(NOTIFIED, Ordering::AcqRel) == SLEEPING {
            notify(self.lock());
        }
    }

    /// Announces a sleep; called by the loop right before a wait that may last.
    ///
    /// Returns false if something has come in: the loop must not sleep, and is still awake. After true it must call
    /// [`awake`](Self::awake) once the wait is over.
    #[must_use]
    pub fn prepare_sleep(&self) -> bool {
        let queue = self.lock(); // held to the end: invariant I1
        let announced = queue.items.is_empty()
            && self.state.compare_exchange(AWAKE, SLEEPING, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if !announced {
            self.awake(); // forgets a `wake`, which has had its effect now
        }
        announced
    }

    /// Announces that the loop runs again.
    pub fn awake(&self) {
        // A swap and not a store: what a waker wrote before its `wake` is to be seen after it.
        self.state.swap(AWAKE, Ordering::AcqRel);
    }

    /// Moves everything to the end of `ready`, in the order it came in; returns how many items that were.
    pub fn drain_into(&self, ready: &mut ReadyQueue<W>) -> usize {
        if self.is_empty_hint() {
            return 0;
        }
        let mut queue = self.lock();
        let count = queue.items.len();
        ready.append(&mut queue.items);
        self.filled.store(false, Ordering::Release);
        count
    }

    /// Refuses all work from now on, and lets go of the notifier and its descriptor. What is in the inbox stays there to be
    /// drained.
    pub fn close(&self) {
        let notify = self.lock().notify.take();
        drop(notify); // outside of the lock: it may be the last owner of a descriptor
    }

    /// Whether the inbox was empty a moment ago: one load, for every turn of the loop.
    #[inline]
    #[must_use]
    pub fn is_empty_hint(&self) -> bool {
        !self.filled.load(Ordering::Acquire)
    }

    /// Notifies, unless somebody else has done so for this sleep.
    #[cold]
    fn notify_sleeper(&self, queue: MutexGuard<'_, Queue<W>>) {
        let first =
            self.state.compare_exchange(SLEEPING, NOTIFIED, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if first {
            notify(queue);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<W>> {
        // Nothing in here panics halfway through a change, so a poisoned queue is a sound one.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notifies outside of the lock, since it is a system call; a closed inbox has nobody to notify.
fn notify<W>(queue: MutexGuard<'_, Queue<W>>) {
    let notify = queue.notify.clone();
    drop(queue);
    if let Some(notify) = notify {
        notify.notify();
    }
}

impl<W> std::fmt::Debug for Inbox<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("filled", &!self.is_empty_hint()).finish_non_exhaustive()
    }
}
