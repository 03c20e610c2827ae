//! Descriptors of a loop: who waits for which, and what the driver was told.
//!
//! Calls are tried before anybody waits, and a descriptor stays registered between waits: as long as somebody waits again each
//! time, the driver is told nothing. It is told when an event comes that nobody waits for.
//!
//! Invariant A2: a descriptor's number is not its identity. A registration has a key with a generation, which the driver's token
//! carries, and is taken back before the descriptor is closed; so an event that was under way reaches nobody, whoever has
//! the number by then.
//! Invariant A3: a call is left untried only where the driver is asked for that direction. The driver is level-triggered, so
//! an event comes if the call would have succeeded.

mod waiters;

pub(crate) use waiters::Ticket;

use super::table::Table;
use super::{Key, Loop};
use crate::{NoLoop, WrongLoop};
use antiphon_engine::{Driver, Event, Interest, Token};
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::Waker;
use waiters::Waiters;

/// So many calls in a row succeed at once before the task gives way to the others.
const STREAK: u8 = 64;

/// Which of a descriptor's two directions.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Direction {
    /// Data to read, a connection to accept, the end.
    Read,
    /// Room to write, a connection made.
    Write,
}

/// The descriptors that somebody waited for, and how many wait now.
pub(crate) struct IoTable {
    entries: RefCell<Table<Rc<Readiness>>>,
    waiting: Cell<usize>,
}

impl IoTable {
    pub(crate) const fn new() -> Self {
        Self { entries: RefCell::new(Table::new()), waiting: Cell::new(0) }
    }

    /// Whether an event could wake anybody.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiting.get() > 0
    }

    fn count(&self, come: usize, gone: usize) {
        self.waiting.set((self.waiting.get() + come).saturating_sub(gone));
    }
}

/// What is known of a descriptor.
struct Readiness {
    fd: RawFd,
    /// What the driver was told; `None`: not registered.
    interest: Cell<Option<Interest>>,
    read: Side,
    write: Side,
}

/// One direction of a descriptor.
struct Side {
    /// False: a call would only say that it would block (A3).
    promising: Cell<bool>,
    /// Calls that succeeded since somebody waited.
    streak: Cell<u8>,
    waiters: Waiters,
}

impl Side {
    const fn new() -> Self {
        Self { promising: Cell::new(true), streak: Cell::new(0), waiters: Waiters::new() }
    }
}

impl Readiness {
    const fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }
}

impl Loop {
    /// An event of a descriptor: wakes who waits for it, and tells the driver what nobody waits for.
    pub(crate) fn dispatch(&self, event: Event) {
        let key = Key::from_bits(event.token.0);
        let Some(readiness) = self.io.entries.borrow().get(key).cloned() else { return }; // A2
        let Some(told) = readiness.interest.get() else { return };
        let mut interest = told;
        if event.readable {
            readiness.read.promising.set(true);
            let woken = readiness.read.waiters.wake();
            self.io.count(0, woken);
            interest.readable &= woken > 0;
        }
        if event.writable {
            readiness.write.promising.set(true);
            let woken = readiness.write.waiters.wake();
            self.io.count(0, woken);
            interest.writable &= woken > 0;
        }
        if interest != told {
            // What fails here is told to the next one who waits.
            let _ = self.tell_driver(&readiness, key, interest);
        }
    }

    fn tell_driver(&self, readiness: &Readiness, key: Key, wanted: Interest) -> io::Result<()> {
        let wanted = (wanted.readable || wanted.writable).then_some(wanted);
        let told = readiness.interest.get();
        if told == wanted {
            return Ok(());
        }
        let (fd, token) = (readiness.fd, Token(key.to_bits()));
        let driver = &mut self.core.borrow_mut().driver;
        match (told, wanted) {
            (None, Some(interest)) => driver.add(fd, token, interest),
            (Some(_), Some(interest)) => driver.modify(fd, token, interest),
            (_, None) => driver.remove(fd),
        }?;
        readiness.interest.set(wanted);
        Ok(())
    }

