//! The driver for Linux: epoll, level-triggered.
//!
//! Timeouts are exact where the kernel has epoll_pwait2 (Linux 5.11). Where it has not, or a sandbox forbids it,
//! they are rounded **up** to milliseconds: rounded down, a deadline in 0.4 ms would make the loop poll in a circle until
//! it is over (D5).
//!
//! `unsafe` is for the epoll system calls.
//!
//! Source: epoll(7), epoll_ctl(2), epoll_wait(2).

#![allow(unsafe_code)]

use super::{Driver, Event, Interest, NOTIFIER, Token};
use crate::switches::{Feature, is_disabled};
use crate::{Notifier, Notify};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// How many events one wait can bring; what does not fit is reported by the next one.
const CAPACITY: usize = 1024;

/// The kernel reports these whether asked to or not.
const TROUBLE: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;

/// [`Driver`] over an epoll instance.
///
/// ```
/// use antiphon_engine::{Driver, Epoll, Interest, Token};
/// use std::{io::Write, os::fd::AsRawFd, os::unix::net::UnixStream, time::Duration};
///
/// let mut driver = Epoll::new()?;
/// let (ours, mut theirs) = UnixStream::pair()?;
/// driver.add(ours.as_raw_fd(), Token(7), Interest { readable: true, ..Interest::default() })?;
///
/// let mut events = Vec::new();
/// assert_eq!(driver.wait(Some(Duration::ZERO), &mut events)?, 0);
/// theirs.write_all(b"x")?;
/// assert_eq!(driver.wait(None, &mut events)?, 1);
/// assert_eq!(events[0].token, Token(7));
/// assert!(events[0].readable);
/// driver.remove(ours.as_raw_fd())?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Epoll {
    /// `None` once the driver is closed.
    open: Option<Open>,
    /// What the kernel writes into.
    buffer: Box<[MaybeUninit<libc::epoll_event>]>,
    has_pwait2: bool,
}

#[derive(Debug)]
struct Open {
    epoll: OwnedFd,
    notifier: Arc<Notifier>,
}

/// Nobody waits with a closed driver.
struct Closed;

impl Notify for Closed {
    fn notify(&self) {}
}

impl Epoll {
    /// Opens an epoll instance and its notifier.
    ///
    /// # Errors
    /// The process or the system is out of descriptors.
    pub fn new() -> io::Result<Self> {
        Self::with_capacity(CAPACITY)
    }

    fn with_capacity(capacity: usize) -> io::Result<Self> {
        // SAFETY: epoll_create1(2) takes an integer and touches no memory of ours.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor is new, and nobody else knows it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        let notifier = Arc::new(Notifier::new()?);
        let notifier_fd = notifier.as_fd().as_raw_fd();
        let buffer = Box::new_uninit_slice(capacity);
        let driver = Self {
            open: Some(Open { epoll, notifier }),
            buffer,
            has_pwait2: !is_disabled(Feature::EpollPwait2),
        };
        // Edge-triggered: each notification is an event of its own, so an eventfd need not be read to be quiet again.
        let edges = (libc::EPOLLIN | libc::EPOLLET) as u32;
        driver.control(libc::EPOLL_CTL_ADD, notifier_fd, NOTIFIER, edges)?;
        Ok(driver)
    }

    /// Closes the epoll instance and lets go of the notifier; from then on every call fails with `EBADF`. For hosts that
    /// outlive their loop.
    ///
    /// # Errors
    /// As close(2); the descriptor is gone all the same.
    pub fn close(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        // SAFETY: close(2) is given a descriptor that nobody owns any more.
        check(unsafe { libc::close(open.epoll.into_raw_fd()) })?;
        Ok(())
    }

    fn raw_epoll(&self) -> io::Result<RawFd> {
        let closed = || io::Error::from_raw_os_error(libc::EBADF);
        self.open.as_ref().map(|open| open.epoll.as_raw_fd()).ok_or_else(closed)
    }

    fn control(&self, operation: i32, fd: RawFd, token: Token, events: u32) -> io::Result<()> {
        let epoll = self.raw_epoll()?;
        let mut event = libc::epoll_event { events, u64: token.0 };
        // SAFETY: epoll_ctl(2) reads one event through the pointer, which is to a live local; a descriptor that is
        // not open is an error and no undefined behaviour.
        check(unsafe { libc::epoll_ctl(epoll, operation, fd, &raw mut event) })?;
        Ok(())
    }

