//! Running a loop until its main future is done, and what is left after it.

use super::{Loop, LoopClock, Work, catch};
use crate::task::{JoinHandle, TaskHandle, Thread, Waiting, cancel};
use crate::{Cancelled, Panic, RunError, Runner};
use antiphon_engine::{Clock, Core, Epoll, Event, Host, Instant, run_once};
use std::future::pending;
use std::io;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// How long a loop in virtual time waits for peers before the time jumps.
const PATIENCE: Duration = Duration::from_millis(20);

/// A loop with its main future `F`, while it runs.
struct Driving<'a, F: Future> {
    own: Rc<Loop>,
    main: Pin<&'a mut F>,
    main_task: TaskHandle,
    outcome: Option<Result<F::Output, Panic>>,
    /// Nothing can wake anybody.
    stuck: bool,
}

/// The thread's running loop, until it is dropped.
struct Running(Thread);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.stop().close(&self.0);
    }
}

pub(crate) fn run_main<F: Future>(
    runner: &Runner,
    main: F,
    location: &'static Location<'static>,
) -> Result<F::Output, RunError> {
    if Loop::running().is_ok() {
        return Err(RunError::Nested);
    }
    let own = Loop::new(runner.clock.clone(), runner.watch.clone()).map_err(RunError::Driver)?;
    let _running = Running(Thread::enter(&own));

    let main_task = JoinHandle::new(&own, 0, location, pending::<Result<(), Cancelled>>()).task().clone();
    main_task.set_context(crate::context::inherited());
    *own.main.borrow_mut() = Some(main_task.clone());
    own.schedule(&main_task);
    let mut driving = Driving { own, main: pin!(main), main_task, outcome: None, stuck: false };
    let mut shuffle = runner.seed.map(Shuffle::new);
    driving.drive(&mut shuffle, |driving| driving.outcome.is_some())?;

    // As asyncio.run does: whoever is left is cancelled, and has the time to clean up.
    let left = driving.own.all_tasks();
    for task in &left {
        cancel(task);
    }
    drop(left);
    driving.drive(&mut shuffle, |driving| driving.own.tasks.borrow().is_empty())?;
    match driving.outcome.take() {
        Some(Ok(output)) => Ok(output),
        Some(Err(panic)) => panic.resume(),
        None => Err(RunError::Deadlock { tasks: Vec::new() }),
    }
}

impl<F: Future> Driving<'_, F> {
    fn drive(&mut self, shuffle: &mut Option<Shuffle>, done: impl Fn(&Self) -> bool) -> Result<(), RunError> {
        while !done(self) {
            if let Some(shuffle) = shuffle {
                shuffle.shuffle(&self.own);
            }
            run_once(self).map_err(RunError::Driver)?;
            if self.stuck {
                let tasks = crate::task::all_infos(&self.own, self.outcome.is_none());
                return Err(RunError::Deadlock { tasks });
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn step(&mut self, task: TaskHandle) {
        if task.is_main() { self.step_main() } else { self.own.step(task) }
    }

    #[inline(never)]
    fn step_main(&mut self) {
        if self.outcome.is_some() {
            return;
        }
        let task = self.main_task.clone();
        task.queued.set(false);
        let main = self.main.as_mut();
        let step = || {
            task.waiting.set(Waiting::Unknown);
            catch(|| task.with_context(|context| main.poll(context)))
        };
        self.outcome = match self.own.current.during(&task, || self.own.watched(Some(&task), step)) {
            Ok(Poll::Pending) => None,
            Ok(Poll::Ready(output)) => Some(Ok(output)),
            Err(panic) => Some(Err(panic)),
        };
    }
}

impl<F: Future> Host for Driving<'_, F> {
    type Work = Work;
    type Driver = Epoll;

    fn core<R>(&mut self, f: impl FnOnce(&mut Core<Work, Epoll>) -> R) -> R {
        f(&mut self.own.core.borrow_mut())
    }

    fn now(&mut self) -> Instant {
        self.own.now()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return self.own.core.borrow_mut().wait(timeout);
        }
        let no_timer = self.own.core.borrow().timers.is_empty();
        let waits_for_io = self.own.io.is_waited_for();
        if no_timer && !waits_for_io && !self.own.can_be_woken() && !self.main_task.is_watched() {
            self.stuck = true;
            return Ok(());
        }
        let LoopClock::Virtual(clock) = &self.own.clock else {
            return self.own.core.borrow_mut().wait(timeout);
        };
        // Time jumps only when nothing else can happen: no other thread has a way in, and the peers of sockets, who live in
        // the system's time, had a moment to say something.
        let patience = match waits_for_io {
            true if no_timer => None,
            true => Some(PATIENCE),
            false => Some(Duration::ZERO),
        };
        self.own.core.borrow_mut().wait(patience)?;
        if !self.own.core.borrow().events.is_empty() {
            return Ok(());
        }
        let deadline = self.own.core.borrow_mut().timers.next_deadline();
        match deadline {
            Some(deadline) if !self.own.can_be_woken() && clock.advance_to(deadline) => Ok(()),
            _ => self.own.core.borrow_mut().wait(Some(Duration::from_millis(1))),
        }
    }

    fn dispatch(&mut self, event: Event) {
        self.own.dispatch(event);
    }

    fn run(&mut self, work: Work) {
        match work {
            Work::Step(due) => {
                let task = due.into_handle(&self.own);
                self.step(task);
            }
            Work::Crossed(crossing) => {
                if let Some(task) = crossing.into_task(&self.own) {
                    self.step(task);
                }
            }
            Work::Wake(waker) => waker.wake(),
            Work::Run(run) => self.own.watched(None, run),
            Work::Local(place) => {
                let callback = self.own.callbacks.borrow_mut().remove(place);
                if let Some(callback) = callback {
                    callback();
                }
            }
        }
    }

    fn interrupted(&self) -> bool {
        false
    }
}

impl Loop {
    /// Ends it: what is queued is dropped, and nobody gets in any more.
    ///
    /// The tasks end before the inbox is closed (invariant Q2).
    fn close(&self, _thread: &Thread) {
        drop(self.take_work());
        let next = || self.tasks.borrow_mut().pop();
        while let Some(task) = next() {
            task.discard();
        }
        let main = self.main.borrow_mut().take();
        if let Some(main) = main {
            main.discard();
        }
        self.inbox.close();
        drop(self.take_work());
        let callbacks = std::mem::replace(&mut *self.callbacks.borrow_mut(), super::Table::new());
        drop(callbacks);
        self.forget_descriptors();
        if let Some(pool) = self.pool.get() {
            pool.shutdown(false);
        }
    }

    /// All that waits to be run, also at a later time.
    fn take_work(&self) -> (Vec<Work>, Vec<Work>) {
        let mut core = self.core.borrow_mut();
        let core = &mut *core;
        core.inbox.drain_into(&mut core.ready);
        (core.ready.take_all(), core.timers.take_all())
    }
}

/// Puts the ready items of a turn into an order that a seed decides.
struct Shuffle {
    state: u64,
}

impl Shuffle {
    const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn shuffle(&mut self, own: &Loop) {
        let mut items = own.core.borrow_mut().ready.take_all();
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
        let mut core = own.core.borrow_mut();
        items.into_iter().for_each(|item| core.ready.push(item));
    }

    /// splitmix64; the remainder's bias is far below what a test could see.
    fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
