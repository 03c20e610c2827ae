//! Locks, semaphores and queues under random scheduling and cancellation: seeds instead of luck.

use antiphon::{
    Barrier, BarrierError, Cancelled, Condition, Event, JoinError, LifoQueue, Lock, PriorityQueue, Queue,
    QueueError, Remote, RemoteError, Runner, Semaphore, gather, run, sleep, spawn, to_thread, yield_now,
};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Runs the same program under many orders.
fn under_all_seeds<F: Future<Output = ()>>(main: impl Fn() -> F) {
    for seed in 0..50 {
        Runner::new().virtual_clock().shuffled(seed).run(main()).unwrap();
    }
}

#[test]
fn lock_excludes_and_survives_cancellation_at_any_moment() {
    under_all_seeds(|| async {
        let shared = Rc::new((Lock::new(), Cell::new(0)));
        let tasks: Vec<_> = (0..12)
            .map(|_| {
                let shared = Rc::clone(&shared);
                spawn(async move {
                    for _ in 0..3 {
                        let _guard = shared.0.acquire().await?;
                        assert_eq!(shared.1.replace(1), 0, "two have the lock");
                        let outcome = yield_now().await;
                        shared.1.set(0);
                        outcome?;
                    }
                    Ok::<_, Cancelled>(())
                })
            })
            .collect();
        for (n, task) in tasks.iter().enumerate() {
            yield_now().await.unwrap();
            if n % 3 == 0 {
                task.cancel();
            }
        }
        for task in tasks {
            assert!(!matches!(task.await, Err(JoinError::Panicked(_))));
        }
        assert!(shared.0.try_acquire().is_some(), "a turn was lost");
    });
}

#[test]
fn permits_are_conserved_under_cancellation() {
    under_all_seeds(|| async {
        let semaphore = Rc::new(Semaphore::new(3));
        let tasks: Vec<_> = (0..12)
            .map(|_| {
                let semaphore = Rc::clone(&semaphore);
                spawn(async move {
                    let _permit = semaphore.acquire().await?;
                    yield_now().await
                })
            })
            .collect();
        for task in tasks.iter().step_by(2) {
            yield_now().await.unwrap();
            task.cancel();
        }
        for task in tasks {
            let _ = task.await;
        }
        assert_eq!(semaphore.permits(), 3);
    });
}

#[test]
fn queue_conserves_its_items_under_cancellation() {
    under_all_seeds(|| async {
        let queue = Rc::new(Queue::bounded(2));
        let received = Rc::new(Cell::new(0));
        let getters: Vec<_> = (0..4)
            .map(|_| {
                let (queue, received) = (Rc::clone(&queue), Rc::clone(&received));
                spawn(async move {
                    loop {
                        let item: u32 = queue.get().await?;
                        received.set(received.get() + item);
                        queue.task_done();
                    }
                    #[allow(unreachable_code)]
                    Ok::<(), QueueError>(())
                })
            })
            .collect();
        let own = Rc::clone(&queue);
        let putter = spawn(async move {
            for _ in 0..20 {
                own.put(1).await?;
            }
            own.join().await?;
            Ok::<_, QueueError>(())
        });
        yield_now().await.unwrap();
        getters[0].cancel();
        yield_now().await.unwrap();
        getters[1].cancel();
        putter.await.unwrap();
        assert_eq!(received.get(), 20);
        queue.shutdown();
        for getter in getters {
            assert!(matches!(
                getter.await,
                Err(JoinError::Cancelled | JoinError::Failed(QueueError::ShutDown))
            ));
        }
    });
}

#[test]
fn queues_of_other_orders_hand_out_accordingly() {
    run(async {
        let (smallest, last) = (PriorityQueue::new(), LifoQueue::new());
        for n in [2, 3, 1] {
            smallest.put(n).await.unwrap();
            last.put(n).await.unwrap();
        }
        assert_eq!((smallest.get().await, last.get().await), (Ok(1), Ok(1)));
        assert_eq!((smallest.get().await, last.get().await), (Ok(2), Ok(3)));
        smallest.shutdown_now();
        assert_eq!(smallest.get().await, Err(QueueError::ShutDown));
        assert_eq!(smallest.put(1).await, Err(QueueError::ShutDown));
        assert!(smallest.task_done() && smallest.task_done() && !smallest.task_done());
        smallest.join().await.unwrap(); // what was thrown away counts as done
    })
    .unwrap();
}

