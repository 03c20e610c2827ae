//! A watchdog's thread beside threads that really block and really sleep.

use antiphon_engine::watch::{
    EndedStep, OnOverdue, OverdueStep, Stall, StepKind, Then, Watchdog, Watched, current_thread_number,
};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Tells the test what it hears.
struct Hook(Mutex<Sender<Heard>>);

#[derive(Debug, PartialEq)]
enum Heard {
    Overdue { number: u64, kind: StepKind, sampled: bool },
    Ended { number: u64 },
}

impl OnOverdue for Hook {
    fn on_overdue(&self, step: &OverdueStep<'_>) -> Then {
        let sampled = step.before.is_some() && step.now.is_some();
        let heard = Heard::Overdue { number: step.number, kind: step.kind, sampled };
        self.0.lock().unwrap().send(heard).unwrap();
        Then::Done
    }

    fn on_ended(&self, step: &EndedStep<'_>) {
        self.0.lock().unwrap().send(Heard::Ended { number: step.number }).unwrap();
    }
}

fn watched() -> (Arc<Watched>, Receiver<Heard>) {
    let (sender, heard) = channel();
    let watched = Watched::new(Duration::from_millis(10), false, Box::new(Hook(Mutex::new(sender))));
    watched.set_thread(current_thread_number());
    (Arc::new(watched), heard)
}

/// Runs `test` beside a running watchdog.
fn beside(test: impl FnOnce(&Watchdog)) {
    let watchdog = Watchdog::new();
    thread::scope(|scope| {
        scope.spawn(|| watchdog.run());
        // Also where the test fails: else the scope would wait for ever.
        struct Stop<'a>(&'a Watchdog);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.stop();
            }
        }
        let _stop = Stop(&watchdog);
        test(&watchdog);
    });
}

#[test]
fn step_that_waits_for_its_own_report_gets_it() {
    let (watched, heard) = watched();
    beside(|watchdog| {
        watchdog.watch(Arc::clone(&watched));
        if watched.word.awake() {
            watchdog.wake();
        }
        watched.word.begin(StepKind::Task);
        let number = watched.word.step();
        // The step blocks until it has been found.
        assert_eq!(heard.recv().unwrap(), Heard::Overdue { number, kind: StepKind::Task, sampled: true });
        assert_eq!(watched.word.overdue_step(), number);
        assert!(watched.word.end());
        assert_eq!(heard.recv().unwrap(), Heard::Ended { number });
    });
}

#[test]
fn sleeping_loop_costs_no_look_and_is_watched_again_once_it_wakes() {
    let (watched, heard) = watched();
    beside(|watchdog| {
        watchdog.watch(Arc::clone(&watched));
        watched.word.sleep();
        // Parked: the mark is there when the loop wakes. Each try that comes too early is a sleep of its own.
        while !watched.word.awake() {
            watched.word.sleep();
            thread::sleep(Duration::from_millis(5));
        }
        let looks = watchdog.looks();
        thread::sleep(Duration::from_millis(30));
        assert_eq!(watchdog.looks(), looks, "nobody has woken it yet");
        watchdog.wake();
        watched.word.begin(StepKind::Callback);
        assert!(matches!(heard.recv().unwrap(), Heard::Overdue { kind: StepKind::Callback, .. }));
        assert!(watched.word.end());
        watched.word.leave();
        assert!(matches!(heard.recv().unwrap(), Heard::Ended { .. }));
    });
}

#[test]
fn forgotten_loop_is_not_watched() {
    let (gone, heard_of_gone) = watched();
    let (kept, heard) = watched();
    beside(|watchdog| {
        for watched in [&gone, &kept] {
            watchdog.watch(Arc::clone(watched));
            let _ = watched.word.awake();
        }
        watchdog.forget(&gone);
        watchdog.wake();
        assert!(matches!(heard.recv().unwrap(), Heard::Overdue { kind: StepKind::Turn, .. }));
        assert!(heard_of_gone.try_recv().is_err());
    });
}

#[test]
fn names_of_stalls_are_distinct() {
    let names: std::collections::HashSet<_> = Stall::ALL.iter().map(|stall| stall.as_str()).collect();
    assert_eq!(names.len(), Stall::ALL.len());
    for (number, stall) in Stall::ALL.iter().enumerate() {
        assert_eq!(*stall as usize, number);
    }
}
