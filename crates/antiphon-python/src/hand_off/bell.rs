//! The bell: what the watchdog, which has no interpreter, may know and touch of a loop's hand-off.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use antiphon_engine::watch::ThreadSample;

use super::spare::{self, Order};
use super::window;

/// One loop's.
pub struct Bell {
    /// What spares know the loop by.
    pub(super) number: u64,
    /// The driver's window: odd while it is open (P1); no number comes twice, so that what is meant for one step does not hit
    /// the next.
    pub(super) window: AtomicU64,
    /// The number of the driver's thread in the kernel.
    pub(super) kernel_thread: AtomicI32,
}

impl Bell {
    pub(super) const fn new(number: u64) -> Self {
        Self { number, window: AtomicU64::new(0), kernel_thread: AtomicI32::new(0) }
    }

    /// Asks for the seat of the step that is in user code now, if it is blocked. Whether a spare was there to see to it.
    ///
    /// `before`: a look at the step's thread, if there is one; the earlier the better.
    pub fn ring(&self, before: Option<ThreadSample>) -> bool {
        let window = self.window.load(Ordering::Acquire);
        if !window::is_open(window) {
            return false;
        }
        let before = before.or_else(|| ThreadSample::of(self.kernel_thread.load(Ordering::Relaxed)));
        before.is_some_and(|before| spare::summon(Order { number: self.number, window, before }))
    }
}
