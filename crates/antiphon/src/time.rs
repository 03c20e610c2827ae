//! Waiting for time to pass.

use crate::Cancelled;
use crate::runtime::{Loop, LoopId};
use crate::wait_node::set_waiting;
use antiphon_engine::TimerKey;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Waits for `duration` on the loop's clock; with zero it lets the others run once, as `asyncio.sleep(0)`.
///
/// ```
/// use antiphon::sleep;
/// use std::time::Duration;
///
/// antiphon::run(async { sleep(Duration::from_millis(1)).await })??;
/// antiphon::Runner::new().virtual_clock().run(async { sleep(Duration::from_secs(3600)).await })??; // at once
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Cancelled`].
///
/// # Panics
/// When it is awaited outside of [`run`](crate::run).
pub fn sleep(duration: Duration) -> Sleep {
    let duration_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Sleep { duration_ns, timer: None, stays: PhantomData }
}

/// Lets every task that is ready make a step.
///
/// ```
/// use antiphon::{Cancelled, spawn, yield_now};
/// use std::{cell::Cell, rc::Rc};
///
/// antiphon::run(async {
///     let ran = Rc::new(Cell::new(false));
///     let seen = Rc::clone(&ran);
///     spawn(async move { Ok::<_, Cancelled>(seen.set(true)) });
///     assert!(!ran.get());
///     yield_now().await?;
///     assert!(ran.get());
///     Ok::<_, Cancelled>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    /// In nanoseconds; the longest is 584 years.
    duration_ns: u64,
    /// An armed timer and its loop.
    timer: Option<(TimerKey, LoopId)>,
    /// It stays with its loop's thread.
    stays: PhantomData<Rc<Loop>>,
}

impl Sleep {
    fn disarm(&mut self) {
        if let Some((key, id)) = self.timer.take() {
            let work = Loop::with_running(|own| (own.id == id).then(|| own.take_timer(key)).flatten());
            drop(work); // outside of all borrows: it may be a foreign waker
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}

impl Future for Sleep {
    type Output = Result<(), Cancelled>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if crate::cancel::take_due() {
            self.disarm();
            return Poll::Ready(Err(Cancelled));
        }
        set_waiting("time to pass");
        let own = match Loop::running() {
            Ok(own) => own,
            Err(error) => panic!("{error}"),
        };
        match self.timer {
            Some((key, id)) if own.id == id => {
                if own.renew_timer(key, context.waker()) {
                    return Poll::Pending;
                }
                self.timer = None;
                Poll::Ready(Ok(()))
            }
            _ => {
                let deadline = own.now().saturating_add(Duration::from_nanos(self.duration_ns));
                self.timer = Some((own.arm(deadline, own.work_for(context.waker())), own.id));
                Poll::Pending
            }
        }
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
