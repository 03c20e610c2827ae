//! The counts of a cell: who refers to its memory, counted without atomics on the loop's thread.
//!
//! All references count alike. The loop's thread counts in a plain cell, `local`, what it makes and drops; other threads count
//! in the [`Word`]. What a thread makes another may drop, so only the sum means anything.
//!
//! Invariant Q1: while a cell is attached, `local + word` is the number of references, and `local` is at least one. So a
//! count that another thread takes off the word is never the last, and only the loop's thread sees the end. A thread that finds no
//! count to take off gives its reference back to the loop, through the inbox.
//! Invariant Q2: a cell is detached on its loop's thread, once, when its task has ended, and before the inbox is closed. From then
//! on `local` is zero, the word counts every reference, and whoever takes the last one off frees the memory.
//!
//! Why the loop's thread may believe a word of zero: a reference is made from one that exists, and the count for it is on the
//! word before that one can be dropped. So the sum is never below the number of references, wherever they were made.
//!
//! Source: Choi, Shull, Torrellas, "Biased reference counting" (2018), of which this is the part for threads that can be sent to.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// The word counts every reference, and the task has ended.
const DETACHED: u32 = 1;
/// Another thread has woken the task, and the loop has not heard of it.
const NOTIFIED: u32 = 2;
/// One reference.
const ONE: u32 = 4;
/// Beyond so many references the program has lost its mind, or a count its way.
const MOST: u32 = u32::MAX / 2;

/// The part of the counts that every thread may touch.
pub(super) struct Word(AtomicU32);

/// What dropping a reference comes to.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Dropped {
    /// There are others.
    Counted,
    /// It was the last: the memory is the caller's to free.
    Last,
    /// It is not dropped: the loop has to do it.
    GiveBack,
}

/// What waking from another thread comes to.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Notified {
    /// The loop has to be told, and nobody else tells it.
    First,
    /// Somebody has told it, or the task has ended.
    NoNeed,
}

impl Word {
    /// No references but the local ones.
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Any thread: one more reference, of which the caller has one.
    pub(super) fn add(&self) {
        if self.0.fetch_add(ONE, Ordering::Relaxed) > MOST {
            std::process::abort(); // as Arc does: a count that wraps would free what is in use
        }
    }

    /// Any thread: drops a reference that the caller has.
    pub(super) fn drop_one(&self) -> Dropped {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if word & DETACHED != 0 {
                if self.0.fetch_sub(ONE, Ordering::Release) / ONE > 1 {
                    return Dropped::Counted;
                }
                fence(Ordering::Acquire); // what others did to the memory comes before its end
                return Dropped::Last;
            }
            if word < ONE {
                return Dropped::GiveBack;
            }
            match self.0.compare_exchange_weak(word, word - ONE, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return Dropped::Counted, // invariant Q1
                Err(newer) => word = newer,
            }
        }
    }

    /// Any thread: the task is to be woken. What was written before is seen by the step that follows.
    pub(super) fn notify(&self) -> Notified {
        match self.0.fetch_or(NOTIFIED, Ordering::AcqRel) & (NOTIFIED | DETACHED) {
            0 => Notified::First,
            _ => Notified::NoNeed,
        }
    }

    /// The loop's thread: whether the task was woken by another thread since this was asked.
    pub(super) fn take_notice(&self) -> bool {
        self.0.fetch_and(!NOTIFIED, Ordering::AcqRel) & NOTIFIED != 0
    }

    /// The loop's thread, of an attached cell: takes all counts off the word, for its own.
    pub(super) fn take(&self) -> u32 {
        self.0.fetch_and(NOTIFIED, Ordering::Acquire) / ONE
    }

    /// The loop's thread, of an attached cell: whether there are counts on the word.
    pub(super) fn has_counts(&self) -> bool {
        self.0.load(Ordering::Acquire) >= ONE
    }

    /// The loop's thread, once: the word counts the `local` references, too (invariant Q2).
    pub(super) fn detach(&self, local: u32) {
        if local > MOST / ONE {
            std::process::abort();
        }
        self.0.fetch_add(local * ONE + DETACHED, Ordering::AcqRel);
    }
}
#[cfg(all(test, loom))]
mod models {
    //! `RUSTFLAGS="--cfg loom" cargo test -p antiphon --release --lib`

    use super::{Dropped, Notified, Word};
    use loom::cell::UnsafeCell;
    use loom::sync::{Arc, Mutex};
    use loom::thread;
    use std::cell::Cell;

