//! One watched loop as the watchdog sees it: since when its present step has been the same.

use super::step_word::Reading;
use super::{StepKind, StepWord, ThreadSample};
use crate::Instant;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// How many looks fit into `block_after`.
const TICKS: u32 = 5;
pub(super) const SHORTEST_TICK: Duration = Duration::from_millis(1);
const LONGEST_TICK: Duration = Duration::from_millis(50);

/// A loop that is watched.
pub struct Watched {
    /// What the loop does.
    pub word: StepWord,
    /// How long a step may take.
    pub block_after: Duration,
    /// Whether steps are overdue as soon as their turn has taken `block_after` in all.
    ///
    /// Then any step that is seen twice in such a turn is overdue, so that several steps which block one after the other
    /// do not add up.
    pub turn_budget: bool,
    thread: AtomicI32,
    hook: Box<dyn OnOverdue>,
}

/// What is done about steps that block their loop. Called on the watchdog's thread, with no lock held (H3).
pub trait OnOverdue: Send + Sync {
    /// A step is overdue. The word has been [marked](StepWord::overdue_step), the step may end at any moment.
    fn on_overdue(&self, step: &OverdueStep<'_>) -> Then;

    /// A step that was overdue has ended.
    fn on_ended(&self, step: &EndedStep<'_>);
}

/// Whether the watchdog comes back to the same step.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Then {
    /// Not before it has ended.
    Done,
    /// After this time, unless it has ended by then.
    AgainIn(Duration),
}

/// A step that has outlived its budget.
pub struct OverdueStep<'a> {
    /// Its loop.
    pub watched: &'a Watched,
    /// Its number (H1).
    pub number: u64,
    /// Its kind.
    pub kind: StepKind,
    /// How long it has taken, at least.
    pub age: Duration,
    /// How long its turn has taken, at least.
    pub turn_age: Duration,
    /// The thread some time before, at half of the budget; none where nothing is known of it.
    pub before: Option<ThreadSample>,
    /// The thread now.
    pub now: Option<ThreadSample>,
}

impl OverdueStep<'_> {
    /// Whether the loop still is in this step.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.watched.word.step() == self.number
    }
}

/// An overdue step's end.
pub struct EndedStep<'a> {
    /// Its loop.
    pub watched: &'a Watched,
    /// Its number.
    pub number: u64,
    /// How long it took, less the part of a tick that may have passed before it was first seen.
    pub took: Duration,
}

impl Watched {
    /// A loop that nobody runs. `block_after`: how long a step may take. `hook`: what is done about those that take longer.
    #[must_use]
    pub fn new(block_after: Duration, turn_budget: bool, hook: Box<dyn OnOverdue>) -> Self {
        Self { word: StepWord::new(), block_after, turn_budget, thread: AtomicI32::new(0), hook }
    }

    /// Tells which thread drives the loop, by its [number](super::current_thread_number).
    pub fn set_thread(&self, number: i32) {
        self.thread.store(number, Ordering::Release);
    }

    /// The number of the thread that drives the loop, zero before there was one.
    #[must_use]
    pub fn thread(&self) -> i32 {
        self.thread.load(Ordering::Acquire)
    }

    /// How often the watchdog looks while the loop is awake.
    #[must_use]
    pub fn tick(&self) -> Duration {
        (self.block_after / TICKS).clamp(SHORTEST_TICK, LONGEST_TICK)
    }
}

/// What has been made of the present step.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Told {
    Nothing,
    Once,
    /// The hook wants to hear of it again.
    Until(Instant),
}

/// The watchdog's memory of one loop.
pub(super) struct Sampler {
    watched: Arc<Watched>,
    seen: Reading,
    since: Instant,
    turn: u64,
    turn_since: Instant,
    before: Option<ThreadSample>,
    told: Told,
}

impl Sampler {
    pub(super) fn new(watched: Arc<Watched>, now: Instant) -> Self {
        let (seen, turn) = (watched.word.read(), watched.word.turn());
        Self { watched, seen, since: now, turn, turn_since: now, before: None, told: Told::Nothing }
    }

    pub(super) fn watches(&self, watched: &Arc<Watched>) -> bool {
        Arc::ptr_eq(&self.watched, watched)
    }

