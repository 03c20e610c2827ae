//! Mutual exclusion, turns, no lost wake-up.

use antiphon_core::Lock;
use proptest::prelude::*;

use super::tasks::{Ticket, Wait, wake, wake_after};

enum Task {
    Idle,
    Waits(Wait),
    Holds,
}

struct World {
    lock: Lock<Ticket>,
    tasks: Vec<Task>,
    arrivals: usize,
}

impl World {
    fn holders(&self) -> usize {
        self.tasks.iter().filter(|task| matches!(task, Task::Holds)).count()
    }

    /// A task gets the lock: nobody else may have it, and nobody who came earlier may still want it.
    fn grant(&mut self, task: usize, arrived: usize) {
        assert_eq!(self.holders(), 0, "two have the lock");
        for other in &self.tasks {
            if let Task::Waits(wait) = other {
                assert!(wait.is_cancelled() || wait.arrived > arrived, "somebody's turn was taken");
            }
        }
        self.tasks[task] = Task::Holds;
    }

    fn start_or_release(&mut self, task: usize) {
        match self.tasks[task] {
            Task::Idle => {
                self.arrivals += 1;
                let arrived = self.arrivals;
                if self.lock.try_acquire() {
                    self.grant(task, arrived);
                } else {
                    let wait = Wait::new(arrived);
                    self.lock.wait(wait.ticket.clone());
                    self.tasks[task] = Task::Waits(wait);
                }
            }
            Task::Holds => {
                self.tasks[task] = Task::Idle;
                wake(self.lock.release().unwrap());
            }
            Task::Waits(_) => {}
        }
    }

    fn cancel(&mut self, task: usize) {
        if let Task::Waits(wait) = &mut self.tasks[task] {
            wait.cancel();
        }
    }

    fn run(&mut self, task: usize) {
        let wait = match std::mem::replace(&mut self.tasks[task], Task::Idle) {
            Task::Waits(wait) if wait.is_over() => wait,
            other => return self.tasks[task] = other,
        };
        if wait.is_cancelled() {
            wake_after(self.lock.abandon(&wait.ticket));
        } else {
            drop(self.lock.resume(&wait.ticket));
            self.grant(task, wait.arrived);
        }
    }

    fn can_run(&self) -> Option<usize> {
        self.tasks.iter().position(|task| matches!(task, Task::Waits(wait) if wait.is_over()))
    }

    fn check(&self) {
        assert_eq!(self.lock.is_locked(), self.holders() == 1);
        let waits = self.tasks.iter().filter(|task| matches!(task, Task::Waits(_))).count();
        assert_eq!(self.lock.waiters().len(), waits);
        if !self.lock.is_locked() && waits > 0 {
            assert!(self.can_run().is_some(), "the lock is free, somebody waits, and nobody was woken");
        }
    }
}

proptest! {
    #[test]
    fn one_at_a_time_in_turn_and_nobody_forgotten(
        history in prop::collection::vec((0..5usize, 0..4u8), 0..120),
    ) {
        let tasks = (0..5).map(|_| Task::Idle).collect();
        let mut world = World { lock: Lock::default(), tasks, arrivals: 0 };
        for (task, action) in history {
            match action {
                0 | 1 => world.start_or_release(task),
                2 => world.cancel(task),
                _ => world.run(task),
            }
            world.check();
        }
        // Everybody gets the lock and gives it back, without any further arrival.
        while world.lock.is_locked() || !world.lock.waiters().is_empty() {
            if let Some(holder) = world.tasks.iter().position(|task| matches!(task, Task::Holds)) {
                world.start_or_release(holder);
            }
            if let Some(task) = world.can_run() {
                world.run(task);
            }
            world.check();
        }
    }
}

#[test]
fn a_free_lock_cannot_be_released() {
    assert!(Lock::<Ticket>::default().release().is_err());
}

#[test]
fn cancelled_waiters_do_not_keep_anybody_from_a_free_lock() {
    let mut lock = Lock::default();
    assert!(lock.try_acquire());
    let mut wait = Wait::new(1);
    lock.wait(wait.ticket.clone());
    wait.cancel();
    assert_eq!(wake(lock.release().unwrap()), 0);
    assert!(lock.try_acquire());
}
