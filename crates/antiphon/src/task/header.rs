//! What every task has, whatever its future: name, cancellation, waker, and who waits for its end.

use super::span::TaskSpan;
use crate::Panic;
use crate::context::ContextSlot;
use crate::runtime::{Loop, TaskKey, TaskWaker};
use crate::wait_node::Who;
use antiphon_core::Ended;
use antiphon_core::future::FutureState;
use antiphon_core::task::Cancellation;
use std::cell::{Cell, OnceCell, RefCell};
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

/// A task of any type.
pub(crate) trait Runnable {
    fn header(&self) -> &Header;
    /// Makes a step; whether it was the last.
    fn step(&self, context: &mut Context<'_>) -> bool;
    /// Drops the future: the loop ends.
    fn discard(&self);
    /// What it panicked with.
    fn panic(&self) -> Option<Panic>;
    fn into_runnable(self: Rc<Self>) -> Rc<dyn Runnable>;
}

/// What a task waits for, as far as antiphon knows.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Waiting {
    /// Its next step, or a future that is not antiphon's.
    Unknown,
    /// Something of antiphon's.
    For(&'static str),
    /// Another task's end.
    Task(TaskKey),
}

pub(crate) type Observer = Box<dyn FnOnce(Ended)>;

pub(crate) struct Header {
    pub(crate) key: Cell<TaskKey>,
    pub(crate) queued: Cell<bool>,
    pub(crate) cancellation: Cell<Cancellation>,
    pub(crate) state: Cell<FutureState>,
    pub(crate) ended: Cell<Option<Ended>>,
    pub(crate) waiting: Cell<Waiting>,
    pub(crate) context: ContextSlot,
    pub(crate) span: TaskSpan,
    pub(crate) location: &'static Location<'static>,
    number: u64,
    waker: OnceCell<OwnWaker>,
    /// Who joins: a task has one handle.
    joiner: RefCell<Who>,
    rarities: OnceCell<Box<Rarities>>,
}

/// What few tasks have.
#[derive(Default)]
struct Rarities {
    name: RefCell<Option<Rc<str>>>,
    observers: RefCell<Vec<Observer>>,
}

/// A task's waker, and a way to see whether others have copies.
pub(crate) type OwnWaker = (Arc<TaskWaker>, Waker);

impl Header {
    pub(crate) fn new(number: u64, location: &'static Location<'static>) -> Self {
        Self {
            key: Cell::new(TaskKey::MAIN),
            queued: Cell::new(false),
            cancellation: Cell::default(),
            state: Cell::default(),
            ended: Cell::new(None),
            waiting: Cell::new(Waiting::Unknown),
            context: ContextSlot::default(),
            span: TaskSpan::new(number, location),
            location,
            number,
            waker: OnceCell::new(),
            joiner: RefCell::new(Who::Nobody),
            rarities: OnceCell::new(),
        }
    }

    pub(crate) fn name(&self) -> Rc<str> {
        let given = self.rarities.get().and_then(|rarities| rarities.name.borrow().clone());
        given.unwrap_or_else(|| match self.number {
            0 => Rc::from("main"),
            number => Rc::from(format!("task-{number}")),
        })
    }

    pub(crate) fn set_name(&self, name: &str) {
        self.span.set_name(name);
        let former = self.rarities.get_or_init(Box::default).name.replace(Some(Rc::from(name)));
        drop(former);
    }

    /// Asks it to stop; false if it is done.
    pub(crate) fn cancel(&self, own: &Loop) -> bool {
        if self.ended.get().is_some() {
            return false;
        }
        let mut cancellation = self.cancellation.get();
        cancellation.request();
        cancellation.set_due();
        self.cancellation.set(cancellation);
        own.schedule(self);
        true
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

    /// The waker for foreign futures, and for everybody else to know the task by.
    #[inline]
    pub(crate) fn waker(&self, own: &Loop) -> &Waker {
        &self.waker.get_or_init(|| own.make_waker(self.key.get())).1
    }

    /// Gives the waker back to be used again, if nobody else has a copy.
    pub(crate) fn take_waker(&mut self) -> Option<OwnWaker> {
        self.waker.take().filter(|(target, _)| Arc::strong_count(target) == 2)
    }

    #[inline]
    pub(crate) fn has_waker(&self, waker: &Waker) -> bool {
        self.waker.get().is_some_and(|(_, own)| own.will_wake(waker))
    }

    /// Whether somebody else has the task's waker, and may use it.
    pub(crate) fn is_watched(&self) -> bool {
        self.waker.get().is_some_and(|(target, _)| Arc::strong_count(target) > 2)
    }

    /// Wakes whoever polls with `waker` when the task ends.
    pub(crate) fn wake_when_done(&self, waker: &Waker) {
        if !self.joiner.borrow().is_woken_by(waker) {
            let former = self.joiner.replace(Who::of(waker));
            drop(former);
        }
    }

    /// Calls `observer` when the task ends; at once if it has.
    pub(crate) fn observe(&self, observer: Observer) {
        match self.ended.get() {
            Some(ended) => observer(ended),
            None => self.rarities.get_or_init(Box::default).observers.borrow_mut().push(observer),
        }
    }

    /// Somebody has asked for the outcome.
    pub(crate) fn retrieve(&self) {
        let mut state = self.state.get();
        state.retrieve();
        self.state.set(state);
    }

    /// It has ended: tells everybody, observers first, for they decide what the others find.
    pub(crate) fn end(&self, ended: Ended) {
        let mut state = self.state.get();
        match ended {
            Ended::Returned => state.finish(),
            Ended::Raised => state.fail(),
            Ended::Cancelled => state.cancel(),
        };
        self.state.set(state);
        self.ended.set(Some(ended));
        if let Some(rarities) = self.rarities.get() {
            let observers = std::mem::take(&mut *rarities.observers.borrow_mut());
            observers.into_iter().for_each(|observer| observer(ended));
        }
        self.joiner.replace(Who::Nobody).wake();
    }
}

/// The main future's task, which its runner polls.
pub(crate) struct MainTask {
    header: Header,
}

impl MainTask {
    pub(crate) fn new(location: &'static Location<'static>) -> Rc<Self> {
        Rc::new(Self { header: Header::new(0, location) })
    }
}

impl Runnable for MainTask {
    fn header(&self) -> &Header {
        &self.header
    }

    fn step(&self, _: &mut Context<'_>) -> bool {
        false // its runner makes the steps
    }

    fn discard(&self) {}

    fn panic(&self) -> Option<Panic> {
        None // its runner goes on with it
    }

    fn into_runnable(self: Rc<Self>) -> Rc<dyn Runnable> {
        self
    }
}
