//! Many tasks at once: `gather`, `wait`, `as_completed`, `shield`, by the rules of [`antiphon_core`].

use crate::time::{Sleep, sleep};
use crate::wait_node::{WaitNode, set_waiting};
use crate::{Cancelled, Failure, JoinError, Task, spawn};
pub use antiphon_core::ReturnWhen;
use antiphon_core::{Gather, GatherStep};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Runs `futures` as tasks, and comes back with all their results in their order.
///
/// ```
/// use antiphon::{Cancelled, gather, sleep};
/// use std::time::Duration;
///
/// antiphon::run(async {
///     let squares = gather((0..3).map(|n| async move {
///         sleep(Duration::from_millis(3 - n)).await?;
///         Ok::<_, Cancelled>(n * n)
///     }));
///     assert_eq!(squares.await.unwrap(), [0, 1, 4]);
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
///
/// # Errors
/// The first that comes, a child's cancellation included; the other children run on.
///
/// # Cancellation
/// All children are cancelled and waited for.
///
/// # Panics
/// As [`spawn`](crate::spawn).
pub async fn gather<T, E, F>(futures: impl IntoIterator<Item = F>) -> Result<Vec<T>, JoinError<E>>
where
    T: 'static,
    E: Failure + 'static,
    F: Future<Output = Result<T, E>> + 'static,
{
    let mut tasks: Vec<_> = futures.into_iter().map(spawn).collect();
    gather_steps(&tasks, false).await.map_err(|failed| match failed {
        Some(place) => match tasks.swap_remove(place).take_outcome() {
            Some(Err(error)) => error,
            _ => JoinError::Taken,
        },
        None => JoinError::Cancelled,
    })?;
    tasks.iter().map(|task| task.take_outcome().unwrap_or(Err(JoinError::Taken))).collect()
}

/// As [`gather`], but errors are results like others: `return_exceptions=True`.
///
/// ```
/// use antiphon::{JoinError, gather_all};
///
/// antiphon::run(async {
///     let halves = [4, 5, 6].map(|n| async move { if n % 2 == 0 { Ok(n / 2) } else { Err(format!("{n} is odd")) } });
///     let outcomes = gather_all(halves).await.unwrap();
///     assert!(matches!(outcomes[..], [Ok(2), Err(JoinError::Failed(_)), Ok(3)]));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
///
/// # Errors
/// [`Cancelled`].
///
/// # Cancellation
/// All children are cancelled and waited for.
///
/// # Panics
/// As [`spawn`](crate::spawn).
pub async fn gather_all<T, E, F>(
    futures: impl IntoIterator<Item = F>,
) -> Result<Vec<Result<T, JoinError<E>>>, Cancelled>
where
    T: 'static,
    E: Failure + 'static,
    F: Future<Output = Result<T, E>> + 'static,
{
    let tasks: Vec<_> = futures.into_iter().map(spawn).collect();
    gather_steps(&tasks, true).await.map_err(|_| Cancelled)?;
    Ok(tasks.iter().map(|task| task.take_outcome().unwrap_or(Err(JoinError::Taken))).collect())
}

/// Waits as `gather` does; fails with the place of the child that decided, or `None` for a cancellation of the whole.
async fn gather_steps<T, E>(tasks: &[Task<T, E>], keep_errors: bool) -> Result<(), Option<usize>> {
    struct State {
        machine: RefCell<Gather>,
        outcome: Cell<Option<Result<(), Option<usize>>>>,
        waiter: RefCell<Option<WaitNode>>,
    }
    let state = Rc::new(State {
        machine: RefCell::new(Gather::new(keep_errors)),
        outcome: Cell::new(tasks.is_empty().then_some(Ok(()))),
        waiter: RefCell::new(None),
    });
    for _ in tasks {
        state.machine.borrow_mut().add_child();
    }
    for (place, task) in tasks.iter().enumerate() {
        let (state, header) = (Rc::clone(&state), task.as_ref());
        task.header().observe(Box::new(move |ended| {
            let settled = state.outcome.get().is_some();
            let step = state.machine.borrow_mut().child_done(ended, settled);
            let outcome = match step {
                GatherStep::Wait => return,
                // Its error counts as seen, or nobody would ever ask for it.
                GatherStep::Ignore => return header.retrieve(),
                GatherStep::Fail => Err(Some(place)),
                GatherStep::Finish => Ok(()),
                GatherStep::Cancel => Err(None),
            };
            state.outcome.set(Some(outcome));
            if let Some(waiter) = &*state.waiter.borrow() {
                waiter.wake();
            }
        }));
    }
    poll_fn(|context| {
        if let Some(outcome) = state.outcome.get() {
            return Poll::Ready(outcome);
        }
        if crate::cancel::take_due() {
            let reached = tasks.iter().filter(|task| task.cancel()).count();
            state.machine.borrow_mut().cancel(reached > 0);
        }
        set_waiting("the tasks of a gather");
        *state.waiter.borrow_mut() = Some(WaitNode::new(context.waker()));
        Poll::Pending
    })
    .await
}

