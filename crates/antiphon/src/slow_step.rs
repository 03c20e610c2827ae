//! Steps that take too long: while one runs, nothing else on its loop does.
//!
//! They are timed by the system's clock, whatever the loop's, when [`Runner::warn_after`](crate::Runner::warn_after) asks for it:
//! `asyncio`'s debug mode with `loop.slow_callback_duration`.

use crate::report::report;
use crate::runtime::catch;
use crate::task::{Header, Waiting};
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A step that ran for longer than [`Runner::warn_after`](crate::Runner::warn_after) allows.
///
/// It is what stands between two awaits of a task: the one that it came from and the one that it went on to tell where to look.
///
/// ```
/// use antiphon::{Cancelled, Runner, spawn};
/// use std::sync::{Arc, Mutex};
/// use std::{thread, time::Duration};
///
/// let slow = Arc::new(Mutex::new(Vec::new()));
/// let told = Arc::clone(&slow);
/// Runner::new()
///     .tell_after(Duration::from_millis(5), move |step| told.lock().unwrap().push(step.clone()))
///     .run(async {
///         let blocking = async {
///             thread::sleep(Duration::from_millis(10)); // keeps everybody waiting
///             Ok::<_, Cancelled>(())
///         };
///         spawn(blocking).named("blocking").await
///     })?
///     .unwrap();
/// let slow = slow.lock().unwrap();
/// let step = slow.iter().find(|step| step.task.as_deref() == Some("blocking")).unwrap();
/// assert!(step.took >= Duration::from_millis(10));
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SlowStep {
    /// The task's name; `None` for a callback that came from another thread.
    pub task: Option<String>,
    /// Where the task was spawned.
    pub spawned_at: Option<&'static Location<'static>>,
    /// How long the step ran.
    pub took: Duration,
    /// What the task had waited for before the step, if that was something of antiphon's.
    pub waited_for: Option<&'static str>,
    /// What the task waits for after the step, if that is something of antiphon's.
    pub waits_for: Option<&'static str>,
}

impl fmt::Display for SlowStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.task {
            Some(name) => write!(f, "task '{name}'")?,
            None => f.write_str("a callback from another thread")?,
        }
        write!(f, " ran for {:.1?} without giving way", self.took)?;
        if let Some(location) = self.spawned_at {
            write!(f, "\n    spawned at {location}")?;
        }
        if let Some(what) = self.waited_for {
            write!(f, "\n    after it had waited for {what}")?;
        }
        if let Some(what) = self.waits_for {
            write!(f, "\n    before it waits for {what}")?;
        }
        f.write_str("\n    what blocks belongs into antiphon::to_thread")
    }
}

/// Who is told of slow steps.
pub(crate) type Told = Arc<dyn Fn(&SlowStep) + Send + Sync>;

/// Times steps.
#[derive(Clone)]
pub(crate) struct StepWatch {
    pub(crate) limit: Duration,
    /// Who is told; without one, standard error.
    pub(crate) told: Option<Told>,
}

impl StepWatch {
    /// Makes a step of the task with `header`, or of nobody's.
    #[cold]
    pub(crate) fn time<R>(&self, header: Option<&Header>, step: impl FnOnce() -> R) -> R {
        let waited_for = header.and_then(|header| in_words(header.waiting.get()));
        let begun = Instant::now();
        let result = step();
        let took = begun.elapsed();
        if took > self.limit {
            let slow = SlowStep {
                task: header.map(|header| header.name().to_string()),
                spawned_at: header.map(|header| header.location),
                took,
                waited_for,
                waits_for: header.and_then(|header| in_words(header.waiting.get())),
            };
            self.tell(&slow);
        }
        result
    }

    fn tell(&self, slow: &SlowStep) {
        match &self.told {
            // Who panics over a warning must not end the loop; the panic hook has told of it.
            Some(told) => drop(catch(|| told(slow))),
            None => report(&format!("{slow}\n")),
        }
    }
}

impl fmt::Debug for StepWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepWatch").field("limit", &self.limit).finish_non_exhaustive()
    }
}

fn in_words(waiting: Waiting) -> Option<&'static str> {
    match waiting {
        Waiting::Unknown => None,
        Waiting::For(what) => Some(what),
        Waiting::Task => Some("another task"),
    }
}
