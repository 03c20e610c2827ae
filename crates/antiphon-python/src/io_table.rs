//! Who waits for which descriptor.
//!
//! **Invariant T1**: a descriptor's number says nothing about its identity: it is reused as soon as it is closed. Every
//! registration carries a generation, the driver's token holds it, and an event of an older generation reaches nobody. And
//! the kernel, not this table, is asked whether a number is still registered: a one-shot wait modifies its registration
//! each time, and the kernel answers `ENOENT` when the number belongs to another file by now. The number of a transport
//! stays registered from its first wait to its end (*parked* while nothing is waited for), so that the kernel can be asked
//! of it at any time, and nothing registers it anew: a file that took the number over is never taken for the transport's.
//!
//! Works are taken out and given back to the caller, who drops them outside of the core (F3).

use std::io;
use std::os::fd::RawFd;

use antiphon_engine::{Driver, Event, Interest, ReadyQueue, Token};

use crate::ffi::Owned;
use crate::work::Work;

/// Which of a descriptor's two directions.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Direction {
    /// Data to read, a connection to accept, end of stream.
    Read,
    /// Room to write, a connection made.
    Write,
}

/// Whether a wait ends with its first event.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Mode {
    /// Every event, until taken back (readers, writers, transports).
    Persistent,
    /// One event (`sock_*` operations).
    Once,
}

struct Waiter {
    work: Work,
    mode: Mode,
}

/// A transport that is alive as long as it is in the table.
struct Borrowed(*mut pyo3::ffi::PyObject);

// SAFETY: only an address; it is followed under the seat (S1) and with an attached thread (F1).
unsafe impl Send for Borrowed {}

#[derive(Default)]
struct Entry {
    generation: u32,
    /// What the driver was told; `None`: not registered (as far as this table knows, T1).
    registered: Option<Interest>,
    read: Option<Waiter>,
    write: Option<Waiter>,
    /// The transport that the descriptor belongs to, borrowed: it leaves the table before it dies ([`IoTable::release`]).
    /// Only its registrations keep it alive, so that one that nobody reads from can be found abandoned.
    transport: Option<Borrowed>,
}

impl Entry {
    fn side(&mut self, direction: Direction) -> &mut Option<Waiter> {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }

    fn object_of(waiter: Option<Waiter>) -> Option<Owned> {
        waiter.map(|waiter| waiter.work.into_object())
    }

    /// Empties the entry of what a descriptor left that is gone.
    fn vacate(&mut self, driver: &mut impl Driver, fd: RawFd) -> Stale {
        let waiters = [self.read.take(), self.write.take()].map(Self::object_of);
        // SAFETY: a transport is alive as long as it is in the table.
        let transport = self.transport.take().map(|borrowed| unsafe { Owned::from_borrowed(borrowed.0) });
        if self.registered.take().is_some() {
            // As a rule `ENOENT`: a registration ends with its file. A duplicate elsewhere makes it live on.
            let _ = driver.remove(fd);
        }
        self.generation = self.generation.wrapping_add(1);
        Stale { waiters, transport }
    }

    fn interest(&self) -> Option<Interest> {
        if self.read.is_none() && self.write.is_none() {
            return (self.transport.is_some() && self.registered.is_some()).then_some(PARKED);
        }
        let once = |side: &Option<Waiter>| side.as_ref().is_none_or(|waiter| waiter.mode == Mode::Once);
        Some(Interest {
            readable: self.read.is_some(),
            writable: self.write.is_some(),
            oneshot: once(&self.read) && once(&self.write),
        })
    }
}

/// The table, indexed by descriptor: the kernel gives out the smallest free number, so it stays dense.
#[derive(Default)]
pub struct IoTable {
    entries: Vec<Entry>,
}

/// What [`IoTable::adopt`] found under a number that a new descriptor has.
pub struct Stale {
    /// Who waited for the descriptor that is gone.
    pub waiters: [Option<Owned>; 2],
    /// The transport that it belonged to, and that has lost it.
    pub transport: Option<Owned>,
}

/// Registered, with nothing to wait for. The kernel tells of a hang-up once, which nobody listens to.
const PARKED: Interest = Interest { readable: false, writable: false, oneshot: true };

/// Whether the kernel says that a number is not the file that was registered under it.
fn says_lost(answer: &io::Result<()>) -> bool {
    answer.as_ref().is_err_and(|error| matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EBADF)))
}

fn token(fd: RawFd, generation: u32) -> Token {
    Token(u64::from(generation) << 32 | u64::from(fd as u32))
}

