//! Tasks: futures that run by themselves, are joined for their outcome, and can be asked to stop.
//!
//! The rules of cancellation are [`antiphon_core::task`]'s: requests are counted, and the next await of antiphon's own that
//! would wait fails with [`Cancelled`](crate::Cancelled). A task that waits for another hands the request on to it.

mod cell;
mod header;
mod info;
mod span;

pub(crate) use cell::{Crossing, Current, Due, JoinHandle, Pool, TaskHandle, Thread, running, with_running};
pub(crate) use header::{Header, Waiting};
pub(crate) use info::all_infos;
pub use info::{TaskInfo, task_tree};

use crate::runtime::Loop;
use crate::wait_node::wake_task;
use crate::{Failure, JoinError, NoLoop, context};
use antiphon_core::Ended;
use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A task that was spawned: join it by awaiting it, or drop it to let it run on its own.
///
/// It ends with the `Result` of its future; an `Err` that [is a cancellation](Failure) means that the task was cancelled.
///
/// ```
/// use antiphon::{Cancelled, JoinError, sleep, spawn};
/// use std::time::Duration;
///
/// antiphon::run(async {
///     let answer = spawn(async { Ok::<_, Cancelled>(42) });
///     assert_eq!(answer.await.unwrap(), 42);
///
///     let mut endless = spawn(async {
///         loop {
///             sleep(Duration::from_secs(1)).await?;
///         }
///         #[allow(unreachable_code)]
///         Ok::<(), Cancelled>(())
///     });
///     endless.cancel();
///     assert!(matches!((&mut endless).await, Err(JoinError::Cancelled)));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
///
/// # Cancellation
/// A task that is cancelled while it joins another cancels that one, and goes on waiting for its end;
/// [`shield`](crate::shield) stops this.
pub struct Task<T, E = crate::Cancelled> {
    inner: JoinHandle<T, E>,
}

/// Starts a task on the running loop. Its first step is made when the loop comes to it.
///
/// The future need not be `Send`: it never leaves this thread.
///
/// ```
/// use antiphon::spawn;
/// use std::rc::Rc;
///
/// antiphon::run(async {
///     let shared = Rc::new(20); // not `Send`
///     let task = spawn({
///         let shared = Rc::clone(&shared);
///         async move { Ok::<_, String>(*shared + 1) }
///     });
///     assert_eq!(task.await.unwrap() * 2, 42);
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
///
/// # Panics
/// Outside of [`run`](crate::run); [`try_spawn`] says so instead.
#[track_caller]
pub fn spawn<T, E, F>(future: F) -> Task<T, E>
where
    T: 'static,
    E: Failure + 'static,
    F: Future<Output = Result<T, E>> + 'static,
{
    match try_spawn(future) {
        Ok(task) => task,
        Err(error) => panic!("{error}"),
    }
}

/// As [`spawn`].
///
/// ```
/// use antiphon::{Cancelled, try_spawn};
///
/// assert!(try_spawn(async { Ok::<_, Cancelled>(()) }).is_err(), "no loop runs here");
/// antiphon::run(async {
///     assert_eq!(try_spawn(async { Ok::<_, Cancelled>(1) }).unwrap().await.unwrap(), 1);
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
///
/// # Errors
/// [`NoLoop`]: no loop runs on this thread.
#[track_caller]
pub fn try_spawn<T, E, F>(future: F) -> Result<Task<T, E>, NoLoop>
where
    T: 'static,
    E: Failure + 'static,
    F: Future<Output = Result<T, E>> + 'static,
{
    spawn_with(context::inherited(), future)
}

