//! Tasks: spawning, switching, sleeping; every runtime runs the same code.

use crate::harness::{Row, bytes_in_use};
use std::time::Duration;

mod antiphon_loop {
    use antiphon::{Cancelled, Task};
    use std::time::Duration;

    pub fn run<F: Future>(main: F) -> F::Output {
        antiphon::run(main).expect("a loop")
    }
    pub fn spawn<F: Future<Output = ()> + 'static>(future: F) -> Task<(), Cancelled> {
        antiphon::spawn(async move {
            future.await;
            Ok(())
        })
    }
    pub async fn yield_now() {
        let _ = antiphon::yield_now().await;
    }
    pub async fn sleep(duration: Duration) {
        let _ = antiphon::sleep(duration).await;
    }
}

mod tokio_local {
    use std::time::Duration;

    pub fn run<F: Future>(main: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, main)
    }
    pub fn spawn<F: Future<Output = ()> + 'static>(future: F) -> tokio::task::JoinHandle<()> {
        tokio::task::spawn_local(future)
    }
    pub async fn yield_now() {
        tokio::task::yield_now().await;
    }
    pub async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// tokio as most programs have it: tasks that are `Send`, on a runtime of one thread.
mod tokio_current {
    use std::time::Duration;

    pub fn run<F: Future>(main: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(main)
    }
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) -> tokio::task::JoinHandle<()> {
        tokio::spawn(future)
    }
    pub async fn yield_now() {
        tokio::task::yield_now().await;
    }
    pub async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

mod monoio_loop {
    use std::time::Duration;

    pub fn run<F: Future>(main: F) -> F::Output {
        monoio::RuntimeBuilder::<monoio::LegacyDriver>::new()
            .enable_timer()
            .build()
            .expect("a runtime")
            .block_on(main)
    }
    pub fn spawn<F: Future<Output = ()> + 'static>(future: F) -> monoio::task::JoinHandle<()> {
        monoio::spawn(future)
    }
    pub async fn yield_now() {
        smol::future::yield_now().await;
    }
    pub async fn sleep(duration: Duration) {
        monoio::time::sleep(duration).await;
    }
}

mod smol_local {
    use std::time::Duration;

    thread_local!(static EXECUTOR: &'static smol::LocalExecutor<'static> = Box::leak(Box::default()));

    pub fn run<F: Future>(main: F) -> F::Output {
        smol::block_on(EXECUTOR.with(|executor| *executor).run(main))
    }
    pub fn spawn<F: Future<Output = ()> + 'static>(future: F) -> smol::Task<()> {
        EXECUTOR.with(|executor| executor.spawn(future))
    }
    pub async fn yield_now() {
        smol::future::yield_now().await;
    }
    pub async fn sleep(duration: Duration) {
        smol::Timer::after(duration).await;
    }
}

macro_rules! contenders {
    ($function:ident) => {
        vec![
            ("antiphon", $function::antiphon_loop as fn(u64)),
            ("tokio, current thread", $function::tokio_current),
            ("tokio, LocalSet", $function::tokio_local),
            ("monoio", $function::monoio_loop),
            ("smol, LocalExecutor", $function::smol_local),
        ]
    };
}

/// Makes a module of one function for each runtime.
macro_rules! for_each_runtime {
    ($name:ident, $n:ident, $body:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            for_each_runtime!(@ $n, $body, antiphon_loop tokio_local tokio_current monoio_loop smol_local);
        }
    };
    (@ $n:ident, $body:expr, $($runtime:ident)*) => {
        $(pub fn $runtime($n: u64) {
            #[allow(unused_imports)]
            use super::$runtime::{run, sleep, spawn, yield_now};
            run(async move { $body })
        })*
    };
}

for_each_runtime!(spawn_join, n, {
    for _ in 0..n {
        let _ = spawn(async {}).await;
    }
});

for_each_runtime!(spawn_batch, n, {
    for _ in 0..n / 1000 {
        let tasks: Vec<_> = (0..1000).map(|_| spawn(async {})).collect();
        for task in tasks {
            let _ = task.await;
        }
    }
});

for_each_runtime!(yields, n, {
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            spawn(async move {
                for _ in 0..n / 1000 {
                    yield_now().await;
                }
            })
        })
        .collect();
    for task in tasks {
        let _ = task.await;
    }
});

for_each_runtime!(timers, n, {
    let mut sleeps: Vec<_> =
        (0..n).map(|i| Box::pin(sleep(Duration::from_secs(1000 + (i * 7919) % 1000)))).collect();
    std::future::poll_fn(|context| {
        for sleep in &mut sleeps {
            assert!(sleep.as_mut().poll(context).is_pending());
        }
        std::task::Poll::Ready(())
    })
    .await;
});

for_each_runtime!(parked, n, {
    let before = bytes_in_use();
    let tasks: Vec<_> =
        (0..n).map(|i| spawn(async move { sleep(Duration::from_secs(3600 + i % 100)).await })).collect();
    for _ in 0..n / 50 {
        yield_now().await;
    }
    MEMORY.with(|memory| memory.set(bytes_in_use().wrapping_sub(before) as isize as f64 / n as f64));
    drop(tasks);
});

thread_local!(static MEMORY: std::cell::Cell<f64> = const { std::cell::Cell::new(0.0) });

/// Bytes of the last `parked`.
pub fn parked_bytes() -> f64 {
    MEMORY.with(|memory| memory.replace(0.0))
}

pub fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "task: spawn and join, one by one",
            operations: 200_000,
            contenders: contenders!(spawn_join),
        },
        Row {
            name: "task: spawn and join, a thousand at once",
            operations: 200_000,
            contenders: contenders!(spawn_batch),
        },
        Row { name: "task: yield, a thousand tasks", operations: 1_000_000, contenders: contenders!(yields) },
        Row {
            name: "timer: set and cancelled, 100,000 at once",
            operations: 100_000,
            contenders: contenders!(timers),
        },
        Row {
            name: "task: parked in sleep, with its end",
            operations: 20_000,
            contenders: contenders!(parked),
        },
    ]
}
