//! Taking the seat from a step that blocks (P2): look at its frames, arm them, look again, take.
//!
//! Only a step that is asleep in a call loses it, never one that computes: its code between two awaits would not be atomic any
//! more. A thread that waits for the interpreter is asleep, too, but wakes once in each switch interval to ask for it. So the
//! thread must have slept without a break for longer than that, up to the moment of the revocation.
//!
//! A spare does it, attached to the interpreter from the first look to the last store. The step's thread has released the
//! interpreter, or is waiting for it, so it does not move meanwhile; nothing here runs Python code. The second look costs
//! little and holds even if something should.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use antiphon_engine::watch::{ThreadSample, ThreadState};
use antiphon_engine::{Clock, Monotonic};

use super::claim::{Blocked, Rescue};
use super::{Driver, HandOff, call_sites, fence, window};
use crate::event_loop::EventLoop;
use crate::ffi::{Instance, Result, call};
use crate::names::import;
use crate::watch::Watch;

/// What became of an attempt.
pub enum Revoked {
    /// The step has ended by itself, or cannot lose the seat.
    Missed,
    /// Somebody else has the seat: a claimant, or the main thread.
    Passed,
    /// The calling thread has it.
    Taken,
}

/// The longest sleep of a thread that waits for the interpreter, in nanoseconds, as it was at the last look.
static LONGEST_WAIT_NS: AtomicU64 = AtomicU64::new(6_000_000);
/// The least that counts as asleep in a call.
const SHORTEST_CALL: Duration = Duration::from_micros(500);

/// How long a thread must have slept to be asleep in a call.
pub fn telling_sleep() -> Duration {
    Duration::from_nanos(LONGEST_WAIT_NS.load(Ordering::Relaxed))
}

/// Looks up how long threads wait for the interpreter before they ask again.
///
/// # Errors
/// None but what a replaced `sys.getswitchinterval` raises.
pub fn look_at_switch_interval() -> Result<Duration> {
    let interval = call(&import("sys", "getswitchinterval")?, [])?;
    let seconds = crate::event_loop::schedule::seconds(&interval)?;
    let longest = Duration::from_secs_f64((seconds * 1.2).clamp(0.0, 3600.0)).max(SHORTEST_CALL);
    LONGEST_WAIT_NS.store(longest.as_nanos() as u64, Ordering::Relaxed);
    Ok(longest)
}

/// Whether the thread has slept without a break from `before` until now, and long enough to be asleep in a call.
fn is_asleep_since(before: &ThreadSample, thread: i32, telling: Duration) -> bool {
    ThreadSample::of(thread).is_some_and(|now| {
        now.state == ThreadState::Asleep
            && now.sleeps == before.sleeps
            && now.cpu == before.cpu
            && now.at.saturating_duration_since(before.at) >= telling
    })
}

impl HandOff {
    /// The driver whose window reads `window`, if it still does.
    fn driver_in(&self, owner: &Instance<EventLoop>, window: u64) -> Option<Driver> {
        if self.bell.window.load(Ordering::Acquire) != window || !window::is_open(window) {
            return None;
        }
        let driver = self.state.with(|state| state.driver)?;
        (owner.seat().holder() == driver.thread).then_some(driver)
    }

    /// Takes the seat from the step whose window reads `window`, and gives it to who waits for it, else to this thread.
    ///
    /// `before`: a look at the step's thread, some time ago.
    ///
    /// # Errors
    /// The fence could not be set up; the step keeps the seat.
    pub fn revoke(&self, owner: &Instance<EventLoop>, window: u64, before: &ThreadSample) -> Result<Revoked> {
        let telling = look_at_switch_interval()?;
        let Some(driver) = self.driver_in(owner, window) else {
            return Ok(Revoked::Missed);
        };
        if !is_asleep_since(before, driver.number, telling) {
            return Ok(Revoked::Missed);
        }
        let position = driver.state.position();
        let (codes, site) = (driver.state.codes(), driver.state.call_site());
        fence::arm(&codes)?;
        if self.driver_in(owner, window).is_none() || driver.state.position() != position {
            fence::disarm(&codes);
            return Ok(Revoked::Missed);
        }
        let learned = self.learns() && site.is_some_and(call_sites::learn);
        let number = owner.watch_for_blocking().map_or(0, Watch::step);
        let rescue = Rescue { number, task: self.present_task(), since: before.at, learned };
        let blocked = Arc::new(Blocked::new(driver, owner, codes, Some(rescue)));
        fence::put(Arc::clone(&blocked));
        self.move_window();
        // Nobody is told before the current task has been taken down: the seat is nobody's until then.
        owner.seat().reserve();
        blocked.take_current_task();
        let next = self.change(|state| {
            state.blocked.push(blocked);
            state.driver = None;
            let next = state.pass_seat(owner);
            if next.is_none() {
                owner.seat().hand_to(crate::words::this_thread());
            }
            next
        });
        self.revoked.fetch_add(1, Ordering::Relaxed);
        if let Some(watch) = owner.watch_for_blocking() {
            watch.tell_rescue(number, Monotonic.now().saturating_duration_since(before.at), driver.thread);
        }
        let Some(next) = next else {
            self.become_driver(owner, false);
            return Ok(Revoked::Taken);
        };
        self.tell(next);
        Ok(Revoked::Passed)
    }
}
