//! What every task has, whatever its future: name, cancellation, and who waits for its end.

use super::cell::{Base, TaskHandle};
use super::span::TaskSpan;
use crate::context::{Context, ContextSlot};
use crate::runtime::own_task;
use crate::wait_node::wake_task;
use antiphon_core::Ended;
use antiphon_core::future::{FutureState, Status};
use antiphon_core::task::Cancellation;
use std::cell::{Cell, OnceCell, RefCell};
use std::panic::Location;
use std::rc::Rc;
use std::task::Waker;

/// What a task waits for, as far as antiphon knows.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Waiting {
    /// Its next step, or a future that is not antiphon's.
    Unknown,
    /// Something of antiphon's.
    For(&'static str),
    /// The end of another task, which knows its joiner.
    Task,
}

/// Where a task keeps that, in two words.
pub(crate) struct WaitingCell(Cell<Option<&'static str>>);

impl WaitingCell {
    /// The words for the end of a task.
    const TASK: &'static str = "another task";

    pub(crate) fn get(&self) -> Waiting {
        match self.0.get() {
            None => Waiting::Unknown,
            Some(what) if std::ptr::eq(what, Self::TASK) => Waiting::Task,
            Some(what) => Waiting::For(what),
        }
    }

    #[inline]
    pub(crate) fn set(&self, waiting: Waiting) {
        self.0.set(match waiting {
            Waiting::Unknown => None,
            Waiting::For(what) => Some(what),
            Waiting::Task => Some(Self::TASK),
        });
    }
}

pub(crate) type Observer = Box<dyn FnOnce(Ended)>;

pub(crate) struct Header {
    /// What only [`cell`](super::cell) uses, beside the place.
    pub(crate) base: Base,
    pub(crate) queued: Cell<bool>,
    /// Whether the first step has been made.
    pub(super) begun: Cell<bool>,
    /// Whether somebody uses the future: a step, or its end (invariant Q5).
    pub(super) running: Cell<bool>,
    pub(crate) cancellation: Cell<Cancellation>,
    state: Cell<FutureState>,
    pub(crate) waiting: WaitingCell,
    pub(crate) location: &'static Location<'static>,
    /// Which one of its loop it is; the main one is zero.
    pub(crate) number: u64,
    /// All of the header that has a destructor.
    pub(super) followers: Followers,
}

/// Who is to be told of a task's end, its span, and what few tasks have.
pub(super) struct Followers {
    /// The task that joins: a task has one handle.
    joiner: Cell<Option<TaskHandle>>,
    span: TaskSpan,
    rarities: OnceCell<Box<Rarities>>,
}

/// What few tasks have.
#[derive(Default)]
struct Rarities {
    name: RefCell<Option<Rc<str>>>,
    context: ContextSlot,
    observers: RefCell<Vec<Observer>>,
    /// Who joins, if it is no task of this loop, or polls with a waker of its own.
    foreign_joiner: RefCell<Option<Waker>>,
}

impl Header {
    pub(super) fn new(base: Base, number: u64, location: &'static Location<'static>) -> Self {
        Self {
            base,
            queued: Cell::new(false),
            begun: Cell::new(false),
            running: Cell::new(false),
            cancellation: Cell::default(),
            state: Cell::default(),
            waiting: WaitingCell(Cell::new(None)),
            location,
            number,
            followers: Followers {
                joiner: Cell::new(None),
                span: TaskSpan::new(number, location),
                rarities: OnceCell::new(),
            },
        }
    }

    /// Whether it is the main future's, which its runner polls.
    #[inline]
    pub(crate) fn is_main(&self) -> bool {
        self.number == 0
    }

    pub(crate) fn name(&self) -> Rc<str> {
        let given = self.followers.rarities.get().and_then(|rarities| rarities.name.borrow().clone());
        given.unwrap_or_else(|| match self.number {
            0 => Rc::from("main"),
            number => Rc::from(format!("task-{number}")),
        })
    }

    pub(crate) fn set_name(&self, name: &str) {
        self.followers.span.set_name(name);
        let former = self.rarities().name.replace(Some(Rc::from(name)));
        drop(former);
    }

    fn rarities(&self) -> &Rarities {
        self.followers.rarities.get_or_init(Box::default)
    }

    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.state.get().is_done()
    }

    /// How it has ended, if it has.
    #[inline]
    pub(crate) fn ended(&self) -> Option<Ended> {
        let state = self.state.get();
        match state.status() {
            Status::Pending => None,
            Status::Cancelled => Some(Ended::Cancelled),
            Status::Finished if state.is_failed() => Some(Ended::Raised),
            Status::Finished => Some(Ended::Returned),
        }
    }

    pub(crate) fn span(&self) -> &TaskSpan {
        &self.followers.span
    }

    /// Where its context is, if it ever had one.
    #[inline]
    pub(crate) fn context(&self) -> Option<&ContextSlot> {
        self.followers.rarities.get().map(|rarities| &rarities.context)
    }

    /// Where its context is to be.
    pub(crate) fn make_context(&self) -> &ContextSlot {
        &self.rarities().context
    }

    /// Before it begins: the context that it runs in.
    #[inline]
    pub(crate) fn set_context(&self, context: Option<Context>) {
        if context.is_some() {
            let former = self.make_context().replace(context);
            drop(former);
        }
    }

    pub(crate) fn uncancel(&self) -> u32 {
        let mut cancellation = self.cancellation.get();
        let left = cancellation.uncancel(true);
        self.cancellation.set(cancellation);
        left
    }

    #[inline]
    pub(crate) fn take_due(&self) -> bool {
        let mut cancellation = self.cancellation.get();
        let due = cancellation.take_due();
        if due {
            self.cancellation.set(cancellation);
        }
        due
    }

    /// Whether somebody else has the task's waker, and may use it.
    pub(crate) fn is_watched(&self) -> bool {
        self.base.is_watched()
    }

    /// Wakes whoever polls with `waker` when the task ends.
    pub(crate) fn wake_when_done(&self, waker: &Waker) {
        if let Some(task) = own_task(waker) {
            let former = self.followers.joiner.replace(Some(task));
            drop(former);
            return;
        }
        let place = &self.rarities().foreign_joiner;
        if !place.borrow().as_ref().is_some_and(|former| former.will_wake(waker)) {
            let former = place.replace(Some(waker.clone()));
            drop(former);
        }
    }

    /// Whether `task` joins it.
    pub(crate) fn is_joined_by(&self, task: &TaskHandle) -> bool {
        let joiner = self.followers.joiner.take();
        let is_joined = joiner.as_ref() == Some(task);
        self.followers.joiner.set(joiner);
        is_joined
    }

    /// Calls `observer` when the task ends; at once if it has.
    pub(crate) fn observe(&self, observer: Observer) {
        match self.ended() {
            Some(ended) => observer(ended),
            None => self.rarities().observers.borrow_mut().push(observer),
        }
    }

    /// Somebody has asked for the outcome.
    #[inline]
    pub(crate) fn retrieve(&self) {
        let mut state = self.state.get();
        state.retrieve();
        self.state.set(state);
    }

    /// Whether it has failed, and nobody has asked.
    #[inline]
    pub(super) fn is_unretrieved(&self) -> bool {
        self.state.get().is_unretrieved()
    }

    /// It has ended: tells everybody, observers first, for they decide what the others find.
    pub(super) fn end(&self, ended: Ended) {
        let mut state = self.state.get();
        match ended {
            Ended::Returned => state.finish(),
            Ended::Raised => state.fail(),
            Ended::Cancelled => state.cancel(),
        };
        self.state.set(state);
        if let Some(rarities) = self.followers.rarities.get() {
            let observers = rarities.observers.take();
            observers.into_iter().for_each(|observer| observer(ended));
            let joiner = rarities.foreign_joiner.take();
            if let Some(joiner) = joiner {
                joiner.wake();
            }
        }
        if let Some(joiner) = self.followers.joiner.take() {
            wake_task(&joiner);
        }
    }
}