    /// Fills the buffer; returns how many events there are.
    fn wait_for_kernel(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        // Polling and waiting for ever need no precision, and the older call is the cheaper one.
        let Some(exact) = timeout.filter(|timeout| self.has_pwait2 && !timeout.is_zero()) else {
            return self.epoll_wait(timeout.map_or(-1, milliseconds_rounded_up));
        };
        match self.epoll_pwait2(exact) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                self.has_pwait2 = false;
                self.epoll_wait(milliseconds_rounded_up(exact))
            }
            result => result,
        }
    }

    fn epoll_wait(&mut self, timeout_ms: i32) -> io::Result<usize> {
        let (fd, buffer, capacity) =
            (self.raw_epoll()?, self.buffer.as_mut_ptr().cast(), self.buffer.len() as i32);
        // SAFETY: epoll_wait(2) writes at most `capacity` events, which is what the buffer has room for.
        let count = check(unsafe { libc::epoll_wait(fd, buffer, capacity, timeout_ms) })?;
        Ok(count as usize)
    }

    fn epoll_pwait2(&mut self, timeout: Duration) -> io::Result<usize> {
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let no_mask = std::ptr::null::<libc::sigset_t>();
        let (fd, buffer, capacity) = (self.raw_epoll()?, self.buffer.as_mut_ptr(), self.buffer.len() as i32);
        // SAFETY: epoll_pwait2(2) writes at most `capacity` events, which is what the buffer has room for, and reads the
        // timeout, a live local. Without a mask the mask's size is not looked at. The C library has the call only since
        // glibc 2.35, hence by number.
        let count = unsafe {
            libc::syscall(libc::SYS_epoll_pwait2, fd, buffer, capacity, &raw const timeout, no_mask, 0_usize)
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }
}

impl Driver for Epoll {
    fn add(&mut self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        debug_assert_ne!(token, NOTIFIER, "the notifier's token is reserved");
        self.control(libc::EPOLL_CTL_ADD, fd, token, flags(interest))
    }

    fn modify(&mut self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        debug_assert_ne!(token, NOTIFIER, "the notifier's token is reserved");
        self.control(libc::EPOLL_CTL_MOD, fd, token, flags(interest))
    }

    fn remove(&mut self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, NOTIFIER, 0)
    }

    fn wait(&mut self, timeout: Option<Duration>, out: &mut Vec<Event>) -> io::Result<usize> {
        let count = self.wait_for_kernel(timeout)?;
        let before = out.len();
        out.reserve(count);
        for event in &self.buffer[..count] {
            // SAFETY: the kernel has written the first `count` events.
            let event = unsafe { event.assume_init() };
            if event.u64 == NOTIFIER.0 {
                self.open.iter().for_each(|open| open.notifier.rearm());
            } else {
                out.push(translate(event));
            }
        }
        Ok(out.len() - before)
    }

    fn notifier(&self) -> Arc<dyn Notify + Send + Sync> {
        match &self.open {
            Some(open) => Arc::<Notifier>::clone(&open.notifier),
            None => Arc::new(Closed),
        }
    }
}

fn flags(interest: Interest) -> u32 {
    let mut flags = 0;
    if interest.readable {
        flags |= libc::EPOLLIN;
    }
    if interest.writable {
        flags |= libc::EPOLLOUT;
    }
    if interest.oneshot {
        flags |= libc::EPOLLONESHOT;
    }
    flags as u32
}

fn translate(event: libc::epoll_event) -> Event {
    let has = |flags: i32| event.events & (flags as u32) != 0;
    let trouble = event.events & TROUBLE != 0;
    Event {
        token: Token(event.u64),
        readable: trouble || has(libc::EPOLLIN),
        writable: trouble || has(libc::EPOLLOUT),
        hangup: has(libc::EPOLLHUP),
        error: has(libc::EPOLLERR),
    }
}

/// For epoll_wait(2), whose timeouts end after 24 days; the loop's own cap is far below that.
fn milliseconds_rounded_up(timeout: Duration) -> i32 {
    timeout.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(i32::MAX)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_of_a_millisecond_are_rounded_up() {
        assert_eq!(milliseconds_rounded_up(Duration::ZERO), 0);
        assert_eq!(milliseconds_rounded_up(Duration::from_nanos(1)), 1);
        assert_eq!(milliseconds_rounded_up(Duration::from_millis(2)), 2);
        assert_eq!(milliseconds_rounded_up(Duration::from_micros(2001)), 3);
        assert_eq!(milliseconds_rounded_up(Duration::MAX), i32::MAX);
    }

    #[test]
    fn events_beyond_the_buffer_come_with_the_next_waits() {
        let mut driver = Epoll::with_capacity(2).unwrap();
        let notifiers: Vec<_> = (0..5).map(|_| Notifier::new().unwrap()).collect();
        for (number, notifier) in notifiers.iter().enumerate() {
            let readable = Interest { readable: true, ..Interest::default() };
            driver.add(notifier.as_fd().as_raw_fd(), Token(number as u64), readable).unwrap();
            notifier.notify();
        }
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let mut events = Vec::new();
            assert_eq!(driver.wait(None, &mut events).unwrap(), 2);
            seen.extend(events.iter().map(|event| event.token.0));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn closed_driver_is_an_error_and_not_a_foreign_descriptor() {
        let mut driver = Epoll::new().unwrap();
        driver.close().unwrap();
        driver.close().unwrap();
        let error = driver.wait(Some(Duration::ZERO), &mut Vec::new()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        let error = driver.add(0, Token(1), Interest::default()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn kernel_without_exact_timeouts_is_served_by_the_older_call() {
        let mut driver = Epoll::new().unwrap();
        driver.has_pwait2 = false;
        let mut events = Vec::new();
        assert_eq!(driver.wait(Some(Duration::from_micros(1)), &mut events).unwrap(), 0);
        driver.notifier().notify();
        assert_eq!(driver.wait(Some(Duration::from_secs(3600)), &mut events).unwrap(), 0);
    }
}