    /// A cell, and an inbox that takes references back until it is closed.
    struct Model {
        word: Word,
        /// Stands for the memory: who frees it writes, who uses it reads. loom reports what is not in order.
        memory: UnsafeCell<bool>,
        /// References that are with the loop, and whether it takes more.
        inbox: Mutex<(u32, bool)>,
    }

    /// Every interleaving with at most three preemptions; all of them take hours, and no known race needs more.
    fn explore(model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(model);
    }

    impl Model {
        fn new() -> Arc<Self> {
            Arc::new(Self { word: Word::new(), memory: UnsafeCell::new(true), inbox: Mutex::new((0, true)) })
        }

        fn touch(&self) {
            self.memory.with(|alive| assert!(unsafe { *alive }, "used after it was freed"));
        }

        fn free(&self) {
            self.memory
                .with_mut(|alive| assert!(unsafe { std::mem::replace(&mut *alive, false) }, "freed twice"));
        }

        fn send(&self) -> bool {
            let mut inbox = self.inbox.lock().unwrap();
            inbox.0 += u32::from(inbox.1);
            inbox.1
        }

        /// As `release_detached`.
        fn release(&self) {
            self.touch();
            loop {
                match self.word.drop_one() {
                    Dropped::Counted => return,
                    Dropped::Last => return self.free(),
                    Dropped::GiveBack if self.send() => return,
                    Dropped::GiveBack => {}
                }
            }
        }

        /// As a waker's `wake`.
        fn wake(&self) {
            self.touch();
            if self.word.notify() == Notified::NoNeed || !self.send() {
                self.release();
            }
        }

        fn make(&self) {
            self.touch();
            self.word.add();
        }
    }

    /// The loop's thread: as `release_here`.
    fn release_here(model: &Model, local: &Cell<u32>) {
        match local.get() {
            0 => model.release(),
            1 => {
                local.set(model.word.take());
                if local.get() == 0 {
                    model.free();
                }
            }
            count => local.set(count - 1),
        }
    }

    fn drain(model: &Model, local: &Cell<u32>) -> bool {
        let count = std::mem::take(&mut model.inbox.lock().unwrap().0);
        let mut woken = false;
        for _ in 0..count {
            woken |= model.word.take_notice();
            release_here(model, local);
        }
        woken
    }

    /// The task ends, then its loop, and at last its handles go.
    fn end(model: &Model, local: &Cell<u32>) {
        if local.get() > 1 || model.word.has_counts() {
            model.word.detach(local.take());
        }
        model.inbox.lock().unwrap().1 = false;
        drain(model, local);
        release_here(model, local);
    }

    #[test]
    fn copies_made_and_dropped_on_two_threads_end_in_one_freeing() {
        explore(|| {
            let model = Model::new();
            let local = Cell::new(3); // the handles, and a waker for each thread
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let model = Arc::clone(&model);
                    thread::spawn(move || {
                        model.make();
                        model.release();
                        model.release();
                    })
                })
                .collect();
            drain(&model, &local);
            end(&model, &local);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            model.memory.with(|alive| assert!(!unsafe { *alive }, "never freed"));
        });
    }

    #[test]
    fn waker_that_changes_hands_ends_in_one_freeing() {
        explore(|| {
            let model = Model::new();
            let local = Cell::new(2);
            let first = Arc::clone(&model);
            let first = thread::spawn(move || {
                first.make();
                let second = Arc::clone(&first);
                let second = thread::spawn(move || second.wake());
                first.release();
                second.join().unwrap();
            });
            drain(&model, &local);
            end(&model, &local);
            first.join().unwrap();
            model.memory.with(|alive| assert!(!unsafe { *alive }, "never freed"));
        });
    }

    #[test]
    fn wake_is_never_lost() {
        explore(|| {
            let model = Model::new();
            let local = Cell::new(3);
            let ready = Arc::new([
                loom::sync::atomic::AtomicBool::new(false),
                loom::sync::atomic::AtomicBool::new(false),
            ]);
            let threads: Vec<_> = (0..2)
                .map(|place| {
                    let (model, ready) = (Arc::clone(&model), Arc::clone(&ready));
                    thread::spawn(move || {
                        ready[place].store(true, loom::sync::atomic::Ordering::Relaxed);
                        model.wake();
                    })
                })
                .collect();
            let mut seen = 0;
            let look =
                || ready.iter().filter(|ready| ready.load(loom::sync::atomic::Ordering::Relaxed)).count();
            if drain(&model, &local) {
                seen = look();
            }
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            if drain(&model, &local) {
                seen = look();
            }
            assert_eq!(seen, 2, "the last step saw what both have done");
            end(&model, &local);
            model.memory.with(|alive| assert!(!unsafe { *alive }, "never freed"));
        });
    }
}
