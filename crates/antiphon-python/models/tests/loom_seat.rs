//! The seat under every interleaving that the memory model allows, as free-threaded interpreters need it.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p antiphon-python-models --release`; without that flag this program is empty.

#![cfg(loom)]

#[path = "../../src/seat.rs"]
#[allow(dead_code, reason = "the door uses all of it, the model what matters")]
mod seat;
#[path = "support/words.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the other models")]
mod words;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use seat::Seat;

#[test]
fn two_accesses_are_never_one() {
    loom::model(|| {
        let seat = Arc::new(Seat::new(0));
        let refused = Arc::new(AtomicUsize::new(0));
        let (theirs, refusals) = (Arc::clone(&seat), Arc::clone(&refused));
        let other = thread::spawn(move || {
            if theirs.with(|count| *count += 1).is_none() {
                refusals.fetch_add(1, Ordering::Relaxed);
            }
        });
        if seat.with(|count| *count += 1).is_none() {
            refused.fetch_add(1, Ordering::Relaxed);
        }
        other.join().unwrap();
        let refused = refused.load(Ordering::Relaxed);
        assert!(refused < 2, "somebody was first");
        assert_eq!(seat.with(|count| *count), Some(2 - refused));
    });
}

#[test]
fn a_run_begins_whoever_has_the_seat_for_one_access() {
    loom::model(|| {
        let seat = Arc::new(Seat::new(0));
        let theirs = Arc::clone(&seat);
        let other = thread::spawn(move || theirs.with(|count| *count += 1).is_some());
        assert!(seat.take(), "nobody else runs the loop");
        assert!(seat.is_mine() && !seat.is_elsewhere());
        let seen = seat.enter(|count| *count);
        assert_eq!(seat.enter(|count| *count), seen, "nobody changes it during a run");
        seat.give_back();
        let added = other.join().unwrap();
        assert_eq!(seat.with(|count| *count), Some(usize::from(added)));
    });
}

#[test]
fn one_of_two_threads_runs_the_loop() {
    loom::model(|| {
        let seat = Arc::new(Seat::new(0));
        let run = |seat: &Seat<usize>| {
            let took = seat.take();
            if took {
                seat.enter(|count| *count += 1);
                assert!(!seat.is_elsewhere());
                seat.give_back();
            }
            usize::from(took)
        };
        let theirs = Arc::clone(&seat);
        let other = thread::spawn(move || run(&theirs));
        let runs = run(&seat) + other.join().unwrap();
        assert!(runs >= 1);
        assert_eq!(seat.with(|count| *count), Some(runs));
    });
}

#[test]
fn what_was_queued_is_seen_by_the_run_that_follows() {
    loom::model(|| {
        let seat = Arc::new(Seat::new(Vec::new()));
        let inbox = Arc::new(loom::sync::Mutex::new(Vec::new()));
        let (theirs, entry) = (Arc::clone(&seat), Arc::clone(&inbox));
        // As the loop's `push` does it: into the core, or else by way of the inbox.
        let other = thread::spawn(move || {
            if theirs.with(|queue| queue.push(1)).is_none() {
                entry.lock().unwrap().push(1);
            }
        });
        assert!(seat.take());
        seat.enter(|queue| queue.push(0));
        seat.give_back();
        other.join().unwrap();
        assert!(seat.take());
        let mut found = seat.enter(std::mem::take);
        found.append(&mut inbox.lock().unwrap());
        seat.give_back();
        found.sort_unstable();
        assert_eq!(found, [0, 1]);
    });
}
