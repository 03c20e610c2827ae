//! One loop: the engine's core with tasks as what it queues.
//!
//! Invariant A1: the core is borrowed for single calls only, in which nothing of the user runs; so is the table of tasks.

mod drive;
mod io;
mod table;

pub(crate) use drive::run_main;
pub(crate) use io::{Advice, Direction, Registration, Ticket};
pub(crate) use table::TaskKey;

use crate::signal::Hub;
use crate::slow_step::StepWatch;
use crate::task::{Header, OwnWaker, Runnable};
use crate::{NoLoop, Panic};
use antiphon_engine::{
    BlockingPool, Clock, Core, Epoll, Inbox, Instant, Monotonic, PoolOptions, TimerKey, Virtual,
};
use io::IoTable;
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};
use table::Table;

/// What a loop queues. It can cross threads: tasks are named by their keys.
pub(crate) enum Work {
    /// A step of a task.
    Step(TaskKey),
    /// Wake somebody who is not a task of this loop.
    Wake(Waker),
    /// Run a callback of this loop that waits in its table.
    Local(TaskKey),
    /// Run something that came from another thread.
    Run(Box<dyn FnOnce() + Send>),
}

/// A callback that belongs to a loop's thread.
pub(crate) type Callback = Rc<dyn Fn()>;

/// One loop, owned by the thread that runs it.
pub(crate) struct Loop {
    core: RefCell<Core<Work, Epoll>>,
    pub(crate) inbox: Arc<Inbox<Work>>,
    clock: LoopClock,
    watch: Option<StepWatch>,
    tasks: RefCell<Table<Rc<dyn Runnable>>>,
    callbacks: RefCell<Table<Callback>>,
    io: IoTable,
    /// Where streams read to; taken out while one does.
    scratch: Cell<Option<Box<[u8]>>>,
    signals: RefCell<Weak<Hub>>,
    current: RefCell<Option<Rc<dyn Runnable>>>,
    /// The main future's task, which is not in the table.
    main: RefCell<Option<Rc<dyn Runnable>>>,
    pool: OnceCell<BlockingPool>,
    /// Alive as long as there is a [`Remote`](crate::Remote).
    pub(crate) remotes: Arc<()>,
    next_number: Cell<u64>,
    /// Wakers of tasks that are gone, of which there are no copies.
    spare_wakers: RefCell<Vec<OwnWaker>>,
}

/// How much a stream reads at once, in bytes.
const SCRATCH_BYTES: usize = 64 * 1024;

/// So many wakers are kept.
const SPARE_WAKERS: usize = 1024;

/// What time it is.
#[derive(Clone, Debug)]
pub(crate) enum LoopClock {
    System,
    Virtual(Arc<Virtual>),
}

thread_local! {
    /// The loop that runs on this thread, as `asyncio.get_running_loop` has it; no state of a loop is in here.
    static RUNNING: RefCell<Option<Rc<Loop>>> = const { RefCell::new(None) };
}

impl Loop {
    pub(crate) fn new(clock: LoopClock, watch: Option<StepWatch>) -> std::io::Result<Rc<Self>> {
        let core = Core::new(Epoll::new()?)?;
        Ok(Rc::new(Self {
            inbox: Arc::clone(&core.inbox),
            core: RefCell::new(core),
            clock,
            watch,
            tasks: RefCell::new(Table::new()),
            callbacks: RefCell::new(Table::new()),
            io: IoTable::new(),
            scratch: Cell::new(None),
            signals: RefCell::default(),
            current: RefCell::new(None),
            main: RefCell::new(None),
            pool: OnceCell::new(),
            remotes: Arc::new(()),
            next_number: Cell::new(1),
            spare_wakers: RefCell::default(),
        }))
    }

    /// The loop that runs on this thread.
    pub(crate) fn running() -> Result<Rc<Self>, NoLoop> {
        RUNNING.try_with(|running| running.borrow().clone()).ok().flatten().ok_or(NoLoop)
    }