#[test]
fn condition_hands_a_notification_on_that_a_cancelled_task_had() {
    under_all_seeds(|| async {
        let shared = Rc::new((Lock::new(), Condition::new(), Cell::new(0)));
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let shared = Rc::clone(&shared);
                spawn(async move {
                    let mut guard = shared.0.acquire().await?;
                    while shared.2.get() == 0 {
                        guard = shared.1.wait(guard).await?;
                    }
                    shared.2.set(shared.2.get() - 1);
                    drop(guard);
                    Ok::<_, Cancelled>(())
                })
            })
            .collect();
        sleep(SECOND).await.unwrap();
        {
            let guard = shared.0.acquire().await.unwrap();
            shared.2.set(2);
            shared.1.notify(&guard, 2);
        }
        waiters[0].cancel();
        let mut passed = 0;
        for (n, waiter) in waiters.into_iter().enumerate() {
            let outcome = waiter.await;
            passed += u32::from(outcome.is_ok());
            assert!(n == 0 || outcome.is_ok(), "a notification was lost");
        }
        assert_eq!(shared.2.get() + passed, 2);
    });
}

#[test]
fn barrier_breaks_for_all_when_it_is_aborted_and_can_be_made_whole() {
    run(async {
        let barrier = Rc::new(Barrier::new(3));
        let own = Rc::clone(&barrier);
        let waiter = spawn(async move { own.wait().await });
        yield_now().await.unwrap();
        assert_eq!(barrier.waiting(), 1);
        barrier.abort();
        assert!(matches!(waiter.await, Err(JoinError::Failed(BarrierError::Broken))));
        assert_eq!(barrier.wait().await, Err(BarrierError::Broken));
        barrier.reset();
        let own = Rc::clone(&barrier);
        let numbers = gather((0..6).map(|_| {
            let own = Rc::clone(&own);
            async move { own.wait().await }
        }));
        let mut numbers = numbers.await.unwrap();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 0, 1, 1, 2, 2]);
    })
    .unwrap();
}

#[test]
fn event_wakes_who_waited_even_if_it_is_cleared_at_once() {
    run(async {
        let event = Rc::new(Event::new());
        let own = Rc::clone(&event);
        let waiter = spawn(async move { own.wait().await });
        yield_now().await.unwrap();
        event.set();
        event.clear();
        waiter.await.unwrap();
    })
    .unwrap();
}

#[test]
fn thread_work_that_panics_is_an_error_and_its_loop_goes_on() {
    run(async {
        let outcome = to_thread(|| panic!("on purpose")).await;
        assert!(matches!(outcome, Err(JoinError::<_>::Panicked(panic)) if panic.message() == "on purpose"));
        assert_eq!(to_thread(|| 5).await.unwrap(), 5);
    })
    .unwrap();
}

#[test]
fn remote_runs_tasks_until_the_loop_ends() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let remote: Remote = receiver.recv().unwrap();
        let answer = remote.run(|| async {
            let local = Rc::new(21); // not Send, made on the loop's thread
            yield_now().await?;
            Ok::<_, Cancelled>(*local * 2)
        });
        assert_eq!(answer.unwrap(), 42);
        let panicked = remote.run(|| async {
            yield_now().await?;
            panic!("on purpose");
            #[allow(unreachable_code)]
            Ok::<(), Cancelled>(())
        });
        assert!(matches!(panicked, Err(RemoteError::Panicked(message)) if message == "on purpose"));
        remote
    });
    let remote = run(async {
        sender.send(Remote::new().unwrap()).unwrap();
        to_thread(move || thread.join().unwrap()).await.unwrap()
    })
    .unwrap();
    assert!(remote.call(|| ()).is_err());
    assert!(matches!(remote.run(|| async { Ok::<_, Cancelled>(()) }), Err(RemoteError::LoopEnded)));
}