/// As [`spawn`]; the task runs in `context` itself, and not in a copy of the running one: `create_task(..., context=)`.
///
/// ```
/// use antiphon::{Cancelled, Context, ContextVar, spawn_in};
///
/// static USER: ContextVar<&str> = ContextVar::new("user");
///
/// antiphon::run(async {
///     let context = Context::new();
///     let task = spawn_in(&context, async {
///         USER.set("alice");
///         Ok::<_, Cancelled>(())
///     });
///     task.await.unwrap();
///     assert_eq!(context.get(&USER), Some("alice"));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
///
/// # Panics
/// As [`spawn`]; [`try_spawn_in`] says so instead.
#[track_caller]
pub fn spawn_in<T, E, F>(context: &context::Context, future: F) -> Task<T, E>
where
    T: 'static,
    E: Failure + 'static,
    F: Future<Output = Result<T, E>> + 'static,
{
    match try_spawn_in(context, future) {
        Ok(task) => task,
        Err(error) => panic!("{error}"),
    }
}

/// As [`spawn_in`].
///
/// ```
/// use antiphon::{Cancelled, Context, ContextVar, try_spawn_in};
///
/// static USER: ContextVar<&str> = ContextVar::new("user");
///
/// antiphon::run(async {
///     let context = Context::new();
///     let task = try_spawn_in(&context, async {
///         USER.set("alice");
///         Ok::<_, Cancelled>(())
///     }).unwrap();
///     task.await.unwrap();
///     assert_eq!(context.get(&USER), Some("alice"));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
///
/// # Errors
/// [`NoLoop`]: no loop runs on this thread.
#[track_caller]
pub fn try_spawn_in<T, E, F>(context: &context::Context, future: F) -> Result<Task<T, E>, NoLoop>
where
    T: 'static,
    E: Failure + 'static,
    F: Future<Output = Result<T, E>> + 'static,
{
    spawn_with(Some(context.clone()), future)
}

#[track_caller]
fn spawn_with<T, E, F>(context: Option<context::Context>, future: F) -> Result<Task<T, E>, NoLoop>
where
    T: 'static,
    E: Failure + 'static,
    F: Future<Output = Result<T, E>> + 'static,
{
    let own = Loop::running()?;
    let location = Location::caller();
    let inner = JoinHandle::new(&own, own.next_number(), location, future);
    inner.task().set_context(context);
    own.adopt(inner.task());
    Ok(Task { inner })
}

impl<T, E> Task<T, E> {
    pub(crate) fn header(&self) -> &Header {
        self.inner.task()
    }

    /// Asks the task to stop: the await that it waits at, or comes to, fails with [`Cancelled`](crate::Cancelled).
    ///
    /// Returns whether the task was asked; false if it is done.
    pub fn cancel(&self) -> bool {
        cancel(self.inner.task())
    }

    /// Takes one request to stop back, as who handled it does. Returns how many are left; with none left, an interruption
    /// that is still due is withdrawn.
    pub fn uncancel(&self) -> u32 {
        self.header().uncancel()
    }

    /// How many requests to stop were not taken back.
    #[must_use]
    pub fn cancelling(&self) -> u32 {
        self.header().cancellation.get().requests()
    }

    /// Whether the task has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.header().is_done()
    }

    /// Whether the task was cancelled, and passed that on.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.header().ended() == Some(Ended::Cancelled)
    }

    /// The task's name: the given one, or `task-` and a number.
    #[must_use]
    pub fn name(&self) -> Rc<str> {
        self.header().name()
    }

    /// Names the task.
    pub fn set_name(&self, name: &str) {
        self.header().set_name(name);
    }

    /// As [`set_name`](Self::set_name), for use right after [`spawn`].
    pub fn named(self, name: &str) -> Self {
        self.set_name(name);
        self
    }

    /// The task without its type.
    #[must_use]
    pub fn as_ref(&self) -> TaskRef {
        TaskRef { inner: self.inner.task().clone() }
    }

    /// The outcome, if the task is done and nobody took it.
    pub(crate) fn take_outcome(&self) -> Option<Result<T, JoinError<E>>> {
        let ended = self.header().ended()?;
        self.header().retrieve();
        Some(self.inner.take_outcome().unwrap_or(match ended {
            Ended::Cancelled => Err(JoinError::Cancelled),
            Ended::Returned | Ended::Raised => Err(JoinError::Taken),
        }))
    }
}

