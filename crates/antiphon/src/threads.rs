//! To other threads and back.

use crate::runtime::{Loop, Work, catch};
use crate::wait_node::set_waiting;
use crate::{Cancelled, Failure, JoinError, NoLoop, Panic, spawn};
use antiphon_engine::{EngineError, Inbox};
use std::any::Any;
use std::future::poll_fn;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// What a thread's work comes to, as it crosses back.
type Sent<T> = Result<T, Box<dyn Any + Send>>;

/// Runs `work`, which may block, on a thread of the loop's pool: `asyncio.to_thread`.
///
/// ```
/// antiphon::run(async {
///     let text = antiphon::to_thread(|| std::fs::read_to_string("Cargo.toml")).await.unwrap();
///     assert!(text.unwrap().contains("[package]"));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
///
/// # Errors
/// [`JoinError::Panicked`]: the work did. [`JoinError::Failed`]: no thread can be started. [`JoinError::Cancelled`]: the task was.
///
/// # Cancellation
/// The work goes on, and what it returns is dropped.
///
/// # Panics
/// When it is awaited outside of [`run`](crate::run).
pub async fn to_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError<EngineError>> {
    struct Place<T> {
        outcome: Option<Sent<T>>,
        waker: Option<Waker>,
    }
    let own = match Loop::running() {
        Ok(own) => own,
        Err(NoLoop) => panic!("{NoLoop}"),
    };
    let place = Arc::new(Mutex::new(Place { outcome: None, waker: None }));
    let theirs = Arc::clone(&place);
    let job = Box::new(move || {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        let waker = {
            let mut place = lock(&theirs);
            place.outcome = Some(outcome);
            place.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    });
    own.pool().submit(job).map_err(JoinError::Failed)?;
    poll_fn(|context| {
        let mut place = lock(&place);
        if let Some(outcome) = place.outcome.take() {
            return Poll::Ready(outcome.map_err(|payload| JoinError::Panicked(Panic::new(payload))));
        }
        if crate::cancel::take_due() {
            return Poll::Ready(Err(JoinError::Cancelled));
        }
        set_waiting("a thread");
        place.waker = Some(context.waker().clone());
        Poll::Pending
    })
    .await
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A way into a loop from other threads. As long as there is one, the loop never calls its tasks deadlocked.
///
/// ```
/// use antiphon::{Cancelled, Event, Remote};
/// use std::thread;
///
/// antiphon::run(async {
///     let remote = Remote::new().unwrap();
///     let doubled = antiphon::to_thread(move || {
///         // On a thread of its own: runs a task on the loop and waits for it.
///         remote.run(|| async { Ok::<_, Cancelled>(21 * 2) })
///     });
///     assert_eq!(doubled.await.unwrap().unwrap(), 42);
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Clone)]
pub struct Remote {
    inbox: Arc<Inbox<Work>>,
    _alive: Arc<()>,
}

/// What running a task from another thread fails with.
///
/// ```
/// use antiphon::{Remote, RemoteError, run};
///
/// let remote = run(async { Remote::new().unwrap() })?;
/// let outcome = remote.run(|| async { Ok::<_, String>(()) });
/// assert!(matches!(outcome, Err(RemoteError::LoopEnded)));
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Debug)]
pub enum RemoteError<E> {
    /// The loop has ended, or ended before the task.
    LoopEnded,
    /// The task failed.
    Failed(E),
    /// The task was cancelled.
    Cancelled,
    /// The task panicked, with this message.
    Panicked(String),
}

impl<E: std::fmt::Display> std::fmt::Display for RemoteError<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LoopEnded => f.write_str("the loop has ended"),
            Self::Failed(error) => error.fmt(f),
            Self::Cancelled => Cancelled.fmt(f),
            Self::Panicked(message) => write!(f, "the task panicked: {message}"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for RemoteError<E> {}

impl Remote {
    /// A way into the loop that runs on this thread.
    ///
    /// # Errors
    /// [`NoLoop`].
    pub fn new() -> Result<Self, NoLoop> {
        let own = Loop::running()?;
        Ok(Self { inbox: Arc::clone(&own.inbox), _alive: Arc::clone(&own.remotes) })
    }

    /// Lets go of the loop, and lets it see whether anything can wake it without this.
    pub(crate) fn release(self) {
        let Self { inbox, _alive } = self;
        drop(_alive);
        inbox.wake();
    }

    /// Lets the loop run `callback`: `call_soon_threadsafe`.
    ///
    /// # Errors
    /// [`NoLoop`]: it has ended; the callback is dropped.
    pub fn call(&self, callback: impl FnOnce() + Send + 'static) -> Result<(), NoLoop> {
        let callback = move || {
            // A callback that panics must not end the loop; the panic hook has told of it.
            let _ = catch(callback);
        };
        match self.inbox.push(Work::Run(Box::new(Box::new(callback)))) {
            None => Ok(()),
            Some(_refused) => Err(NoLoop),
        }
    }

    /// Runs a task on the loop and blocks this thread until it has ended: `run_coroutine_threadsafe(...).result()`.
    ///
    /// `make` makes the future on the loop's thread, so that the future need not be `Send`. Called on the loop's own thread it
    /// would wait for itself: await instead.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub fn run<T, E, F>(&self, make: impl FnOnce() -> F + Send + 'static) -> Result<T, RemoteError<E>>
    where
        T: Send + 'static,
        E: Failure + Send + 'static,
        F: Future<Output = Result<T, E>> + 'static,
    {
        let reply = Reply(Arc::new((Mutex::new(None), Condvar::new())));
        let place = Arc::clone(&reply.0);
        self.call(move || {
            let task = spawn(async move { make().await });
            let joined = spawn(async move {
                let outcome = task.await.map_err(|error| match error {
                    JoinError::Failed(error) => RemoteError::Failed(error),
                    JoinError::Panicked(panic) => RemoteError::Panicked(panic.message().to_owned()),
                    JoinError::Cancelled | JoinError::Taken => RemoteError::Cancelled,
                });
                reply.send(outcome);
                Ok::<(), Cancelled>(())
            });
            drop(joined);
        })
        .map_err(|NoLoop| RemoteError::LoopEnded)?;
        let mut outcome = lock(&place.0);
        loop {
            if let Some(outcome) = outcome.take() {
                return outcome;
            }
            outcome = place.1.wait(outcome).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Where a thread waits for an outcome.
type ReplyPlace<T, E> = Arc<(Mutex<Option<Result<T, RemoteError<E>>>>, Condvar)>;

/// The sending side: whoever drops it without sending says that the loop has ended.
struct Reply<T, E>(ReplyPlace<T, E>);

impl<T, E> Reply<T, E> {
    fn send(&self, outcome: Result<T, RemoteError<E>>) {
        let mut place = lock(&self.0.0);
        place.get_or_insert(outcome);
        self.0.1.notify_one();
    }
}

impl<T, E> Drop for Reply<T, E> {
    fn drop(&mut self) {
        self.send(Err(RemoteError::LoopEnded));
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}
