//! Tasks that end together: the rules are [`antiphon_core::group`]'s.

use crate::runtime::Loop;
use crate::task::{TaskHandle, cancel};
use crate::wait_node::{WaitNode, set_waiting};
use crate::{Context, Failure, Panic, Task, TaskRef, spawn, spawn_in};
use antiphon_core::Ended;
use antiphon_core::group::{Edition, Group, Left, Refusal, Verdict};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

/// The rules of CPython 3.15.
const EDITION: Edition = Edition::of_minor(15);

/// What a group fails with.
///
/// ```
/// use antiphon::{GroupError, task_group};
///
/// antiphon::run(async {
///     let outcome = task_group(async |group| {
///         group.spawn(async { Err::<(), _>("no such file") });
///         Err::<(), _>("too late")
///     });
///     let GroupError::Errors(errors) = outcome.await.unwrap_err() else { panic!() };
///     assert!(errors.iter().any(|error| error.to_string().contains("too late")));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Debug)]
pub enum GroupError {
    /// The task that runs the group was cancelled by somebody else.
    Cancelled,
    /// Children have failed, or the block has: all errors in the order in which they came, the block's own last.
    Errors(Vec<ChildError>),
}

impl Failure for GroupError {
    fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }
}

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => crate::Cancelled.fmt(f),
            Self::Errors(errors) => {
                let plural = if errors.len() == 1 { "" } else { "s" };
                write!(f, "{} error{plural} in a task group", errors.len())?;
                errors.iter().try_for_each(|error| write!(f, "\n    {error}"))
            }
        }
    }
}

impl Error for GroupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Cancelled => Some(&crate::Cancelled),
            Self::Errors(_) => None,
        }
    }
}

/// One error of a group.
///
/// ```
/// use antiphon::{ChildErrorKind, GroupError, task_group};
///
/// antiphon::run(async {
///     let outcome = task_group(async |group| {
///         group.spawn(async { Err::<(), _>("no such file") }).set_name("reader");
///         Ok::<_, antiphon::Cancelled>(())
///     });
///     let GroupError::Errors(errors) = outcome.await.unwrap_err() else { panic!() };
///     assert_eq!(errors[0].name.as_deref(), Some("reader"));
///     assert!(matches!(&errors[0].kind, ChildErrorKind::Failed(error) if error.to_string() == "no such file"));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Debug)]
pub struct ChildError {
    /// The child's name; `None` for the block itself.
    pub name: Option<Rc<str>>,
    /// What it was.
    pub kind: ChildErrorKind,
}

/// What became of a child.
///
/// ```
/// use antiphon::{Cancelled, ChildErrorKind, GroupError, task_group};
///
/// antiphon::run(async {
///     let outcome = task_group(async |group| {
///         group.spawn(async { if true { panic!("on purpose") } else { Ok::<(), Cancelled>(()) } });
///         Ok::<_, Cancelled>(())
///     });
///     let GroupError::Errors(errors) = outcome.await.unwrap_err() else { panic!() };
///     assert!(matches!(&errors[0].kind, ChildErrorKind::Panicked(panic) if panic.message() == "on purpose"));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Debug)]
pub enum ChildErrorKind {
    /// It failed.
    Failed(Box<dyn Error>),
    /// It panicked.
    Panicked(Panic),
}

impl fmt::Display for ChildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}: ")?,
            None => f.write_str("the block: ")?,
        }
        match &self.kind {
            ChildErrorKind::Failed(error) => error.fmt(f),
            ChildErrorKind::Panicked(panic) => write!(f, "panicked: {}", panic.message()),
        }
    }
}