impl IoTable {
    fn entry(&mut self, fd: RawFd) -> io::Result<&mut Entry> {
        let place = usize::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
        if place >= self.entries.len() {
            self.entries.resize_with(place + 1, Entry::default);
        }
        Ok(&mut self.entries[place])
    }

    fn known(&mut self, fd: RawFd) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(fd).ok()?)
    }

    /// Lets `work` wait for `fd`; gives back who waited there before in that direction.
    ///
    /// # Errors
    /// What the kernel says of the descriptor (`EBADF`, `EPERM` for files that cannot be polled). Then nothing changed.
    pub fn watch(
        &mut self,
        driver: &mut impl Driver,
        fd: RawFd,
        direction: Direction,
        mode: Mode,
        work: Work,
    ) -> Result<Option<Work>, (io::Error, Work)> {
        let entry = match self.entry(fd) {
            Ok(entry) => entry,
            Err(error) => return Err((error, work)),
        };
        let before = entry.side(direction).replace(Waiter { work, mode });
        match update(entry, driver, fd, true) {
            Ok(()) => Ok(before.map(|waiter| waiter.work)),
            Err(error) => {
                let refused = std::mem::replace(entry.side(direction), before);
                match refused {
                    Some(waiter) => Err((error, waiter.work)),
                    None => unreachable!("it was put there above"),
                }
            }
        }
    }

    /// Takes back who waits for `fd` in that direction; and whether the kernel says that a transport has lost the number.
    pub fn unwatch(
        &mut self,
        driver: &mut impl Driver,
        fd: RawFd,
        direction: Direction,
    ) -> (Option<Work>, bool) {
        let Some(entry) = self.known(fd) else {
            return (None, false);
        };
        let Some(taken) = entry.side(direction).take() else {
            return (None, false);
        };
        // A descriptor that was closed under the loop is no longer the kernel's business: nothing to report.
        let told = update(entry, driver, fd, false);
        (Some(taken.work), entry.transport.is_some() && says_lost(&told))
    }

    /// Whether somebody waits for `fd` in that direction.
    pub fn is_watched(&mut self, fd: RawFd, direction: Direction) -> bool {
        self.known(fd).is_some_and(|entry| entry.side(direction).is_some())
    }

    /// The object that waits for `fd` in that direction.
    pub fn waiting(&mut self, fd: RawFd, direction: Direction) -> Option<Owned> {
        let waiter = self.known(fd)?.side(direction).as_ref()?;
        Some(waiter.work.clone().into_object())
    }

    /// Whether `work`'s object is the one that waits there.
    pub fn waits(&mut self, fd: RawFd, direction: Direction, object: *mut pyo3::ffi::PyObject) -> bool {
        self.known(fd)
            .and_then(|entry| entry.side(direction).as_ref())
            .is_some_and(|waiter| waiter.work.as_ptr() == object)
    }

    /// Gives `fd` to a transport: what was registered under that number belonged to a descriptor that is gone (T1).
    pub fn adopt(
        &mut self,
        driver: &mut impl Driver,
        fd: RawFd,
        transport: *mut pyo3::ffi::PyObject,
    ) -> io::Result<Stale> {
        let entry = self.entry(fd)?;
        let stale = entry.vacate(driver, fd);
        entry.transport = Some(Borrowed(transport));
        Ok(stale)
    }

    /// Takes out everything that is known of `fd`, which belongs to another file by now (T1).
    pub fn vacate(&mut self, driver: &mut impl Driver, fd: RawFd) -> Option<Stale> {
        self.known(fd).map(|entry| entry.vacate(driver, fd))
    }

    /// Whether the kernel says that `fd` is no longer the file that was registered under that number (T1). False where
    /// nothing was registered yet.
    pub fn is_lost(&mut self, driver: &mut impl Driver, fd: RawFd) -> bool {
        let Some(entry) = self.known(fd) else {
            return false;
        };
        let token = token(fd, entry.generation);
        entry.registered.is_some_and(|interest| says_lost(&driver.modify(fd, token, interest)))
    }

    /// The transport that `fd` belongs to.
    pub fn transport(&mut self, fd: RawFd) -> Option<Owned> {
        let transport = self.known(fd)?.transport.as_ref()?;
        // SAFETY: a transport is alive as long as it is in the table.
        Some(unsafe { Owned::from_borrowed(transport.0) })
    }

    /// Whether `fd` belongs to that very transport.
    #[inline]
    pub fn belongs(&self, fd: RawFd, transport: *mut pyo3::ffi::PyObject) -> bool {
        let entry = usize::try_from(fd).ok().and_then(|place| self.entries.get(place));
        entry.is_some_and(|entry| entry.transport.as_ref().is_some_and(|borrowed| borrowed.0 == transport))
    }

    /// Forgets `fd`, which its transport is about to close: nothing that is in flight can reach the next owner.
    ///
    /// Gives who waited, and whether the number is another file's by now, or nobody's: then it is not the transport's to close.
    pub fn release(&mut self, driver: &mut impl Driver, fd: RawFd) -> ([Option<Owned>; 2], bool) {
        let Some(entry) = self.known(fd) else {
            return ([const { None }; 2], false);
        };
        let waiters = [entry.read.take(), entry.write.take()].map(Entry::object_of);
        let number_lost = entry.registered.take().is_some() && says_lost(&driver.remove(fd));
        entry.generation = entry.generation.wrapping_add(1);
        entry.transport = None;
        (waiters, number_lost)
    }

    /// Turns an event into work at the ready queue's end: the reader's first, as in asyncio.
    #[inline]
    pub fn dispatch(&mut self, event: Event, ready: &mut ReadyQueue<Work>) {
        let fd = event.token.0 as u32 as RawFd;
        let generation = (event.token.0 >> 32) as u32;
        let Some(entry) = self.known(fd) else {
            return;
        };
        if entry.generation != generation {
            return;
        }
        if let Some(interest) = &mut entry.registered
            && interest.oneshot
        {
            // The kernel has disarmed it; the next wait says so again.
            interest.readable = false;
            interest.writable = false;
        }
        for (wanted, side) in [(event.readable, &mut entry.read), (event.writable, &mut entry.write)] {
            match side {
                Some(waiter) if wanted && waiter.mode == Mode::Persistent => ready.push(waiter.work.clone()),
                Some(_) if wanted => {
                    if let Some(waiter) = side.take() {
                        ready.push(waiter.work);
                    }
                }
                _ => {}
            }
        }
    }

    /// Re-arms what a one-shot event left waiting in the other direction. Called after [`Self::dispatch`].
    #[inline]
    pub fn rearm(&mut self, driver: &mut impl Driver, event: Event) {
        let fd = event.token.0 as u32 as RawFd;
        if let Some(entry) = self.known(fd)
            && entry
                .registered
                .is_some_and(|interest| interest.oneshot && !interest.readable && !interest.writable)
            && (entry.read.is_some() || entry.write.is_some())
        {
            let _ = update(entry, driver, fd, false);
        }
    }

    /// Everything that waits, for the loop's end.
    pub fn take_all(&mut self, driver: &mut impl Driver) -> Vec<Owned> {
        let mut taken = Vec::new();
        for (fd, entry) in self.entries.iter_mut().enumerate() {
            taken.extend(entry.read.take().map(|waiter| waiter.work.into_object()));
            taken.extend(entry.write.take().map(|waiter| waiter.work.into_object()));
            entry.transport = None;
            if entry.registered.take().is_some() {
                let _ = driver.remove(fd as RawFd);
            }
            entry.generation = entry.generation.wrapping_add(1);
        }
        taken
    }

    /// Who waits, for the collector.
    pub fn waiters(&self) -> impl Iterator<Item = &Work> {
        self.entries
            .iter()
            .flat_map(|entry| entry.read.iter().chain(entry.write.iter()).map(|waiter| &waiter.work))
    }
}

