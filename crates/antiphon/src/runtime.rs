//! One loop: the engine's core with tasks as what it queues.
//!
//! Invariant A1: the core is borrowed for single calls only, in which nothing of the user runs; so is the table of tasks.

mod drive;
mod io;
mod roster;
mod table;

pub(crate) use drive::run_main;
pub(crate) use io::{Advice, Direction, Registration, Ticket};
pub(crate) use table::Key;

use crate::signal::Hub;
use crate::slow_step::StepWatch;
use crate::task::{self, Crossing, Current, Due, Header, TaskHandle};
use crate::{NoLoop, Panic};
use antiphon_engine::{
    BlockingPool, Clock, Core, Epoll, Inbox, Instant, Monotonic, PoolOptions, TimerKey, Virtual,
};
use io::IoTable;
use roster::Roster;
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Waker;
use table::Table;

/// What a loop queues: two words, of which every task that is ready or sleeps has one.
pub(crate) enum Work {
    /// A step of a task.
    Step(Due),
    /// A waker that came from another thread.
    Crossed(Crossing),
    /// Wake somebody who is not a task of this loop.
    Wake(Box<Waker>),
    /// Run a callback of this loop that waits in its table.
    Local(Key),
    /// Run something that came from another thread.
    Run(Box<Box<dyn FnOnce() + Send>>),
}

/// A callback that belongs to a loop's thread.
pub(crate) type Callback = Rc<dyn Fn()>;

/// One loop, owned by the thread that runs it.
pub(crate) struct Loop {
    core: RefCell<Core<Work, Epoll>>,
    pub(crate) inbox: Arc<Inbox<Work>>,
    clock: LoopClock,
    watch: Option<StepWatch>,
    /// Memory for tasks.
    pub(crate) cells: task::Pool,
    /// The tasks that have not ended.
    tasks: RefCell<Roster>,
    callbacks: RefCell<Table<Callback>>,
    io: IoTable,
    /// Where streams read to; taken out while one does.
    scratch: Cell<Option<Box<[u8]>>>,
    signals: RefCell<Weak<Hub>>,
    current: Current,
    /// The main future's task, which is not in the roster.
    main: RefCell<Option<TaskHandle>>,
    pool: OnceCell<BlockingPool>,
    /// Alive as long as there is a [`Remote`](crate::Remote).
    pub(crate) remotes: Arc<()>,
    next_number: Cell<u64>,
    pub(crate) id: LoopId,
}

/// How much is read at once, in bytes: as much as asyncio's transports do. Pages that nothing was read to are not there.
const SCRATCH_BYTES: usize = 256 * 1024;

/// Tells the loops of a process apart, also those that are gone.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct LoopId(u32);

impl LoopId {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What time it is.
#[derive(Clone, Debug)]
pub(crate) enum LoopClock {
    System,
    Virtual(Arc<Virtual>),
}

impl Loop {
    pub(crate) fn new(clock: LoopClock, watch: Option<StepWatch>) -> std::io::Result<Rc<Self>> {
        let core = Core::new(Epoll::new()?)?;
        Ok(Rc::new(Self {
            inbox: Arc::clone(&core.inbox),
            core: RefCell::new(core),
            clock,
            watch,
            cells: task::Pool::new(),
            tasks: RefCell::new(Roster::new()),
            callbacks: RefCell::new(Table::new()),
            io: IoTable::new(),
            scratch: Cell::new(None),
            signals: RefCell::default(),
            current: Current::nobody(),
            main: RefCell::new(None),
            pool: OnceCell::new(),
            remotes: Arc::new(()),
            next_number: Cell::new(1),
            id: LoopId::new(),
        }))
    }

    /// The loop that runs on this thread.
    pub(crate) fn running() -> Result<Rc<Self>, NoLoop> {
        task::running().ok_or(NoLoop)
    }

    /// Calls `f` with the loop that runs on this thread; nothing of the user runs in it.
    #[inline]
    pub(crate) fn with_running<T>(f: impl FnOnce(&Self) -> T) -> Option<T> {
        task::with_running(f)
    }

    /// Calls `f` with the task that runs on this thread; nothing of the user runs in it.
    #[inline]
    fn with_current_task<T>(f: impl FnOnce(&Self, &TaskHandle) -> T) -> Option<T> {
        Self::with_running(|own| own.current.with(|task| f(own, task))).flatten()
    }

    /// Whether this is the loop that runs on this thread.
    #[inline]
    pub(crate) fn is_running(&self) -> bool {
        Self::with_running(|own| std::ptr::eq(own, self)).unwrap_or(false)
    }

    /// What hands signals out, while anybody watches any.
    pub(crate) fn signals(&self) -> Weak<Hub> {
        self.signals.borrow().clone()
    }

    pub(crate) fn set_signals(&self, hub: Weak<Hub>) {
        self.signals.replace(hub);
    }

    /// Lends `f` memory of the running loop to read to, whose contents are anything.
    pub(crate) fn with_scratch<T>(f: impl FnOnce(&mut [u8]) -> T) -> T {
        let own = Self::running().ok();
        let kept = own.as_ref().and_then(|own| own.scratch.take());
        let mut scratch = kept.unwrap_or_else(|| vec![0; SCRATCH_BYTES].into_boxed_slice());
        let outcome = f(&mut scratch);
        if let Some(own) = own {
            own.scratch.set(Some(scratch));
        }
        outcome
    }

    /// The task that runs on this thread.
    #[inline]
    pub(crate) fn current_task() -> Option<TaskHandle> {
        Self::with_current_task(|_, task| task.clone())
    }

