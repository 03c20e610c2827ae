//! Items are neither lost nor doubled and come in order; no room, item or shut-down goes unnoticed by who waits for it.

use std::collections::VecDeque;

use antiphon_core::{Queue, Turn, Waiter};
use proptest::prelude::*;

use super::tasks::{Ticket, Wait, wake_after};

const TASKS: usize = 6;

enum Task {
    Idle,
    Gets(Wait),
    Puts(Wait),
}

struct World {
    queue: Queue<Ticket>,
    size: usize,
    items: VecDeque<usize>,
    tasks: Vec<Task>,
    put: usize,
    got: usize,
    discarded: bool,
    /// How often an item was said to be done with.
    done: usize,
}

impl World {
    fn full(&self) -> bool {
        self.size > 0 && self.items.len() >= self.size
    }

    fn get(&mut self, task: usize) {
        self.tasks[task] = Task::Idle;
        match self.queue.may_get(self.items.is_empty()) {
            Turn::Now => {
                let item = self.items.pop_front().expect("there is an item");
                assert_eq!(item, self.got, "out of order");
                self.got += 1;
                wake_after(self.queue.removed());
            }
            Turn::Later => {
                assert!(self.items.is_empty());
                let wait = Wait::new(0);
                self.queue.wait_to_get(wait.ticket.clone());
                self.tasks[task] = Task::Gets(wait);
            }
            Turn::Never => assert!(self.queue.is_shut_down() && self.items.is_empty()),
        }
    }

    fn put(&mut self, task: usize) {
        self.tasks[task] = Task::Idle;
        match self.queue.may_put(self.full()) {
            Turn::Now => {
                self.items.push_back(self.put);
                self.put += 1;
                assert!(self.size == 0 || self.items.len() <= self.size, "more items than there is room");
                wake_after(self.queue.added());
            }
            Turn::Later => {
                assert!(self.full());
                let wait = Wait::new(0);
                self.queue.wait_to_put(wait.ticket.clone());
                self.tasks[task] = Task::Puts(wait);
            }
            Turn::Never => assert!(self.queue.is_shut_down()),
        }
    }

    fn run(&mut self, task: usize) {
        match std::mem::replace(&mut self.tasks[task], Task::Idle) {
            Task::Gets(wait) if wait.is_over() => {
                if wait.is_cancelled() {
                    wake_after(self.queue.abandon_get(&wait.ticket, self.items.is_empty()));
                } else {
                    self.get(task);
                }
            }
            Task::Puts(wait) if wait.is_over() => {
                if wait.is_cancelled() {
                    wake_after(self.queue.abandon_put(&wait.ticket, self.full()));
                } else {
                    self.put(task);
                }
            }
            other => self.tasks[task] = other,
        }
    }

    fn cancel(&mut self, task: usize) {
        if let Task::Gets(wait) | Task::Puts(wait) = &mut self.tasks[task] {
            wait.cancel();
        }
    }

    fn task_done(&mut self) {
        let before = self.queue.unfinished();
        match self.queue.task_done() {
            Ok(last) => {
                assert_eq!(last, before == 1);
                self.done += 1;
            }
            Err(_) => assert_eq!(before, 0),
        }
    }

    fn shut_down(&mut self, immediate: bool) {
        self.queue.shut_down();
        while immediate && self.items.pop_front().is_some() {
            self.discarded = true;
            self.queue.discarded();
        }
        for ticket in self.queue.everybody() {
            if !ticket.is_done() {
                wake_after(antiphon_core::Left {
                    removed: antiphon_core::Few::nobody(),
                    wake: Some(ticket).into(),
                });
            }
        }
    }

    fn runnable(&self) -> Option<usize> {
        self.tasks
            .iter()
            .position(|task| matches!(task, Task::Gets(wait) | Task::Puts(wait) if wait.is_over()))
    }

    fn check(&self) {
        if !self.discarded {
            assert_eq!(self.put, self.got + self.items.len(), "items were lost");
        }
        if self.runnable().is_none() {
            for task in &self.tasks {
                match task {
                    Task::Gets(_) => assert!(self.items.is_empty(), "an item, and nobody told the getter"),
                    Task::Puts(_) => assert!(self.full(), "room, and nobody told the putter"),
                    Task::Idle => continue,
                }
                assert!(!self.queue.is_shut_down(), "shut down, and somebody was not told");
            }
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nobody_forgotten(
        size in 0..4usize,
        history in prop::collection::vec((0..TASKS, 0..60u8), 0..150),
    ) {
        let mut world = World {
            queue: Queue::default(),
            size,
            items: VecDeque::new(),
            tasks: (0..TASKS).map(|_| Task::Idle).collect(),
            put: 0,
            got: 0,
            discarded: false,
            done: 0,
        };
        for (task, action) in history {
            let idle = matches!(world.tasks[task], Task::Idle);
            match action {
                0..=14 if idle => world.get(task),
                15..=30 if idle => world.put(task),
                0..=44 => world.run(task),
                45..=53 => world.cancel(task),
                54..=57 => world.task_done(),
                58 => world.shut_down(false),
                _ => world.shut_down(true),
            }
            world.check();
            if !world.discarded {
                prop_assert_eq!(world.queue.unfinished(), world.put - world.done);
            }
        }
        while let Some(task) = world.runnable() {
            world.run(task);
            world.check();
        }
    }
}
