//! How a loop is made and run.

use crate::RunError;
use crate::runtime::{LoopClock, run_main};
use crate::slow_step::{SlowStep, StepWatch};
use antiphon_engine::Virtual;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// Runs `main` on a loop of its own until it is done.
///
/// Tasks that are left then are cancelled, and waited for. `main` may borrow from its caller; what it spawns may not.
///
/// ```
/// let text = String::from("hello");
/// let len = antiphon::run(async { text.len() })?;
/// assert_eq!(len, 5);
/// # Ok::<(), antiphon::RunError>(())
/// ```
///
/// # Errors
/// [`RunError::Nested`]: a loop runs on this thread. [`RunError::Deadlock`]: nothing can wake any task, be it `main` or
/// one that it left. [`RunError::Driver`]: the operating system refuses.
///
/// # Panics
/// As `main` does.
#[track_caller]
pub fn run<F: Future>(main: F) -> Result<F::Output, RunError> {
    Runner::new().run(main)
}

/// A loop's settings: the clock, the order of tasks, what is reported.
///
/// ```
/// use antiphon::{Runner, sleep};
/// use std::time::{Duration, Instant};
///
/// let begun = Instant::now();
/// Runner::new().virtual_clock().run(async {
///     sleep(Duration::from_secs(365 * 24 * 3600)).await // time jumps when there is nothing else to do
/// })??;
/// assert!(begun.elapsed() < Duration::from_secs(60));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a runner does nothing until run is called"]
pub struct Runner {
    pub(crate) clock: LoopClock,
    pub(crate) seed: Option<u64>,
    pub(crate) watch: Option<StepWatch>,
}

impl Runner {
    /// The system's clock, and tasks in the order in which they became ready.
    pub const fn new() -> Self {
        Self { clock: LoopClock::System, seed: None, watch: None }
    }

    /// Time stands still while there is something to do, and jumps to the next deadline when there is not. It starts at zero.
    pub fn virtual_clock(mut self) -> Self {
        self.clock = LoopClock::Virtual(Arc::new(Virtual::new()));
        self
    }

    /// Tasks that are ready run in an order that `seed` decides: the same seed, the same order.
    pub const fn shuffled(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Prints a warning to standard error when one step of a task runs for longer than `limit`: which task, where it was
    /// spawned, what it had waited for, and what it waits for next. Steps are not timed without this.
    ///
    /// The warning comes when the step is over.
    pub fn warn_after(mut self, limit: Duration) -> Self {
        let told = self.watch.and_then(|watch| watch.told);
        self.watch = Some(StepWatch { limit, told });
        self
    }

    /// As [`warn_after`](Self::warn_after), and `told` has the warnings instead of standard error. It is called on the loop's thread,
    /// between steps.
    ///
    /// ```
    /// use antiphon::Runner;
    /// use std::sync::{Arc, Mutex};
    /// use std::time::Duration;
    ///
    /// let seen = Arc::new(Mutex::new(Vec::new()));
    /// let told = Arc::clone(&seen);
    /// Runner::new()
    ///     .tell_after(Duration::from_millis(1), move |slow| told.lock().unwrap().push(slow.clone()))
    ///     .run(async { std::thread::sleep(Duration::from_millis(5)) })?;
    /// assert_eq!(seen.lock().unwrap()[0].task.as_deref(), Some("main"));
    /// # Ok::<(), antiphon::RunError>(())
    /// ```
    pub fn tell_after(mut self, limit: Duration, told: impl Fn(&SlowStep) + Send + Sync + 'static) -> Self {
        self.watch = Some(StepWatch { limit, told: Some(Arc::new(told)) });
        self
    }

    /// As [`run`](crate::run).
    ///
    /// # Errors
    /// As [`run`](crate::run).
    ///
    /// # Panics
    /// As `main` does.
    #[track_caller]
    pub fn run<F: Future>(&self, main: F) -> Result<F::Output, RunError> {
        run_main(self, main, Location::caller())
    }
}

impl Default for Runner {
    fn default() -> Self {
        Self::new()
    }
}
