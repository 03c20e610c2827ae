//! The way back to the seat, and who gets it next (P3).
//!
//! A thread that comes back from a blocking call queues as a claimant, the main thread before all others, and sleeps. The
//! driver looks between two work items ([`HandOff::is_wanted`]) and passes the seat on. The claimant runs the rest of its
//! step with the seat, and goes on as the driver from there, unless the main thread waits: then it gets the seat back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use antiphon_engine::{Clock, Instant, Monotonic};

use super::call_sites::{self, Place};
use super::signal::Signal;
use super::{Driver, HandOff, State, fence};
use crate::event_loop::EventLoop;
use crate::ffi::raise::{self, runtime_error};
use crate::ffi::{GilCell, Instance, Owned, Result, detached};
use crate::task::current;

/// The word to a thread that waits for the seat.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Grant {
    /// It holds the seat.
    Seat,
    /// The loop was closed: there is no seat any more.
    Closed,
}

/// What is reported of a step that another thread has taken the seat from.
pub struct Rescue {
    /// The step's number.
    pub number: u64,
    /// Its task, if it is one of ours.
    pub task: Option<Owned>,
    /// Since when its call is known to last.
    pub since: Instant,
    /// Whether the place of its call gives the seat away from now on.
    pub learned: bool,
}

/// A step that has lost the seat.
pub struct Blocked {
    driver: Driver,
    owner: Owned,
    /// What the fence has armed for it.
    codes: GilCell<Vec<Owned>>,
    /// The current task as asyncio knew it, where that is one for all threads (until 3.13).
    task: GilCell<Option<Owned>>,
    /// Whether the loop had told asyncio of a current task.
    shows_task: AtomicBool,
    /// The learned place at which it gave the seat away, and when.
    given: GilCell<Option<(Place, Instant)>>,
    /// How it was rescued, if it was.
    pub(super) rescue: Option<Rescue>,
    signal: Signal<Grant>,
}

impl Blocked {
    /// The step that `driver` is in; its codes are armed.
    pub fn new(
        driver: Driver,
        owner: &Instance<EventLoop>,
        codes: Vec<Owned>,
        rescue: Option<Rescue>,
    ) -> Self {
        Self {
            driver,
            owner: owner.owned(),
            codes: GilCell::new(codes),
            task: GilCell::new(None),
            shows_task: AtomicBool::new(false),
            given: GilCell::new(None),
            rescue,
            signal: Signal::new(),
        }
    }

    /// The step that `driver` is in, which gives the seat away at a learned place: its return is waited for there.
    pub fn giving(driver: Driver, owner: &Instance<EventLoop>, place: Place) -> Self {
        let blocked = Self::new(driver, owner, Vec::new(), None);
        blocked.given.with(|given| *given = Some((place, Monotonic.now())));
        blocked
    }

    /// Whether it is a step of this thread.
    pub fn is_of(&self, thread: usize) -> bool {
        self.driver.thread == thread
    }

    fn owner(&self) -> &Instance<EventLoop> {
        // SAFETY: made from a loop of ours.
        unsafe { Instance::from_ptr(self.owner.as_ptr()) }
    }

    /// Lets its code run freely again.
    pub fn disarm(&self) {
        self.back_from_call(false);
        let codes = self.codes.take();
        fence::disarm(&codes);
    }

    /// It has come back from the call that it gave the seat away for; `called_back`: only out of Python code therein.
    fn back_from_call(&self, called_back: bool) {
        if let Some((place, since)) = self.given.take() {
            let took = Monotonic.now().saturating_duration_since(since);
            call_sites::leave(place, took, called_back);
        }
    }

    /// Answers its claim.
    pub fn grant(&self, word: Grant) {
        self.signal.send(word);
    }

