//! Tasks: spawning, joining, cancelling, names, panics.

use antiphon::{
    Cancelled, Event, JoinError, RunError, Runner, cancellable, current_task, run, sleep, spawn, task_tree,
    try_spawn, yield_now,
};
use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn virtually<F: Future>(main: F) -> F::Output {
    Runner::new().virtual_clock().run(main).unwrap()
}

#[test]
fn main_may_borrow_and_needs_no_result() {
    let text = String::from("borrowed");
    assert_eq!(run(async { text.as_str() }).unwrap(), "borrowed");
}

#[test]
fn nested_run_is_an_error_and_the_outer_one_goes_on() {
    run(async {
        assert!(matches!(run(async {}), Err(RunError::Nested)));
        yield_now().await.unwrap();
    })
    .unwrap();
    assert!(run(async {}).is_ok());
}

#[test]
fn spawn_outside_of_a_loop_says_so() {
    assert!(try_spawn(async { Ok::<_, Cancelled>(()) }).is_err());
}

#[test]
fn panic_of_main_reaches_the_caller_of_run() {
    let caught = std::panic::catch_unwind(|| run(async { panic!("on purpose") }));
    assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "on purpose");
    assert!(run(async {}).is_ok(), "the thread is free again");
}

#[test]
fn tasks_run_in_the_order_of_their_spawning_and_in_turns() {
    let log = Rc::new(RefCell::new(Vec::new()));
    run(async {
        let tasks: Vec<_> = (0..3)
            .map(|n| {
                let log = Rc::clone(&log);
                spawn(async move {
                    for turn in 0..2 {
                        log.borrow_mut().push((turn, n));
                        yield_now().await?;
                    }
                    Ok::<_, Cancelled>(())
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    })
    .unwrap();
    assert_eq!(*log.borrow(), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
}

#[test]
fn panic_of_a_task_is_an_error_at_its_join() {
    run(async {
        let task = spawn(async {
            yield_now().await?;
            assert!(current_task().is_none(), "on purpose");
            Ok::<_, Cancelled>(())
        });
        let Err(JoinError::Panicked(panic)) = task.await else { panic!("not told") };
        assert_eq!(panic.message(), "on purpose");
        yield_now().await.unwrap();
    })
    .unwrap();
}

#[test]
fn cancellation_arrives_at_the_await_and_clean_up_may_await() {
    let log = Rc::new(RefCell::new(Vec::new()));
    virtually(async {
        let own = Rc::clone(&log);
        let task = spawn(async move {
            let outcome = sleep(1000 * SECOND).await;
            own.borrow_mut().push("cancelled");
            sleep(SECOND).await?; // the request was delivered; this one is not cancelled
            own.borrow_mut().push("cleaned up");
            outcome
        });
        yield_now().await.unwrap();
        assert!(task.cancel());
        assert_eq!(task.cancelling(), 1);
        assert!(matches!(task.await, Err(JoinError::Cancelled)));
    });
    assert_eq!(*log.borrow(), ["cancelled", "cleaned up"]);
}

#[test]
fn task_that_handles_its_cancellation_returns_normally() {
    virtually(async {
        let mut task = spawn(async {
            let outcome = sleep(SECOND).await;
            assert_eq!(outcome, Err(Cancelled));
            assert_eq!(current_task().unwrap().uncancel(), 0);
            Ok::<_, Cancelled>("handled")
        });
        yield_now().await.unwrap();
        task.cancel();
        assert_eq!((&mut task).await.unwrap(), "handled");
        assert!(task.is_done() && !task.is_cancelled());
        assert!(!task.cancel(), "it is done");
        assert!(matches!(task.await, Err(JoinError::Taken)));
    });
}

#[test]
fn task_cancelled_before_its_first_step_never_begins() {
    let begun = Rc::new(Cell::new(false));
    run(async {
        let own = Rc::clone(&begun);
        let task = spawn(async move {
            own.set(true);
            Ok::<_, Cancelled>(())
        });
        task.cancel();
        assert!(matches!(task.await, Err(JoinError::Cancelled)));
    })
    .unwrap();
    assert!(!begun.get());
    assert_eq!(Rc::strong_count(&begun), 1);
}

#[test]
fn uncancel_withdraws_an_interruption_that_is_still_due() {
    virtually(async {
        let task = spawn(async {
            let own = current_task().unwrap();
            own.cancel();
            own.cancel();
            assert_eq!((own.cancelling(), own.uncancel(), own.uncancel()), (2, 1, 0));
            sleep(SECOND).await
        });
        assert!(task.await.is_ok());
    });
}

#[test]
fn cancelling_a_joiner_cancels_what_it_joins_and_waits_for_it() {
    let log = Rc::new(RefCell::new(Vec::new()));
    virtually(async {
        let own = Rc::clone(&log);
        let outer = spawn(async move {
            let seen = Rc::clone(&own);
            let inner = spawn(async move {
                let outcome = sleep(1000 * SECOND).await;
                sleep(SECOND).await?;
                seen.borrow_mut().push("inner");
                outcome
            });
            let outcome = inner.await;
            own.borrow_mut().push("outer");
            outcome
        });
        for _ in 0..3 {
            yield_now().await.unwrap();
        }
        outer.cancel();
        assert!(matches!(outer.await, Err(JoinError::Cancelled)));
    });
    assert_eq!(*log.borrow(), ["inner", "outer"]);
}

#[test]
fn foreign_future_is_cancelled_at_its_edge_and_keeps_a_value_that_is_there() {
    virtually(async {
        let task = spawn(async {
            let own = current_task().unwrap();
            own.cancel();
            assert_eq!(cancellable(async { 5 }).await, Ok(5));
            cancellable(pending::<()>()).await
        });
        assert!(matches!(task.await, Err(JoinError::Cancelled)));
    });
}

#[test]
fn foreign_future_may_be_woken_from_another_thread() {
    run(async {
        let place: std::sync::Arc<std::sync::Mutex<(bool, Option<Waker>)>> = std::sync::Arc::default();
        let theirs = std::sync::Arc::clone(&place);
        let thread = std::thread::spawn(move || {
            loop {
                let mut place = theirs.lock().unwrap();
                if let Some(waker) = place.1.take() {
                    place.0 = true;
                    drop(place);
                    return waker.wake();
                }
                drop(place);
                std::thread::yield_now();
            }
        });
        poll_fn(|context| {
            let mut place = place.lock().unwrap();
            if place.0 {
                return Poll::Ready(());
            }
            place.1 = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        thread.join().unwrap();
    })
    .unwrap();
}

#[test]
fn tasks_left_at_the_end_are_cancelled_and_waited_for() {
    let log = Rc::new(RefCell::new(Vec::new()));
    virtually(async {
        let own = Rc::clone(&log);
        drop(spawn(async move {
            let outcome = sleep(1000 * SECOND).await;
            sleep(SECOND).await?;
            own.borrow_mut().push("cleaned up");
            outcome
        }));
        yield_now().await.unwrap();
    });
    assert_eq!(*log.borrow(), ["cleaned up"]);
}

#[test]
fn deadlock_names_its_tasks_and_what_they_wait_for() {
    let error = run(async {
        let event = Rc::new(Event::new());
        let seen = Rc::clone(&event);
        let waiter = spawn(async move { seen.wait().await }).named("waiter");
        waiter.await.unwrap();
        drop(event);
    })
    .unwrap_err();
    let RunError::Deadlock { tasks } = &error else { panic!("{error}") };
    assert_eq!(
        (tasks[0].name.as_str(), tasks[0].waits_for.as_str(), tasks[0].joins),
        ("main", "waiter", Some(1))
    );
    assert_eq!((tasks[1].name.as_str(), tasks[1].waits_for.as_str()), ("waiter", "an event"));
    assert!(error.to_string().contains("tests/tasks.rs"), "{error}");
}

#[test]
fn foreign_future_without_a_waker_is_a_deadlock_too() {
    assert!(matches!(run(pending::<()>()), Err(RunError::Deadlock { .. })));
}

#[test]
fn task_tree_knows_names_and_turns() {
    run(async {
        let task = spawn(async { Ok::<_, Cancelled>(task_tree().len()) });
        assert_eq!(task_tree()[1].waits_for, "its turn");
        assert_eq!(&*task.name(), "task-1");
        assert_eq!(task.await.unwrap(), 2);
        assert_eq!(task_tree().len(), 1);
    })
    .unwrap();
}

#[test]
fn same_seed_same_order_and_other_seeds_other_orders() {
    let order = |seed| {
        let log = Rc::new(RefCell::new(Vec::new()));
        let own = Rc::clone(&log);
        Runner::new()
            .shuffled(seed)
            .run(async move {
                let tasks: Vec<_> = (0..20)
                    .map(|n| {
                        let own = Rc::clone(&own);
                        spawn(async move {
                            own.borrow_mut().push(n);
                            Ok::<_, Cancelled>(())
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await.unwrap();
                }
            })
            .unwrap();
        log.take()
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
    let mut sorted = order(3);
    sorted.sort_unstable();
    assert_eq!(sorted, (0..20).collect::<Vec<_>>());
}

#[test]
fn hundred_thousand_tasks_sleep_and_end() {
    virtually(async {
        let tasks: Vec<_> = (0..100_000_u64)
            .map(|n| {
                spawn(async move {
                    sleep(Duration::from_millis(n % 100)).await?;
                    Ok::<_, Cancelled>(n)
                })
            })
            .collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap();
        }
        assert_eq!(sum, 100_000 * 99_999 / 2);
    });
}