/// What [`wait`] comes back with.
///
/// ```
/// use antiphon::{Cancelled, ReturnWhen, sleep, spawn, wait};
/// use std::time::Duration;
///
/// antiphon::Runner::new().virtual_clock().run(async {
///     let tasks = [1, 9].map(|seconds| spawn(sleep(Duration::from_secs(seconds))));
///     let waited = wait(tasks, Some(Duration::from_secs(3)), ReturnWhen::AllCompleted).await?;
///     assert_eq!((waited.done.len(), waited.pending.len()), (1, 1));
///     Ok::<_, Cancelled>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Waited<T, E> {
    /// Tasks that have ended, in the order in which they were given.
    pub done: Vec<Task<T, E>>,
    /// The others; they run on.
    pub pending: Vec<Task<T, E>>,
}

/// Waits until the first of `tasks` has ended, the first has failed, or all have; or until `limit` is over, which is no error.
///
/// ```
/// use antiphon::{Cancelled, ReturnWhen, sleep, spawn, wait};
/// use std::time::Duration;
///
/// antiphon::run(async {
///     let tasks = [1, 500].map(|ms| spawn(async move {
///         sleep(Duration::from_millis(ms)).await?;
///         Ok::<_, Cancelled>(ms)
///     }));
///     let mut waited = wait(tasks, None, ReturnWhen::FirstCompleted).await.unwrap();
///     assert_eq!(waited.done.remove(0).await.unwrap(), 1);
///     assert_eq!(waited.pending.len(), 1);
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
///
/// # Errors
/// [`Cancelled`].
///
/// # Cancellation
/// The tasks are not cancelled, and run on; their handles are dropped. Pass `&mut` handles' tasks through [`shield`] to keep them.
pub async fn wait<T, E>(
    tasks: impl IntoIterator<Item = Task<T, E>>,
    limit: Option<Duration>,
    until: ReturnWhen,
) -> Result<Waited<T, E>, Cancelled> {
    let tasks: Vec<_> = tasks.into_iter().collect();
    let machine = Rc::new(RefCell::new(antiphon_core::Wait::new(tasks.len(), until)));
    let over = Rc::new(Cell::new(tasks.is_empty()));
    let waiter = Rc::new(RefCell::new(None::<WaitNode>));
    for task in &tasks {
        let (machine, over, waiter) = (Rc::clone(&machine), Rc::clone(&over), Rc::clone(&waiter));
        task.header().observe(Box::new(move |ended| {
            if machine.borrow_mut().child_done(ended)
                && !over.replace(true)
                && let Some(waiter) = &*waiter.borrow()
            {
                waiter.wake();
            }
        }));
    }
    let mut limit = pin!(limit.map(sleep));
    poll_fn(|context| {
        if over.get() {
            return Poll::Ready(Ok(()));
        }
        if let Some(limit) = limit.as_mut().as_pin_mut() {
            if let Poll::Ready(outcome) = Sleep::poll(limit, context) {
                return Poll::Ready(outcome);
            }
        } else if crate::cancel::take_due() {
            return Poll::Ready(Err(Cancelled));
        }
        set_waiting("several tasks");
        *waiter.borrow_mut() = Some(WaitNode::new(context.waker()));
        Poll::Pending
    })
    .await?;
    let (done, pending) = tasks.into_iter().partition(Task::is_done);
    Ok(Waited { done, pending })
}

