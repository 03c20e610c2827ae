//! The cell of a coroutine's body under every interleaving, as free-threaded interpreters need it.
//!
//! Run with `RUSTFLAGS="--cfg loom --cfg Py_GIL_DISABLED" cargo test -p antiphon-python-models --release`; without those
//! flags this program is empty.

#![cfg(all(loom, Py_GIL_DISABLED))]

#[path = "../../src/ffi/step_cell.rs"]
#[allow(dead_code, reason = "the door uses all of it, the model what matters")]
mod step_cell;
#[path = "support/words.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the other models")]
mod words;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use step_cell::{Phase, StepCell};

/// A body that counts its steps, and its end.
struct Body {
    steps: usize,
    ends: Arc<AtomicUsize>,
}

impl Drop for Body {
    fn drop(&mut self) {
        self.ends.fetch_add(1, Ordering::Relaxed);
    }
}

fn body() -> (Body, Arc<AtomicUsize>) {
    let ends = Arc::new(AtomicUsize::new(0));
    (Body { steps: 0, ends: Arc::clone(&ends) }, ends)
}

/// One step; whether it took place.
fn step(cell: &StepCell<Body>) -> usize {
    match cell.take() {
        Ok((before, mut lent)) => {
            assert_eq!(before == Phase::Created, lent.steps == 0);
            lent.steps += 1;
            lent.give_back(Phase::Suspended);
            1
        }
        Err(phase) => {
            assert_eq!(phase, Phase::Running);
            0
        }
    }
}

/// Ends the body; whether it was there to end.
fn end(cell: &StepCell<Body>) -> bool {
    cell.take().map(|(_, lent)| drop(lent)).is_ok()
}

#[test]
fn two_threads_never_have_the_body_at_once() {
    loom::model(|| {
        let (body, ends) = body();
        let cell = Arc::new(StepCell::new(body));
        let theirs = Arc::clone(&cell);
        let other = thread::spawn(move || step(&theirs));
        let mine = step(&cell);
        let steps = mine + other.join().unwrap();
        assert!(steps >= 1);
        assert_eq!(cell.peek(|body| body.steps), Some(steps));
        drop(cell);
        assert_eq!(ends.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_body_ends_once() {
    loom::model(|| {
        let (body, ends) = body();
        let cell = Arc::new(StepCell::new(body));
        let theirs = Arc::clone(&cell);
        let other = thread::spawn(move || end(&theirs));
        let mine = end(&cell);
        assert!(mine ^ other.join().unwrap());
        assert_eq!(cell.phase(), Phase::Finished);
        drop(cell);
        assert_eq!(ends.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_withheld_body_is_released_once_and_had_afterwards_only() {
    loom::model(|| {
        let (body, ends) = body();
        let cell = Arc::new(StepCell::withheld(body));
        let theirs = Arc::clone(&cell);
        let other = thread::spawn(move || {
            let released = theirs.release();
            if let Ok((_, mut lent)) = theirs.take() {
                lent.steps += 1;
                lent.give_back(Phase::Suspended);
            }
            released
        });
        let mine = cell.release();
        assert!(mine ^ other.join().unwrap());
        assert_eq!(step(&cell), 1);
        drop(cell);
        assert_eq!(ends.load(Ordering::Relaxed), 1);
    });
}
