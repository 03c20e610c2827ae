//! Queues between producers and consumers.

use super::{Event, Place, wait_in};
use crate::wait_node::WaitNode;
use crate::{Cancelled, Failure};
use antiphon_core::{Left, Turn};
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;

/// Where a queue keeps its items, and in which order they come out.
pub trait Storage<T>: Default {
    /// Puts an item in.
    fn put(&mut self, item: T);
    /// Takes the next one out.
    fn get(&mut self) -> Option<T>;
    /// How many there are.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Storage<T> for VecDeque<T> {
    fn put(&mut self, item: T) {
        self.push_back(item);
    }
    fn get(&mut self) -> Option<T> {
        self.pop_front()
    }
    fn len(&self) -> usize {
        Self::len(self)
    }
}

impl<T> Storage<T> for Vec<T> {
    fn put(&mut self, item: T) {
        self.push(item);
    }
    fn get(&mut self) -> Option<T> {
        self.pop()
    }
    fn len(&self) -> usize {
        Self::len(self)
    }
}

impl<T: Ord> Storage<T> for BinaryHeap<Reverse<T>> {
    fn put(&mut self, item: T) {
        self.push(Reverse(item));
    }
    fn get(&mut self) -> Option<T> {
        self.pop().map(|Reverse(item)| item)
    }
    fn len(&self) -> usize {
        Self::len(self)
    }
}

/// A queue between tasks, whose storage `S` says in which order items come out; see [`Queue`].
///
/// ```
/// use antiphon::{LifoQueue, PriorityQueue, Queue, QueueError, TryQueueError};
///
/// antiphon::run(async {
///     let queue = Queue::bounded(2);
///     queue.put(1).await?;
///     queue.try_put(2).unwrap();
///     assert_eq!(queue.try_put(3), Err((3, TryQueueError::NotNow)));
///     assert!(queue.is_full() && queue.len() == 2);
///     assert_eq!((queue.get().await?, queue.try_get()), (1, Ok(2)));
///     queue.task_done();
///     queue.task_done();
///     queue.join().await.unwrap(); // nothing is unfinished
///     queue.shutdown();
///     assert_eq!(queue.get().await, Err(QueueError::ShutDown));
///
///     let (first, last) = (PriorityQueue::new(), LifoQueue::new());
///     for n in [2, 3, 1] {
///         first.put(n).await?;
///         last.put(n).await?;
///     }
///     assert_eq!((first.get().await?, last.get().await?), (1, 1));
///     first.shutdown_now(); // what is left is dropped
///     assert!(first.is_empty());
///     Ok::<_, QueueError>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct QueueOf<T, S: Storage<T>> {
    items: RefCell<S>,
    machine: RefCell<antiphon_core::Queue<WaitNode>>,
    /// Set while nothing is unfinished.
    finished: Event,
    bound: usize,
    item: PhantomData<T>,
}

/// A queue between tasks, first in, first out: `asyncio.Queue`.
///
/// ```
/// use antiphon::{Queue, QueueError, spawn};
/// use std::rc::Rc;
///
/// antiphon::run(async {
///     let queue = Rc::new(Queue::bounded(2)); // a third put waits
///     let producer = Rc::clone(&queue);
///     let task = spawn(async move {
///         for n in 0..5 {
///             producer.put(n).await?;
///         }
///         producer.shutdown();
///         Ok::<_, QueueError>(())
///     });
///     let mut sum = 0;
///     while let Ok(n) = queue.get().await {
///         sum += n;
///     }
///     assert_eq!(sum, 10);
///     task.await.unwrap();
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
pub type Queue<T> = QueueOf<T, VecDeque<T>>;
/// A queue whose smallest item comes out first: `asyncio.PriorityQueue`.
pub type PriorityQueue<T> = QueueOf<T, BinaryHeap<Reverse<T>>>;
/// A queue whose last item comes out first: `asyncio.LifoQueue`.
pub type LifoQueue<T> = QueueOf<T, Vec<T>>;

/// What a queue's waits fail with.
///
/// ```
/// use antiphon::{Queue, QueueError};
///
/// antiphon::run(async {
///     let queue = Queue::<u32>::new();
///     queue.shutdown();
///     assert_eq!(queue.get().await, Err(QueueError::ShutDown));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum QueueError {
    /// The queue was shut down; and when getting, nothing is left in it.
    ShutDown,
    /// The task was cancelled.
    Cancelled,
}

impl Failure for QueueError {
    fn is_cancelled(&self) -> bool {
        *self == Self::Cancelled
    }
}

impl From<Cancelled> for QueueError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShutDown => f.write_str("the queue was shut down"),
            Self::Cancelled => Cancelled.fmt(f),
        }
    }
}

impl Error for QueueError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::ShutDown => None,
            Self::Cancelled => Some(&Cancelled),
        }
    }
}

/// Why something cannot be put or got without waiting.
///
/// ```
/// use antiphon::{Queue, TryQueueError};
///
/// antiphon::run(async {
///     let queue = Queue::<u32>::new();
///     assert_eq!(queue.try_get(), Err(TryQueueError::NotNow));
///     queue.shutdown();
///     assert_eq!(queue.try_get(), Err(TryQueueError::ShutDown));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum TryQueueError {
    /// There is no room, or nothing to get.
    NotNow,
    /// The queue was shut down.
    ShutDown,
}

impl fmt::Display for TryQueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotNow => "the queue is full or empty",
            Self::ShutDown => "the queue was shut down",
        })
    }
}

impl Error for TryQueueError {}

