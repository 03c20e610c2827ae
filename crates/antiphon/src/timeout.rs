//! A deadline around a block, which can be moved: the rules are [`antiphon_core::timeout`]'s.

use crate::runtime::{Key, Loop};
use crate::task::{TaskHandle, cancel};
use crate::{Cancelled, Failure};
use antiphon_core::{NotAllowed, TimeoutExit, TimeoutState};
use antiphon_engine::{Instant, TimerKey};
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// What a block with a timeout fails with.
///
/// ```
/// use antiphon::{TimeoutError, timeout, sleep};
/// use std::time::Duration;
///
/// antiphon::Runner::new().virtual_clock().run(async {
///     let second = Duration::from_secs(1);
///     assert_eq!(timeout(second, sleep(2 * second)).await, Err(TimeoutError::Elapsed));
///     let failing = timeout(second, async { Err::<(), _>("no such file") });
///     assert_eq!(failing.await, Err(TimeoutError::Failed("no such file")));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum TimeoutError<E> {
    /// The time was up.
    Elapsed,
    /// The block's own error, a cancellation from elsewhere included.
    Failed(E),
    /// The timeout was used before: it is for one block.
    Used,
}

impl<E: Failure> Failure for TimeoutError<E> {
    fn is_cancelled(&self) -> bool {
        matches!(self, Self::Failed(error) if error.is_cancelled())
    }
}

impl<E: fmt::Display> fmt::Display for TimeoutError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elapsed => f.write_str("the time was up"),
            Self::Failed(error) => error.fmt(f),
            Self::Used => f.write_str("this timeout was used before: make one for each block"),
        }
    }
}

impl<E: Error + 'static> Error for TimeoutError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Elapsed | Self::Used => None,
        }
    }
}

/// Runs `block` and stops it after `duration`: the await that it waits at fails with [`Cancelled`], so that it can clean up.
///
/// ```
/// use antiphon::{Cancelled, TimeoutError, sleep, timeout};
/// use std::time::Duration;
///
/// antiphon::Runner::new().virtual_clock().run(async {
///     let slow = timeout(Duration::from_secs(1), sleep(Duration::from_secs(9)));
///     assert_eq!(slow.await, Err(TimeoutError::Elapsed));
///     let quick = timeout(Duration::from_secs(1), async { Ok::<_, Cancelled>(7) });
///     assert_eq!(quick.await, Ok(7));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
///
/// # Errors
/// [`TimeoutError::Elapsed`] if the block passes the cancellation on. A block that handles it and returns has been in time.
///
/// # Panics
/// When it is awaited outside of [`run`](crate::run).
pub async fn timeout<T, E: Failure>(
    duration: Duration,
    block: impl Future<Output = Result<T, E>>,
) -> Result<T, TimeoutError<E>> {
    Timeout::new(Some(duration)).run(block).await
}

/// A timeout whose deadline can be moved while its block runs.
///
/// ```
/// use antiphon::{Cancelled, Timeout, sleep};
/// use std::time::Duration;
///
/// antiphon::Runner::new().virtual_clock().run(async {
///     let timeout = Timeout::new(Some(Duration::from_secs(1)));
///     let outcome = timeout.run(async {
///         sleep(Duration::from_millis(900)).await?;
///         timeout.reschedule(Some(Duration::from_secs(1))).unwrap(); // from now on
///         sleep(Duration::from_millis(900)).await
///     });
///     assert!(outcome.await.is_ok());
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
pub struct Timeout {
    inner: Rc<Inner>,
}

struct Inner {
    machine: RefCell<antiphon_core::Timeout>,
    /// Before the block: how long it may take. `None`: without limit.
    duration: Cell<Option<Duration>>,
    timer: Cell<Option<(TimerKey, Key)>>,
    task: RefCell<Option<TaskHandle>>,
}

impl Timeout {
    /// `duration` counts from the moment that the block begins; `None` sets no limit yet.
    #[must_use]
    pub fn new(duration: Option<Duration>) -> Self {
        let inner = Inner {
            machine: RefCell::default(),
            duration: Cell::new(duration),
            timer: Cell::new(None),
            task: RefCell::new(None),
        };
        Self { inner: Rc::new(inner) }
    }

