//! Other crates: hyper's timers, tokio's runtimes. `make test` runs with all features.

#![cfg(all(feature = "hyper", feature = "tokio"))]

use antiphon::hyper::{HyperExecutor, HyperTimer};
use antiphon::tokio::on_tokio;
use antiphon::{Cancelled, JoinError, Runner, channel, run, sleep, spawn, yield_now};
use hyper::rt::{Executor, Timer};
use std::cell::Cell;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn sleep_of_hypers_takes_its_time_on_the_loops_clock() {
    Runner::new()
        .virtual_clock()
        .run(async {
            let log = Rc::new(Cell::new(0));
            let own = Rc::clone(&log);
            let other = spawn(async move {
                sleep(HOUR / 2).await?;
                own.set(own.get() + 1);
                Ok::<_, Cancelled>(())
            });
            HyperTimer.sleep(HOUR).await;
            assert_eq!(log.get(), 1);
            other.await.unwrap();
        })
        .unwrap();
}

#[test]
fn sleep_of_hypers_that_another_thread_drops_does_no_harm() {
    let begun = std::time::Instant::now();
    Runner::new()
        .virtual_clock()
        .run(async {
            let mut dropped = HyperTimer.sleep(HOUR);
            assert!(
                std::future::poll_fn(|context| std::task::Poll::Ready(dropped.as_mut().poll(context)))
                    .await
                    .is_pending()
            );
            thread::spawn(move || drop(dropped)).join().unwrap();
            let mut here = HyperTimer.sleep(2 * HOUR);
            assert!(
                std::future::poll_fn(|context| std::task::Poll::Ready(here.as_mut().poll(context)))
                    .await
                    .is_pending()
            );
            drop(here);
            HyperTimer.sleep(3 * HOUR).await;
        })
        .unwrap();
    assert!(begun.elapsed() < HOUR);
}

#[test]
fn executor_of_hypers_spawns_on_the_loop() {
    run(async {
        let (sender, receiver) = channel(1);
        let not_send = Rc::new(1);
        HyperExecutor.execute(async move { sender.send(*not_send).await.unwrap() });
        assert_eq!(receiver.recv().await, Ok(1));
    })
    .unwrap();
}

fn tokio_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap()
}

#[test]
fn future_of_tokios_finds_its_runtime_when_polled_and_when_dropped() {
    struct Asks;
    impl Drop for Asks {
        fn drop(&mut self) {
            tokio::runtime::Handle::current(); // panics where there is none
        }
    }
    let runtime = tokio_runtime();
    run(async {
        let asks = Asks;
        let guest = async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let spawned = tokio::spawn(async { 7 });
            drop(asks);
            spawned.await.unwrap()
        };
        assert_eq!(on_tokio(runtime.handle(), guest).await, Ok(7));

        let (handle, asks) = (runtime.handle().clone(), Asks);
        let stuck = spawn(async move {
            on_tokio(&handle, async move {
                let _asks = asks;
                tokio::time::sleep(HOUR).await;
            })
            .await
        });
        yield_now().await.unwrap();
        stuck.cancel();
        assert!(matches!(stuck.await, Err(JoinError::Cancelled)));
        assert!(tokio::runtime::Handle::try_current().is_err(), "it was left again");
    })
    .unwrap();
}

#[tokio::test]
async fn loop_runs_inside_of_a_test_of_tokios_and_they_talk() {
    let (to_loop, from_tokio) = channel(1);
    let (to_tokio, mut from_loop) = tokio::sync::mpsc::channel(1);
    let guest = tokio::task::spawn_blocking(move || {
        run(async move {
            while let Ok(n) = from_tokio.recv().await {
                let n: u32 = n;
                to_tokio.send(n * 2).await.unwrap(); // a future of tokio's that needs no runtime
            }
        })
    });
    for n in 0..100 {
        to_loop.send(n).await.unwrap(); // a future of antiphon's on tokio
        assert_eq!(from_loop.recv().await, Some(n * 2));
    }
    drop(to_loop);
    guest.await.unwrap().unwrap();
}
