//! Tasks as data: who waits for what.

use super::{TaskHandle, Waiting};
use crate::runtime::Loop;
use std::fmt;
use std::panic::Location;

/// A task at one moment: its name, where it was spawned, and what it waits for.
///
/// ```
/// use antiphon::{spawn, sleep, task_tree, yield_now};
/// use std::time::Duration;
///
/// antiphon::Runner::new().virtual_clock().run(async {
///     let inner = spawn(sleep(Duration::from_secs(1)));
///     inner.set_name("inner");
///     let outer = spawn(async move { inner.await });
///     yield_now().await.unwrap();
///     let tasks = task_tree(); // as data; each one prints as a line of text
///     let inner = tasks.iter().position(|task| task.name == "inner").unwrap();
///     assert!(tasks.iter().any(|task| task.joins == Some(inner)));
///     assert_eq!(tasks[inner].waits_for, "time to pass");
///     assert_eq!(tasks[inner].location.file(), file!());
///     outer.await.unwrap();
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TaskInfo {
    /// Its name.
    pub name: String,
    /// Where it was spawned.
    pub location: &'static Location<'static>,
    /// What it waits for, in words.
    pub waits_for: String,
    /// The place in the list of the task that it joins.
    pub joins: Option<usize>,
}

impl fmt::Display for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) waits for {}", self.name, self.location, self.waits_for)
    }
}

/// All tasks of the running loop, the main one first: who waits for what.
///
/// ```
/// use antiphon::{Cancelled, Event, spawn, task_tree, yield_now};
/// use std::rc::Rc;
/// ///
/// antiphon::run(async {
///     let event = Rc::new(Event::new());
///     let seen = Rc::clone(&event);
///     let waiter = spawn(async move { seen.wait().await }).named("waiter");
///     yield_now().await?;
///     let tasks = task_tree();
///     assert_eq!(tasks[1].name, "waiter");
///     assert_eq!(tasks[1].waits_for, "an event");
///     event.set();
///     waiter.await
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn task_tree() -> Vec<TaskInfo> {
    Loop::running().map(|own| all_infos(&own, true)).unwrap_or_default()
}

pub(crate) fn all_infos(own: &Loop, with_main: bool) -> Vec<TaskInfo> {
    let mut tasks: Vec<TaskHandle> = Vec::new();
    tasks.extend(own.main_task().filter(|_| with_main));
    tasks.extend(own.all_tasks());
    tasks
        .iter()
        .map(|task| {
            let header = task.header();
            let (waits_for, joins) = match header.waiting.get() {
                Waiting::Unknown if header.queued.get() => ("its turn".to_owned(), None),
                Waiting::Unknown => ("a future that is not antiphon's".to_owned(), None),
                Waiting::For(what) => (what.to_owned(), None),
                Waiting::Task => match tasks.iter().position(|other| other.is_joined_by(task)) {
                    Some(place) => (tasks[place].header().name().to_string(), Some(place)),
                    None => ("another task".to_owned(), None), // joined by a waker that is not the task's, or ended
                },
            };
            TaskInfo { name: header.name().to_string(), location: header.location, waits_for, joins }
        })
        .collect()
}
