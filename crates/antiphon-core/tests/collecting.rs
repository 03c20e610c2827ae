//! `gather`, `wait`, `as_completed` and `shield` against rules stated over whole histories.

use antiphon_core::{
    Arrival, AsCompleted, Ended, Gather, GatherStep, ReturnWhen, ShieldStep, Wait, shield_step,
};
use proptest::prelude::*;

fn ended() -> impl Strategy<Value = Ended> {
    prop_oneof![3 => Just(Ended::Returned), 1 => Just(Ended::Raised), 1 => Just(Ended::Cancelled)]
}

proptest! {
    /// The outcome comes once: at the first end that is no return, or at the last one.
    #[test]
    fn gather_settles_once_at_the_end_that_decides(
        ends in proptest::collection::vec(ended(), 1..12),
        return_exceptions: bool,
        cancelled_before in proptest::option::of(0usize..14),
        cancellation_reaches: bool,
    ) {
        let mut gather = Gather::new(return_exceptions);
        for _ in &ends {
            gather.add_child();
        }
        let mut steps = Vec::new();
        for (place, end) in ends.iter().enumerate() {
            if cancelled_before == Some(place) {
                prop_assert_eq!(gather.cancel(cancellation_reaches), cancellation_reaches);
            }
            let settled = steps.iter().any(|step| *step != GatherStep::Wait);
            steps.push(gather.child_done(*end, settled));
        }
        let failing = ends.iter().position(|end| *end != Ended::Returned).filter(|_| !return_exceptions);
        let deciding = failing.unwrap_or(ends.len() - 1);
        let cancelled = cancellation_reaches && cancelled_before.is_some_and(|place| place <= deciding);
        for (place, step) in steps.into_iter().enumerate() {
            let expected = match place {
                _ if place < deciding => GatherStep::Wait,
                _ if place > deciding => GatherStep::Ignore,
                _ if failing.is_some() => GatherStep::Fail,
                _ if cancelled => GatherStep::Cancel,
                _ => GatherStep::Finish,
            };
            prop_assert_eq!(step, expected);
        }
    }

    /// Over exactly from the first moment on at which the rule holds of everything that ended so far.
    #[test]
    fn wait_is_over_when_its_rule_holds(
        ends in proptest::collection::vec(ended(), 1..12),
        rule in prop_oneof![
            Just(ReturnWhen::FirstCompleted), Just(ReturnWhen::FirstException), Just(ReturnWhen::AllCompleted)
        ],
    ) {
        let mut wait = Wait::new(ends.len(), rule);
        let mut over = false;
        for (place, end) in ends.iter().enumerate() {
            over |= wait.child_done(*end);
            let so_far = &ends[..=place];
            let holds = so_far.len() == ends.len() || match rule {
                ReturnWhen::FirstCompleted => true,
                ReturnWhen::FirstException => so_far.contains(&Ended::Raised),
                ReturnWhen::AllCompleted => false,
            };
            prop_assert_eq!(over, holds);
        }
    }

    #[test]
    fn shield_never_passes_a_cancellation_inwards(inner in ended(), outer_cancelled: bool) {
        let step = shield_step(inner, outer_cancelled);
        prop_assert_eq!(step == ShieldStep::Ignore, outer_cancelled);
        prop_assert_eq!(step == ShieldStep::Cancel, !outer_cancelled && inner == Ended::Cancelled);
    }
}

/// What may happen around an `as_completed`.
#[derive(Clone, Debug)]
enum Event {
    ChildDone,
    TimeUp,
    /// A new consumer claims a child and looks for it.
    Consume,
    /// The consumer with this number (modulo those that wait) is cancelled.
    CancelConsumer(usize),
    /// The woken consumer with this number gets its turn.
    Run(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::ChildDone),
        1 => Just(Event::TimeUp),
        4 => Just(Event::Consume),
        2 => (0usize..8).prop_map(Event::CancelConsumer),
        4 => (0usize..8).prop_map(Event::Run),
    ]
}

/// Consumers as the doors have them: queued until woken, and looking again when they run.
struct Consumers {
    machine: AsCompleted<u32, u32>,
    queued: Vec<u32>,
    woken: Vec<u32>,
    next: u32,
    taken: Vec<Arrival<u32>>,
}

impl Consumers {
    fn look(&mut self) {
        match self.machine.take() {
            Some(arrival) => self.taken.push(arrival),
            None => {
                self.machine.wait(self.next);
                self.queued.push(self.next);
                self.next += 1;
            }
        }
    }

    fn wake(&mut self) {
        if let Some(waiter) = self.machine.next_waiter() {
            assert_eq!(waiter, self.queued.remove(0), "first come, first served");
            self.woken.push(waiter);
        }
    }

    fn cancel(&mut self, place: usize) {
        if self.queued.is_empty() && self.woken.is_empty() {
            return;
        }
        let place = place % (self.queued.len() + self.woken.len());
        if place < self.queued.len() {
            let gone = self.queued.remove(place);
            assert_eq!(self.machine.remove_waiter(|waiter| *waiter == gone), Some(gone));
        } else {
            self.woken.remove(place - self.queued.len());
            if self.machine.has_arrivals() {
                self.wake();
            }
        }
        self.machine.give_up_claim();
    }
}

proptest! {
    /// Every child is handed out once, in order; late ones as timeouts; and nobody sleeps on while something is there that
    /// no woken consumer is about to take.
    #[test]
    fn as_completed_hands_out_each_child_once_and_loses_no_wake_up(
        children in 0u32..8,
        events in proptest::collection::vec(event(), 0..60),
    ) {
        let mut it = Consumers {
            machine: AsCompleted::new(children as usize), queued: vec![], woken: vec![], next: 0, taken: vec![],
        };
        let (mut done, mut late) = (0, 0);
        for event in events {
            match event {
                Event::ChildDone if done + late < children => {
                    prop_assert!(it.machine.child_done(done));
                    done += 1;
                    it.wake();
                }
                Event::ChildDone => prop_assert!(!it.machine.child_done(u32::MAX)),
                Event::TimeUp => {
                    let count = it.machine.time_out();
                    prop_assert_eq!(count as u32, children - done - late);
                    late += count as u32;
                    for _ in 0..count {
                        it.wake();
                    }
                }
                Event::Consume => {
                    if it.machine.claim() {
                        it.look();
                    }
                }
                Event::CancelConsumer(place) => it.cancel(place),
                Event::Run(place) if !it.woken.is_empty() => {
                    it.woken.remove(place % it.woken.len());
                    it.look();
                }
                Event::Run(_) => {}
            }
            let waiting = it.queued.len() + it.woken.len();
            let there = (done + late) as usize - it.taken.len();
            prop_assert!(it.queued.is_empty() || there <= it.woken.len(), "a lost wake-up");
            prop_assert!(it.taken.len() + waiting <= children as usize, "more claims than children");
            prop_assert_eq!(it.machine.is_complete(), done + late == children);
        }
        let expected = (0..done).map(Arrival::Child).chain((0..late).map(|_| Arrival::TimedOut));
        let claimed = it.taken.len() + it.queued.len() + it.woken.len();
        let claims_left = std::iter::from_fn(|| it.machine.claim().then_some(())).take(100).count();
        prop_assert_eq!(claimed + claims_left, children as usize, "every child can be claimed once");
        prop_assert!(it.taken.iter().cloned().eq(expected.take(it.taken.len())));
    }
}
