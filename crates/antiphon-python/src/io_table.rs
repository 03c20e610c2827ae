//! Who waits for which descriptor.
//!
//! **Invariant T1**: a descriptor's number says nothing about its identity: it is reused as soon as it is closed. Every
//! registration carries a generation, the driver's token holds it, and an event of an older generation reaches nobody. And
//! the kernel, not this table, is asked whether a number is still registered: a one-shot wait modifies its registration
//! each time, and the kernel answers `ENOENT` when the number belongs to another file by now.
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

    fn interest(&self) -> Option<Interest> {
        if self.read.is_none() && self.write.is_none() {
            return None;
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

    /// Takes back who waits for `fd` in that direction.
    pub fn unwatch(&mut self, driver: &mut impl Driver, fd: RawFd, direction: Direction) -> Option<Work> {
        let entry = self.known(fd)?;
        let taken = entry.side(direction).take()?;
        // A descriptor that was closed under the loop is no longer the kernel's business: nothing to report.
        let _ = update(entry, driver, fd, false);
        Some(taken.work)
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
    ) -> io::Result<[Option<Owned>; 2]> {
        let entry = self.entry(fd)?;
        let stale =
            [entry.read.take(), entry.write.take()].map(|side| side.map(|waiter| waiter.work.into_object()));
        if entry.registered.is_some() {
            let _ = update(entry, driver, fd, false);
        }
        entry.transport = Some(Borrowed(transport));
        Ok(stale)
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
    pub fn release(&mut self, driver: &mut impl Driver, fd: RawFd) -> [Option<Owned>; 2] {
        let Some(entry) = self.known(fd) else {
            return [const { None }; 2];
        };
        let read = entry.read.take().map(|waiter| waiter.work.into_object());
        let write = entry.write.take().map(|waiter| waiter.work.into_object());
        let _ = update(entry, driver, fd, false);
        entry.generation = entry.generation.wrapping_add(1);
        entry.transport = None;
        [read, write]
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
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => driver.add(fd, token, wanted),
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
