//! Signals as bytes in a pipe, so that a loop waits for them as for anything else.
//!
//! Almost nothing may be done inside a signal handler, but write(2) may: it puts the signal's number into a pipe whose
//! other end the driver watches. Two programs use a [`SignalPipe`]:
//!
//! - Python has a handler of its own that does exactly this; it is given [`write_fd`](SignalPipe::write_fd) by
//!   `signal.set_wakeup_fd`.
//! - A Rust program calls [`watch`](SignalPipe::watch), which installs the handler of this module.
//!
//! The handler finds the pipes in a table of atomics, since it can take no lock.
//!
//! Invariant G1: a descriptor that the handler writes to is open and a pipe of ours. A pipe is taken out of the table and
//! every handler that may have seen it there has ended before the pipe is closed.
//! Invariant G2: while nobody watches a signal, its disposition is the one that was found.
//!
//! Pending signals are not counted by the kernel either: a byte stands for at least one signal. While the pipe is full (64 KiB
//! unread) a signal leaves a mark in the table instead, and arrives behind the bytes: once, however often it came.
//!
//! `unsafe` is for sigaction(2), write(2) in the handler, and the errno that it must leave alone.
//!
//! Source: signal-safety(7); sigaction(2); D. J. Bernstein's self-pipe trick.

#![allow(unsafe_code)]

use crate::EngineError;
use crate::notifier::{nonblocking_pipe, read};
use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many pipes of a process can watch signals at once.
const PLACES: usize = 64;

/// How often a closing pipe gives way to handlers that still run, before it is leaked rather than closed under them.
const PATIENCE: usize = 10_000;

/// Raised by the failing instruction itself: a handler that returns makes it fail again, for ever.
const NOT_WATCHABLE: [i32; 4] = [libc::SIGILL, libc::SIGFPE, libc::SIGSEGV, libc::SIGBUS];

/// A pipe in the handler's table.
struct Place {
    /// Where to write, or `VACANT`.
    writer: AtomicI32,
    /// Bit `n` stands for signal `n + 1`.
    signals: AtomicU64,
    /// The signals that found the pipe full, by the same bits.
    without_byte: AtomicU64,
}

const VACANT: RawFd = -1;

static PLACE_TABLE: [Place; PLACES] = [const {
    Place { writer: AtomicI32::new(VACANT), signals: AtomicU64::new(0), without_byte: AtomicU64::new(0) }
}; PLACES];

/// How many threads are inside the handler.
static HANDLERS_RUNNING: AtomicUsize = AtomicUsize::new(0);

/// The watched signals; also serialises all changes of the table.
static WATCHED: Mutex<BTreeMap<i32, Watched>> = Mutex::new(BTreeMap::new());

struct Watched {
    watchers: usize,
    /// What invariant G2 restores.
    found: libc::sigaction,
}

/// A non-blocking pipe that signals arrive through.
///
/// ```
/// use antiphon_engine::{Driver, Epoll, Interest, SignalPipe, Token};
///
/// const SIGUSR1: i32 = 10;
/// let mut signals = SignalPipe::new()?;
/// signals.watch(SIGUSR1)?;
/// let mut driver = Epoll::new()?;
/// driver.add(signals.read_fd(), Token(0), Interest { readable: true, ..Interest::default() })?;
///
/// std::process::Command::new("kill").args(["-USR1", &std::process::id().to_string()]).status()?;
/// while driver.wait(None, &mut Vec::new()).is_err() { /* the signal interrupted this very wait */ }
/// let mut arrived = Vec::new();
/// signals.drain(&mut arrived);
/// assert_eq!(arrived, [SIGUSR1 as u8]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct SignalPipe {
    reader: OwnedFd,
    /// Taken out only to be leaked.
    writer: Option<OwnedFd>,
    /// The pipe's index in the table, from the first `watch` on.
    place: Option<usize>,
}

