//! Messages between loops, and between threads and loops: a bounded queue with a lock.
//!
//! A message costs the lock twice, and wakes the loop that waits for it once, if that sleeps. Everybody has his turn in the order
//! of arrival; who gives up after he was woken passes his turn on (`Waiting`).

use crate::wait_node::set_waiting;
use crate::{Cancelled, Failure, QueueError, TryQueueError};
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Makes a channel that holds at most `bound` messages; zero is no limit.
///
/// Both ends can be cloned and sent to other threads. A message goes to one receiver.
///
/// ```
/// use antiphon::{QueueError, channel, cores};
///
/// let (sender, receiver) = channel(4);
/// let sums = cores(2).run(async |core| {
///     if core.index() == 0 {
///         for n in 1..=10 {
///             sender.send(n).await?;
///         }
///         sender.close();
///         return Ok(0);
///     }
///     let mut sum = 0;
///     while let Ok(n) = receiver.recv().await {
///         sum += n;
///     }
///     Ok::<_, QueueError>(sum)
/// })?;
/// assert_eq!(sums, [0, 55]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn channel<T: Send>(bound: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        bound: if bound == 0 { usize::MAX } else { bound },
        state: Mutex::new(State {
            items: VecDeque::new(),
            open: true,
            senders: 1,
            receivers: 1,
            sending: Waiters::default(),
            receiving: Waiters::default(),
        }),
    });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

/// The end of a channel that messages are sent to; see [`channel`].
///
/// ```
/// use antiphon::{TryQueueError, channel};
///
/// let (sender, receiver) = channel(1);
/// assert!(sender.try_send("one").is_ok());
/// assert_eq!(sender.try_send("two"), Err(("two", TryQueueError::NotNow)));
/// let other = sender.clone();
/// antiphon::run(async {
///     assert_eq!(receiver.recv().await, Ok("one"));
///     other.send("two").await.unwrap();
/// })?;
/// sender.close(); // for all senders; what was sent can be received
/// assert_eq!(other.try_send("three"), Err(("three", TryQueueError::ShutDown)));
/// assert_eq!(receiver.try_recv(), Ok("two"));
/// # Ok::<(), antiphon::RunError>(())
/// ```
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// The end of a channel that messages come out of; see [`channel`].
///
/// ```
/// use antiphon::{QueueError, TryQueueError, channel};
///
/// let (sender, receiver) = channel(0);
/// assert_eq!(receiver.try_recv(), Err(TryQueueError::NotNow));
/// sender.try_send(1).unwrap();
/// assert_eq!((receiver.len(), receiver.is_empty()), (1, false));
/// receiver.close(); // nobody sends any more
/// assert!(sender.try_send(2).is_err());
/// antiphon::run(async {
///     assert_eq!(receiver.recv().await, Ok(1));
///     assert_eq!(receiver.recv().await, Err(QueueError::ShutDown));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

/// Why a message was not sent, and the message.
///
/// ```
/// use antiphon::{QueueError, channel};
///
/// antiphon::run(async {
///     let (sender, receiver) = channel(1);
///     receiver.close();
///     let error = sender.send("nobody reads it").await.unwrap_err();
///     assert_eq!((error.message, error.reason), ("nobody reads it", QueueError::ShutDown));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
pub struct SendError<T> {
    /// The message.
    pub message: T,
    /// Why.
    pub reason: QueueError,
}

struct Shared<T> {
    bound: usize,
    state: Mutex<State<T>>,
}

struct State<T> {
    items: VecDeque<T>,
    open: bool,
    senders: usize,
    receivers: usize,
    sending: Waiters,
    receiving: Waiters,
}

/// Those who wait on one side, in the order of their turns. A ticket that is not in the list was woken.
#[derive(Default)]
struct Waiters {
    list: VecDeque<(u64, Waker)>,
    next: u64,
}

impl Waiters {
    /// Who is woken is off the list: the wake is his, to use or to pass on.
    fn pop(&mut self) -> Option<Waker> {
        self.list.pop_front().map(|(_, waker)| waker)
    }

