//! The article's first program on every core: five countdowns that never give way, and yet take no turns.
//!
//! `examples/countdown.py` in Rust; the argument is what to count down from. Each loop takes the next countdown when it is done
//! with one.

#![allow(clippy::print_stdout)] // it is what the program does

use antiphon::{Cancelled, CoresError, channel, cores};
use std::hint::black_box;
use std::time::Instant;

fn run(count: u64) {
    let begun = Instant::now();
    let mut n = count;
    while n > 0 {
        n = black_box(n - 1); // or the compiler knows the end
    }
    println!("subFunction during time: {}", begun.elapsed().as_secs_f64());
}

fn main() -> Result<(), CoresError<Cancelled>> {
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(100_000_000);
    let begun = Instant::now();
    let (tasks, next) = channel(0);
    for task in 0..5 {
        let _open = tasks.try_send(task);
    }
    drop(tasks); // no more to come
    cores(0).run(async |_core| {
        while next.recv().await.is_ok() {
            run(count);
        }
        Ok(())
    })?;
    println!("during time: {}", begun.elapsed().as_secs_f64());
    Ok(())
}
