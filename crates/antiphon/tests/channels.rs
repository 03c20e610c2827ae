//! Channels: order, bounds, closing, cancellation, within a loop and between threads.

use antiphon::{
    Cancelled, JoinError, QueueError, RunError, TryQueueError, channel, run, spawn, to_thread, yield_now,
};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

#[test]
fn messages_come_out_in_order_and_a_full_channel_makes_the_sender_wait() {
    run(async {
        let (sender, receiver) = channel(2);
        let task = spawn(async move {
            for n in 0..5 {
                sender.send(n).await?;
            }
            Ok::<_, QueueError>(())
        });
        yield_now().await.unwrap();
        assert_eq!(receiver.len(), 2);
        let mut seen = Vec::new();
        while let Ok(n) = receiver.recv().await {
            seen.push(n);
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        task.await.unwrap();
        assert_eq!(receiver.recv().await, Err(QueueError::ShutDown));
    })
    .unwrap();
}

#[test]
fn send_fails_and_gives_the_message_back_when_nobody_receives() {
    run(async {
        let (sender, receiver) = channel(1);
        sender.try_send("first").unwrap();
        assert_eq!(sender.try_send("second"), Err(("second", TryQueueError::NotNow)));
        let waiting = spawn({
            let sender = sender.clone();
            async move { Ok::<_, Cancelled>(sender.send("third").await) }
        });
        yield_now().await.unwrap();
        drop(receiver);
        let refused = waiting.await.unwrap().unwrap_err();
        assert_eq!((refused.message, refused.reason), ("third", QueueError::ShutDown));
        assert_eq!(sender.try_send("fourth"), Err(("fourth", TryQueueError::ShutDown)));
    })
    .unwrap();
}

#[test]
fn cancelled_sender_has_its_message_back_and_cancelled_receiver_loses_none() {
    run(async {
        let (sender, receiver) = channel(1);
        sender.try_send(1).unwrap();
        let blocked = {
            let sender = sender.clone();
            spawn(async move { Ok::<_, Cancelled>(sender.send(2).await.unwrap_err().message) })
        };
        yield_now().await.unwrap();
        blocked.cancel();
        assert_eq!(blocked.await.unwrap(), 2);
        assert_eq!(receiver.try_recv(), Ok(1));

        // Woken for a message and cancelled in the same turn: the message is the next one's.
        let take = || {
            let receiver = receiver.clone();
            spawn(async move { receiver.recv().await })
        };
        let (first, second) = (take(), take());
        yield_now().await.unwrap();
        sender.try_send(3).unwrap();
        first.cancel();
        assert!(matches!(first.await, Err(JoinError::Cancelled)));
        assert_eq!(second.await.unwrap(), 3);
    })
    .unwrap();
}

#[test]
fn cancelled_sender_passes_its_room_on() {
    run(async {
        let (sender, receiver) = channel(1);
        sender.try_send(0).unwrap();
        let put = |n| {
            let sender = sender.clone();
            spawn(async move { sender.send(n).await })
        };
        let (first, second) = (put(1), put(2));
        yield_now().await.unwrap();
        assert_eq!(receiver.try_recv(), Ok(0)); // wakes the first
        first.cancel();
        assert!(matches!(first.await, Err(JoinError::Cancelled)));
        second.await.unwrap();
        assert_eq!(receiver.try_recv(), Ok(2));
    })
    .unwrap();
}

#[test]
fn receiver_that_nobody_will_ever_send_to_is_no_deadlock_but_the_end() {
    run(async {
        let (sender, receiver) = channel::<()>(1);
        let task = spawn(async move { receiver.recv().await });
        yield_now().await.unwrap();
        drop(sender);
        assert!(matches!(task.await, Err(JoinError::Failed(QueueError::ShutDown))));
    })
    .unwrap();
    // Whereas tasks that wait for each other are one.
    let event = Rc::new(antiphon::Event::new());
    assert!(matches!(run(event.wait()), Err(RunError::Deadlock { .. })));
}

#[test]
fn unread_messages_are_dropped_with_the_last_receiver() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let (sender, receiver) = channel(0);
    for _ in 0..3 {
        assert!(sender.try_send(Counted(Arc::clone(&drops))).is_ok());
    }
    let other = receiver.clone();
    drop(receiver);
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    drop(other);
    assert_eq!(drops.load(Ordering::SeqCst), 3);
}

#[test]
fn threads_send_while_the_loop_sleeps_and_every_message_arrives_once() {
    const THREADS: u64 = 3;
    const EACH: u64 = 2_000;
    let (sender, receiver) = channel(8);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let sender = sender.clone();
            thread::spawn(move || {
                run(async move {
                    for n in 0..EACH {
                        sender.send(thread * EACH + n).await.unwrap();
                    }
                })
                .unwrap();
            })
        })
        .collect();
    drop(sender);
    let mut seen = run(async {
        let mut seen = Vec::new();
        while let Ok(n) = receiver.recv().await {
            seen.push(n);
        }
        seen
    })
    .unwrap();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    seen.sort_unstable();
    assert!(seen.iter().copied().eq(0..THREADS * EACH));
}

#[test]
fn plain_thread_uses_the_ends_without_waiting() {
    run(async {
        let (sender, receiver) = channel(0);
        let answer = spawn(async move { receiver.recv().await });
        to_thread(move || sender.try_send(7)).await.unwrap().unwrap();
        assert_eq!(answer.await.unwrap(), 7);
    })
    .unwrap();
}