    /// Moves the deadline to `duration` from now; `None` takes it away.
    ///
    /// # Errors
    /// The state that does not allow it: the block has not begun, has ended, or the time was up.
    pub fn reschedule(&self, duration: Option<Duration>) -> Result<(), TimeoutState> {
        self.inner.machine.borrow().check_active().map_err(|NotAllowed(state)| state)?;
        self.inner.duration.set(duration);
        if let Ok(own) = Loop::running() {
            self.inner.arm(&own);
        }
        Ok(())
    }

    /// Whether the time was up while the block ran.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.inner.machine.borrow().is_expired()
    }

    /// As [`timeout`], for one block.
    ///
    /// # Errors
    /// As [`timeout`]; [`TimeoutError::Used`].
    ///
    /// # Panics
    /// When it is awaited outside of [`run`](crate::run).
    pub async fn run<T, E: Failure>(
        &self,
        block: impl Future<Output = Result<T, E>>,
    ) -> Result<T, TimeoutError<E>> {
        let mut block = pin!(block);
        let mut entered: Option<Entered<'_>> = None;
        poll_fn(|context| {
            if entered.is_none() {
                match self.inner.enter() {
                    Some(guard) => entered = Some(guard),
                    None => return Poll::Ready(Err(TimeoutError::Used)),
                }
            }
            let Poll::Ready(outcome) = block.as_mut().poll(context) else { return Poll::Pending };
            let explained = entered.take().is_some_and(|entered| entered.exit());
            Poll::Ready(match outcome {
                Err(error) if explained && error.is_cancelled() => Err(TimeoutError::Elapsed),
                outcome => outcome.map_err(TimeoutError::Failed),
            })
        })
        .await
    }
}

/// The block runs; disarms the timer however it is left.
struct Entered<'a> {
    inner: &'a Rc<Inner>,
}

impl Inner {
    fn enter(self: &Rc<Self>) -> Option<Entered<'_>> {
        let (own, task) = match (Loop::running(), Loop::current_task()) {
            (Ok(own), Some(task)) => (own, task),
            _ => panic!("{}", crate::NoLoop),
        };
        let requests = task.header().cancellation.get().requests();
        self.machine.borrow_mut().enter(requests).ok()?;
        *self.task.borrow_mut() = Some(task);
        self.arm(&own);
        Some(Entered { inner: self })
    }

    fn arm(self: &Rc<Self>, own: &Loop) {
        self.disarm(own);
        let Some(duration) = self.duration.get() else { return };
        let deadline: Instant = own.now().saturating_add(duration);
        let inner = Rc::clone(self);
        self.timer.set(Some(own.arm_callback(deadline, Rc::new(move || inner.expire()))));
    }

    fn disarm(&self, own: &Loop) {
        if let Some(timer) = self.timer.take() {
            own.disarm_callback(timer);
        }
    }

    fn expire(&self) {
        self.timer.set(None);
        let expires = self.machine.borrow_mut().expire();
        let task = self.task.borrow().clone();
        if let Some(task) = task.filter(|_| expires) {
            cancel(&task);
        }
    }
}

impl Entered<'_> {
    /// The block is left; whether this timeout is what cancelled it.
    fn exit(&self) -> bool {
        let exit = self.inner.machine.borrow_mut().exit();
        if exit == TimeoutExit::Finished {
            return false;
        }
        let task = self.inner.task.borrow().clone();
        let left = task.map_or(0, |task| task.header().uncancel());
        self.inner.machine.borrow().explains_cancellation(left)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if let Ok(own) = Loop::running() {
            self.inner.disarm(&own);
        }
        self.exit(); // again, or for the first time in a future that is dropped halfway
        let task = self.inner.task.borrow_mut().take();
        drop(task);
    }
}

impl fmt::Debug for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inner.machine.borrow().state();
        f.debug_struct("Timeout").field("state", &state).finish_non_exhaustive()
    }
}

impl From<TimeoutError<Cancelled>> for std::io::Error {
    fn from(error: TimeoutError<Cancelled>) -> Self {
        match error {
            TimeoutError::Elapsed => Self::from(std::io::ErrorKind::TimedOut),
            error => Self::other(error),
        }
    }
}