/// [`Task::cancel`], of any task.
///
/// False if it is done, as all tasks of a loop that has ended are.
pub(crate) fn cancel(task: &TaskHandle) -> bool {
    if task.is_done() {
        return false;
    }
    let mut cancellation = task.cancellation.get();
    cancellation.request();
    cancellation.set_due();
    task.cancellation.set(cancellation);
    wake_task(task);
    true
}

impl<T, E> Future for Task<T, E> {
    type Output = Result<T, JoinError<E>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(outcome) = self.take_outcome() {
            return Poll::Ready(outcome);
        }
        if crate::cancel::take_due() {
            // The request goes on to what the task waits for.
            self.cancel();
        }
        crate::wait_node::set_waiting_for_task();
        self.header().wake_when_done(context.waker());
        Poll::Pending
    }
}

impl<T, E> fmt::Debug for Task<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("name", &self.name())
            .field("done", &self.is_done())
            .finish_non_exhaustive()
    }
}

/// Any task, to be named, asked to stop, and compared; see [`current_task`].
///
/// ```
/// use antiphon::{Event, current_task, spawn, yield_now};
/// use std::{cell::RefCell, rc::Rc};
///
/// antiphon::run(async {
///     let place = Rc::new(RefCell::new(None));
///     let own = Rc::clone(&place);
///     let task = spawn(async move {
///         own.replace(current_task());
///         Event::new().wait().await
///     });
///     yield_now().await.unwrap();
///     let other = place.take().unwrap();
///     other.set_name("stubborn");
///     assert_eq!((&*task.name(), &*other.name()), ("stubborn", "stubborn"));
///     assert!(other.cancel());
///     assert_eq!((other.cancelling(), other.is_done()), (1, false));
///     assert_eq!(other.uncancel(), 0); // which takes the request back
///     assert!(other.cancel());
///     assert!(task.await.is_err());
///     assert!(other.is_done());
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Clone)]
pub struct TaskRef {
    inner: TaskHandle,
}

/// The task that runs, the main one included.
///
/// ```
/// use antiphon::{Cancelled, current_task, spawn};
///
/// antiphon::run(async {
///     let name = spawn(async { Ok::<_, Cancelled>(current_task().unwrap().name()) }).named("worker");
///     assert_eq!(&*name.await.unwrap(), "worker");
/// })?;
/// assert!(current_task().is_none());
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[must_use]
pub fn current_task() -> Option<TaskRef> {
    Loop::current_task().map(|inner| TaskRef { inner })
}

impl TaskRef {
    pub(crate) fn number(&self) -> u64 {
        self.inner.number
    }

    /// As [`Task::cancel`].
    pub fn cancel(&self) -> bool {
        cancel(&self.inner)
    }

    /// As [`Task::uncancel`].
    pub fn uncancel(&self) -> u32 {
        self.inner.header().uncancel()
    }

    /// Somebody has asked for the outcome.
    pub(crate) fn retrieve(&self) {
        self.inner.header().retrieve();
    }

    pub(crate) fn panic(&self) -> Option<crate::Panic> {
        self.inner.panic()
    }

    /// As [`Task::cancelling`].
    #[must_use]
    pub fn cancelling(&self) -> u32 {
        self.inner.header().cancellation.get().requests()
    }

    /// As [`Task::is_done`].
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.inner.is_done()
    }

    /// As [`Task::name`].
    #[must_use]
    pub fn name(&self) -> Rc<str> {
        self.inner.header().name()
    }

    /// As [`Task::set_name`].
    pub fn set_name(&self, name: &str) {
        self.inner.header().set_name(name);
    }
}

impl PartialEq for TaskRef {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for TaskRef {}

impl fmt::Debug for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TaskRef").field(&self.name()).finish()
    }
}