/// A group of tasks; see [`task_group`].
///
/// ```
/// use antiphon::{Cancelled, Context, sleep, task_group};
/// use std::time::Duration;
///
/// antiphon::Runner::new().virtual_clock().run(async {
///     task_group(async |group| {
///         let number = group.spawn(async { Ok::<_, Cancelled>(6) });
///         let text = group.try_spawn(async { Ok::<_, Cancelled>("7") })?; // an error where `spawn` panics
///         let forever = group.try_spawn_in(&Context::new(), sleep(Duration::MAX))?;
///         assert_eq!(group.children(), 3);
///         assert_eq!((number.await?, text.await?), (6, "7"));
///         group.cancel(); // ends those that are left
///         assert!(forever.await.is_err());
///         Ok::<_, Box<dyn std::error::Error>>(())
///     })
///     .await
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TaskGroup {
    state: Rc<State>,
}

struct State {
    machine: RefCell<Group>,
    parent: TaskHandle,
    /// Those that have not ended, by their tasks' numbers: in the order in which they were made.
    children: RefCell<BTreeMap<u64, TaskRef>>,
    errors: RefCell<Vec<ChildError>>,
    waiter: RefCell<Option<WaitNode>>,
}

/// Runs `block`, waits for all tasks that it spawned into the group, and comes back when the last has ended.
///
/// The first child that fails cancels its siblings and the block. All errors are kept. Children may return values of different
/// types: join them in the block, or take what they returned after it.
///
/// ```
/// use antiphon::{Cancelled, GroupError, sleep, task_group};
/// use std::time::Duration;
///
/// antiphon::run(async {
///     let (length, answer) = task_group(async |group| {
///         let text = group.spawn(async { Ok::<_, Cancelled>(String::from("hello")) });
///         let number = group.spawn(async { Ok::<_, Cancelled>(42) });
///         Ok::<_, Cancelled>((text.await.unwrap().len(), number.await.unwrap()))
///     })
///     .await?;
///     assert_eq!((length, answer), (5, 42));
///
///     let failed = task_group(async |group| {
///         group.spawn(async { Err::<(), _>("no such thing".into()) as Result<(), Box<dyn std::error::Error>> });
///         sleep(Duration::from_secs(3600)).await // is cancelled
///     });
///     let Err(GroupError::Errors(errors)) = failed.await else { panic!() };
///     assert_eq!(errors[0].to_string(), "task-3: no such thing");
///     Ok::<_, GroupError>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`GroupError::Errors`]; [`GroupError::Cancelled`] if the task was cancelled by somebody else and no child has failed.
///
/// # Cancellation
/// The children are cancelled and waited for.
///
/// # Panics
/// When it is awaited outside of [`run`](crate::run). If the future is dropped halfway, the children are cancelled and not waited
/// for.
pub async fn task_group<T, E>(block: impl AsyncFnOnce(&TaskGroup) -> Result<T, E>) -> Result<T, GroupError>
where
    E: Failure + Into<Box<dyn Error>>,
{
    let Some(parent) = Loop::current_task() else { panic!("{}", crate::NoLoop) };
    let mut machine = Group::new(EDITION);
    machine.enter();
    let group = TaskGroup {
        state: Rc::new(State {
            machine: RefCell::new(machine),
            parent,
            children: RefCell::default(),
            errors: RefCell::default(),
            waiter: RefCell::default(),
        }),
    };
    let outcome = block(&group).await;
    let left = match &outcome {
        Ok(_) => Left::Normally,
        Err(error) if error.is_cancelled() => Left::Cancelled,
        Err(_) => Left::Raised,
    };
    let state = &group.state;
    if state.machine.borrow_mut().leave(left) {
        state.cancel_children();
    }
    state.wait_for_children().await;
    let uncancels = state.machine.borrow().uncancels_at_end();
    if uncancels {
        let requests = state.parent.header().uncancel();
        state.machine.borrow_mut().uncancelled(requests);
    }
    let verdict = state.machine.borrow().verdict();
    match verdict {
        Verdict::Cancellation => Err(GroupError::Cancelled),
        Verdict::Nothing | Verdict::BaseError => match outcome {
            Ok(value) => Ok(value),
            // The group's own cancellation, without an error to show: somebody called `cancel`.
            Err(_) => Err(GroupError::Cancelled),
        },
        Verdict::Errors { with_blocks_own, recancel_parent } => {
            let header = state.parent.header();
            if recancel_parent && header.cancellation.get().requests() > 0 {
                let mut cancellation = header.cancellation.get();
                cancellation.set_due(); // others want it cancelled as well
                header.cancellation.set(cancellation);
            }
            let mut errors = std::mem::take(&mut *state.errors.borrow_mut());
            if let (true, Err(error)) = (with_blocks_own, outcome) {
                errors.push(ChildError { name: None, kind: ChildErrorKind::Failed(error.into()) });
            }
            Err(GroupError::Errors(errors))
        }
    }
}

