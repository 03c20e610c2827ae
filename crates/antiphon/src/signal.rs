//! Signals, as a stream of them.
//!
//! ```
//! use antiphon::signal::{Signal, Signals};
//!
//! antiphon::run(async {
//!     let mut signals = Signals::new(&[Signal::USR1, Signal::HUP])?;
//!     std::process::Command::new("kill").args(["-USR1", &std::process::id().to_string()]).status()?;
//!     assert_eq!(signals.recv().await?, Signal::USR1);
//!     Ok::<_, std::io::Error>(())
//! })??;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::runtime::{Direction, Loop, Ticket};
use crate::watched::Watched;
use antiphon_engine::SignalPipe;
use futures_core::Stream;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

/// A signal by its number.
///
/// ```
/// use antiphon::signal::Signal;
///
/// assert_eq!(Signal::from_raw(2), Signal::INT);
/// assert_eq!(Signal::TERM.as_raw(), 15);
/// ```
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct Signal(i32);

impl Signal {
    /// The terminal is gone, or: read your configuration again.
    pub const HUP: Self = Self(1);
    /// Ctrl-C.
    pub const INT: Self = Self(2);
    /// Ctrl-\.
    pub const QUIT: Self = Self(3);
    /// Ends a process, which cannot watch it.
    pub const KILL: Self = Self(9);
    /// For programs' own purposes.
    pub const USR1: Self = Self(rustix::process::Signal::USR1.as_raw());
    /// For programs' own purposes.
    pub const USR2: Self = Self(rustix::process::Signal::USR2.as_raw());
    /// Please end.
    pub const TERM: Self = Self(15);
    /// A child has ended or stopped.
    pub const CHILD: Self = Self(rustix::process::Signal::CHILD.as_raw());
    /// Go on after a stop.
    pub const CONT: Self = Self(rustix::process::Signal::CONT.as_raw());
    /// The terminal's size has changed.
    pub const WINCH: Self = Self(rustix::process::Signal::WINCH.as_raw());

    /// The signal with this number, if there is such.
    #[must_use]
    pub const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn as_raw(self) -> i32 {
        self.0
    }
}

/// Signals that are watched as long as this lives: instead of what they would do to the process, they come here. Each `Signals`
/// gets each of its signals; one that comes again before it was received may be told once.
///
/// ```
/// use antiphon::signal::{Signal, Signals};
///
/// antiphon::run(async {
///     let mut signals = Signals::new(&[Signal::USR2])?;
///     std::process::Command::new("kill").args(["-USR2", &std::process::id().to_string()]).status()?;
///     assert_eq!(signals.recv().await?, Signal::USR2);
///     assert!(Signals::new(&[Signal::KILL]).is_err(), "nobody can watch it");
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Signals {
    hub: Rc<Hub>,
    own: Rc<Subscriber>,
    ticket: Option<Ticket>,
}

/// The signals of one loop.
pub(crate) struct Hub {
    /// A duplicate of the pipe's end, to be waited for while the pipe itself is changed.
    reader: Watched<OwnedFd>,
    pipe: RefCell<SignalPipe>,
    subscribers: RefCell<Vec<Weak<Subscriber>>>,
}

struct Subscriber {
    signals: Vec<Signal>,
    arrived: RefCell<VecDeque<Signal>>,
}

impl Hub {
    fn of_this_loop() -> io::Result<Rc<Self>> {
        let own = Loop::running()?;
        if let Some(hub) = own.signals().upgrade() {
            return Ok(hub);
        }
        let pipe = SignalPipe::new()?;
        let reader = Watched::new(pipe.as_fd().try_clone_to_owned()?)?;
        let hub = Rc::new(Self { reader, pipe: RefCell::new(pipe), subscribers: RefCell::default() });
        own.set_signals(Rc::downgrade(&hub));
        Ok(hub)
    }

    /// Hands out what is in the pipe.
    fn distribute(&self) {
        let mut numbers = Vec::new();
        self.pipe.borrow().drain(&mut numbers);
        if numbers.is_empty() {
            return;
        }
        for subscriber in self.subscribers.borrow().iter().filter_map(Weak::upgrade) {
            let mut arrived = subscriber.arrived.borrow_mut();
            for signal in numbers.iter().map(|number| Signal(i32::from(*number))) {
                if subscriber.signals.contains(&signal) && !arrived.contains(&signal) {
                    arrived.push_back(signal);
                }
            }
        }
        // The pipe is empty now, and says nothing to the others any more.
        self.reader.wake(Direction::Read);
    }
}

impl Signals {
    /// Watches these signals.
    ///
    /// # Errors
    /// `EINVAL` for what is no signal or cannot be watched; with [`NoLoop`](crate::NoLoop) inside: no loop runs here.
    pub fn new(signals: &[Signal]) -> io::Result<Self> {
        let hub = Hub::of_this_loop()?;
        let own = Rc::new(Subscriber { signals: signals.to_vec(), arrived: RefCell::default() });
        hub.subscribers.borrow_mut().push(Rc::downgrade(&own));
        let subscribed = Self { hub, own, ticket: None }; // dropped, it takes back what was watched
        for signal in signals {
            subscribed.hub.pipe.borrow_mut().watch(signal.0)?;
        }
        Ok(subscribed)
    }

    /// Waits for the next one.
    ///
    /// # Errors
    /// With [`Cancelled`](crate::Cancelled) inside: the task was cancelled, and no signal is lost.
    pub async fn recv(&mut self) -> io::Result<Signal> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    fn poll_recv(&mut self, context: &Context<'_>) -> Poll<io::Result<Signal>> {
        // It may have been drained from the pipe by another one.
        if let Some(signal) = self.own.arrived.borrow_mut().pop_front() {
            return Poll::Ready(Ok(signal));
        }
        self.hub.reader.poll(Direction::Read, &mut self.ticket, "a signal", context, |_| {
            self.hub.distribute();
            self.own.arrived.borrow_mut().pop_front().ok_or_else(|| io::ErrorKind::WouldBlock.into())
        })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.hub.reader.leave(Direction::Read, ticket);
        }
        let gone = Rc::downgrade(&self.own);
        let mut subscribers = self.hub.subscribers.borrow_mut();
        subscribers.retain(|other| !other.ptr_eq(&gone));
        let still = |signal: &Signal| {
            let mut others = subscribers.iter().filter_map(Weak::upgrade);
            others.any(|other| other.signals.contains(signal))
        };
        for signal in self.own.signals.iter().filter(|signal| !still(signal)) {
            self.hub.pipe.borrow_mut().unwatch(signal.0);
        }
    }
}

impl Stream for Signals {
    type Item = io::Result<Signal>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(context).map(Some)
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").field("signals", &self.own.signals).finish_non_exhaustive()
    }
}

/// Waits for Ctrl-C, which ends the process no more while this waits.
///
/// ```no_run
/// use antiphon::signal::ctrl_c;
///
/// antiphon::run(async {
///     ctrl_c().await?; // until somebody presses it
///     println!("goodbye");
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A second Ctrl-C does what it always did; a [`Signals`] keeps watching.
///
/// # Errors
/// As [`Signals::new`] and [`Signals::recv`].
pub async fn ctrl_c() -> io::Result<()> {
    Signals::new(&[Signal::INT])?.recv().await.map(|_| ())
}