    /// Calls `f` with the running task's header; nothing of the user runs in it.
    #[inline]
    pub(crate) fn with_current<T>(f: impl FnOnce(&Header) -> T) -> Option<T> {
        Self::with_current_task(|_, task| f(task.header()))
    }

    /// Queues one more step of the running task, if `waker` is its own.
    #[inline]
    pub(crate) fn reschedule_current(waker: &Waker) -> bool {
        Self::with_current_task(|own, task| {
            let is_own = task.has_waker(waker);
            if is_own {
                own.schedule(task);
            }
            is_own
        })
        .unwrap_or(false)
    }

    /// Whether this is the loop with this inbox.
    #[inline]
    pub(crate) fn owns(&self, inbox: *const Inbox<Work>) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.inbox), inbox)
    }

    pub(crate) fn main_task(&self) -> Option<TaskHandle> {
        self.main.borrow().clone()
    }

    pub(crate) fn now(&self) -> Instant {
        match &self.clock {
            LoopClock::System => Monotonic.now(),
            LoopClock::Virtual(clock) => clock.now(),
        }
    }

    /// Queues a step, unless one is queued.
    #[inline]
    pub(crate) fn schedule(&self, task: &TaskHandle) {
        if !task.queued.replace(true) {
            self.core.borrow_mut().ready.push(Work::Step(Due::new(task.clone())));
        }
    }

    pub(crate) fn arm(&self, deadline: Instant, work: Work) -> TimerKey {
        self.core.borrow_mut().timers.push(deadline, work)
    }

    /// Disarms a timer; what it would have done is the caller's to drop.
    pub(crate) fn take_timer(&self, key: TimerKey) -> Option<Work> {
        self.core.borrow_mut().timers.cancel(key)
    }

    /// Lets an armed timer wake `waker`; false if its time has come.
    pub(crate) fn renew_timer(&self, key: TimerKey, waker: &Waker) -> bool {
        let wakes = self.core.borrow_mut().timers.get_mut(key).map(|work| match work {
            Work::Step(due) => {
                self.current.with(|task| due.is_of(task) && task.has_waker(waker)).unwrap_or(false)
            }
            Work::Wake(former) => former.will_wake(waker),
            _ => false,
        });
        if wakes == Some(false) {
            let mut work = self.work_for(waker);
            if let Some(former) = self.core.borrow_mut().timers.get_mut(key) {
                std::mem::swap(former, &mut work);
            }
            drop(work); // the former, after the borrow
        }
        wakes.is_some()
    }

    /// Arms a timer that runs `callback`; to be disarmed by [`disarm_callback`](Self::disarm_callback).
    pub(crate) fn arm_callback(&self, deadline: Instant, callback: Callback) -> (TimerKey, Key) {
        let place = self.callbacks.borrow_mut().insert(callback);
        (self.arm(deadline, Work::Local(place)), place)
    }

    pub(crate) fn disarm_callback(&self, (timer, place): (TimerKey, Key)) {
        drop(self.take_timer(timer));
        let callback = self.callbacks.borrow_mut().remove(place);
        drop(callback);
    }

    /// Takes a task in, and queues its first step.
    #[inline]
    pub(crate) fn adopt(&self, task: &TaskHandle) {
        self.tasks.borrow_mut().insert(task.clone());
        self.schedule(task);
    }

    pub(crate) fn next_number(&self) -> u64 {
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        number
    }

    /// The tasks that have not ended, in the order in which they were made, without the main one.
    pub(crate) fn all_tasks(&self) -> Vec<TaskHandle> {
        self.tasks.borrow().in_order()
    }

    pub(crate) fn pool(&self) -> &BlockingPool {
        self.pool.get_or_init(|| {
            BlockingPool::new(PoolOptions { name: "antiphon".to_owned(), ..PoolOptions::default() })
        })
    }

    /// Wakes whoever `waker` is, later and from the loop.
    pub(crate) fn work_for(&self, waker: &Waker) -> Work {
        match own_task(waker) {
            Some(task) => Work::Step(Due::new(task)),
            None => Work::Wake(Box::new(waker.clone())),
        }
    }

    /// One step of a task.
    fn step(&self, task: TaskHandle) {
        task.queued.set(false);
        let done = self.current.during(&task, || self.watched(Some(&task), || task.step()));
        if done {
            let own = self.tasks.borrow_mut().remove(&task);
            drop(own);
        }
    }

    /// Makes a step in its task's span, and times it if that was asked for.
    #[inline]
    fn watched<R>(&self, header: Option<&Header>, step: impl FnOnce() -> R) -> R {
        let step = || match header {
            None => step(),
            Some(header) => header.span().enter(step),
        };
        match &self.watch {
            None => step(),
            Some(watch) => watch.time(header, step),
        }
    }

    /// Whether anything could wake a task while no timer is armed.
    fn can_be_woken(&self) -> bool {
        let core = self.core.borrow();
        // A waker that somebody else holds may be used at any time, from any thread.
        !core.inbox.is_empty_hint()
            || !core.ready.is_empty()
            || Arc::strong_count(&self.remotes) > 1
            || self.tasks.borrow().iter().any(|task| task.is_watched())
    }
}

/// The running task, if `waker` is its own.
#[inline]
pub(crate) fn own_task(waker: &Waker) -> Option<TaskHandle> {
    Loop::with_current_task(|_, task| task.has_waker(waker).then(|| task.clone())).flatten()
}

/// Runs `work`, and makes a value of a panic.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    // What the work shares with others is theirs to judge: the panic is told to whoever joins.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(Panic::new)
}
