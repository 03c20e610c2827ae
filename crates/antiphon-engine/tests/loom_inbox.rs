//! The inbox under every interleaving that the memory model allows.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p antiphon-engine --release --test loom_inbox`; without that flag this
//! program is empty. A lost wake-up shows as a deadlock, which loom reports.

#![cfg(loom)]

use antiphon_engine::{Inbox, Notify, ReadyQueue};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// A driver that can only be woken: a counter to wait for.
#[derive(Default)]
struct Bell {
    /// Rung and not yet heard, and all in all.
    rings: Mutex<(usize, usize)>,
    rung: Condvar,
}

impl Bell {
    /// Sleeps until the bell has been rung, now or before.
    fn wait(&self) {
        let mut rings = self.rings.lock().unwrap();
        while rings.0 == 0 {
            rings = self.rung.wait(rings).unwrap();
        }
        rings.0 = 0;
    }

    fn ring_count(&self) -> usize {
        self.rings.lock().unwrap().1
    }
}

struct Ringer(Arc<Bell>);

impl Notify for Ringer {
    fn notify(&self) {
        let mut rings = self.0.rings.lock().unwrap();
        rings.0 += 1;
        rings.1 += 1;
        self.0.rung.notify_one();
    }
}

fn inbox_and_bell() -> (Arc<Inbox<usize>>, Arc<Bell>) {
    let bell = Arc::new(Bell::default());
    (Arc::new(Inbox::new(Box::new(Ringer(Arc::clone(&bell))))), bell)
}

/// Sleeps and wakes as a loop does until `count` items are there; returns them and how often it slept.
fn collect(inbox: &Inbox<usize>, bell: &Bell, count: usize) -> (Vec<usize>, usize) {
    let (mut ready, mut sleeps) = (ReadyQueue::new(), 0);
    while ready.len() < count {
        if inbox.prepare_sleep() {
            sleeps += 1;
            bell.wait();
            inbox.awake();
        }
        inbox.drain_into(&mut ready);
    }
    (ready.take_all(), sleeps)
}

#[test]
fn one_pusher_is_never_slept_over() {
    loom::model(|| {
        let (inbox, bell) = inbox_and_bell();
        let sender = Arc::clone(&inbox);
        let pusher = thread::spawn(move || {
            sender.push(1);
            sender.push(2);
        });
        let (items, sleeps) = collect(&inbox, &bell, 2);
        pusher.join().unwrap();
        assert_eq!(items, [1, 2]);
        assert!(bell.ring_count() <= sleeps, "at most one notification for each sleep");
    });
}

#[test]
fn two_pushers_are_never_slept_over_and_notify_once_per_sleep() {
    loom::model(|| {
        let (inbox, bell) = inbox_and_bell();
        let pushers = [1, 2].map(|item| {
            let sender = Arc::clone(&inbox);
            thread::spawn(move || sender.push(item))
        });
        let (mut items, sleeps) = collect(&inbox, &bell, 2);
        pushers.into_iter().for_each(|pusher| assert!(pusher.join().unwrap().is_none()));
        items.sort_unstable();
        assert_eq!(items, [1, 2]);
        assert!(bell.ring_count() <= sleeps, "at most one notification for each sleep");
    });
}

#[test]
fn awake_loop_is_not_notified() {
    loom::model(|| {
        let (inbox, bell) = inbox_and_bell();
        let sender = Arc::clone(&inbox);
        let pusher = thread::spawn(move || sender.push(1));
        let mut ready = ReadyQueue::new();
        while ready.is_empty() {
            inbox.drain_into(&mut ready);
            thread::yield_now();
        }
        pusher.join().unwrap();
        assert_eq!(bell.ring_count(), 0);
    });
}

#[test]
fn wake_ends_the_sleep_or_prevents_it() {
    loom::model(|| {
        let (inbox, bell) = inbox_and_bell();
        let sender = Arc::clone(&inbox);
        let waker = thread::spawn(move || sender.wake());
        if inbox.prepare_sleep() {
            bell.wait();
            inbox.awake();
        }
        waker.join().unwrap();
        assert!(bell.ring_count() <= 1);
    });
}

#[test]
fn what_was_written_before_wake_is_seen_after_it() {
    use loom::sync::atomic::{AtomicBool, Ordering};
    loom::model(|| {
        let (inbox, bell) = inbox_and_bell();
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, stopper) = (Arc::clone(&inbox), Arc::clone(&stop));
        let waker = thread::spawn(move || {
            stopper.store(true, Ordering::Relaxed);
            sender.wake();
        });
        if inbox.prepare_sleep() {
            bell.wait();
            inbox.awake();
        }
        assert!(stop.load(Ordering::Relaxed));
        waker.join().unwrap();
    });
}

#[test]
fn push_races_with_close_and_is_either_kept_or_given_back() {
    loom::model(|| {
        let (inbox, _bell) = inbox_and_bell();
        let sender = Arc::clone(&inbox);
        let pusher = thread::spawn(move || sender.push(1));
        inbox.close();
        let mut ready = ReadyQueue::new();
        inbox.drain_into(&mut ready);
        let given_back = pusher.join().unwrap();
        inbox.drain_into(&mut ready);
        assert_eq!(ready.len() + given_back.into_iter().count(), 1);
    });
}

#[test]
fn second_wake_is_not_swallowed_by_the_answer_to_the_first() {
    use loom::sync::atomic::{AtomicUsize, Ordering};
    // Three threads that spin on each other have too many interleavings for all of them; two preemptions show the fault.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let (inbox, bell) = inbox_and_bell();
        let done = Arc::new(AtomicUsize::new(0));
        let wakers = [(); 2].map(|()| {
            let (sender, done) = (Arc::clone(&inbox), Arc::clone(&done));
            thread::spawn(move || {
                done.fetch_add(1, Ordering::Relaxed);
                sender.wake();
            })
        });
        while done.load(Ordering::Relaxed) < 2 {
            if inbox.prepare_sleep() {
                bell.wait();
                inbox.awake();
            }
        }
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
    });
}
