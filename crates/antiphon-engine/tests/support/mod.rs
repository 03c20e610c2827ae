//! The host that the tests drive: work items are closures, time is virtual, readiness is scripted.

#![allow(dead_code)] // each test program uses a part of it

use antiphon_engine::{
    Clock, Core, Event, Host, Instant, Interest, Readiness, Simulated, Token, Virtual, run_once,
};
use std::collections::VecDeque;
use std::sync::Arc;

/// A work item of the tests.
pub type Task = Box<dyn FnOnce(&mut TestLoop) + Send>;

/// A loop on the simulated driver.
pub struct TestLoop {
    pub core: Core<Task, Simulated>,
    pub clock: Arc<Virtual>,
    /// What the work items have noted, in order.
    pub log: Vec<String>,
    /// What the coarse clock shows.
    pub coarse_ns: i64,
    /// How often the clock has been read.
    pub clock_reads: usize,
    /// Runs inside the next readings of the clock, as an overridden `loop.time()` may.
    pub on_clock_read: VecDeque<Task>,
    /// What [`Host::interrupted`] answers.
    pub interrupted: bool,
}

impl TestLoop {
    pub fn new() -> Self {
        let clock = Arc::new(Virtual::new());
        Self {
            core: Core::new(Simulated::new(Arc::clone(&clock))).unwrap(),
            clock,
            log: Vec::new(),
            coarse_ns: 0,
            clock_reads: 0,
            on_clock_read: VecDeque::new(),
            interrupted: false,
        }
    }

    pub fn push(&mut self, task: impl FnOnce(&mut TestLoop) + Send + 'static) {
        self.core.ready.push(Box::new(task));
    }

    /// Queues an item that notes `word`.
    pub fn push_note(&mut self, word: &str) {
        self.core.ready.push(note(word));
    }

    /// Arms a timer that notes `word`.
    pub fn arm_note(&mut self, at_ns: i64, word: &str) -> antiphon_engine::TimerKey {
        self.core.timers.push(Instant::from_ns(at_ns), note(word))
    }

    /// Watches `fd` for reading; each event notes `fd <number>`.
    pub fn watch(&mut self, fd: i32) {
        use antiphon_engine::Driver;
        let interest = Interest { readable: true, ..Interest::default() };
        self.core.driver.add(fd, Token(fd as u64), interest).unwrap();
    }

    pub fn turn(&mut self) {
        run_once(self).unwrap();
    }

    pub fn turns(&mut self, count: usize) {
        (0..count).for_each(|_| self.turn());
    }
}

/// An item that notes `word`.
pub fn note(word: &str) -> Task {
    let word = word.to_owned();
    Box::new(move |host| host.log.push(word))
}

/// An item that queues itself again with every turn, for ever.
pub fn endless(host: &mut TestLoop) {
    host.push(endless);
}

pub const READABLE: Readiness = Readiness { readable: true, writable: false, hangup: false, error: false };

impl Host for TestLoop {
    type Work = Task;
    type Driver = Simulated;

    fn core<R>(&mut self, f: impl FnOnce(&mut Core<Task, Simulated>) -> R) -> R {
        f(&mut self.core)
    }

    fn now(&mut self) -> Instant {
        self.clock_reads += 1;
        if let Some(task) = self.on_clock_read.pop_front() {
            task(self);
        }
        self.clock.now()
    }

    fn coarse_now_ns(&mut self) -> i64 {
        self.coarse_ns
    }

    fn dispatch(&mut self, event: Event) {
        assert!(event.readable);
        self.push_note(&format!("fd {}", event.token.0));
    }

    fn run(&mut self, work: Task) {
        work(self);
    }

    fn interrupted(&self) -> bool {
        self.interrupted
    }
}