impl TaskGroup {
    /// Starts a child. Its errors are the group's: joining it tells that it has failed, and the group tells why.
    ///
    /// # Panics
    /// When the group is shutting down or has ended; [`try_spawn`](Self::try_spawn) says so instead.
    #[track_caller]
    pub fn spawn<T, E, F>(&self, future: F) -> Task<T, ChildFailed>
    where
        T: 'static,
        E: Failure + Into<Box<dyn Error>> + 'static,
        F: Future<Output = Result<T, E>> + 'static,
    {
        match self.try_spawn(future) {
            Ok(task) => task,
            Err(closed) => panic!("{closed}"),
        }
    }

    /// As [`spawn`](Self::spawn).
    ///
    /// # Errors
    /// [`GroupClosed`]: a child has failed, the group was cancelled, or it has ended.
    #[track_caller]
    pub fn try_spawn<T, E, F>(&self, future: F) -> Result<Task<T, ChildFailed>, GroupClosed>
    where
        T: 'static,
        E: Failure + Into<Box<dyn Error>> + 'static,
        F: Future<Output = Result<T, E>> + 'static,
    {
        self.check_open()?;
        let task = spawn(self.reporting(future));
        self.add(&task);
        Ok(task)
    }

    /// As [`try_spawn`](Self::try_spawn), in a context of its own as [`spawn_in`](crate::spawn_in).
    ///
    /// # Errors
    /// As [`try_spawn`](Self::try_spawn).
    #[track_caller]
    pub fn try_spawn_in<T, E, F>(
        &self,
        context: &Context,
        future: F,
    ) -> Result<Task<T, ChildFailed>, GroupClosed>
    where
        T: 'static,
        E: Failure + Into<Box<dyn Error>> + 'static,
        F: Future<Output = Result<T, E>> + 'static,
    {
        self.check_open()?;
        let task = spawn_in(context, self.reporting(future));
        self.add(&task);
        Ok(task)
    }

    fn check_open(&self) -> Result<(), GroupClosed> {
        let open = self.state.machine.borrow().check_open();
        open.map_err(|refusal| GroupClosed { shutting_down: refusal == Refusal::ShuttingDown })
    }

    /// A child's future, which leaves its error with the group.
    fn reporting<T, E, F>(&self, future: F) -> impl Future<Output = Result<T, ChildFailed>> + use<T, E, F>
    where
        E: Failure + Into<Box<dyn Error>>,
        F: Future<Output = Result<T, E>>,
    {
        let state = Rc::clone(&self.state);
        async move {
            future.await.map_err(|error| {
                if error.is_cancelled() {
                    return ChildFailed { cancelled: true };
                }
                let name = crate::current_task().map(|task| task.name());
                let kind = ChildErrorKind::Failed(error.into());
                state.errors.borrow_mut().push(ChildError { name, kind });
                ChildFailed { cancelled: false }
            })
        }
    }

    /// Takes a child in.
    fn add<T>(&self, task: &Task<T, ChildFailed>) {
        self.state.machine.borrow_mut().add_child();
        self.state.children.borrow_mut().insert(task.header().number, task.as_ref());
        let (state, child) = (Rc::clone(&self.state), task.as_ref());
        task.header().observe(Box::new(move |ended| state.child_done(ended, &child)));
    }

