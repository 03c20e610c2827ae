//! What a loop waits with and lives by: the kernel's descriptors and clock, or, behind a switch, simulated ones.
//!
//! `ANTIPHON_FORCE=simulated-driver` makes every new loop one without an operating system: its clock is virtual and moves
//! when the loop would sleep; descriptors are refused as the kernel refuses a file that cannot be polled, and the loop
//! fails when it sleeps next. What needs none (tasks, timers, locks, queues, threads) has to work all the same, and the
//! test suite runs that way to show it.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use antiphon_engine::partial_writes;
use antiphon_engine::switches::{Behaviour, is_forced};
use antiphon_engine::{
    Clock, Driver, Epoll, Event, Instant, Interest, Monotonic, Notify, Simulated, Token, Virtual,
};

/// Real time that other threads have to notify a simulated loop before its clock moves, at least and at most.
const PATIENCE: [Duration; 2] = [Duration::from_millis(5), Duration::from_secs(1)];
/// Their share of the time by which it moves. Who gives threads minutes expects them to be done before; who sleeps for
/// hours expects nothing of them.
const PATIENCE_SHARE: u32 = 100;
const LONGEST_EXPECTATION: Duration = Duration::from_secs(3600);

static REFUSED_DESCRIPTORS: AtomicU64 = AtomicU64::new(0);

/// How many descriptors simulated loops of this process have refused.
pub fn refused_descriptors() -> u64 {
    REFUSED_DESCRIPTORS.load(Ordering::Relaxed)
}

/// The clock of a loop.
pub enum LoopClock {
    /// The system's.
    Monotonic(Monotonic),
    /// The one that a simulated driver moves.
    Virtual(Arc<Virtual>),
}

impl Clock for LoopClock {
    #[inline(always)]
    fn now(&self) -> Instant {
        match self {
            Self::Monotonic(clock) => clock.now(),
            Self::Virtual(clock) => clock.now(),
        }
    }
}

/// The driver of a loop.
pub enum LoopDriver {
    /// The kernel's.
    Epoll(Epoll),
    /// None at all.
    Simulated {
        /// What moves the clock.
        driver: Simulated,
        /// A descriptor was refused: whoever sleeps now may wait for it in vain.
        refused: bool,
    },
}

/// Opens what a new loop waits with, and its clock.
///
/// # Errors
/// The process or the system is out of descriptors.
pub fn open() -> io::Result<(LoopDriver, LoopClock)> {
    partial_writes::restart();
    if !is_forced(Behaviour::SimulatedDriver) {
        return Ok((LoopDriver::Epoll(Epoll::new()?), LoopClock::Monotonic(Monotonic)));
    }
    let clock = Arc::new(Virtual::new());
    let mut driver = Simulated::new(Arc::clone(&clock));
    driver.set_patience(PATIENCE[0]);
    Ok((LoopDriver::Simulated { driver, refused: false }, LoopClock::Virtual(clock)))
}

impl LoopDriver {
    /// Lets go of what it has from the kernel. The loop does not wait any more.
    ///
    /// # Errors
    /// As close(2).
    pub fn close(&mut self) -> io::Result<()> {
        match self {
            Self::Epoll(driver) => driver.close(),
            Self::Simulated { .. } => Ok(()),
        }
    }
}

impl Driver for LoopDriver {
    fn add(&mut self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        match self {
            Self::Epoll(driver) => driver.add(fd, token, interest),
            // A real descriptor, of which a script knows nothing.
            Self::Simulated { refused, .. } => {
                *refused = true;
                REFUSED_DESCRIPTORS.fetch_add(1, Ordering::Relaxed);
                Err(io::Error::from_raw_os_error(libc::EPERM))
            }
        }
    }

    fn modify(&mut self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        match self {
            Self::Epoll(driver) => driver.modify(fd, token, interest),
            Self::Simulated { driver, .. } => driver.modify(fd, token, interest),
        }
    }

    fn remove(&mut self, fd: RawFd) -> io::Result<()> {
        match self {
            Self::Epoll(driver) => driver.remove(fd),
            Self::Simulated { driver, .. } => driver.remove(fd),
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, out: &mut Vec<Event>) -> io::Result<usize> {
        match self {
            Self::Epoll(driver) => driver.wait(timeout, out),
            // An end instead of a hang.
            Self::Simulated { refused: true, .. } if timeout != Some(Duration::ZERO) => {
                Err(io::Error::from_raw_os_error(libc::EPERM))
            }
            Self::Simulated { driver, .. } => {
                let [least, most] = PATIENCE;
                let expected = timeout.filter(|&timeout| timeout <= LONGEST_EXPECTATION);
                let share = expected.unwrap_or_default() / PATIENCE_SHARE;
                driver.set_patience(share.clamp(least, most));
                driver.wait(timeout, out)
            }
        }
    }

    fn notifier(&self) -> Arc<dyn Notify + Send + Sync> {
        match self {
            Self::Epoll(driver) => driver.notifier(),
            Self::Simulated { driver, .. } => driver.notifier(),
        }
    }
}
