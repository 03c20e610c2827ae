//! Permits are neither made nor lost; turns; no permit idle while somebody waits.

use antiphon_core::{Semaphore, Waiter};
use proptest::prelude::*;

use super::tasks::{Ticket, Wait, wake, wake_after};

enum Task {
    Idle,
    Waits(Wait),
    Holds,
}

struct World {
    semaphore: Semaphore<Ticket>,
    tasks: Vec<Task>,
    /// How many permits there are in all.
    total: usize,
    arrivals: usize,
}

impl World {
    fn count(&self, which: impl Fn(&Task) -> bool) -> usize {
        self.tasks.iter().filter(|task| which(task)).count()
    }

    fn grant(&mut self, task: usize, arrived: usize) {
        // Who was woken has his permit; only who still waits for one could have been passed over.
        for other in &self.tasks {
            if let Task::Waits(wait) = other {
                assert!(wait.is_over() || wait.arrived > arrived, "somebody's turn was taken");
            }
        }
        self.tasks[task] = Task::Holds;
    }

    fn start_or_release(&mut self, task: usize) {
        match self.tasks[task] {
            Task::Idle => {
                self.arrivals += 1;
                let arrived = self.arrivals;
                if self.semaphore.try_acquire() {
                    self.grant(task, arrived);
                } else {
                    let wait = Wait::new(arrived);
                    self.semaphore.wait(wait.ticket.clone());
                    self.tasks[task] = Task::Waits(wait);
                }
            }
            Task::Holds => {
                self.tasks[task] = Task::Idle;
                wake(self.semaphore.release().unwrap());
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
            wake_after(self.semaphore.abandon(&wait.ticket));
        } else {
            wake_after(self.semaphore.resume(&wait.ticket));
            self.grant(task, wait.arrived);
        }
    }

    fn can_run(&self) -> Option<usize> {
        self.tasks.iter().position(|task| matches!(task, Task::Waits(wait) if wait.is_over()))
    }

    fn check(&self) {
        let held = self.count(|task| matches!(task, Task::Holds));
        let granted = self
            .count(|task| matches!(task, Task::Waits(wait) if wait.is_over() && !wait.ticket.is_cancelled()));
        assert_eq!(self.semaphore.permits() + held + granted, self.total, "permits were made or lost");
        let pending = self.count(|task| matches!(task, Task::Waits(wait) if !wait.is_over()));
        if self.semaphore.permits() > 0 && pending > 0 {
            assert!(self.can_run().is_some(), "a permit is free, somebody waits, and nobody will run");
        }
    }
}

proptest! {
    #[test]
    fn permits_are_conserved_and_go_in_turn(
        permits in 0..4usize,
        history in prop::collection::vec((0..6usize, 0..9u8), 0..150),
    ) {
        let tasks = (0..6).map(|_| Task::Idle).collect();
        let semaphore = Semaphore::new(permits);
        let mut world = World { semaphore, tasks, total: permits, arrivals: 0 };
        for (task, action) in history {
            match action {
                0..=3 => world.start_or_release(task),
                4 | 5 => world.cancel(task),
                6 | 7 => world.run(task),
                _ => {
                    // A permit from nowhere, as asyncio allows it.
                    world.total += 1;
                    wake(world.semaphore.release().unwrap());
                }
            }
            world.check();
        }
        // With one permit at least, everybody gets one in the end.
        world.total += 1;
        wake(world.semaphore.release().unwrap());
        for _ in 0..100 {
            if let Some(holder) = world.tasks.iter().position(|task| matches!(task, Task::Holds)) {
                world.start_or_release(holder);
            }
            if let Some(task) = world.can_run() {
                world.run(task);
            }
            world.check();
        }
        prop_assert_eq!(world.semaphore.permits(), world.total);
        prop_assert!(world.semaphore.waiters().is_empty());
    }
}

#[test]
fn a_bounded_one_takes_back_what_it_gave_and_no_more() {
    let mut semaphore = Semaphore::<Ticket>::bounded(1);
    assert!(semaphore.release().is_err());
    assert!(semaphore.try_acquire() && semaphore.is_locked());
    assert_eq!(wake(semaphore.release().unwrap()), 0);
    assert!(semaphore.release().is_err());
}

#[test]
fn a_permit_that_could_not_be_handed_over_goes_to_the_next() {
    let mut semaphore = Semaphore::new(0);
    let [mut first, second] = [Wait::new(1), Wait::new(2)];
    semaphore.wait(first.ticket.clone());
    semaphore.wait(second.ticket.clone());
    let chosen = semaphore.release().unwrap();
    // Another thread cancels it before it is woken.
    first.cancel();
    drop(chosen);
    assert_eq!(wake(semaphore.not_woken()), 1);
    assert!(second.is_over() && semaphore.permits() == 0);
}

#[test]
fn a_woken_waiter_goes_before_a_newcomer_even_if_permits_are_free() {
    let mut semaphore = Semaphore::new(0);
    let wait = Wait::new(1);
    semaphore.wait(wait.ticket.clone());
    assert_eq!(wake(semaphore.release().unwrap()) + wake(semaphore.release().unwrap()), 1);
    assert!(semaphore.permits() == 1 && semaphore.is_locked() && !semaphore.try_acquire());
    wake_after(semaphore.resume(&wait.ticket));
    assert!(semaphore.try_acquire());
}

#[test]
fn who_gives_up_before_he_was_woken_has_no_permit_to_give_back() {
    let mut semaphore = Semaphore::new(0);
    let wait = Wait::new(1);
    semaphore.wait(wait.ticket.clone());
    wake_after(semaphore.abandon(&wait.ticket));
    assert_eq!(semaphore.permits(), 0);
}