    /// Forgets all descriptors: the loop ends.
    pub(super) fn forget_descriptors(&self) {
        let entries = self.io.entries.replace(Table::new());
        self.io.waiting.set(0);
        // Descriptors that outlive their loop are no longer registered anywhere.
        let _ = self.core.borrow_mut().driver.close();
        entries.iter().for_each(|readiness| {
            readiness.interest.set(None);
            readiness.read.waiters.clear();
            readiness.write.waiters.clear();
        });
    }
}

/// A descriptor's place in its loop. It must be dropped before the descriptor is closed (A2).
pub(crate) struct Registration {
    own: Rc<Loop>,
    /// In the loop's table, from the first wait on.
    key: Cell<Option<Key>>,
    readiness: Rc<Readiness>,
}

/// What to do about a call.
pub(crate) enum Advice {
    /// Make it.
    Try,
    /// It would block: wait.
    Wait,
    /// Let the others run first.
    GiveWay,
}

impl Registration {
    /// A place for `fd` in the running loop.
    pub(crate) fn new(fd: RawFd) -> Result<Self, NoLoop> {
        let own = Loop::running()?;
        let (interest, read, write) = (Cell::new(None), Side::new(), Side::new());
        Ok(Self { own, key: Cell::new(None), readiness: Rc::new(Readiness { fd, interest, read, write }) })
    }

    pub(crate) fn check_loop(&self) -> Result<(), WrongLoop> {
        if self.own.is_running() { Ok(()) } else { Err(WrongLoop) }
    }

    #[inline]
    pub(crate) fn advice(&self, direction: Direction) -> Advice {
        let side = self.readiness.side(direction);
        match side.streak.get() {
            _ if !side.promising.get() => Advice::Wait,
            STREAK.. => {
                side.streak.set(0);
                Advice::GiveWay
            }
            streak => {
                side.streak.set(streak + 1);
                Advice::Try
            }
        }
    }

    /// A call would block now.
    #[inline]
    pub(crate) fn would_block(&self, direction: Direction) {
        self.readiness.side(direction).promising.set(false);
    }

    /// Wakes the one with this ticket when a call may succeed; `None`: one who has not waited before.
    pub(crate) fn wait(
        &self,
        direction: Direction,
        ticket: &mut Option<Ticket>,
        waker: &Waker,
    ) -> io::Result<()> {
        let side = self.readiness.side(direction);
        side.streak.set(0);
        let asked = self.readiness.interest.get().unwrap_or_default();
        let is_asked = match direction {
            Direction::Read => asked.readable,
            Direction::Write => asked.writable,
        };
        if !is_asked {
            self.ask_driver(direction, asked)?;
        }
        let ticket = *ticket.get_or_insert_with(|| side.waiters.new_ticket());
        if side.waiters.enter(ticket, waker) {
            self.own.io.count(1, 0);
        }
        Ok(())
    }

    #[cold]
    fn ask_driver(&self, direction: Direction, mut interest: Interest) -> io::Result<()> {
        match direction {
            Direction::Read => interest.readable = true,
            Direction::Write => interest.writable = true,
        }
        self.own.tell_driver(&self.readiness, self.key(), interest)
    }

    /// The one with this ticket waits no more.
    #[inline]
    pub(crate) fn leave(&self, direction: Direction, ticket: Ticket) {
        if self.readiness.side(direction).waiters.leave(ticket) {
            self.own.io.count(0, 1);
        }
    }

    /// Wakes everybody who waits.
    pub(crate) fn wake(&self, direction: Direction) {
        let woken = self.readiness.side(direction).waiters.wake();
        self.own.io.count(0, woken);
    }

    fn key(&self) -> Key {
        self.key.get().unwrap_or_else(|| {
            let key = self.own.io.entries.borrow_mut().insert(Rc::clone(&self.readiness));
            self.key.set(Some(key));
            key
        })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Some(key) = self.key.get() else { return };
        let _ = self.own.tell_driver(&self.readiness, key, Interest::default());
        let entry = self.own.io.entries.borrow_mut().remove(key);
        let forgotten = self.readiness.read.waiters.clear() + self.readiness.write.waiters.clear();
        if entry.is_some() {
            self.own.io.count(0, forgotten);
        }
        drop(entry);
    }
}