    /// Whether this is the loop that runs on this thread.
    #[inline]
    pub(crate) fn is_running(&self) -> bool {
        RUNNING
            .try_with(|running| running.borrow().as_ref().is_some_and(|own| std::ptr::eq(&**own, self)))
            .unwrap_or(false)
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
    pub(crate) fn current_task() -> Option<Rc<dyn Runnable>> {
        RUNNING
            .try_with(|running| running.borrow().as_ref().and_then(|own| own.current.borrow().clone()))
            .ok()
            .flatten()
    }

    /// Calls `f` with the running task's header; nothing of the user runs in it.
    #[inline]
    pub(crate) fn with_current<T>(f: impl FnOnce(&Header) -> T) -> Option<T> {
        RUNNING
            .try_with(|running| {
                running
                    .borrow()
                    .as_ref()
                    .and_then(|own| own.current.borrow().as_ref().map(|task| f(task.header())))
            })
            .ok()
            .flatten()
    }

    /// Queues one more step of the running task, if `waker` is its own.
    #[inline]
    pub(crate) fn reschedule_current(waker: &Waker) -> bool {
        RUNNING
            .try_with(|running| {
                let running = running.borrow();
                let Some(own) = running.as_ref() else { return false };
                let current = own.current.borrow();
                let Some(task) = current.as_ref().filter(|task| task.header().has_waker(waker)) else {
                    return false;
                };
                own.schedule(task.header());
                true
            })
            .unwrap_or(false)
    }

    pub(crate) fn main_task(&self) -> Option<Rc<dyn Runnable>> {
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
    pub(crate) fn schedule(&self, header: &Header) {
        if !header.queued.replace(true) {
            self.core.borrow_mut().ready.push(Work::Step(header.key.get()));
        }
    }

    pub(crate) fn arm(&self, deadline: Instant, work: Work) -> TimerKey {
        self.core.borrow_mut().timers.push(deadline, work)
    }

    /// Whether the timer was armed; its work is dropped.
    pub(crate) fn disarm(&self, key: TimerKey) -> bool {
        let work = self.core.borrow_mut().timers.cancel(key);
        work.is_some() // dropped after the borrow: it may be a foreign waker
    }

    /// Arms a timer that runs `callback`; to be disarmed by [`disarm_callback`](Self::disarm_callback).
    pub(crate) fn arm_callback(&self, deadline: Instant, callback: Callback) -> (TimerKey, TaskKey) {
        let place = self.callbacks.borrow_mut().insert(callback);
        (self.arm(deadline, Work::Local(place)), place)
    }

    pub(crate) fn disarm_callback(&self, (timer, place): (TimerKey, TaskKey)) {
        self.disarm(timer);
        let callback = self.callbacks.borrow_mut().remove(place);
        drop(callback);
    }

    /// Takes a task in, and queues its first step.
    pub(crate) fn adopt(&self, task: Rc<dyn Runnable>) {
        let key = self.tasks.borrow_mut().insert(Rc::clone(&task));
        task.header().key.set(key);
        self.schedule(task.header());
    }

    pub(crate) fn next_number(&self) -> u64 {
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        number
    }

    pub(crate) fn all_tasks(&self) -> Vec<Rc<dyn Runnable>> {
        self.tasks.borrow().iter().cloned().collect()
    }

    pub(crate) fn pool(&self) -> &BlockingPool {
        self.pool.get_or_init(|| {
            BlockingPool::new(PoolOptions { name: "antiphon".to_owned(), ..PoolOptions::default() })
        })
    }

    /// A waker for the task with this key.
    pub(crate) fn make_waker(&self, key: TaskKey) -> OwnWaker {
        if let Some(spare) = self.spare_wakers.borrow_mut().pop() {
            spare.0.key.store(key.to_bits(), Ordering::Relaxed);
            return spare;
        }
        let key = AtomicU64::new(key.to_bits());
        let target = Arc::new(TaskWaker { key, inbox: Arc::clone(&self.inbox) });
        (Arc::clone(&target), Waker::from(target))
    }

    /// Keeps a waker of which there are no copies, for the next task of this thread's loop.
    pub(crate) fn keep_waker(waker: OwnWaker) {
        let _ = RUNNING.try_with(|running| {
            if let Ok(running) = running.try_borrow()
                && let Some(own) = running.as_ref()
                && Arc::ptr_eq(&own.inbox, &waker.0.inbox)
                && let mut spare = own.spare_wakers.borrow_mut()
                && spare.len() < SPARE_WAKERS
            {
                spare.push(waker);
            }
        });
    }

    /// Wakes whoever `waker` is, later and from the loop.
    pub(crate) fn work_for(&self, waker: &Waker) -> Work {
        match own_task(waker) {
            Some(task) => Work::Step(task.header().key.get()),
            None => Work::Wake(waker.clone()),
        }
    }

    /// One step of a task.
    fn step(&self, key: TaskKey) {
        let Some(task) = self.tasks.borrow().get(key).cloned() else { return };
        task.header().queued.set(false);
        let outer = self.current.replace(Some(Rc::clone(&task)));
        let waker = task.header().waker(self);
        let done = self.watched(Some(task.header()), || task.step(&mut Context::from_waker(waker)));
        drop(self.current.replace(outer));
        if done {
            let table = self.tasks.borrow_mut().remove(key);
            drop(table);
        }
    }

    /// Makes a step in its task's span, and times it if that was asked for.
    #[inline]
    fn watched<R>(&self, header: Option<&Header>, step: impl FnOnce() -> R) -> R {
        let step = || match header {
            None => step(),
            Some(header) => header.span.enter(step),
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
            || self.tasks.borrow().iter().any(|task| task.header().is_watched())
    }
}

/// The running task, if `waker` is its own.
#[inline]
pub(crate) fn own_task(waker: &Waker) -> Option<Rc<dyn Runnable>> {
    Loop::current_task().filter(|task| task.header().has_waker(waker))
}

/// What foreign futures wake a task with, from any thread.
pub(crate) struct TaskWaker {
    /// A [`TaskKey`]; it changes only while there are no copies of the waker, so nobody can read it at that time.
    key: AtomicU64,
    inbox: Arc<Inbox<Work>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let key = TaskKey::from_bits(self.key.load(Ordering::Relaxed));
        if let Ok(own) = Loop::running()
            && Arc::ptr_eq(&own.inbox, &self.inbox)
        {
            let task = own.tasks.borrow().get(key).cloned();
            if let Some(task) = task {
                own.schedule(task.header());
            } else if key == TaskKey::MAIN
                && let Some(main) = own.main.borrow().as_ref()
            {
                own.schedule(main.header());
            }
            return;
        }
        // A loop that has ended has no use for it.
        let _ = self.inbox.push(Work::Step(key));
    }
}

/// Runs `work`, and makes a value of a panic.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    // What the work shares with others is theirs to judge: the panic is told to whoever joins.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(Panic::new)
}
