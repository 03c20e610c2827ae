//! Nobody passes before all are there; who arrives while others leave belongs to the next round; nobody is forgotten.

use antiphon_core::{Barrier, BarrierArrival, BarrierOutcome, BarrierState};
use proptest::prelude::*;

use super::tasks::{Ticket, Wait, wake};

const TASKS: usize = 6;

enum Task {
    Idle,
    HeldUp(Wait),
    /// Counted, in the round that began with the barrier's last becoming empty.
    Counted(Wait, usize),
}

struct World {
    barrier: Barrier<Ticket>,
    tasks: Vec<Task>,
    /// Which round gathers or leaves.
    round: usize,
    /// How many came to each round and did not give up, and in which all were there.
    present: Vec<usize>,
    tripped: Vec<bool>,
}

impl World {
    fn new(parties: usize) -> Self {
        let tasks = (0..TASKS).map(|_| Task::Idle).collect();
        Self { barrier: Barrier::new(parties), tasks, round: 0, present: vec![0], tripped: vec![false] }
    }

    fn leave(&mut self) {
        wake(self.barrier.leave());
        if self.barrier.count() == 0 {
            self.round += 1;
            self.present.push(0);
            self.tripped.push(false);
        }
    }

    fn arrive(&mut self, task: usize) {
        match self.barrier.arrive() {
            BarrierArrival::Trips(number, woken) => {
                self.present[self.round] += 1;
                assert_eq!(self.present[self.round], self.barrier.parties());
                assert_eq!(number + 1, self.barrier.parties());
                self.tripped[self.round] = true;
                wake(woken);
                self.tasks[task] = Task::Idle;
                self.leave();
            }
            BarrierArrival::Waits(number) => {
                assert_eq!(number, self.present[self.round]);
                self.present[self.round] += 1;
                let wait = self.queue_up();
                self.tasks[task] = Task::Counted(wait, self.round);
            }
            BarrierArrival::HeldUp => {
                assert!(self.barrier.count() > 0, "held up by nobody");
                let wait = self.queue_up();
                self.tasks[task] = Task::HeldUp(wait);
            }
            BarrierArrival::Broken => {
                assert_eq!(self.barrier.state(), BarrierState::Broken);
                self.tasks[task] = Task::Idle;
            }
        }
    }

    fn queue_up(&mut self) -> Wait {
        let wait = Wait::new(0);
        self.barrier.wait(wait.ticket.clone());
        wait
    }

    fn cancel(&mut self, task: usize) {
        if let Task::HeldUp(wait) | Task::Counted(wait, _) = &mut self.tasks[task] {
            wait.cancel();
        }
    }

    fn run(&mut self, task: usize) {
        match std::mem::replace(&mut self.tasks[task], Task::Idle) {
            Task::HeldUp(wait) if wait.is_over() => {
                drop(self.barrier.resume(&wait.ticket));
                if !wait.is_cancelled() {
                    self.arrive(task);
                }
            }
            Task::Counted(wait, round) if wait.is_over() => {
                drop(self.barrier.resume(&wait.ticket));
                assert_eq!(round, self.round, "a round ended before all had left");
                if wait.is_cancelled() {
                    self.present[round] -= usize::from(!self.tripped[round]);
                    return self.leave();
                }
                match self.barrier.outcome() {
                    BarrierOutcome::Waits => {
                        let wait = self.queue_up();
                        self.tasks[task] = Task::Counted(wait, round);
                    }
                    BarrierOutcome::Passed => {
                        assert!(self.tripped[round], "passed before all were there");
                        self.leave();
                    }
                    BarrierOutcome::Broken => self.leave(),
                }
            }
            other => self.tasks[task] = other,
        }
    }

    fn runnable(&self) -> Option<usize> {
        self.tasks
            .iter()
            .position(|task| matches!(task, Task::HeldUp(wait) | Task::Counted(wait, _) if wait.is_over()))
    }

    fn check(&self) {
        let counted = self.tasks.iter().filter(|task| matches!(task, Task::Counted(..))).count();
        assert_eq!(self.barrier.count(), counted);
        let waits = self.tasks.iter().filter(|task| !matches!(task, Task::Idle)).count();
        assert_eq!(self.barrier.waiters().len(), waits);
        if self.runnable().is_none() {
            // Nothing will happen by itself: then the barrier gathers, is whole, and lacks somebody.
            let held_up = self.tasks.iter().any(|task| matches!(task, Task::HeldUp(_)));
            assert!(!held_up, "held up for ever");
            assert!(counted < self.barrier.parties());
            if counted > 0 {
                assert_eq!(self.barrier.state(), BarrierState::Filling, "nobody told them");
            }
        }
    }
}

proptest! {
    #[test]
    fn all_pass_or_none(parties in 1..5usize, history in prop::collection::vec((0..TASKS, 0..14u8), 0..150)) {
        let mut world = World::new(parties);
        for (task, action) in history {
            match action {
                0..=5 => if matches!(world.tasks[task], Task::Idle) { world.arrive(task) },
                6..=9 => world.run(task),
                10 | 11 => world.cancel(task),
                12 => {
                    wake(world.barrier.reset());
                }
                _ => {
                    wake(world.barrier.abort());
                }
            }
            world.check();
        }
        while let Some(task) = world.runnable() {
            world.run(task);
            world.check();
        }
    }
}
