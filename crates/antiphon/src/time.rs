//! Waiting for time to pass.

use crate::Cancelled;
use crate::runtime::{Loop, own_task};
use crate::wait_node::set_waiting;
use antiphon_engine::{Instant, TimerKey};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Waits for `duration` on the loop's clock; with zero it lets the others run once, as `asyncio.sleep(0)`.
///
/// # Errors
/// [`Cancelled`].
///
/// # Panics
/// When it is awaited outside of [`run`](crate::run).
pub fn sleep(duration: Duration) -> Sleep {
    Sleep { duration, timer: None }
}

/// Lets every task that is ready make a step.
///
/// # Errors
/// [`Cancelled`].
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// The future of [`sleep`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    duration: Duration,
    timer: Option<Timer>,
}

/// An armed timer; disarmed when dropped.
struct Timer {
    own: Rc<Loop>,
    key: TimerKey,
    deadline: Instant,
    /// Whom it wakes, if that is not the task itself.
    waker: Option<Waker>,
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timer").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Timer {
    fn arm(own: Rc<Loop>, deadline: Instant, waker: &Waker) -> Self {
        let key = own.arm(deadline, own.work_for(waker));
        let waker = own_task(waker).is_none().then(|| waker.clone());
        Self { own, key, deadline, waker }
    }

    fn wakes(&self, waker: &Waker) -> bool {
        match &self.waker {
            Some(own) => own.will_wake(waker),
            None => own_task(waker).is_some(),
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.own.disarm(self.key);
    }
}

impl Future for Sleep {
    type Output = Result<(), Cancelled>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if crate::cancel::take_due() {
            self.timer = None;
            return Poll::Ready(Err(Cancelled));
        }
        set_waiting("time to pass");
        let (own, deadline) = match &self.timer {
            None => {
                let own = match Loop::running() {
                    Ok(own) => own,
                    Err(error) => panic!("{error}"),
                };
                let deadline = own.now().saturating_add(self.duration);
                (own, deadline)
            }
            Some(timer) if timer.own.now() >= timer.deadline => {
                self.timer = None;
                return Poll::Ready(Ok(()));
            }
            Some(timer) if timer.wakes(context.waker()) => return Poll::Pending,
            Some(timer) => (Rc::clone(&timer.own), timer.deadline),
        };
        self.timer = Some(Timer::arm(own, deadline, context.waker()));
        Poll::Pending
    }
}

/// The future of [`yield_now`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = Result<(), Cancelled>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::replace(&mut self.yielded, true) {
            return Poll::Ready(if crate::cancel::take_due() { Err(Cancelled) } else { Ok(()) });
        }
        if !Loop::reschedule_current(context.waker()) {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