    /// Keeps what asyncio says about the current task, which is none from here on.
    pub fn take_current_task(&self) {
        let owner = self.owner();
        self.shows_task.store(owner.shows_task(), Ordering::Relaxed);
        owner.set_shows_task(false);
        #[cfg(not(Py_3_14))]
        match current::swap(&self.owner, None) {
            Ok(task) => drop(self.task.replace(task)),
            Err(raised) => {
                let _ = raised;
                raise::write_unraisable(Some(&self.owner));
            }
        }
    }

    /// Makes the step's task the current one again.
    fn restore_current_task(&self) {
        let task = self.task.take();
        if task.is_some() && current::swap(&self.owner, task.as_ref()).is_err() {
            raise::write_unraisable(Some(&self.owner));
        }
        self.owner().set_shows_task(self.shows_task.load(Ordering::Relaxed));
    }

    /// Called by the fence on the step's own thread: comes back with the seat.
    ///
    /// # Errors
    /// `RuntimeError`: the loop was closed meanwhile.
    pub fn come_back(self: Arc<Self>) -> Result<()> {
        self.disarm();
        let owner = self.owner();
        match owner.hand_off() {
            Some(hand_off) => hand_off.claim(owner, &self, true),
            None => Ok(()),
        }
    }
}

/// What became of the seat at a boundary.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Boundary {
    /// This thread drives on.
    Kept,
    /// Another thread has it.
    Gone,
}

impl State {
    /// Queues a claimant: the main thread before all others.
    fn queue(claimants: &mut VecDeque<Arc<Blocked>>, claimant: Arc<Blocked>) {
        if claimant.driver.is_main {
            claimants.push_front(claimant);
        } else {
            claimants.push_back(claimant);
        }
    }

    /// Chooses who gets the seat now that its holder does without it, and makes them the holder.
    pub(super) fn pass_seat(&mut self, owner: &Instance<EventLoop>) -> Option<Next> {
        if let Some(claimant) = self.claimants.pop_front() {
            owner.seat().hand_to(claimant.driver.thread);
            self.driver = None;
            return Some(Next::Claimant(claimant));
        }
        let (main, signal) = self.idle_main.take()?;
        owner.seat().hand_to(main.thread);
        self.driver = Some(main);
        Some(Next::Main(main, signal))
    }
}

/// Who was given the seat, to be told outside of the cell.
pub(super) enum Next {
    Claimant(Arc<Blocked>),
    Main(Driver, Arc<Signal<Grant>>),
}

impl HandOff {
    /// Tells who was given the seat.
    pub(super) fn tell(&self, next: Next) {
        match next {
            Next::Claimant(claimant) => claimant.grant(Grant::Seat),
            Next::Main(main, signal) => {
                self.bell.kernel_thread.store(main.number, Ordering::Relaxed);
                signal.send(Grant::Seat);
            }
        }
    }

    /// Claims the seat for this thread, whose step lost it and has come back without meeting the fence. `reopen`: the step
    /// goes on in user code.
    pub(super) fn claim_here(&self, owner: &Instance<EventLoop>, reopen: bool) {
        let Some(mine) = fence::take_mine() else {
            // The loop was closed, and the fence has said so.
            return;
        };
        mine.disarm();
        if self.claim(owner, &mine, reopen).is_err() {
            // The step has ended: there is nobody to be told but the loop's driver, who sees that it is closed.
            drop(raise::take());
        }
    }

    /// Claims the seat for this thread if its step has lost it, as the fence does: code that the fence does not stop needs the
    /// core. Nothing if the loop was closed.
    #[cold]
    pub fn regain(&self) {
        if let Some(mine) = fence::take_mine() {
            let pending = raise::take();
            mine.back_from_call(true);
            if mine.come_back().is_err() {
                drop(raise::take());
            }
            if let Some(pending) = pending {
                raise::restore(pending);
            }
        }
    }

