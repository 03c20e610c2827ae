//! What the engine's own operations cost, in nanoseconds: the best of several rounds, single-threaded.
//!
//! `cargo run --release -p antiphon-engine --example cost`

use antiphon_engine::{
    Clock, Core, Driver, Epoll, Event, Host, Inbox, Instant, Monotonic, Notify, ReadyQueue, TimerHeap,
    coarse_now_ns, run_once,
};
use std::hint::black_box;
use std::io::{self, Write};
use std::time::Duration;

const ROUNDS: usize = 7;
const MILLION: usize = 1_000_000;

/// As small as a pointer, as the Python door's work items are.
type Item = usize;

struct Silent;

impl Notify for Silent {
    fn notify(&self) {}
}

/// A loop whose items queue themselves again until a counter has run out.
struct Bench {
    core: Core<Item, Epoll>,
    left: usize,
}

impl Host for Bench {
    type Work = Item;
    type Driver = Epoll;

    #[inline(always)]
    fn core<R>(&mut self, f: impl FnOnce(&mut Core<Item, Epoll>) -> R) -> R {
        f(&mut self.core)
    }

    #[inline(always)]
    fn now(&mut self) -> Instant {
        Monotonic.now()
    }

    fn dispatch(&mut self, _: Event) {}

    #[inline(always)]
    fn run(&mut self, work: Item) {
        self.left -= 1;
        self.core.ready.push(black_box(work));
    }
}

/// The shortest of several rounds of `operation`, by `count`.
fn best(count: usize, mut operation: impl FnMut()) -> f64 {
    let round = |_| {
        let start = Monotonic.now();
        operation();
        Monotonic.now().as_ns() - start.as_ns()
    };
    (0..ROUNDS).map(round).min().unwrap_or_default() as f64 / count as f64
}

fn turns(items: usize, timers: usize) -> io::Result<f64> {
    let mut host = Bench { core: Core::new(Epoll::new()?)?, left: 0 };
    (0..items).for_each(|item| host.core.ready.push(item));
    let far = Monotonic.now().saturating_add(Duration::from_secs(3600));
    (0..timers).for_each(|item| _ = host.core.timers.push(far, item));
    let mut result = Ok(());
    let cost = best(MILLION, || {
        host.left = MILLION;
        while host.left >= items && result.is_ok() {
            result = run_once(&mut host);
        }
    });
    result.map(|()| cost)
}

fn set_and_cancel(others: usize) -> f64 {
    let mut timers = TimerHeap::new();
    (0..others).for_each(|item| _ = timers.push(Instant::from_ns(item as i64), item));
    best(MILLION, || {
        for item in 0..MILLION {
            let key = timers.push(Instant::from_ns((MILLION + item) as i64), black_box(item));
            black_box(timers.cancel(black_box(key)));
        }
    })
}

fn set_all_then(finish: impl Fn(&mut TimerHeap<Item>, Vec<antiphon_engine::TimerKey>)) -> f64 {
    best(MILLION, || {
        let mut timers = TimerHeap::new();
        // Every deadline once, in a scattered order: 7919 is prime to the count.
        let scattered = (0..MILLION).map(|item| (item * 7919 % MILLION) as i64);
        let keys = scattered.map(|ns| timers.push(Instant::from_ns(ns), 0)).collect();
        finish(&mut timers, keys);
    })
}

fn inbox() -> f64 {
    let inbox = Inbox::new(Box::new(Silent));
    let mut ready = ReadyQueue::new();
    best(MILLION, || {
        for _ in 0..MILLION / 100 {
            (0..100).for_each(|item| _ = inbox.push(black_box(item)));
            inbox.drain_into(&mut ready);
            while ready.pop().is_some() {}
        }
    })
}

fn wakes() -> io::Result<f64> {
    let mut driver = Epoll::new()?;
    let (notifier, mut events) = (driver.notifier(), Vec::new());
    let mut result = Ok(0);
    let cost = best(MILLION / 10, || {
        for _ in 0..MILLION / 10 {
            notifier.notify();
            result = driver.wait(None, &mut events);
        }
    });
    result.map(|_| cost)
}

fn polls() -> io::Result<f64> {
    let (mut driver, mut events) = (Epoll::new()?, Vec::new());
    let mut result = Ok(0);
    let cost = best(MILLION / 10, || {
        for _ in 0..MILLION / 10 {
            result = driver.wait(Some(Duration::ZERO), &mut events);
        }
    });
    result.map(|_| cost)
}

fn main() -> io::Result<()> {
    let cancel_in_order = |timers: &mut TimerHeap<Item>, keys: Vec<_>| {
        keys.into_iter().for_each(|key| _ = black_box(timers.cancel(key)));
    };
    let fire = |timers: &mut TimerHeap<Item>, _| {
        while timers.pop_due(Instant::from_ns(i64::MAX)).is_some() {}
    };
    let clock = |read: fn() -> i64| best(MILLION, || (0..MILLION).for_each(|_| _ = black_box(read())));
    let table = [
        ("turn with one item", turns(1, 0)?),
        ("turn with one item, a timer armed", turns(1, 1)?),
        ("item in a turn of 100", turns(100, 0)?),
        ("timer set and cancelled at once", set_and_cancel(0)),
        ("the same beside 10,000 others", set_and_cancel(10_000)),
        ("one of 1,000,000 set, then cancelled", set_all_then(cancel_in_order)),
        ("one of 1,000,000 set, then fired", set_all_then(fire)),
        ("item through the inbox", inbox()),
        ("notification and wait", wakes()?),
        ("poll", polls()?),
        ("monotonic clock", clock(|| Monotonic.now().as_ns())),
        ("coarse clock", clock(coarse_now_ns)),
    ];
    let mut out = io::stdout().lock();
    for (operation, ns) in table {
        writeln!(out, "{operation:40} {ns:8.1} ns")?;
    }
    Ok(())
}
