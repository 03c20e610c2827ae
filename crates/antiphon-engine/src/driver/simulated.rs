//! A driver without an operating system: descriptors are numbers, readiness is what a test says, time is virtual.
//!
//! A wait that would sleep moves the [`Virtual`] clock to the next scripted change or to the end of its timeout,
//! whichever is first. So a test of ten years takes microseconds, and every run of it is the same run. A wait that
//! nothing could ever end is an error instead of a hang.
//!
//! Where other threads may notify, which live in real time, the driver can be given [patience](Simulated::set_patience).

use super::{Driver, Event, Interest, Token};
use crate::{Clock, Instant, Notify, Virtual};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a simulated descriptor is ready for.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Readiness {
    /// Reading would not block.
    pub readable: bool,
    /// Writing would not block.
    pub writable: bool,
    /// Both directions are shut.
    pub hangup: bool,
    /// The descriptor is in error.
    pub error: bool,
}

#[derive(Debug)]
struct Registration {
    token: Token,
    interest: Interest,
    /// False after a oneshot interest has been served.
    armed: bool,
}

/// [`Driver`] for tests; see the module's documentation.
///
/// ```
/// use antiphon_engine::{Clock, Driver, Instant, Interest, Readiness, Simulated, Token, Virtual};
/// use std::sync::Arc;
///
/// let clock = Arc::new(Virtual::new());
/// let mut driver = Simulated::new(Arc::clone(&clock));
/// driver.add(3, Token(7), Interest { readable: true, ..Interest::default() })?;
/// driver.schedule(Instant::from_ns(250), 3, Readiness { readable: true, ..Readiness::default() });
///
/// let mut events = Vec::new();
/// assert_eq!(driver.wait(None, &mut events)?, 1);
/// assert_eq!(clock.now(), Instant::from_ns(250));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Simulated {
    clock: Arc<Virtual>,
    registered: BTreeMap<RawFd, Registration>,
    readiness: BTreeMap<RawFd, Readiness>,
    script: BTreeMap<Instant, Vec<(RawFd, Readiness)>>,
    notifications: Arc<Notifications>,
    /// How many notifications earlier waits have consumed.
    consumed: u64,
    interrupted: bool,
    patience: Duration,
    waits: Vec<Option<Duration>>,
}

/// Counts, for tests that assert how often a loop was woken.
#[derive(Debug, Default)]
struct Notifications {
    count: Mutex<u64>,
    changed: Condvar,
}

impl Notifications {
    fn count(&self) -> MutexGuard<'_, u64> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are more than `consumed`, now or within `patience`.
    fn exceed(&self, consumed: u64, patience: Duration) -> bool {
        if patience.is_zero() {
            return *self.count() > consumed;
        }
        let waited = self.changed.wait_timeout_while(self.count(), patience, |count| *count <= consumed);
        *waited.unwrap_or_else(PoisonError::into_inner).0 > consumed
    }
}

impl Notify for Notifications {
    fn notify(&self) {
        *self.count() += 1;
        self.changed.notify_all();
    }
}

impl Simulated {
    /// A driver without descriptors, living in the time of `clock`.
    #[must_use]
    pub fn new(clock: Arc<Virtual>) -> Self {
        Self {
            clock,
            registered: BTreeMap::new(),
            readiness: BTreeMap::new(),
            script: BTreeMap::new(),
            notifications: Arc::default(),
            consumed: 0,
            interrupted: false,
            patience: Duration::ZERO,
            waits: Vec::new(),
        }
    }

    /// Makes `fd` ready for exactly `readiness` from now on, registered or not.
    pub fn set_readiness(&mut self, fd: RawFd, readiness: Readiness) {
        self.readiness.insert(fd, readiness);
    }

    /// Does [`set_readiness`](Self::set_readiness) when the clock reaches `at`.
    pub fn schedule(&mut self, at: Instant, fd: RawFd, readiness: Readiness) {
        self.script.entry(at).or_default().push((fd, readiness));
    }

    /// Lets the next wait be cut short by a signal (contract D7).
    pub fn interrupt_next_wait(&mut self) {
        self.interrupted = true;
    }

    /// Gives other threads so much real time to notify, before each move of the clock; zero, as at first, gives them none.
    ///
    /// With patience a wait that nothing scripted would ever end is no error: it comes back as interrupted after that
    /// time, so that a host that counts on other threads waits again.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// The timeouts of all waits so far, in order.
    #[must_use]
    pub fn waits(&self) -> &[Option<Duration>] {
        &self.waits
    }

    /// How often anybody has notified.
    #[must_use]
    pub fn notification_count(&self) -> u64 {
        *self.notifications.count()
    }

    fn play_script(&mut self) {
        let now = self.clock.now();
        while let Some(entry) = self.script.first_entry().filter(|entry| *entry.key() <= now) {
            self.readiness.extend(entry.remove());
        }
    }

    fn report_ready(&mut self, out: &mut Vec<Event>) -> usize {
        let before = out.len();
        for (fd, registration) in &mut self.registered {
            let readiness = self.readiness.get(fd).copied().unwrap_or_default();
            if let Some(event) = registration.event(readiness) {
                registration.armed = !registration.interest.oneshot;
                out.push(event);
            }
        }
        out.len() - before
    }

    fn consume_notification(&mut self) -> bool {
        let count = self.notification_count();
        std::mem::replace(&mut self.consumed, count) < count
    }

    /// Lets time pass until the script goes on or `end` is reached.
    fn sleep_until(&self, end: Option<Instant>) -> io::Result<()> {
        let change = self.script.keys().next().copied();
        let moved = match change.into_iter().chain(end).min() {
            Some(target) => self.clock.advance_to(target),
            None => false,
        };
        if moved {
            return Ok(());
        }
        if !self.patience.is_zero() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let message =
            "this wait would never end: no timeout, no readiness to come, or a clock that stands still";
        Err(io::Error::new(io::ErrorKind::Deadlock, message))
    }
}

impl Registration {
    fn event(&self, ready: Readiness) -> Option<Event> {
        let trouble = ready.hangup || ready.error;
        let event = Event {
            token: self.token,
            readable: trouble || self.interest.readable && ready.readable,
            writable: trouble || self.interest.writable && ready.writable,
            hangup: ready.hangup,
            error: ready.error,
        };
        (self.armed && (event.readable || event.writable)).then_some(event)
    }
}

impl Driver for Simulated {
    fn add(&mut self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        if self.registered.contains_key(&fd) {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        self.registered.insert(fd, Registration { token, interest, armed: true });
        Ok(())
    }

    fn modify(&mut self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        let Some(registration) = self.registered.get_mut(&fd) else {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        };
        *registration = Registration { token, interest, armed: true };
        Ok(())
    }

    fn remove(&mut self, fd: RawFd) -> io::Result<()> {
        match self.registered.remove(&fd) {
            Some(_) => Ok(()),
            None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, out: &mut Vec<Event>) -> io::Result<usize> {
        self.waits.push(timeout);
        if std::mem::take(&mut self.interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let end = timeout.map(|timeout| self.clock.now().saturating_add(timeout));
        loop {
            self.play_script();
            let count = self.report_ready(out);
            let over = end.is_some_and(|end| end <= self.clock.now());
            if count > 0 || self.consume_notification() || over {
                return Ok(count);
            }
            if !self.notifications.exceed(self.consumed, self.patience) {
                self.sleep_until(end)?;
            }
        }
    }

    fn notifier(&self) -> Arc<dyn Notify + Send + Sync> {
        Arc::<Notifications>::clone(&self.notifications)
    }
}