    /// Looks at the loop; when to look again, `None`: it has been resting since the last look.
    pub(super) fn look(&mut self, now: Instant) -> Option<Duration> {
        let (reading, turn) = (self.watched.word.read(), self.watched.word.turn());
        if turn != self.turn {
            (self.turn, self.turn_since) = (turn, now);
        }
        if reading != self.seen {
            self.tell_end(now);
            (self.seen, self.since) = (reading, now);
            (self.before, self.told) = (None, Told::Nothing);
            if !reading.is_idle() {
                self.look_at_thread(now);
            }
            return Some(self.next_look(now));
        }
        if reading.is_idle() {
            return None;
        }
        self.look_at_thread(now);
        if self.is_due(now) {
            self.tell(now);
        }
        Some(match self.told {
            Told::Until(at) => at.saturating_duration_since(now).clamp(SHORTEST_TICK, self.watched.tick()),
            Told::Nothing => self.next_look(now),
            Told::Once => self.watched.tick(),
        })
    }

    /// Takes the first sample, once half of the budget is used.
    fn look_at_thread(&mut self, now: Instant) {
        if self.before.is_none() && self.spent(now) * 2 >= self.watched.block_after {
            self.before = ThreadSample::of(self.watched.thread());
        }
    }

    /// When a step that is not overdue may be: not later than its budget is used up.
    fn next_look(&self, now: Instant) -> Duration {
        let left = self.watched.block_after.saturating_sub(self.spent(now));
        left.clamp(SHORTEST_TICK, self.watched.tick())
    }

    /// Lets the loop wake the watchdog, if it rests as it did at the last look.
    pub(super) fn park(&self) -> bool {
        self.watched.word.park(self.seen)
    }

    /// How much of the budget is used.
    fn spent(&self, now: Instant) -> Duration {
        let since = if self.watched.turn_budget { self.turn_since.min(self.since) } else { self.since };
        now.saturating_duration_since(since)
    }

    fn is_due(&self, now: Instant) -> bool {
        match self.told {
            Told::Nothing => {
                self.spent(now) >= self.watched.block_after
                    && now.saturating_duration_since(self.since) >= SHORTEST_TICK
            }
            Told::Once => false,
            Told::Until(at) => now >= at,
        }
    }

    fn tell(&mut self, now: Instant) {
        let number = self.seen.number();
        if self.told == Told::Nothing && !self.watched.word.mark_overdue(self.seen) {
            return;
        }
        let step = OverdueStep {
            watched: &self.watched,
            number,
            kind: self.seen.kind(),
            age: now.saturating_duration_since(self.since),
            turn_age: now.saturating_duration_since(self.turn_since),
            before: self.before,
            now: ThreadSample::of(self.watched.thread()),
        };
        self.told = match self.watched.hook.on_overdue(&step) {
            Then::Done => Told::Once,
            Then::AgainIn(time) => Told::Until(now.saturating_add(time)),
        };
    }

    fn tell_end(&self, now: Instant) {
        if self.told == Told::Nothing {
            return;
        }
        // A step that was marked at its very end has not noted it.
        let noted = Instant::from_ns(self.watched.word.ended_ns());
        let ended = if noted > self.since { noted.min(now) } else { now };
        let took = ended.saturating_duration_since(self.since);
        self.watched.hook.on_ended(&EndedStep { watched: &self.watched, number: self.seen.number(), took });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>);

    impl Log {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    struct Hook(Log, Then);

    impl OnOverdue for Hook {
        fn on_overdue(&self, step: &OverdueStep<'_>) -> Then {
            assert!(step.is_present());
            self.0.0.lock().unwrap().push(format!("overdue {:?} {:?}", step.kind, step.age));
            self.1
        }

        fn on_ended(&self, step: &EndedStep<'_>) {
            self.0.0.lock().unwrap().push(format!("ended {:?}", step.took));
        }
    }

    /// A watched loop that is awake, its sampler at the origin of time, what the hook hears.
    fn watched(turn_budget: bool, then: Then) -> (Arc<Watched>, Sampler, Log) {
        let log = Log::default();
        let hook = Box::new(Hook(log.clone(), then));
        let watched = Arc::new(Watched::new(Duration::from_millis(50), turn_budget, hook));
        assert!(!watched.word.awake(), "nobody is parked");
        watched.word.begin_turn();
        let sampler = Sampler::new(Arc::clone(&watched), ms(0));
        (watched, sampler, log)
    }

