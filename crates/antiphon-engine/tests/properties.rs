//! Ready queue and timer heap against naive models, over random histories.

use antiphon_engine::{Instant, ReadyQueue, TimerHeap, TimerKey};
use proptest::prelude::*;
use std::collections::VecDeque;

#[derive(Clone, Debug)]
enum QueueStep {
    Push(u16),
    Pop,
    TakeAll,
}

fn queue_step() -> impl Strategy<Value = QueueStep> {
    prop_oneof![
        6 => any::<u16>().prop_map(QueueStep::Push),
        5 => Just(QueueStep::Pop),
        1 => Just(QueueStep::TakeAll),
    ]
}

#[derive(Clone, Debug)]
enum TimerStep {
    /// Deadlines come from a small range, so that equal ones are frequent.
    Push(i64),
    /// Which of all keys ever handed out, so that spent ones are tried, too.
    Cancel(prop::sample::Index),
    Advance(i64),
    TakeAll,
}

fn timer_step() -> impl Strategy<Value = TimerStep> {
    prop_oneof![
        100 => (-20..200_i64).prop_map(TimerStep::Push),
        80 => any::<prop::sample::Index>().prop_map(TimerStep::Cancel),
        20 => (0..15_i64).prop_map(TimerStep::Advance),
        1 => Just(TimerStep::TakeAll),
    ]
}

/// A list of (deadline, age, item) in which everything is looked for from end to end. The item is its own age.
#[derive(Default)]
struct TimerModel {
    armed: Vec<(i64, usize)>,
}

impl TimerModel {
    fn cancel(&mut self, item: usize) -> Option<usize> {
        let place = self.armed.iter().position(|&(_, armed)| armed == item)?;
        Some(self.armed.remove(place).1)
    }

    fn pop_due(&mut self, now: i64) -> Option<usize> {
        let first = *self.armed.iter().min().filter(|&&(deadline, _)| deadline <= now)?;
        self.cancel(first.1)
    }
}

proptest! {
    #[test]
    fn ready_queue_is_first_in_first_out(steps in prop::collection::vec(queue_step(), 0..400)) {
        let mut queue = ReadyQueue::new();
        let mut model = VecDeque::new();
        for step in steps {
            match step {
                QueueStep::Push(item) => {
                    queue.push(item);
                    model.push_back(item);
                }
                QueueStep::Pop => prop_assert_eq!(queue.pop(), model.pop_front()),
                QueueStep::TakeAll => {
                    prop_assert_eq!(queue.take_all(), Vec::from(std::mem::take(&mut model)));
                }
            }
            prop_assert_eq!(queue.len(), model.len());
            prop_assert_eq!(queue.is_empty(), model.is_empty());
            prop_assert!(queue.iter().eq(model.iter()));
        }
    }

    #[test]
    fn timer_heap_is_a_sorted_list_with_holes(steps in prop::collection::vec(timer_step(), 0..1500)) {
        let mut timers = TimerHeap::new();
        let mut model = TimerModel::default();
        let mut keys: Vec<TimerKey> = Vec::new();
        let mut now = 0;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                TimerStep::Push(delay) => {
                    let item = keys.len();
                    keys.push(timers.push(Instant::from_ns(now + delay), item));
                    model.armed.push((now + delay, item));
                }
                TimerStep::Cancel(index) if !keys.is_empty() => {
                    let item = index.index(keys.len());
                    prop_assert_eq!(timers.cancel(keys[item]), model.cancel(item));
                }
                TimerStep::Cancel(_) => {}
                TimerStep::Advance(by) => {
                    now += by;
                    while let Some(item) = timers.pop_due(Instant::from_ns(now)) {
                        prop_assert_eq!(Some(item), model.pop_due(now));
                    }
                    prop_assert_eq!(model.pop_due(now), None);
                }
                TimerStep::TakeAll => {
                    model.armed.sort_unstable();
                    let expected: Vec<_> = model.armed.drain(..).map(|(_, item)| item).collect();
                    prop_assert_eq!(timers.take_all(), expected);
                }
            }
            prop_assert_eq!(timers.len(), model.armed.len());
            prop_assert_eq!(timers.is_empty(), model.armed.is_empty());
            let earliest = model.armed.iter().min().map(|&(deadline, _)| Instant::from_ns(deadline));
            prop_assert_eq!(timers.next_deadline(), earliest);
            if number % 16 != 0 {
                continue; // the rest is slow
            }
            let mut armed: Vec<_> = timers.iter().copied().collect();
            armed.sort_unstable();
            let mut expected: Vec<_> = model.armed.iter().map(|&(_, item)| item).collect();
            expected.sort_unstable();
            prop_assert_eq!(armed, expected);
        }
    }
}