    fn remove(&mut self, ticket: u64) -> Option<Waker> {
        let place = self.list.iter().position(|(other, _)| *other == ticket)?;
        self.list.remove(place).map(|(_, waker)| waker)
    }

    /// Queues up, at the front if its turn was taken by somebody who did not wait; or renews the waker. What is replaced comes back.
    fn enter(&mut self, ticket: &mut Option<u64>, waker: Waker) -> Option<Waker> {
        if let Some(own) = *ticket {
            match self.list.iter_mut().find(|(other, _)| *other == own) {
                Some((_, former)) => return Some(std::mem::replace(former, waker)),
                None => self.list.push_front((own, waker)),
            }
            return None;
        }
        *ticket = Some(self.next);
        self.list.push_back((self.next, waker));
        self.next += 1;
        None
    }
}

#[derive(Copy, Clone)]
enum Side {
    Sending,
    Receiving,
}

impl<T> State<T> {
    fn waiters(&mut self, side: Side) -> &mut Waiters {
        match side {
            Side::Sending => &mut self.sending,
            Side::Receiving => &mut self.receiving,
        }
    }

    /// Nobody sends any more, or nobody receives.
    fn close(&mut self) -> Vec<Waker> {
        self.open = false;
        let State { sending, receiving, .. } = self;
        sending.list.drain(..).chain(receiving.list.drain(..)).map(|(_, waker)| waker).collect()
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing that panics runs while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let wakers = self.lock().close();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether whoever waits on this side need not.
    fn is_ready(&self, state: &State<T>, side: Side) -> bool {
        !state.open
            || match side {
                Side::Sending => state.items.len() < self.bound,
                Side::Receiving => !state.items.is_empty(),
            }
    }

    fn try_send(&self, message: T) -> Result<(), (T, TryQueueError)> {
        let waker = {
            let mut state = self.lock();
            if !state.open {
                return Err((message, TryQueueError::ShutDown));
            }
            if state.items.len() >= self.bound {
                return Err((message, TryQueueError::NotNow));
            }
            state.items.push_back(message);
            state.receiving.pop()
        };
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn try_recv(&self) -> Result<T, TryQueueError> {
        let (message, waker) = {
            let mut state = self.lock();
            match state.items.pop_front() {
                Some(message) => (message, state.sending.pop()),
                None if state.open => return Err(TryQueueError::NotNow),
                None => return Err(TryQueueError::ShutDown),
            }
        };
        waker.into_iter().for_each(Waker::wake);
        Ok(message)
    }

    /// Waits on `side` until it is worth trying.
    async fn wait(&self, waiting: &mut Waiting<'_, T>, what: &'static str) -> Result<(), Cancelled> {
        poll_fn(|context| {
            if crate::cancel::take_due() {
                return Poll::Ready(Err(Cancelled)); // the drop passes the turn on
            }
            let waker = context.waker().clone(); // not under the lock: it may be anybody's
            let former = {
                let mut state = self.lock();
                if self.is_ready(&state, waiting.side) {
                    return Poll::Ready(Ok(()));
                }
                state.waiters(waiting.side).enter(&mut waiting.ticket, waker)
            };
            drop(former);
            set_waiting(what);
            Poll::Pending
        })
        .await
    }
}

/// One who waits on a side, and gives up when dropped.
struct Waiting<'a, T> {
    shared: &'a Shared<T>,
    side: Side,
    ticket: Option<u64>,
    /// It has what it waited for: a wake that it had was for that.
    served: bool,
}

impl<'a, T> Waiting<'a, T> {
    const fn new(shared: &'a Shared<T>, side: Side) -> Self {
        Self { shared, side, ticket: None, served: false }
    }
}

impl<T> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let (own, next) = {
            let mut state = self.shared.lock();
            let own = state.waiters(self.side).remove(ticket);
            // Woken: if there is still something to be had, the next one has to know.
            let pass_on = own.is_none() && !self.served && self.shared.is_ready(&state, self.side);
            (own, pass_on.then(|| state.waiters(self.side).pop()).flatten())
        };
        drop(own);
        next.into_iter().for_each(Waker::wake);
    }
}

