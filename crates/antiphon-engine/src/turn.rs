//! One turn of the loop: five phases and nothing else.
//!
//! Invariant R1: an item that becomes ready during phase 5 runs in the next turn, after the readiness and the timers of
//! that turn. So no chain of items keeps I/O and timers waiting.
//! Invariant R2: nothing of the core is borrowed while [`Host::run`], [`Host::dispatch`] or [`Host::now`] is on, since
//! they may come back to the core.
//!
//! Source: PEP 3156; CPython's `BaseEventLoop._run_once`.

use crate::budget::Verdict;
use crate::{Core, Driver, Event, Instant, coarse_now_ns};
use std::io;
use std::time::Duration;

/// The longest sleep of one turn. Clocks may be overridden and deadlines be absurd; a daily turn costs nothing.
const LONGEST_SLEEP: Duration = Duration::from_secs(24 * 3600);

/// What a turn needs from whoever owns the loop.
pub trait Host {
    /// What the loop queues and [`run`](Self::run) executes.
    type Work;
    /// What the loop waits with.
    type Driver: Driver;

    /// Gives `f` exclusive access to the core, for a short time.
    ///
    /// Never re-entered, and no code of the user runs inside `f`: what a turn does there neither drops work items nor
    /// calls back.
    fn core<R>(&mut self, f: impl FnOnce(&mut Core<Self::Work, Self::Driver>) -> R) -> R;

    /// The present instant of the loop's clock. May run code of the user, such as an overridden `loop.time()`.
    fn now(&mut self) -> Instant;

    /// The reading that the poll budget measures elapsed time with; see [`coarse_now_ns`].
    ///
    /// Not the loop's clock, which a user may override or stop.
    fn coarse_now_ns(&mut self) -> i64 {
        coarse_now_ns()
    }

    /// Calls [`Core::wait`], the way that this host's threads need it: a host that shares a lock with other threads
    /// gives it away here unless `timeout` is zero.
    ///
    /// # Errors
    /// As [`Driver::wait`]; [`io::ErrorKind::Interrupted`] counts as a wait without events.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.core(|core| core.wait(timeout))
    }

    /// Turns one readiness event into work items at the end of `core.ready`.
    fn dispatch(&mut self, event: Event);

    /// Executes one work item.
    fn run(&mut self, work: Self::Work);

    /// Whether something has to leave the loop at once, such as an exception; asked after each item of a turn.
    ///
    /// After true the turn ends, and the items left stay queued in their order.
    fn interrupted(&self) -> bool {
        false
    }
}

/// How a turn waits.
enum Wait {
    /// Not at all: there is work, and the poll budget allows it.
    Skip,
    /// For what is there already.
    Poll,
    /// Until something comes, or until the deadline.
    Sleep(Option<Instant>),
}

/// Runs one turn of the loop.
///
/// # Errors
/// The driver failed ([`Host::wait`]). The loop is usable, and everything queued is still there.
#[inline]
pub fn run_once<H: Host>(host: &mut H) -> io::Result<()> {
    begin_turn(host)?;
    go_on_with_turn(host);
    Ok(())
}

/// The first four phases of a turn: everything but the items, for a host that may hand a turn on to another thread.
///
/// # Errors
/// As [`run_once`].
#[inline]
pub fn begin_turn<H: Host>(host: &mut H) -> io::Result<()> {
    let wait = choose_wait(host);
    if !matches!(wait, Wait::Skip) {
        wait_for_events(host, &wait)?;
        dispatch_events(host);
    }
    let timers_armed = drain_inbox(host);
    if timers_armed {
        collect_due_timers(host);
    }
    host.core(|core| {
        core.budget.spend(core.ready.len());
        core.left_of_turn = core.ready.len();
    });
    Ok(())
}

/// Phase 1: how long this turn may wait.
#[inline]
fn choose_wait<H: Host>(host: &mut H) -> Wait {
    let verdict = host.core(|core| {
        if core.ready.is_empty() && core.inbox.is_empty_hint() {
            Err(core.timers.next_deadline())
        } else {
            Ok(core.budget.take_turn())
        }
    });
    match verdict {
        Err(deadline) => Wait::Sleep(deadline),
        Ok(Verdict::Skip) => Wait::Skip,
        Ok(Verdict::Poll) => Wait::Poll,
        Ok(Verdict::Look) => {
            let coarse_ns = host.coarse_now_ns();
            if host.core(|core| core.budget.look(coarse_ns)) { Wait::Skip } else { Wait::Poll }
        }
    }
}

/// Phase 2: the driver's wait.
fn wait_for_events<H: Host>(host: &mut H, wait: &Wait) -> io::Result<()> {
    let timeout = match wait {
        Wait::Skip | Wait::Poll => Some(Duration::ZERO),
        Wait::Sleep(None) => None,
        Wait::Sleep(Some(deadline)) => {
            Some(deadline.saturating_duration_since(host.now()).min(LONGEST_SLEEP))
        }
    };
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        return ignore_interruption(host.wait(timeout));
    }
    // Reading the clock may have run code that queued something.
    let may_sleep = host.core(|core| {
        let idle = core.ready.is_empty();
        if idle {
            core.ready.shrink();
        }
        idle && core.inbox.prepare_sleep()
    });
    let result = host.wait(if may_sleep { timeout } else { Some(Duration::ZERO) });
    if may_sleep {
        host.core(|core| core.inbox.awake());
    }
    ignore_interruption(result)
}

fn ignore_interruption(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        result => result,
    }
}

/// Phase 3, its first half: readiness to work items.
fn dispatch_events<H: Host>(host: &mut H) {
    let coarse_ns = host.coarse_now_ns();
    let mut events = host.core(|core| {
        core.budget.refill(coarse_ns);
        std::mem::take(&mut core.events)
    });
    events.drain(..).for_each(|event| host.dispatch(event));
    // Back to the core, so that the next wait need not allocate.
    host.core(|core| core.events = events);
}

/// Phase 3, its second half: work from other threads. Returns whether timers are armed, since both want the core.
#[inline]
fn drain_inbox<H: Host>(host: &mut H) -> bool {
    host.core(|core| {
        core.inbox.drain_into(&mut core.ready);
        !core.timers.is_empty()
    })
}

/// Phase 4: timers that are due.
fn collect_due_timers<H: Host>(host: &mut H) {
    let now = host.now();
    host.core(|core| {
        while let Some(work) = core.timers.pop_due(now) {
            core.ready.push(work);
        }
    });
}

/// Phase 5: the items that were there when it began, and none that they add (invariant R1); what is left of them, if the
/// turn has begun to run them.
#[inline]
pub fn go_on_with_turn<H: Host>(host: &mut H) {
    // An item may have emptied the queue, for instance by closing the loop.
    while let Some(work) = host.core(|core| core.next_of_turn()) {
        host.run(work);
        if host.interrupted() {
            break;
        }
    }
}