impl<T, S: Storage<T>> QueueOf<T, S> {
    /// A queue without limit.
    #[must_use]
    pub fn new() -> Self {
        Self::bounded(usize::MAX)
    }

    /// A queue that holds at most `bound` items; zero is no limit.
    #[must_use]
    pub fn bounded(bound: usize) -> Self {
        let finished = Event::new();
        finished.set();
        Self {
            items: RefCell::default(),
            machine: RefCell::default(),
            finished,
            bound: if bound == 0 { usize::MAX } else { bound },
            item: PhantomData,
        }
    }

    /// Puts an item in, waiting for room if need be.
    ///
    /// # Errors
    /// [`QueueError`]; the item is dropped.
    pub async fn put(&self, item: T) -> Result<(), QueueError> {
        let mut item = item;
        loop {
            match self.try_put(item) {
                Ok(()) => return Ok(()),
                Err((_, TryQueueError::ShutDown)) => return Err(QueueError::ShutDown),
                Err((back, TryQueueError::NotNow)) => item = back,
            }
            wait_in(&Putters(self)).await?;
        }
    }

    /// Puts an item in if there is room.
    ///
    /// # Errors
    /// The item and the reason.
    pub fn try_put(&self, item: T) -> Result<(), (T, TryQueueError)> {
        let turn = self.machine.borrow().may_put(self.is_full());
        match turn {
            Turn::Never => Err((item, TryQueueError::ShutDown)),
            Turn::Later => Err((item, TryQueueError::NotNow)),
            Turn::Now => {
                self.items.borrow_mut().put(item);
                self.finished.clear();
                let left = self.machine.borrow_mut().added();
                wake(left);
                Ok(())
            }
        }
    }

    /// Takes the next item out, waiting for one if need be.
    ///
    /// # Errors
    /// [`QueueError`]; what is left after a shut-down is still handed out.
    ///
    /// # Cancellation
    /// No item is lost.
    pub async fn get(&self) -> Result<T, QueueError> {
        loop {
            match self.try_get() {
                Ok(item) => return Ok(item),
                Err(TryQueueError::ShutDown) => return Err(QueueError::ShutDown),
                Err(TryQueueError::NotNow) => wait_in(&Getters(self)).await?,
            }
        }
    }

    /// Takes the next item out if there is one.
    ///
    /// # Errors
    /// The reason.
    pub fn try_get(&self) -> Result<T, TryQueueError> {
        let turn = self.machine.borrow().may_get(self.is_empty());
        match turn {
            Turn::Never => Err(TryQueueError::ShutDown),
            Turn::Later => Err(TryQueueError::NotNow),
            Turn::Now => {
                let item = self.items.borrow_mut().get();
                let left = self.machine.borrow_mut().removed();
                wake(left);
                item.ok_or(TryQueueError::NotNow)
            }
        }
    }

    /// Says that an item that was got is done with. Returns false if that was said of every item already.
    pub fn task_done(&self) -> bool {
        let last = self.machine.borrow_mut().task_done();
        if last == Ok(true) {
            self.finished.set();
        }
        last.is_ok()
    }

    /// Waits until every item that was put is done with.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub async fn join(&self) -> Result<(), Cancelled> {
        self.finished.wait().await
    }

    /// Lets nobody put any more; what is in the queue may still be got.
    pub fn shutdown(&self) {
        let everybody: Vec<_> = {
            let mut machine = self.machine.borrow_mut();
            machine.shut_down();
            machine.everybody().collect()
        };
        everybody.iter().for_each(WaitNode::wake);
    }

    /// As [`shutdown`](Self::shutdown), and throws away what is in the queue.
    pub fn shutdown_now(&self) {
        loop {
            let item = self.items.borrow_mut().get();
            if item.is_none() {
                break;
            }
            if self.machine.borrow_mut().discarded() {
                self.finished.set();
            }
        }
        self.shutdown();
    }

    /// How many items are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.borrow().len()
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.borrow().is_empty()
    }

    /// Whether a put would wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() >= self.bound
    }
}

impl<T, S: Storage<T>> Default for QueueOf<T, S> {
    fn default() -> Self {
        Self::new()
    }
}

fn wake(left: Left<WaitNode>) {
    super::wake_all(left.wake);
}

/// Those who wait for an item.
struct Getters<'a, T, S: Storage<T>>(&'a QueueOf<T, S>);

/// Those who wait for room.
struct Putters<'a, T, S: Storage<T>>(&'a QueueOf<T, S>);

impl<T, S: Storage<T>> Place for Getters<'_, T, S> {
    const WHAT: &'static str = "an item of a queue";

    fn enter(&self, node: WaitNode) {
        self.0.machine.borrow_mut().wait_to_get(node);
    }

    fn resume(&self, _: &WaitNode) {} // who is woken is off the list

    fn abandon(&self, node: &WaitNode) {
        let left = self.0.machine.borrow_mut().abandon_get(node, self.0.is_empty());
        wake(left);
    }
}

impl<T, S: Storage<T>> Place for Putters<'_, T, S> {
    const WHAT: &'static str = "room in a queue";

    fn enter(&self, node: WaitNode) {
        self.0.machine.borrow_mut().wait_to_put(node);
    }

    fn resume(&self, _: &WaitNode) {}

    fn abandon(&self, node: &WaitNode) {
        let left = self.0.machine.borrow_mut().abandon_put(node, self.0.is_full());
        wake(left);
    }
}

impl<T, S: Storage<T>> fmt::Debug for QueueOf<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("len", &self.len()).finish_non_exhaustive()
    }
}
