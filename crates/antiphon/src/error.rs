//! What awaits and joins can fail with.

use std::any::Any;
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::io;
use std::rc::Rc;

/// The task was asked to stop: what an await of antiphon's own fails with then.
///
/// It can be handled like any error: clean up (which may await), then pass it on with `?`. Who does not pass it on takes the
/// request back with [`Task::uncancel`](crate::Task::uncancel).
///
/// ```
/// use antiphon::{Cancelled, Event, JoinError, spawn, yield_now};
/// use std::{cell::Cell, rc::Rc};
///
/// antiphon::run(async {
///     let clean = Rc::new(Cell::new(false));
///     let seen = Rc::clone(&clean);
///     let task = spawn(async move {
///         let outcome = Event::new().wait().await;
///         if outcome == Err(Cancelled) {
///             yield_now().await?; // cleaning up may wait
///             seen.set(true);
///         }
///         outcome
///     });
///     yield_now().await?;
///     task.cancel();
///     assert!(matches!(task.await, Err(JoinError::Cancelled)));
///     assert!(clean.get());
///     Ok::<_, Cancelled>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task was cancelled")
    }
}

impl Error for Cancelled {}

impl From<Cancelled> for io::Error {
    fn from(cancelled: Cancelled) -> Self {
        Self::other(cancelled)
    }
}

/// Errors that a task may end with: they tell whether they are a cancellation that was passed on.
///
/// ```
/// use antiphon::{Cancelled, Failure};
///
/// enum MyError { Stopped(Cancelled), Refused(String) }
///
/// impl From<Cancelled> for MyError {
///     fn from(cancelled: Cancelled) -> Self { Self::Stopped(cancelled) }
/// }
/// impl Failure for MyError {
///     fn is_cancelled(&self) -> bool { matches!(self, Self::Stopped(_)) }
/// }
/// assert!(MyError::from(Cancelled).is_cancelled());
/// assert!(!MyError::Refused("full".into()).is_cancelled());
///
/// let boxed: Box<dyn std::error::Error> = Cancelled.into(); // boxed errors are asked what is inside
/// assert!(boxed.is_cancelled());
/// ```
pub trait Failure {
    /// Whether this is [`Cancelled`] on its way out.
    fn is_cancelled(&self) -> bool;
}

impl Failure for Cancelled {
    fn is_cancelled(&self) -> bool {
        true
    }
}

impl Failure for () {
    fn is_cancelled(&self) -> bool {
        false
    }
}

impl Failure for String {
    fn is_cancelled(&self) -> bool {
        false
    }
}

impl Failure for &str {
    fn is_cancelled(&self) -> bool {
        false
    }
}

impl Failure for std::convert::Infallible {
    fn is_cancelled(&self) -> bool {
        match *self {}
    }
}

impl Failure for Box<dyn Error> {
    fn is_cancelled(&self) -> bool {
        has_cancelled(&**self)
    }
}

impl Failure for Box<dyn Error + Send + Sync> {
    fn is_cancelled(&self) -> bool {
        has_cancelled(&**self)
    }
}

impl Failure for io::Error {
    fn is_cancelled(&self) -> bool {
        self.get_ref().is_some_and(|inner| has_cancelled(inner))
    }
}

/// Whether an error is a cancellation, or was caused by one.
fn has_cancelled(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<Cancelled>() {
            return true;
        }
        // An io::Error does not name what it holds as its source.
        if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref)
            && inner.is::<Cancelled>()
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// What a task that panicked said; copies are of the same panic.
///
/// ```
/// use antiphon::{JoinError, spawn};
///
/// antiphon::run(async {
///     let task = spawn(async { if true { panic!("on purpose") } else { Ok::<(), String>(()) } });
///     let Err(JoinError::Panicked(panic)) = task.await else { panic!() };
///     assert_eq!(panic.message(), "on purpose");
///     assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| panic.resume())).is_err());
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Clone)]
pub struct Panic {
    /// One pointer: every task has room for a panic.
    inner: Rc<PanicInner>,
}

struct PanicInner {
    message: Box<str>,
    /// Taken by who goes on with it first.
    payload: Cell<Option<Box<dyn Any + Send>>>,
}

impl Panic {
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Self {
        let message = Box::from(panic_message(&*payload));
        Self { inner: Rc::new(PanicInner { message, payload: Cell::new(Some(payload)) }) }
    }

