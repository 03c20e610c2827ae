//! Wakers of tasks, kept, cloned, dropped and used where and when it suits others.

use antiphon::{Cancelled, JoinError, RunError, Task, cancellable, run, spawn, yield_now};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::task::{Poll, Waker};
use std::thread;

/// Where a task leaves its waker.
type Place = Rc<RefCell<Option<Waker>>>;

/// A task's waker, and a number that tells how often the task has been polled.
fn polled() -> (Task<()>, Rc<Cell<u32>>, Place) {
    let (polls, place) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(None)));
    let (seen, given) = (Rc::clone(&polls), Rc::clone(&place));
    let task = spawn(async move {
        cancellable(poll_fn(|context| {
            seen.set(seen.get() + 1);
            *given.borrow_mut() = Some(context.waker().clone());
            Poll::<()>::Pending
        }))
        .await
    });
    (task, polls, place)
}

/// A future that waits until another thread has done `work` with its waker, and woken it.
async fn elsewhere<T: Send + 'static>(work: impl FnOnce(&Waker) -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let mut work = Some(work);
    poll_fn(move |context| {
        if let Ok(value) = receiver.try_recv() {
            return Poll::Ready(value);
        }
        if let Some(work) = work.take() {
            let (waker, sender) = (context.waker().clone(), sender.clone());
            thread::spawn(move || {
                sender.send(work(&waker)).unwrap();
                waker.wake();
            });
        }
        Poll::Pending
    })
    .await
}

#[test]
fn waking_twice_before_the_step_polls_once() {
    run(async {
        let (_task, polls, place) = polled();
        yield_now().await.unwrap();
        let waker = place.borrow_mut().take().unwrap();
        waker.wake_by_ref();
        waker.wake();
        yield_now().await.unwrap();
        yield_now().await.unwrap();
        assert_eq!(polls.get(), 2);
    })
    .unwrap();
}

#[test]
fn waking_many_times_from_elsewhere_is_one_poll_for_each_turn() {
    run(async {
        let (_task, polls, place) = polled();
        yield_now().await.unwrap();
        let waker = place.borrow_mut().take().unwrap();
        elsewhere(move |_| (0..1000).for_each(|_| waker.wake_by_ref())).await;
        let after = polls.get();
        assert!((2..=1001).contains(&after));
        // The wake-ups of a loop that was asleep meanwhile are one.
        let waker = place.borrow_mut().take().unwrap();
        thread::spawn(move || (0..1000).for_each(|_| waker.wake_by_ref())).join().unwrap();
        yield_now().await.unwrap();
        yield_now().await.unwrap();
        assert_eq!(polls.get(), after + 1);
    })
    .unwrap();
}

#[test]
fn waker_made_elsewhere_may_be_dropped_here_and_the_other_way_round() {
    run(async {
        let copies = elsewhere(|waker| (0..10).map(|_| waker.clone()).collect::<Vec<_>>()).await;
        drop(copies);
        let here = poll_fn(|context| Poll::Ready([context.waker().clone(), context.waker().clone()])).await;
        elsewhere(move |_| drop(here)).await;
        yield_now().await.unwrap();
    })
    .unwrap();
}

#[test]
fn waker_outlives_its_task_and_its_loop() {
    let (done, left) = run(async {
        let (sender, receiver) = mpsc::channel();
        let task = spawn(async move {
            poll_fn(|context| {
                sender.send(context.waker().clone()).unwrap();
                Poll::Ready(())
            })
            .await;
            Ok::<_, Cancelled>(())
        });
        task.await.unwrap();
        let done = receiver.recv().unwrap();
        done.wake_by_ref();
        let (_task, _, place) = polled();
        yield_now().await.unwrap();
        let left = place.borrow_mut().take().unwrap();
        (done, left)
    })
    .unwrap();
    for waker in [done, left] {
        waker.wake_by_ref();
        let copy = waker.clone();
        thread::spawn(move || {
            copy.wake_by_ref();
            let another = copy.clone();
            drop(copy);
            another.wake();
        })
        .join()
        .unwrap();
        waker.wake();
    }
}

#[test]
fn task_and_its_outcome_outlive_the_loop() {
    let mut kept = None;
    run(async {
        kept = Some(spawn(async { Ok::<_, Cancelled>(String::from("kept")) }));
        yield_now().await.unwrap();
    })
    .unwrap();
    let mut task = kept.unwrap();
    assert!(task.is_done() && !task.cancel());
    assert_eq!(run(async { (&mut task).await.unwrap() }).unwrap(), "kept");
    assert!(matches!(run(task), Ok(Err(JoinError::Taken))));
}

#[test]
fn waker_of_one_loop_wakes_it_from_another() {
    let (sender, receiver) = mpsc::channel::<Waker>();
    let woken = thread::spawn(move || {
        run(async {
            let waker = receiver.recv().unwrap();
            yield_now().await.unwrap();
            waker.wake();
        })
        .unwrap();
    });
    let mut polls = 0;
    run(poll_fn(|context| {
        polls += 1;
        if polls == 1 {
            sender.send(context.waker().clone()).unwrap();
            return Poll::Pending;
        }
        Poll::Ready(())
    }))
    .unwrap();
    woken.join().unwrap();
}

#[test]
fn last_waker_dropped_elsewhere_leaves_a_deadlock_to_be_told() {
    // The loop sleeps, for somebody could wake the task; then nobody can any more.
    let outcome = run(poll_fn(|context| {
        let waker = context.waker().clone();
        thread::spawn(move || drop(waker));
        Poll::<()>::Pending
    }));
    assert!(matches!(outcome, Err(RunError::Deadlock { .. })));
}

#[test]
fn loop_that_ends_while_threads_clone_wake_and_drop_loses_nothing() {
    for round in 0..200 {
        let start = Arc::new(Barrier::new(3));
        let (sender, receiver) = mpsc::channel::<Waker>();
        let receiver = Arc::new(std::sync::Mutex::new(receiver));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (start, receiver) = (Arc::clone(&start), Arc::clone(&receiver));
                thread::spawn(move || {
                    let waker = receiver.lock().unwrap().recv().unwrap();
                    start.wait();
                    for turn in 0..50 {
                        let copy = waker.clone();
                        waker.wake_by_ref();
                        if turn % 3 == 0 { copy.wake() } else { drop(copy) }
                    }
                })
            })
            .collect();
        let alive = Rc::new(());
        let inside = Rc::clone(&alive);
        run(async {
            let task = spawn(async move {
                let _inside = inside;
                cancellable(poll_fn(|context| {
                    for _ in 0..2 {
                        let _ = sender.send(context.waker().clone());
                    }
                    Poll::<()>::Pending
                }))
                .await
            });
            yield_now().await.unwrap();
            start.wait();
            for _ in 0..round % 20 {
                yield_now().await.unwrap();
            }
            drop(task);
        })
        .unwrap();
        assert_eq!(Rc::strong_count(&alive), 1, "the future was dropped on its own thread");
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