/// Tasks in the order of their ends; see [`as_completed`].
///
/// ```
/// use antiphon::{Cancelled, as_completed, spawn};
///
/// antiphon::run(async {
///     let mut tasks = as_completed(["a", "b"].map(|name| spawn(async move { Ok::<_, Cancelled>(name) })));
///     assert_eq!(tasks.next().await?.unwrap().await.unwrap(), "a");
///     assert_eq!(tasks.next().await?.unwrap().await.unwrap(), "b");
///     assert!(tasks.next().await?.is_none());
///     Ok::<_, Cancelled>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AsCompleted<T, E> {
    tasks: Vec<Option<Task<T, E>>>,
    arrivals: Rc<Arrivals>,
}

#[derive(Debug, Default)]
struct Arrivals {
    places: RefCell<VecDeque<usize>>,
    waiter: RefCell<Option<WaitNode>>,
    left: Cell<usize>,
}

/// Hands out `tasks` in the order in which they end.
///
/// ```
/// use antiphon::{Cancelled, as_completed, sleep, spawn};
/// use std::time::Duration;
///
/// antiphon::Runner::new().virtual_clock().run(async {
///     let mut tasks = as_completed([30, 10, 20].map(|ms| spawn(async move {
///         sleep(Duration::from_millis(ms)).await?;
///         Ok::<_, Cancelled>(ms)
///     })));
///     let mut order = Vec::new();
///     while let Some(task) = tasks.next().await? {
///         order.push(task.await.unwrap());
///     }
///     assert_eq!(order, [10, 20, 30]);
///     Ok::<_, Cancelled>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn as_completed<T, E>(tasks: impl IntoIterator<Item = Task<T, E>>) -> AsCompleted<T, E> {
    let tasks: Vec<_> = tasks.into_iter().map(Some).collect();
    let arrivals = Rc::new(Arrivals { left: Cell::new(tasks.len()), ..Arrivals::default() });
    for (place, task) in tasks.iter().flatten().enumerate() {
        let arrivals = Rc::clone(&arrivals);
        task.header().observe(Box::new(move |_| {
            arrivals.places.borrow_mut().push_back(place);
            if let Some(waiter) = &*arrivals.waiter.borrow() {
                waiter.wake();
            }
        }));
    }
    AsCompleted { tasks, arrivals }
}

impl<T, E> AsCompleted<T, E> {
    /// The next task that has ended, waiting for it if need be; `None` after the last.
    ///
    /// # Errors
    /// [`Cancelled`]; no task is lost by it.
    pub async fn next(&mut self) -> Result<Option<Task<T, E>>, Cancelled> {
        poll_fn(|context| {
            let arrived = self.arrivals.places.borrow_mut().pop_front();
            if let Some(place) = arrived {
                self.arrivals.left.set(self.arrivals.left.get() - 1);
                return Poll::Ready(Ok(self.tasks[place].take()));
            }
            if self.arrivals.left.get() == 0 {
                return Poll::Ready(Ok(None));
            }
            if crate::cancel::take_due() {
                return Poll::Ready(Err(Cancelled));
            }
            set_waiting("the next of several tasks");
            *self.arrivals.waiter.borrow_mut() = Some(WaitNode::new(context.waker()));
            Poll::Pending
        })
        .await
    }
}

/// Joins a task without handing a cancellation on to it: the await fails, and the task runs on.
///
/// ```
/// use antiphon::{Cancelled, JoinError, shield, sleep, spawn, yield_now};
/// use std::time::Duration;
///
/// antiphon::run(async {
///     let waiter = spawn(async {
///         let mut inner = spawn(async { sleep(Duration::from_millis(1)).await });
///         assert!(matches!(shield(&mut inner).await, Err(JoinError::Cancelled)));
///         inner.await // it was not cancelled
///     });
///     yield_now().await.unwrap();
///     waiter.cancel();
///     assert!(waiter.await.is_ok());
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
///
/// # Errors
/// [`JoinError::Cancelled`] if either is cancelled: the inner one is, exactly if it is [done](Task::is_done) then. Otherwise as
/// joining does.
pub async fn shield<T, E>(task: &mut Task<T, E>) -> Result<T, JoinError<E>> {
    let mut task = Pin::new(task);
    poll_fn(|context| {
        if !task.is_done() && crate::cancel::take_due() {
            return Poll::Ready(Err(JoinError::Cancelled));
        }
        task.as_mut().poll(context)
    })
    .await
}
