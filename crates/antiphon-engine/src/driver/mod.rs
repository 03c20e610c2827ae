//! The driver: where a loop waits for the operating system.
//!
//! # What a driver keeps
//! A driver for kqueue, IOCP or io_uring would have to keep the same promises as [`Epoll`] and [`Simulated`]:
//!
//! - D1. **Level-triggered.** As long as a descriptor is ready for what is asked of it, every wait reports it. A driver
//!   over an edge-triggered or completion-based interface re-arms by itself.
//! - D2. **The token comes back.** An event carries the token that the last `add` or `modify` of its descriptor gave. The
//!   driver never reads it. [`NOTIFIER`] is reserved.
//! - D3. **Trouble makes ready.** An error or a hang-up reports the descriptor readable *and* writable, whatever the
//!   interest was, so that whoever waits performs its operation and gets the error from there.
//! - D4. **Nothing after `remove`.** Events that a wait has already handed out may be in the caller's hands; none is
//!   appended later. Closing a descriptor without `remove` may leave it registered (if it has duplicates), and a new
//!   descriptor of the same number may be added; so callers remove first, and make stale tokens recognisable.
//! - D5. **Never early without cause.** A wait returns for an event, a notification, a signal or because the timeout is
//!   over; a clock too coarse for the timeout rounds it up. A wait that is over early makes the loop spin.
//! - D6. **Notification is sticky.** [`Notify::notify`] at any time, from any thread, ends the wait under way or else
//!   the next one. The driver consumes the event; the caller sees at most a wait without events.
//! - D7. **Signals surface.** A wait that a signal handler cut short is [`io::ErrorKind::Interrupted`]: the caller
//!   may have to run handlers of its own before it waits again.
//!
//! A driver is used by one thread at a time, but not always by the same one.

mod epoll;
mod simulated;

pub use epoll::Epoll;
pub use simulated::{Readiness, Simulated};

use crate::Notify;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

/// What an event is recognised by; chosen by whoever adds the descriptor.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct Token(pub u64);

/// The token of the driver's own notifier; not to be used for descriptors.
pub const NOTIFIER: Token = Token(u64::MAX);

/// What to be told of a descriptor.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug, Default)]
pub struct Interest {
    /// Reading would not block.
    pub readable: bool,
    /// Writing would not block.
    pub writable: bool,
    /// Report one event, then nothing until `modify`.
    pub oneshot: bool,
}

/// A descriptor is ready.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Event {
    /// The token that the descriptor was registered with.
    pub token: Token,
    /// Reading will not block; also set by an error or a hang-up.
    pub readable: bool,
    /// Writing will not block; also set by an error or a hang-up.
    pub writable: bool,
    /// Both directions of the connection are shut.
    pub hangup: bool,
    /// The descriptor is in error.
    pub error: bool,
}

/// Waits for descriptors; the module's documentation is the contract.
pub trait Driver {
    /// Registers `fd`, which must stay open until [`remove`](Self::remove).
    ///
    /// # Errors
    /// `EEXIST`: registered already. `EBADF`: not open. `EPERM`: not pollable, such as a file on disk.
    fn add(&mut self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()>;

    /// Replaces token and interest of `fd`, and re-arms a oneshot interest.
    ///
    /// # Errors
    /// `ENOENT`: not registered. `EBADF`: not open.
    fn modify(&mut self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()>;

    /// Forgets `fd`.
    ///
    /// # Errors
    /// `ENOENT`: not registered. `EBADF`: not open.
    fn remove(&mut self, fd: RawFd) -> io::Result<()>;

    /// Waits for events and appends them to `out`.
    ///
    /// `timeout`: `None` waits without limit, `Some(ZERO)` polls once. Returns how many events were appended.
    ///
    /// # Errors
    /// [`io::ErrorKind::Interrupted`]: a signal handler ran (D7). Anything else: the driver is broken.
    fn wait(&mut self, timeout: Option<Duration>, out: &mut Vec<Event>) -> io::Result<usize>;

    /// What other threads end a wait with (D6); outlives the driver without harm.
    fn notifier(&self) -> Arc<dyn Notify + Send + Sync>;
}
