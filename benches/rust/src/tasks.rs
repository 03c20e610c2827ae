//! Tasks: spawning, switching, sleeping; every runtime runs the same code.

use crate::harness::{Row, bytes_in_use};
use std::time::Duration;

mod antiphon_loop {
    use antiphon::{Cancelled, Task};
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    pub fn run<F: Future>(main: F) -> F::Output {
        antiphon::run(main).expect("a loop")
    }
    pub fn spawn<F: Future<Output = ()> + 'static>(future: F) -> Task<(), Cancelled> {
        antiphon::spawn(Fine(future))
    }
    /// antiphon's tasks return results. An async block would hold the future twice, before and while it awaits it.
    struct Fine<F>(F);
    impl<F: Future<Output = ()>> Future for Fine<F> {
        type Output = Result<(), Cancelled>;
        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
            // SAFETY: the field is pinned with the struct, which has no destructor.
            unsafe { self.map_unchecked_mut(|fine| &mut fine.0) }.poll(context).map(Ok)
        }
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

/// On io_uring.
mod glommio_loop {
    use std::time::Duration;

    /// Whether the kernel lets it have its rings.
    pub fn is_possible() -> bool {
        glommio::LocalExecutorBuilder::default().make().is_ok()
    }

    pub fn run<F: Future>(main: F) -> F::Output {
        glommio::LocalExecutorBuilder::default().make().expect("an executor").run(main)
    }
    pub fn spawn<F: Future<Output = ()> + 'static>(future: F) -> glommio::Task<()> {
        glommio::spawn_local(future)
    }
    pub async fn yield_now() {
        smol::future::yield_now().await;
    }
    pub async fn sleep(duration: Duration) {
        glommio::timer::sleep(duration).await;
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

/// glommio counts the wakers of a task in 16 bits: one task cannot have so many timers with it.
fn without_glommio(mut contenders: Vec<(&'static str, fn(u64))>) -> Vec<(&'static str, fn(u64))> {
    contenders.retain(|(name, _)| *name != "glommio");
    contenders
}

macro_rules! contenders {
    ($function:ident) => {
        vec![
            ("antiphon", $function::antiphon_loop as fn(u64)),
            ("tokio, current thread", $function::tokio_current),
            ("tokio, LocalSet", $function::tokio_local),
            ("monoio", $function::monoio_loop),
            ("glommio", $function::glommio_loop),
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
            for_each_runtime!(@ $n, $body, antiphon_loop tokio_local tokio_current monoio_loop glommio_loop smol_local);
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

/// Spawns `n` tasks that run `future` until they wait in it, and notes the bytes that each takes.
macro_rules! park {
    ($n:ident, $spawn:ident, $yield_now:ident, $sleep:ident, $i:ident, $future:expr) => {{
        let before = bytes_in_use();
        let tasks: Vec<_> = (0..$n).map(|$i| $spawn($future)).collect();
        let handles = (tasks.capacity() * size_of_val(&tasks[0])) as f64;
        // Some run a few dozen tasks before they come back to this one.
        for _ in 0..$n / 30 {
            $yield_now().await;
        }
        $sleep(Duration::from_millis(1)).await; // a loop that is idle keeps no room for work
        let bytes = bytes_in_use().wrapping_sub(before) as isize as f64 - handles;
        MEMORY.with(|memory| memory.set(bytes / $n as f64));
        drop(tasks);
    }};
}

for_each_runtime!(parked, n, {
    park!(n, spawn, yield_now, sleep, i, async move { sleep(Duration::from_secs(3600 + i % 100)).await });
});

for_each_runtime!(parked_pending, n, {
    park!(n, spawn, yield_now, sleep, _i, async { cancelled_by_the_end().await });
});

/// Waits until its runtime ends: others drop it then.
async fn cancelled_by_the_end() {
    let _ = antiphon::cancellable(std::future::pending::<()>()).await;
}

// A server task answers one request after the other, each by a channel of its own. The channels are tokio's on every runtime:
// what differs is how a runtime spawns, wakes and switches.
for_each_runtime!(one_shot, n, {
    let (requests, mut inbox) =
        tokio::sync::mpsc::unbounded_channel::<(u64, tokio::sync::oneshot::Sender<u64>)>();
    let server = spawn(async move {
        while let Some((request, reply)) = inbox.recv().await {
            let _ = reply.send(request + 1);
        }
    });
    for request in 0..n {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let _ = requests.send((request, reply));
        assert_eq!(answer.await, Ok(request + 1));
    }
    drop(requests);
    let _ = server.await;
});

thread_local!(static MEMORY: std::cell::Cell<f64> = const { std::cell::Cell::new(0.0) });

/// Bytes of the last `parked`.
pub fn parked_bytes() -> f64 {
    MEMORY.with(|memory| memory.replace(0.0))
}

pub fn rows() -> Vec<Row> {
    let mut rows = all_rows();
    if !glommio_loop::is_possible() {
        println!("glommio is left out: no io_uring, or too little memory to be locked");
        rows.iter_mut().for_each(|row| row.contenders.retain(|(name, _)| *name != "glommio"));
    }
    rows
}

fn all_rows() -> Vec<Row> {
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
            name: "task: one-shot request and reply",
            operations: 200_000,
            contenders: contenders!(one_shot),
        },
        Row {
            name: "timer: set and cancelled, 100,000 at once",
            operations: 100_000,
            contenders: without_glommio(contenders!(timers)),
        },
        Row {
            name: "timer: set and cancelled, a million at once",
            operations: 1_000_000,
            contenders: without_glommio(contenders!(timers)),
        },
        Row {
            name: "task: parked for good, with its end",
            operations: 100_000,
            contenders: contenders!(parked_pending),
        },
        Row {
            name: "task: parked in sleep, with its end",
            operations: 20_000,
            contenders: contenders!(parked),
        },
        Row {
            name: "task: a million parked in sleep, with their end",
            operations: 1_000_000,
            contenders: contenders!(parked),
        },
    ]
}