/// Tells the driver what the entry wants now. `sure`: ask the kernel even where nothing seems to have changed (T1).
fn update(entry: &mut Entry, driver: &mut impl Driver, fd: RawFd, sure: bool) -> io::Result<()> {
    let Some(wanted) = entry.interest() else {
        // A one-shot registration that is disarmed may stay: nothing comes from it, and the next wait finds it.
        if entry.registered.take_if(|interest| !interest.oneshot).is_some() {
            entry.generation = entry.generation.wrapping_add(1);
            return driver.remove(fd);
        }
        if let Some(interest) = &mut entry.registered
            && (interest.readable || interest.writable)
        {
            entry.registered = None;
            entry.generation = entry.generation.wrapping_add(1);
            return driver.remove(fd);
        }
        return Ok(());
    };
    if entry.registered == Some(wanted) && !sure {
        return Ok(());
    }
    let token = token(fd, entry.generation);
    let told = if entry.registered.is_some() {
        match driver.modify(fd, token, wanted) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                if entry.transport.is_some() {
                    return Err(io::Error::from_raw_os_error(libc::EBADF));
                }
                driver.add(fd, token, wanted)
            }
            other => other,
        }
    } else {
        match driver.add(fd, token, wanted) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => driver.modify(fd, token, wanted),
            other => other,
        }
    };
    if told.is_ok() {
        entry.registered = Some(wanted);
    }
    told
}
