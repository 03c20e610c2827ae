//! The tasks of a loop that have not ended.

use crate::task::TaskHandle;

/// Handles in no order; each task knows its place.
pub(crate) struct Roster {
    tasks: Vec<TaskHandle>,
}

impl Roster {
    pub(crate) const fn new() -> Self {
        Self { tasks: Vec::new() }
    }

    /// # Panics
    /// With 2^32 tasks at once.
    #[inline]
    pub(crate) fn insert(&mut self, task: TaskHandle) {
        let place = u32::try_from(self.tasks.len()).expect("fewer than 2^32 tasks");
        task.base.place.set(place);
        self.tasks.push(task);
    }

    /// Takes `task` out, which is here, for the caller to drop.
    #[inline]
    pub(crate) fn remove(&mut self, task: &TaskHandle) -> Option<TaskHandle> {
        let place = task.base.place.get() as usize;
        if self.tasks.get(place) != Some(task) {
            return None;
        }
        let removed = self.tasks.swap_remove(place);
        if let Some(moved) = self.tasks.get(place) {
            moved.base.place.set(place as u32);
        }
        Some(removed)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &TaskHandle> {
        self.tasks.iter()
    }

    /// All of them, in the order in which they were made.
    pub(crate) fn in_order(&self) -> Vec<TaskHandle> {
        let mut tasks = self.tasks.clone();
        tasks.sort_unstable_by_key(|task| task.number);
        tasks
    }

    /// Takes the newest one out.
    pub(crate) fn pop(&mut self) -> Option<TaskHandle> {
        self.tasks.pop()
    }
}