impl SignalPipe {
    /// Opens a pipe that watches nothing yet.
    ///
    /// # Errors
    /// The process or the system is out of descriptors.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = nonblocking_pipe()?;
        Ok(Self { reader, writer: Some(writer), place: None })
    }

    /// The descriptor to wait for; readable when a signal has arrived. Open as long as the pipe lives.
    #[must_use]
    pub fn read_fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// The descriptor that a foreign handler writes one byte per signal to. Open as long as the pipe lives.
    #[must_use]
    pub fn write_fd(&self) -> RawFd {
        self.writer.as_ref().map_or(VACANT, AsRawFd::as_raw_fd)
    }

    /// Takes the bytes out of the pipe and appends them to `out`: the signals' numbers, oldest first; those that came while
    /// it was full are last, each once.
    pub fn drain(&self, out: &mut Vec<u8>) {
        let mut buffer = [0_u8; 256];
        while let Ok(count @ 1..) = read(self.reader.as_fd(), &mut buffer) {
            out.extend_from_slice(&buffer[..count]);
        }
        let marks = self.place.map_or(0, |place| PLACE_TABLE[place].without_byte.swap(0, SeqCst));
        out.extend((1..=64).filter(|signum| marks & (1 << (signum - 1)) != 0));
    }

    /// Lets signal `signum` write its number into this pipe, instead of what it did before. Other pipes that watch
    /// it get it as well. Watching it again does nothing.
    ///
    /// # Errors
    /// [`EngineError::Signal`]: `EINVAL` for what is not a signal, cannot be caught or must not be returned from;
    /// `ENOSPC` when 64 pipes watch already.
    pub fn watch(&mut self, signum: i32) -> Result<(), EngineError> {
        let fail = |errno| EngineError::Signal { signum, source: io::Error::from_raw_os_error(errno) };
        let bit = bit_of(signum).ok_or_else(|| fail(libc::EINVAL))?;
        let mut watched = lock();
        let place = match self.place {
            Some(place) => place,
            None => self.take_place(&watched).ok_or_else(|| fail(libc::ENOSPC))?,
        };
        if PLACE_TABLE[place].signals.load(SeqCst) & bit != 0 {
            return Ok(());
        }
        // First the table, then the handler, so that no signal is caught and then forgotten.
        PLACE_TABLE[place].signals.fetch_or(bit, SeqCst);
        match watched.get_mut(&signum) {
            Some(entry) => entry.watchers += 1,
            None => match install_handler(signum) {
                Ok(found) => {
                    watched.insert(signum, Watched { watchers: 1, found });
                }
                Err(source) => {
                    PLACE_TABLE[place].signals.fetch_and(!bit, SeqCst);
                    return Err(EngineError::Signal { signum, source });
                }
            },
        }
        Ok(())
    }

    /// Ends [`watch`](Self::watch); the last pipe to do so gives the signal its former disposition back (G2).
    ///
    /// Returns whether it was watched. Bytes that are in the pipe stay there.
    pub fn unwatch(&mut self, signum: i32) -> bool {
        let (Some(place), Some(bit)) = (self.place, bit_of(signum)) else { return false };
        let mut watched = lock();
        if PLACE_TABLE[place].signals.load(SeqCst) & bit == 0 {
            return false;
        }
        if let Some(entry) = watched.get_mut(&signum) {
            entry.watchers -= 1;
            if entry.watchers == 0 {
                restore(signum, &entry.found);
                watched.remove(&signum);
            }
        }
        PLACE_TABLE[place].signals.fetch_and(!bit, SeqCst);
        true
    }

    /// Enters the pipe into the table, under the lock that serialises its changes.
    fn take_place(&mut self, _: &MutexGuard<'_, BTreeMap<i32, Watched>>) -> Option<usize> {
        let place = PLACE_TABLE.iter().position(|place| place.writer.load(SeqCst) == VACANT)?;
        PLACE_TABLE[place].without_byte.store(0, SeqCst);
        PLACE_TABLE[place].writer.store(self.write_fd(), SeqCst);
        self.place = Some(place);
        Some(place)
    }
}

impl AsFd for SignalPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl Drop for SignalPipe {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        for signum in 1..=64 {
            self.unwatch(signum);
        }
        PLACE_TABLE[place].writer.store(VACANT, SeqCst);
        // Invariant G1. A handler takes microseconds; but a fork may have copied a count that never falls again.
        if !(0..PATIENCE).any(|_| no_handler_runs()) {
            std::mem::forget(self.writer.take());
        }
    }
}

fn no_handler_runs() -> bool {
    let idle = HANDLERS_RUNNING.load(SeqCst) == 0;
    if !idle {
        std::thread::yield_now();
    }
    idle
}

fn bit_of(signum: i32) -> Option<u64> {
    let watchable = (1..=64).contains(&signum) && !NOT_WATCHABLE.contains(&signum);
    watchable.then(|| 1 << (signum - 1))
}

fn lock() -> MutexGuard<'static, BTreeMap<i32, Watched>> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Installs the handler and returns the disposition that it replaces.
fn install_handler(signum: i32) -> io::Result<libc::sigaction> {
    // SAFETY: all-zero is a valid sigaction: the default disposition with an empty mask.
    let mut action = unsafe { MaybeUninit::<libc::sigaction>::zeroed().assume_init() };
    let handler: extern "C" fn(i32) = on_signal;
    action.sa_sigaction = handler as libc::sighandler_t;
    // Interrupted calls elsewhere go on by themselves; a driver's wait is never restarted, so the loop notices.
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    let mut found = MaybeUninit::uninit();
    // SAFETY: sigaction(2) reads one action and writes another, both live locals; the handler is async-signal-safe.
    if unsafe { libc::sigaction(signum, &raw const action, found.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it has written the former action.
    Ok(unsafe { found.assume_init() })
}

fn restore(signum: i32, found: &libc::sigaction) {
    // SAFETY: sigaction(2) reads an action that it has once written itself.
    let result = unsafe { libc::sigaction(signum, found, std::ptr::null_mut()) };
    debug_assert_eq!(result, 0, "what was in force once is valid");
}

/// Async-signal-safe: atomics, write(2), and errno as it was found.
extern "C" fn on_signal(signum: i32) {
    // SAFETY: errno's address is valid for the life of the thread.
    let errno = unsafe { &mut *libc::__errno_location() };
    let found_errno = *errno;
    HANDLERS_RUNNING.fetch_add(1, SeqCst);
    let (byte, bit) = (signum as u8, 1 << (signum - 1));
    for place in &PLACE_TABLE {
        if place.signals.load(SeqCst) & bit == 0 {
            continue;
        }
        let writer = place.writer.load(SeqCst);
        if writer == VACANT {
            continue;
        }
        // SAFETY: write(2) reads the one byte; the descriptor is open and a pipe of ours (invariant G1).
        let write = || unsafe { libc::write(writer, (&raw const byte).cast(), 1) } == 1;
        if !write() {
            // Full. Whoever drains it looks at the marks afterwards, so a pipe that is still full once the mark is set will
            // do; if it was drained meanwhile, the byte makes it readable again.
            place.without_byte.fetch_or(bit, SeqCst);
            write();
        }
    }
    HANDLERS_RUNNING.fetch_sub(1, SeqCst);
    *errno = found_errno;
}
