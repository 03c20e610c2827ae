//! What the system knows about one thread: CPU time, state, context switches.
//!
//! `unsafe` is for gettid(2) and clock_gettime(2).
//!
//! Source: proc_pid_stat(5), proc_pid_status(5), clock_gettime(2); the kernel's `posix-timers.h` for the clock of a thread.

#![allow(unsafe_code)]

use crate::{Clock, Instant, Monotonic};
use std::time::Duration;

/// A thread's scheduling state.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum ThreadState {
    /// On a processor, or waiting for one.
    Runnable,
    /// Waits for something.
    Asleep,
    /// Stopped by a signal or a debugger, a zombie, or not to be told.
    Other,
}

/// One look at a thread.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct ThreadSample {
    /// When it was taken.
    pub at: Instant,
    /// The CPU time that the thread has used.
    pub cpu: Duration,
    /// Its state.
    pub state: ThreadState,
    /// How often it has gone to sleep.
    pub sleeps: u64,
}

/// The calling thread's number in the kernel.
#[must_use]
pub fn current_thread_number() -> i32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

impl ThreadSample {
    /// Looks at the thread with the number `thread` of this process. `None`: there is none.
    ///
    /// Takes about ten microseconds.
    #[must_use]
    pub fn of(thread: i32) -> Option<Self> {
        let cpu = cpu_time(thread)?;
        let at = Monotonic.now();
        let state = read(thread, "stat").map_or(ThreadState::Other, |stat| state_in(&stat));
        let sleeps = read(thread, "status").map_or(0, |status| sleeps_in(&status));
        Some(Self { at, cpu, state, sleeps })
    }
}

fn read(thread: i32, file: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/self/task/{thread}/{file}")).ok()
}

fn state_in(stat: &str) -> ThreadState {
    // The name in parentheses may hold anything, parentheses included.
    match stat.rsplit(") ").next().and_then(|rest| rest.bytes().next()) {
        Some(b'R') => ThreadState::Runnable,
        Some(b'S' | b'D' | b'I') => ThreadState::Asleep,
        _ => ThreadState::Other,
    }
}

fn sleeps_in(status: &str) -> u64 {
    let field = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    field.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

fn cpu_time(thread: i32) -> Option<Duration> {
    // The clock of a thread by its number: CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED.
    let clock = (!thread) << 3 | 4 | 2;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to `time`; fails for the number of a thread that has ended.
    let status = unsafe { libc::clock_gettime(clock, &raw mut time) };
    (status == 0).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_found_behind_a_name_with_parentheses() {
        assert_eq!(state_in("12 (a) R (b)) S 1 12 12 0"), ThreadState::Asleep);
        assert_eq!(state_in("12 (python) R 1 12 12 0"), ThreadState::Runnable);
        assert_eq!(state_in("12 (python) t 1"), ThreadState::Other);
        assert_eq!(state_in(""), ThreadState::Other);
    }

    #[test]
    fn sleeps_are_the_voluntary_switches() {
        assert_eq!(
            sleeps_in("Threads:\t1\nvoluntary_ctxt_switches:\t41\nnonvoluntary_ctxt_switches:\t7\n"),
            41
        );
        assert_eq!(sleeps_in(""), 0);
    }

    #[test]
    fn own_thread_is_running() {
        let before = ThreadSample::of(current_thread_number()).unwrap();
        while ThreadSample::of(current_thread_number()).unwrap().cpu == before.cpu {}
        let after = ThreadSample::of(current_thread_number()).unwrap();
        assert_eq!(after.state, ThreadState::Runnable);
        assert!(after.at >= before.at);
    }

    #[test]
    fn ended_thread_is_none() {
        let number = std::thread::spawn(current_thread_number).join().unwrap();
        // The kernel may take a moment to let go of a thread that has been joined.
        while ThreadSample::of(number).is_some() {
            std::thread::yield_now();
        }
    }
}