    fn ms(ms: i64) -> Instant {
        Instant::from_ns(ms * 1_000_000)
    }

    #[test]
    fn step_is_overdue_once_it_was_the_same_for_block_after() {
        let (watched, mut sampler, log) = watched(false, Then::Done);
        watched.word.begin(StepKind::Task);
        for at in [10, 20, 30, 40, 50, 59] {
            assert!(sampler.look(ms(at)).is_some());
        }
        assert_eq!(log.take(), [""; 0]);
        assert!(sampler.look(ms(60)).is_some());
        assert_eq!(log.take(), ["overdue Task 50ms"]);
        sampler.look(ms(900));
        assert_eq!(log.take(), [""; 0], "told once");
        assert!(watched.word.end(), "the loop finds it overdue");
        sampler.look(ms(910));
        assert_eq!(log.take(), ["ended 900ms"]);
        assert_eq!(watched.word.overdue_count(), 1);
    }

    #[test]
    fn many_short_steps_are_not_overdue() {
        let (watched, mut sampler, log) = watched(false, Then::Done);
        for at in 0..100 {
            watched.word.begin(StepKind::Callback);
            sampler.look(ms(at * 49));
            assert!(!watched.word.end());
        }
        assert_eq!(log.take(), [""; 0]);
    }

    #[test]
    fn with_a_turn_budget_later_steps_of_a_long_turn_are_overdue_at_once() {
        let (watched, mut sampler, log) = watched(true, Then::Done);
        for at in [0, 20, 40] {
            watched.word.begin(StepKind::Task);
            sampler.look(ms(at));
            assert!(!watched.word.end());
        }
        watched.word.begin(StepKind::Task);
        sampler.look(ms(59));
        assert_eq!(log.take(), [""; 0], "seen for the first time");
        sampler.look(ms(60));
        assert_eq!(log.take(), ["overdue Task 1ms"]);
        assert!(watched.word.end());
        watched.word.begin_turn();
        watched.word.begin(StepKind::Task);
        sampler.look(ms(70));
        log.take();
        sampler.look(ms(80));
        assert_eq!(log.take(), [""; 0], "a new turn has a new budget");
    }

    #[test]
    fn hook_is_asked_again_when_it_wants_to_be() {
        let (watched, mut sampler, log) = watched(false, Then::AgainIn(Duration::from_millis(5)));
        watched.word.begin(StepKind::Task);
        sampler.look(ms(0));
        assert_eq!(sampler.look(ms(50)), Some(Duration::from_millis(5)));
        sampler.look(ms(54));
        sampler.look(ms(55));
        assert_eq!(log.take(), ["overdue Task 50ms", "overdue Task 55ms"]);
    }

    #[test]
    fn sleeping_loop_is_idle_from_the_second_look_on_and_wakes_who_parked() {
        let (watched, mut sampler, _log) = watched(false, Then::Done);
        watched.word.sleep();
        assert!(sampler.look(ms(0)).is_some());
        assert!(sampler.look(ms(10)).is_none());
        assert!(sampler.park());
        assert!(sampler.park(), "marked already");
        assert!(watched.word.awake(), "the watchdog is to be woken");
        assert!(!sampler.park(), "it is awake");
        assert!(sampler.look(ms(20)).is_some());
    }

    #[test]
    fn another_sleep_than_the_one_seen_is_not_parked_on() {
        let (watched, mut sampler, _log) = watched(false, Then::Done);
        watched.word.sleep();
        sampler.look(ms(0));
        assert!(!watched.word.awake());
        watched.word.sleep();
        assert!(!sampler.park());
        assert!(!watched.word.awake());
    }

    #[test]
    fn work_between_two_steps_is_watched_too() {
        let (_watched, mut sampler, log) = watched(false, Then::Done);
        sampler.look(ms(0));
        sampler.look(ms(50));
        assert_eq!(log.take(), ["overdue Turn 50ms"]);
    }
}