impl<T: Send> Sender<T> {
    /// Sends a message, waiting for room if need be.
    ///
    /// # Errors
    /// [`SendError`] with the message: the channel is closed, or the task was cancelled.
    pub async fn send(&self, message: T) -> Result<(), SendError<T>> {
        let mut message = message;
        let mut waiting = Waiting::new(&self.shared, Side::Sending);
        loop {
            match self.shared.try_send(message) {
                Ok(()) => {
                    waiting.served = true;
                    return Ok(());
                }
                Err((message, TryQueueError::ShutDown)) => {
                    return Err(SendError { message, reason: QueueError::ShutDown });
                }
                Err((back, TryQueueError::NotNow)) => message = back,
            }
            if let Err(Cancelled) = self.shared.wait(&mut waiting, "room in a channel").await {
                return Err(SendError { message, reason: QueueError::Cancelled });
            }
        }
    }

    /// Sends a message if there is room. It may be called on any thread.
    ///
    /// # Errors
    /// The message and the reason.
    pub fn try_send(&self, message: T) -> Result<(), (T, TryQueueError)> {
        self.shared.try_send(message)
    }

    /// Lets nobody send any more; what is in the channel may still be received. It happens by itself when the last sender is dropped.
    pub fn close(&self) {
        self.shared.close();
    }
}

impl<T: Send> Receiver<T> {
    /// Takes the next message, waiting for one if need be.
    ///
    /// # Errors
    /// [`QueueError::ShutDown`]: nobody sends any more, and nothing is left. [`QueueError::Cancelled`].
    ///
    /// # Cancellation
    /// No message is lost.
    pub async fn recv(&self) -> Result<T, QueueError> {
        let mut waiting = Waiting::new(&self.shared, Side::Receiving);
        loop {
            match self.shared.try_recv() {
                Ok(message) => {
                    waiting.served = true;
                    return Ok(message);
                }
                Err(TryQueueError::ShutDown) => return Err(QueueError::ShutDown),
                Err(TryQueueError::NotNow) => {
                    self.shared.wait(&mut waiting, "a message of a channel").await?;
                }
            }
        }
    }

    /// Takes the next message if there is one. It may be called on any thread.
    ///
    /// # Errors
    /// The reason.
    pub fn try_recv(&self) -> Result<T, TryQueueError> {
        self.shared.try_recv()
    }

    /// Lets nobody send any more, as [`Sender::close`].
    pub fn close(&self) {
        self.shared.close();
    }

    /// How many messages are in the channel at this moment.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.lock().items.len()
    }

    /// Whether no message is in the channel at this moment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.lock().senders += 1;
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.lock().receivers += 1;
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let wakers = {
            let mut state = self.shared.lock();
            state.senders -= 1;
            if state.senders == 0 { state.close() } else { Vec::new() }
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let (wakers, unread) = {
            let mut state = self.shared.lock();
            state.receivers -= 1;
            if state.receivers > 0 {
                return;
            }
            (state.close(), std::mem::take(&mut state.items)) // nobody will ever have them
        };
        wakers.into_iter().for_each(Waker::wake);
        drop(unread);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl<T> From<SendError<T>> for QueueError {
    fn from(error: SendError<T>) -> Self {
        error.reason
    }
}

impl<T> Failure for SendError<T> {
    fn is_cancelled(&self) -> bool {
        self.reason.is_cancelled()
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.reason {
            QueueError::ShutDown => "the channel is closed",
            QueueError::Cancelled => "the task was cancelled",
        })
    }
}

impl<T> Error for SendError<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self.reason {
            QueueError::ShutDown => None,
            QueueError::Cancelled => Some(&Cancelled),
        }
    }
}
