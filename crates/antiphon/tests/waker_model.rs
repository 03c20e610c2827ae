//! Tasks beside a naive model of them, over random histories of waking, cancelling and letting go.

use antiphon::{JoinError, Task, cancellable, run, spawn, yield_now};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::thread;

#[derive(Copy, Clone, Debug)]
enum Action {
    Spawn,
    /// Wake by one's own copy of the waker.
    Wake(usize),
    WakeElsewhere(usize),
    /// Let it return when it is polled next, and wake it.
    Finish(usize),
    Cancel(usize),
    CopyWaker(usize),
    DropWaker(usize),
    DropWakerElsewhere(usize),
    DropHandle(usize),
    Turn,
}

fn action() -> impl Strategy<Value = Action> {
    let task = 0..4_usize;
    prop_oneof![
        2 => Just(Action::Spawn),
        2 => task.clone().prop_map(Action::Wake),
        1 => task.clone().prop_map(Action::WakeElsewhere),
        1 => task.clone().prop_map(Action::Finish),
        1 => task.clone().prop_map(Action::Cancel),
        1 => task.clone().prop_map(Action::CopyWaker),
        1 => task.clone().prop_map(Action::DropWaker),
        1 => task.clone().prop_map(Action::DropWakerElsewhere),
        1 => task.prop_map(Action::DropHandle),
        3 => Just(Action::Turn),
    ]
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Outcome {
    Returned,
    Cancelled,
}

/// What is expected of a task.
#[derive(Default)]
struct Model {
    /// A step is queued.
    due: bool,
    /// A wake-up of another thread is on its way; it does not see a step that is queued, so both may be made.
    sent: bool,
    begun: bool,
    finishes: bool,
    interrupted: bool,
    polls: u32,
    /// Polls that may come on top.
    more: u32,
    ended: Option<Outcome>,
}

impl Model {
    fn step(&mut self) {
        let (due, sent) = (std::mem::take(&mut self.due), std::mem::take(&mut self.sent));
        if !(due || sent) || self.ended.is_some() {
            return;
        }
        self.more = u32::from(due && sent);
        if !std::mem::replace(&mut self.begun, true) && self.interrupted {
            self.ended = Some(Outcome::Cancelled);
            return;
        }
        self.polls += 1;
        if self.finishes {
            self.ended = Some(Outcome::Returned);
        } else if self.interrupted {
            self.ended = Some(Outcome::Cancelled);
        }
    }
}

/// A task, and what its future shares with the test.
struct Subject {
    handle: Option<Task<u32>>,
    polls: Rc<Cell<u32>>,
    finishes: Rc<Cell<bool>>,
    wakers: Rc<RefCell<Vec<Waker>>>,
    model: Model,
}

impl Subject {
    fn spawn() -> Self {
        let (polls, finishes, wakers) =
            (Rc::<Cell<u32>>::default(), Rc::<Cell<bool>>::default(), Rc::default());
        let (seen, ready, given) = (Rc::clone(&polls), Rc::clone(&finishes), Rc::clone(&wakers));
        let future = poll_fn(move |context| {
            seen.set(seen.get() + 1);
            let given: &RefCell<Vec<Waker>> = &given;
            given.borrow_mut().push(context.waker().clone());
            if ready.get() { Poll::Ready(seen.get()) } else { Poll::Pending }
        });
        let handle = Some(spawn(cancellable(future)));
        Self { handle, polls, finishes, wakers, model: Model { due: true, ..Model::default() } }
    }

    fn act(&mut self, action: Action) {
        let waker = || self.wakers.borrow_mut().pop();
        match action {
            Action::Wake(_) | Action::WakeElsewhere(_) => {
                let Some(waker) = waker() else { return };
                match action {
                    Action::Wake(_) => {
                        waker.wake();
                        self.model.due = true;
                    }
                    _ => {
                        thread::spawn(move || waker.wake()).join().unwrap();
                        self.model.sent = true;
                    }
                }
            }
            Action::Finish(_) => {
                let Some(waker) = waker() else { return };
                self.finishes.set(true);
                waker.wake_by_ref();
                (self.model.finishes, self.model.due) = (true, true);
            }
            Action::Cancel(_) => {
                let Some(handle) = &self.handle else { return };
                assert_eq!(handle.cancel(), self.model.ended.is_none());
                (self.model.interrupted, self.model.due) = (true, true);
            }
            Action::CopyWaker(_) => {
                let copy = self.wakers.borrow().last().cloned();
                self.wakers.borrow_mut().extend(copy);
            }
            Action::DropWaker(_) => drop(waker()),
            Action::DropWakerElsewhere(_) => {
                let waker = waker();
                thread::spawn(move || drop(waker)).join().unwrap();
            }
            Action::DropHandle(_) => self.handle = None,
            Action::Spawn | Action::Turn => {}
        }
    }

    fn check(&mut self) {
        let model = &mut self.model;
        let polls = self.polls.get();
        assert!(
            (model.polls..=model.polls + model.more).contains(&polls),
            "{polls} polls, not {}",
            model.polls
        );
        (model.polls, model.more) = (polls, 0);
        if let Some(handle) = &self.handle {
            assert_eq!(handle.is_done(), self.model.ended.is_some());
            assert_eq!(handle.is_cancelled(), self.model.ended == Some(Outcome::Cancelled));
        }
    }
}

fn task_of(action: Action) -> Option<usize> {
    match action {
        Action::Spawn | Action::Turn => None,
        Action::Wake(task)
        | Action::WakeElsewhere(task)
        | Action::Finish(task)
        | Action::Cancel(task)
        | Action::CopyWaker(task)
        | Action::DropWaker(task)
        | Action::DropWakerElsewhere(task)
        | Action::DropHandle(task) => Some(task),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn task_does_what_a_naive_model_says(actions in prop::collection::vec(action(), 1..60)) {
        let mut kept = Vec::new();
        run(async {
            let mut subjects: Vec<Subject> = Vec::new();
            for action in actions {
                match (action, task_of(action)) {
                    (Action::Spawn, _) => subjects.push(Subject::spawn()),
                    (_, Some(task)) => {
                        // The youngest four are played with.
                        let place = subjects.len().checked_sub(task + 1);
                        if let Some(subject) = place.and_then(|place| subjects.get_mut(place)) {
                            subject.act(action);
                        }
                    }
                    (_, None) => {
                        // Two, for what other threads did comes behind this task in the first.
                        yield_now().await.unwrap();
                        yield_now().await.unwrap();
                        for subject in &mut subjects {
                            subject.model.step();
                            subject.check();
                        }
                    }
                }
            }
            for subject in &mut subjects {
                if subject.model.ended.is_some() && let Some(handle) = subject.handle.take() {
                    match handle.await {
                        Ok(polls) => assert_eq!(polls, subject.model.polls),
                        Err(error) => assert!(matches!(error, JoinError::Cancelled)),
                    }
                }
            }
            kept = subjects;
        })
        .unwrap();
        // All that is left outlives the loop: handles whose tasks were cancelled by its end, and wakers.
        for subject in kept {
            if let Some(handle) = &subject.handle {
                assert!(handle.is_done());
            }
            subject.wakers.borrow().iter().for_each(Waker::wake_by_ref);
        }
    }
}