    /// Waits for the seat, and makes the thread what it was when it lost it.
    ///
    /// # Errors
    /// `RuntimeError`: the loop was closed meanwhile; there is no seat.
    fn claim(&self, owner: &Instance<EventLoop>, mine: &Arc<Blocked>, reopen: bool) -> Result<()> {
        let is_open = !owner.is_closed();
        let waits = is_open
            && self.change(|state| {
                if std::mem::take(&mut state.vacant) {
                    owner.seat().hand_to(mine.driver.thread);
                    return false;
                }
                if state.driverless && mine.driver.is_main {
                    state.driverless = false;
                    owner.seat().hand_to(mine.driver.thread);
                    return false;
                }
                State::queue(&mut state.claimants, Arc::clone(mine));
                true
            });
        if waits {
            owner.inbox().wake();
        }
        let word = match (is_open, waits) {
            (false, _) => Grant::Closed,
            (true, false) => Grant::Seat,
            (true, true) => detached(|| mine.signal.wait()),
        };
        let gone = self.change(|state| {
            let place = state.blocked.iter().position(|other| Arc::ptr_eq(other, mine));
            let gone = place.map(|place| state.blocked.swap_remove(place));
            if word == Grant::Seat {
                state.driver = Some(mine.driver);
                self.bell.kernel_thread.store(mine.driver.number, Ordering::Relaxed);
                state.retry = true;
            }
            gone
        });
        drop(gone);
        if word == Grant::Closed {
            return Err(runtime_error("Event loop is closed: it was closed while this step was blocked"));
        }
        mine.restore_current_task();
        self.tell_watch(owner);
        if let Some(watch) = owner.watch_for_blocking() {
            if let Some(rescue) = &mine.rescue {
                watch.tell_return(rescue.number, Monotonic.now().saturating_duration_since(rescue.since));
            }
            // The rest of its step is watched as a step of its own.
            watch.begin_again(mine.shows_task.load(Ordering::Relaxed));
        }
        if reopen {
            self.move_window();
        }
        Ok(())
    }

    /// The driver is between two work items, and somebody wants the seat or has left word.
    pub fn at_boundary(&self, owner: &Instance<EventLoop>, main: Option<&Arc<Signal<Grant>>>) -> Boundary {
        self.requeue_deferred(owner);
        if main.is_some() {
            self.requeue_kept(owner);
        }
        if self.state.with(|state| state.claimants.is_empty() && state.idle_main.is_none()) {
            return Boundary::Kept;
        }
        if owner.shows_task() {
            current::hide(owner);
        }
        let next = self.change(|state| {
            if let (Some(signal), Some(driver)) = (main, state.driver) {
                state.idle_main = (!state.claimants.is_empty()).then(|| (driver, Arc::clone(signal)));
            }
            state.pass_seat(owner)
        });
        let Some(next) = next else {
            return Boundary::Kept;
        };
        self.tell(next);
        match main {
            None => Boundary::Gone,
            Some(signal) => {
                // The one answer is the seat: a running loop cannot be closed.
                detached(|| signal.wait());
                self.tell_watch(owner);
                Boundary::Kept
            }
        }
    }

    /// A spare has come to the end of the run: the main thread gets the seat, at once or when its call returns.
    pub fn end_of_run_on_spare(&self, owner: &Instance<EventLoop>, failure: Option<Owned>) {
        if owner.shows_task() {
            current::hide(owner);
        }
        let (next, surplus) = self.change(|state| {
            let surplus = match (&state.failure, failure) {
                (None, failure) => {
                    state.failure = failure;
                    None
                }
                (Some(_), failure) => failure,
            };
            // Claimants other than the main thread have to wait for the next run.
            let next = match state.claimants.front() {
                Some(first) if first.driver.is_main => state.pass_seat(owner),
                _ => match state.idle_main.take() {
                    Some((main, signal)) => {
                        owner.seat().hand_to(main.thread);
                        state.driver = Some(main);
                        Some(Next::Main(main, signal))
                    }
                    None => None,
                },
            };
            if next.is_none() {
                state.driverless = true;
                state.driver = None;
                owner.seat().reserve();
            }
            (next, surplus)
        });
        drop(surplus);
        if let Some(next) = next {
            self.tell(next);
        }
    }
}