    /// The message, if it was one.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// Goes on with the panic.
    ///
    /// # Panics
    /// Always.
    pub fn resume(self) -> ! {
        let payload = self.inner.payload.take();
        std::panic::resume_unwind(payload.unwrap_or_else(|| Box::new(self.message().to_owned())))
    }
}

/// What a panic said, if it was text.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "a value that is no text"
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panic").field(&self.message()).finish()
    }
}

/// What joining a task fails with.
///
/// ```
/// use antiphon::{JoinError, spawn};
///
/// antiphon::run(async {
///     let task = spawn(async { Err::<(), _>("no such file") });
///     let error = task.await.unwrap_err();
///     assert!(matches!(error, JoinError::Failed("no such file")));
///     assert_eq!(error.failed(), Some("no such file"));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Debug)]
pub enum JoinError<E> {
    /// The task's own error.
    Failed(E),
    /// The task was cancelled and passed that on.
    Cancelled,
    /// The task panicked.
    Panicked(Panic),
    /// The outcome was taken by somebody who joined before.
    Taken,
}

impl<E> JoinError<E> {
    /// The task's own error, if that is what it is.
    pub fn failed(self) -> Option<E> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

impl<E> From<Cancelled> for JoinError<E> {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl<E> Failure for JoinError<E> {
    fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }
}

impl<E: fmt::Display> fmt::Display for JoinError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Cancelled => Cancelled.fmt(f),
            Self::Panicked(panic) => write!(f, "the task panicked: {}", panic.message()),
            Self::Taken => f.write_str("the task's outcome was taken before: join a task once"),
        }
    }
}

impl<E: Error + 'static> Error for JoinError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => error.source(),
            Self::Cancelled => Some(&Cancelled),
            Self::Panicked(_) | Self::Taken => None,
        }
    }
}

/// What [`run`](crate::run) fails with, before or instead of the main future's own outcome.
///
/// ```
/// use antiphon::{Event, RunError, run};
///
/// let error = run(async { Event::new().wait().await }).unwrap_err(); // nobody can set it
/// let RunError::Deadlock { tasks } = &error else { panic!() };
/// assert_eq!(tasks[0].waits_for, "an event");
/// assert!(matches!(run(async { run(async {}) })?, Err(RunError::Nested)));
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// A loop runs on this thread already.
    Nested,
    /// Nothing can ever wake any of the tasks that are left.
    Deadlock {
        /// Who waits, and for what.
        tasks: Vec<crate::TaskInfo>,
    },
    /// The operating system refused what a loop needs.
    Driver(io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nested => f.write_str(
                "a loop runs on this thread already: await instead, or run on a thread of its own",
            ),
            Self::Deadlock { tasks } => {
                f.write_str("deadlock: nothing can wake any task")?;
                tasks.iter().try_for_each(|task| write!(f, "\n    {task}"))
            }
            Self::Driver(error) => write!(f, "the loop cannot wait for the operating system: {error}"),
        }
    }
}

impl Error for RunError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Driver(error) => Some(error),
            Self::Nested | Self::Deadlock { .. } => None,
        }
    }
}

/// No loop runs on this thread, or the one that was meant has ended.
///
/// ```
/// use antiphon::{Cancelled, NoLoop, try_spawn};
///
/// assert!(matches!(try_spawn(async { Ok::<_, Cancelled>(()) }), Err(NoLoop)));
/// ```
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct NoLoop;

impl fmt::Display for NoLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no loop runs here: call this inside of antiphon::run, or enter a loop through a Remote")
    }
}

impl Error for NoLoop {}

impl From<NoLoop> for io::Error {
    fn from(error: NoLoop) -> Self {
        Self::other(error)
    }
}

/// A socket, child or signal was used outside of the loop that it was made in.
///
/// Functions whose error is an [`io::Error`] fail with one that has this inside.
///
/// ```
/// use antiphon::{WrongLoop, net::UnixStream, run};
///
/// let (ours, _theirs) = run(async { UnixStream::pair() })??;
/// let error = run(async { ours.write(b"to the first loop's socket").await })?.unwrap_err();
/// assert!(error.get_ref().is_some_and(|inner| inner.is::<WrongLoop>()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct WrongLoop;

impl fmt::Display for WrongLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it belongs to another loop than the one that runs here: make one in each loop")
    }
}

impl Error for WrongLoop {}

impl From<WrongLoop> for io::Error {
    fn from(error: WrongLoop) -> Self {
        Self::other(error)
    }
}
