//! The blocking pool: how many threads, which ones, and that none stays behind.

use antiphon_engine::{BlockingPool, EngineError, PoolOptions};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread::{self, ThreadId};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

fn pool(name: &str, thread_limit: usize, keep_alive: Duration) -> BlockingPool {
    BlockingPool::new(PoolOptions { name: name.to_owned(), thread_limit, keep_alive })
}

/// Submits a job that tells its thread and then waits to be released.
fn submit_gated(pool: &BlockingPool, started: &Sender<ThreadId>) -> Sender<()> {
    let (release, gate): (_, Receiver<()>) = channel();
    let started = started.clone();
    let job = move || {
        started.send(thread::current().id()).unwrap();
        let _ = gate.recv();
    };
    pool.submit(Box::new(job)).unwrap();
    release
}

/// Gives way until the pool is as described; the test's time limit bounds it.
fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

/// How many threads of this process have the name.
fn threads_named(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    // A thread may end between being listed and being read.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with(prefix)).count()
}

#[test]
fn threads_block_all_signals() {
    let pool = BlockingPool::new(PoolOptions::default());
    let (status, statuses) = channel();
    let job = move || status.send(std::fs::read_to_string("/proc/thread-self/status").unwrap()).unwrap();
    pool.submit(Box::new(job)).unwrap();
    let status = statuses.recv().unwrap();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    let blocked = u64::from_str_radix(blocked.trim(), 16).unwrap();
    for signum in [libc::SIGCHLD, libc::SIGINT, libc::SIGTERM, libc::SIGUSR1] {
        assert_ne!(blocked & (1 << (signum - 1)), 0, "signal {signum}");
    }
    pool.shutdown(true);
}

#[test]
fn threads_start_on_demand_up_to_the_limit_and_then_jobs_wait() {
    let pool = pool("limit", 2, LONG);
    assert_eq!(pool.thread_count(), 0);
    let (started, starts) = channel();
    let gates: Vec<_> = (0..4).map(|_| submit_gated(&pool, &started)).collect();
    let (first, second) = (starts.recv().unwrap(), starts.recv().unwrap());
    assert_ne!(first, second);
    assert_eq!((pool.thread_count(), pool.queue_len()), (2, 2));
    assert!(starts.try_recv().is_err());
    drop(gates);
    let later = [starts.recv().unwrap(), starts.recv().unwrap()];
    assert!(later.iter().all(|thread| [first, second].contains(thread)));
}

#[test]
fn jobs_of_one_thread_run_in_the_order_of_submission() {
    let pool = pool("order", 1, LONG);
    let (sender, results) = channel();
    for number in 0..100 {
        let sender = sender.clone();
        pool.submit(Box::new(move || sender.send(number).unwrap())).unwrap();
    }
    drop(sender);
    assert!(results.iter().eq(0..100));
}

#[test]
fn thread_that_became_idle_last_is_used_first() {
    let pool = pool("lifo", 3, LONG);
    let (started, starts) = channel();
    let mut gates: Vec<_> = (0..3).map(|_| (submit_gated(&pool, &started), starts.recv().unwrap())).collect();
    // One after the other, so that the order of becoming idle is known.
    let mut idle_order = Vec::new();
    for place in [1, 1, 0] {
        let (gate, thread) = gates.remove(place);
        drop(gate);
        idle_order.push(thread);
        until(|| pool.idle_count() == idle_order.len());
    }
    let held = submit_gated(&pool, &started);
    assert_eq!(starts.recv().ok(), idle_order.pop());
    let held_too = submit_gated(&pool, &started);
    assert_eq!(starts.recv().ok(), idle_order.pop());
    assert_eq!(pool.thread_count(), 3);
    drop((held, held_too));
}

#[test]
fn idle_threads_retire_after_the_keep_alive_time() {
    let pool = pool("retire", 4, Duration::from_millis(1));
    let together = Arc::new(Barrier::new(4));
    for _ in 0..4 {
        let together = Arc::clone(&together);
        pool.submit(Box::new(move || _ = together.wait())).unwrap();
    }
    until(|| pool.thread_count() == 0);
    until(|| threads_named("retire_") == 0);
    // And it starts again.
    let (started, starts) = channel();
    submit_gated(&pool, &started);
    assert!(starts.recv().is_ok());
}

#[test]
fn panicking_job_costs_no_thread() {
    let pool = pool("panic", 1, LONG);
    let (started, starts) = channel();
    submit_gated(&pool, &started);
    let thread = starts.recv().unwrap();
    // Without the hook's message: resuming is a panic that nobody is told of.
    pool.submit(Box::new(|| std::panic::resume_unwind(Box::new("a job's panic")))).unwrap();
    submit_gated(&pool, &started);
    assert_eq!(starts.recv(), Ok(thread));
}

#[test]
fn shutdown_runs_what_was_submitted_and_leaves_no_thread() {
    let pool = pool("shut", 2, LONG);
    let (sender, results) = channel();
    for number in 0..50 {
        let sender = sender.clone();
        pool.submit(Box::new(move || sender.send(number).unwrap())).unwrap();
    }
    pool.shutdown(true);
    assert_eq!(results.try_iter().count(), 50);
    // Joined, but the kernel lists a thread a moment longer.
    until(|| threads_named("shut_") == 0);
    assert!(matches!(pool.submit(Box::new(|| ())), Err(EngineError::PoolShutDown)));
    pool.shutdown(true);
}

#[test]
fn shutdown_without_waiting_comes_back_while_a_job_runs() {
    let pool = pool("nowait", 1, LONG);
    let (started, starts) = channel();
    let gate = submit_gated(&pool, &started);
    starts.recv().unwrap();
    pool.shutdown(false);
    assert_eq!(pool.thread_count(), 1);
    drop(gate);
    until(|| threads_named("nowait_") == 0);
}

#[test]
fn job_may_shut_its_own_pool_down() {
    let pool = Arc::new(pool("own", 2, LONG));
    let (inner, (done, is_done)) = (Arc::clone(&pool), channel());
    pool.submit(Box::new(move || {
        inner.shutdown(true);
        done.send(()).unwrap();
    }))
    .unwrap();
    assert!(is_done.recv().is_ok());
}

#[test]
fn dropped_pool_leaves_no_idle_thread() {
    let pool = pool("gone", 2, LONG);
    let (started, starts) = channel();
    drop(submit_gated(&pool, &started));
    starts.recv().unwrap();
    drop(pool);
    until(|| threads_named("gone_") == 0);
}