    /// Ends the group: cancels its children and, if it is still there, the block.
    pub fn cancel(&self) {
        let (children, parent) = self.state.machine.borrow_mut().cancel();
        if children {
            self.state.cancel_children();
        }
        if parent {
            cancel(&self.state.parent);
        }
    }

    /// How many children have not ended.
    #[must_use]
    pub fn children(&self) -> usize {
        self.state.machine.borrow().children()
    }
}

impl State {
    fn child_done(&self, ended: Ended, child: &TaskRef) {
        child.retrieve(); // the group has the error
        let kept = self.children.borrow_mut().remove(&child.number());
        drop(kept);
        if let Some(panic) = child.panic() {
            let kind = ChildErrorKind::Panicked(panic);
            self.errors.borrow_mut().push(ChildError { name: Some(child.name()), kind });
        }
        let parent_done = self.parent.is_done();
        let end = self.machine.borrow_mut().child_done(ended, true, false, parent_done);
        if end.abort_and_cancel_parent {
            self.cancel_children();
            // A parent that waits at the end of the block is not cancelled: it waits for this.
            cancel(&self.parent);
        }
        if end.wake_parent
            && let Some(waiter) = &*self.waiter.borrow()
        {
            waiter.wake();
        }
    }

    fn cancel_children(&self) {
        let children: Vec<_> = self.children.borrow().values().cloned().collect();
        children.iter().for_each(|child| {
            child.cancel();
        });
    }

    async fn wait_for_children(&self) {
        poll_fn(|context| {
            if self.machine.borrow().children() == 0 {
                return Poll::Ready(());
            }
            if crate::cancel::take_due() && self.machine.borrow_mut().waited(true) {
                self.cancel_children();
            }
            self.machine.borrow_mut().wait();
            set_waiting("the tasks of its group");
            *self.waiter.borrow_mut() = Some(WaitNode::new(context.waker()));
            Poll::Pending
        })
        .await;
    }
}

impl Drop for TaskGroup {
    fn drop(&mut self) {
        // Dropped halfway; after the end there are none.
        self.state.cancel_children();
    }
}

impl fmt::Debug for TaskGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup").field("children", &self.children()).finish_non_exhaustive()
    }
}

/// A child of a group has failed or was cancelled; the group has the error.
///
/// ```
/// use antiphon::{Failure, JoinError, task_group};
///
/// antiphon::run(async {
///     let outcome = task_group(async |group| {
///         let child = group.spawn(async { Err::<(), _>("no such file") });
///         let Err(JoinError::Failed(failed)) = child.await else { panic!() };
///         assert!(!failed.is_cancelled());
///         Ok::<_, antiphon::Cancelled>(())
///     });
///     assert!(outcome.await.unwrap_err().to_string().contains("no such file"));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct ChildFailed {
    cancelled: bool,
}

impl Failure for ChildFailed {
    fn is_cancelled(&self) -> bool {
        self.cancelled
    }
}

impl fmt::Display for ChildFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a child of a task group has failed: the group tells why")
    }
}

impl Error for ChildFailed {}

/// A group takes no more children.
///
/// ```
/// use antiphon::{Cancelled, task_group};
///
/// antiphon::run(async {
///     let outcome = task_group(async |group| {
///         group.cancel();
///         let closed = group.try_spawn(async { Ok::<_, Cancelled>(()) }).unwrap_err();
///         assert_eq!(closed.to_string(), "the task group is shutting down and takes no more tasks");
///         Ok::<_, Cancelled>(())
///     });
///     assert!(outcome.await.is_ok());
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct GroupClosed {
    shutting_down: bool,
}

impl fmt::Display for GroupClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.shutting_down {
            "the task group is shutting down and takes no more tasks"
        } else {
            "the task group has ended and takes no more tasks"
        })
    }
}

impl Error for GroupClosed {}
