//! `DatagramTransport`: one datagram socket, its state and its life.
//!
//! ```text
//!   made ──Advance──▶ connection_made, reading ──▶ … ──▶ closing ──(nothing to send)──▶ Advance ──▶ connection_lost, closed
//! ```
//!
//! **Invariant G1**: a transport asks its socket object for the descriptor before every system call; the number that it
//! remembers serves its registration only, and is given back only while the loop's table says that it is this
//! transport's (T1). So a socket that its maker closed under the transport answers -1, one whose number the loop has given to
//! somebody else is not asked (C2), and no datagram can leave through somebody else's descriptor.
//!
//! Source: CPython Lib/asyncio/selector_events.py (`_SelectorTransport`, `_SelectorDatagramTransport`).

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use pyo3::ffi;

use super::batch::Pace;
use super::outbound::{Outbound, Target};
use crate::event_loop::EventLoop;
use crate::ffi::instance::DictionarySlot;
use crate::ffi::raise;
use crate::ffi::{GilCell, Instance, Owned, Payload, Raised, Result, call, call_method};
use crate::io_table::{Direction, Mode};
use crate::names::{import, names};
use crate::sock::socket::Socket;
use crate::transport::flow::FlowControl;
use crate::transport::identity::adopt;
use crate::transport::stream::{is, set, set_result_unless_cancelled};
use crate::work::{Kind, Work};

/// High-water mark of a fresh transport, in bytes.
const DEFAULT_HIGH: usize = 64 * 1024;

/// One bit each of a transport's state.
#[derive(Default)]
pub struct Flags {
    /// `connection_made` was called.
    pub begun: AtomicBool,
    /// Nothing is received any more; the transport ends once everything is sent.
    pub closing: AtomicBool,
    /// `pause_reading()`.
    pub paused: AtomicBool,
    /// The kernel took no more; the rest waits for room.
    pub blocked: AtomicBool,
    /// Somebody up the stack sends what is queued meanwhile: a delivery, or sending itself.
    pub collecting: AtomicBool,
    /// The descriptor was closed under the transport, and its number is another's to close (G1).
    pub number_lost: AtomicBool,
}

/// Whom the socket is connected to.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Peer {
    /// Nobody: every datagram needs an address.
    Nobody,
    /// A Unix socket without a name: an address may be given instead.
    Nameless,
    /// An address, and whatever else is given as one is ignored.
    Named,
}

/// The payload of `DatagramTransport`.
pub struct Datagram {
    /// The loop.
    pub owner: Owned,
    /// The number under which the loop's table has the socket; -1 once it is closed (G1).
    watched: AtomicI32,
    /// `AF_…` of a socket that is driven by system calls, `AF_UNSPEC` where its own methods do it.
    pub family: i32,
    socket: GilCell<Option<Owned>>,
    /// The only address that datagrams may be sent to.
    pub address: Option<Owned>,
    /// Whom the socket is connected to.
    pub peer: Peer,
    /// What `get_extra_info` answers, a dict.
    pub extra: Owned,
    protocol: GilCell<Option<Owned>>,
    context: Owned,
    waiter: GilCell<Option<Owned>>,
    /// Why the transport ended, between that and `connection_lost`.
    loss: GilCell<Option<Owned>>,
    /// What waits to be sent.
    pub outbound: GilCell<Outbound>,
    /// Received and not yet delivered, with their senders: reading was paused, or the loop left, in the midst of a batch.
    pub inbound: GilCell<VecDeque<(Owned, Owned)>>,
    /// When the protocol is asked to pause.
    pub flow: FlowControl,
    /// How many datagrams to ask for.
    pub pace: GilCell<Pace>,
    /// 0 while the transport stands; then 1 and one more for every datagram given to it.
    pub lost: AtomicU32,
    /// The other bits.
    pub flags: Flags,
}

static DATAGRAM: OnceLock<usize> = OnceLock::new();

impl Payload for Datagram {
    /// `asyncio.BaseTransport.__slots__` has one name, `_extra`.
    type BaseSlots = [usize; 1];
    type Dictionary = DictionarySlot;
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        DATAGRAM.get().map_or(std::ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }
}

/// Remembers the type once it is made.
pub fn set_type(kind: *mut ffi::PyTypeObject) {
    let _ = DATAGRAM.set(kind as usize);
}

/// What a new transport is made from.
pub struct Parts {
    /// The non-blocking socket, which the transport owns from then on.
    pub socket: Owned,
    /// Its descriptor.
    pub fd: RawFd,
    /// The user's protocol.
    pub protocol: Owned,
    /// The only address that datagrams may be sent to.
    pub address: Option<Owned>,
    /// Whom the socket is connected to.
    pub peer: Peer,
    /// A future that is done once reading has begun.
    pub waiter: Option<Owned>,
    /// A dict for `get_extra_info`, the transport's own from then on.
    pub extra: Owned,
}

/// The family of a socket that system calls can drive: of a plain one whose addresses are known here.
fn family_of(socket: &Owned) -> Result<i32> {
    let socket = Socket::new(socket.clone());
    if !socket.is_plain() {
        return Ok(libc::AF_UNSPEC);
    }
    let family = socket.family()?;
    let known = matches!(family, libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX);
    Ok(if known { family } else { libc::AF_UNSPEC })
}

/// Makes a transport and queues the beginning of its life. On failure the socket stays the caller's.
pub fn open(owner: &Instance<EventLoop>, parts: Parts) -> Result {
    let family = family_of(&parts.socket)?;
    // SAFETY: F1; a new reference or null.
    let context = unsafe { Owned::from_new(ffi::PyContext_CopyCurrent())? };
    let transport = Instance::create(Datagram {
        owner: owner.owned(),
        watched: AtomicI32::new(-1),
        family,
        socket: GilCell::new(Some(parts.socket)),
        address: parts.address,
        peer: parts.peer,
        extra: parts.extra,
        protocol: GilCell::new(Some(parts.protocol)),
        context,
        waiter: GilCell::new(parts.waiter),
        loss: GilCell::new(None),
        outbound: GilCell::new(Outbound::default()),
        inbound: GilCell::new(VecDeque::new()),
        flow: FlowControl::new(DEFAULT_HIGH),
        pace: GilCell::new(Pace::default()),
        lost: AtomicU32::new(0),
        flags: Flags::default(),
    })?;
    adopt(owner, parts.fd, &transport)?;
    // SAFETY: made above with this payload.
    unsafe { Instance::<Datagram>::from_ptr(transport.as_ptr()) }.watched.store(parts.fd, Ordering::Relaxed);
    owner.push(Work::new(Kind::Advance, transport.clone()));
    Ok(transport)
}

impl Instance<Datagram> {
    /// The number that the socket is registered under, -1 once it is closed.
    pub fn watched(&self) -> RawFd {
        self.watched.load(Ordering::Relaxed)
    }

    /// The descriptor for a system call: -1 once it is closed, by whomever (G1).
    ///
    /// # Errors
    /// None for plain sockets, which are the only ones this is for.
    #[inline]
    pub fn descriptor(&self) -> Result<RawFd> {
        match self.socket.get() {
            Some(socket) if self.is_registered() => Socket::new(socket).descriptor(),
            _ => Ok(-1),
        }
    }

    /// The socket object, while it is open.
    pub fn socket(&self) -> Option<Owned> {
        self.socket.get()
    }

    /// The loop.
    #[inline(always)]
    pub fn owner_loop(&self) -> &Instance<EventLoop> {
        // SAFETY: transports are made by loops only, for themselves.
        unsafe { Instance::from_ptr(self.owner.as_ptr()) }
    }

    /// The user's protocol; none after `connection_lost`.
    #[inline]
    pub fn protocol(&self) -> Option<Owned> {
        self.protocol.get()
    }

    /// Hands the transport to another protocol.
    pub fn set_protocol(&self, protocol: Owned) {
        drop(self.protocol.replace(Some(protocol)));
    }

    /// Lets the protocol go: it will not be called any more.
    pub fn drop_protocol(&self) {
        drop(self.protocol.take());
    }

    /// Runs `body` in the transport's context, where protocol methods belong.
    #[inline(always)]
    pub fn in_context<R>(&self, body: impl FnOnce() -> Result<R>) -> Result<R> {
        // SAFETY: F1; a context that was entered is left on every path.
        unsafe {
            if ffi::PyContext_Enter(self.context.as_ptr()) != 0 {
                return Err(Raised);
            }
            let result = body();
            if ffi::PyContext_Exit(self.context.as_ptr()) != 0 {
                return Err(Raised);
            }
            result
        }
    }

    /// The life's next step: its beginning, or its end.
    pub fn advance(&self) -> Result<()> {
        if is(&self.flags.begun) {
            return self.call_connection_lost();
        }
        set(&self.flags.begun, true);
        self.begin()
    }

    fn begin(&self) -> Result<()> {
        let mut outcome = Ok(());
        if let Some(protocol) = self.protocol() {
            let called =
                self.in_context(|| call_method(&protocol, &names().connection_made, [&self.owned()]));
            if let Err(Raised) = called {
                outcome = self.report_callback(&protocol, "connection_made");
            }
        }
        // What leaves the loop leaves it after this: the transport stands all the same.
        let leaving = if outcome.is_err() { raise::take() } else { None };
        if !is(&self.flags.closing) && !is(&self.flags.paused) {
            self.start_reading()?;
        }
        if let Some(waiter) = self.waiter.take() {
            set_result_unless_cancelled(&waiter)?;
        }
        leaving.map_or(Ok(()), |exception| Err(raise::restore(exception)))
    }

    /// Asks the driver for datagrams.
    pub fn start_reading(&self) -> Result<()> {
        let work = Work::new(Kind::Readable, self.owned());
        if let Err(Raised) = self.owner_loop().watch(self.watched(), Direction::Read, Mode::Persistent, work)
        {
            let exception = raise::take().unwrap_or_else(Owned::none);
            self.fatal_error(exception, "Fatal read error on datagram transport")?;
        }
        Ok(())
    }

    /// Asks it for none.
    pub fn stop_reading(&self) {
        if self.is_registered() {
            self.owner_loop().unwatch(self.watched(), Direction::Read);
        }
    }

    /// Whether the loop's table has this transport under its number (G1).
    #[inline]
    pub fn is_registered(&self) -> bool {
        let fd = self.watched();
        // While another thread drives the loop the table is its, and true is as good an answer as it gets.
        fd >= 0 && self.owner_loop().with_core(|core| core.io.belongs(fd, self.as_ptr())).unwrap_or(true)
    }

    /// Reports a protocol method that raised and has no caller to tell, as asyncio does for its callbacks.
    ///
    /// # Errors
    /// `KeyboardInterrupt` and `SystemExit` leave the loop.
    #[cold]
    pub fn report_callback(&self, protocol: &Owned, method: &str) -> Result<()> {
        let Some(exception) = raise::take() else {
            return Ok(());
        };
        if raise::leaves_loop(&exception) {
            return Err(raise::restore(exception));
        }
        let report = import("antiphon.reports", "protocol_failed")?;
        call(&report, [&self.owner, &self.owned(), protocol, &Owned::str(method)?, &exception])?;
        Ok(())
    }

    /// Ends the transport because of `exception`, which is reported unless it is an `OSError`.
    #[cold]
    pub fn fatal_error(&self, exception: Owned, message: &str) -> Result<()> {
        if raise::leaves_loop(&exception) {
            return Err(raise::restore(exception));
        }
        let protocol = self.protocol().unwrap_or_else(Owned::none);
        let report = import("antiphon.reports", "transport_failed")?;
        let reported =
            call(&report, [&self.owner, &self.owned(), &protocol, &Owned::str(message)?, &exception]);
        self.force_close(Some(exception));
        reported.map(|_| ())
    }

    /// `abort()`: ends the transport now. What the kernel had no room for is lost.
    pub fn abort(&self) -> Result<()> {
        // What was given during a delivery would have been sent by now, had it been given at any other time.
        self.flush()?;
        self.force_close(None);
        Ok(())
    }

    /// Ends the transport now, because of `exception`.
    pub fn force_close(&self, exception: Option<Owned>) {
        if self.lost.load(Ordering::Relaxed) > 0 {
            return;
        }
        set(&self.flags.closing, true);
        let unsent = self.outbound.take();
        self.end(exception);
        drop(unsent);
    }

    /// `close()`: ends the transport once everything is sent.
    pub fn close(&self) -> Result<()> {
        if is(&self.flags.closing) {
            return Ok(());
        }
        set(&self.flags.closing, true);
        if self.outbound.with(|outbound| !outbound.is_empty()) {
            self.stop_reading();
            self.flush()?;
        }
        if self.outbound.with(|outbound| outbound.is_empty()) {
            self.end(None);
        }
        Ok(())
    }

    /// Nothing is left to send: queues the end of the transport's life.
    pub fn end(&self, exception: Option<Owned>) {
        if self.lost.swap(1, Ordering::Relaxed) > 0 {
            return;
        }
        self.release();
        drop(self.loss.replace(exception));
        drop(self.inbound.take());
        self.owner_loop().push(Work::new(Kind::Advance, self.owned()));
    }

    /// Leaves the loop's table of descriptors: from here on no event reaches this transport.
    pub fn release(&self) {
        if self.is_registered() {
            let fd = self.watched();
            let released = self.owner_loop().with_core(|core| core.io.release(&mut core.engine.driver, fd));
            if let Some((waiters, number_lost)) = released {
                set(&self.flags.number_lost, number_lost);
                drop(waiters);
            }
        }
    }

    fn call_connection_lost(&self) -> Result<()> {
        let loss = self.loss.take().unwrap_or_else(Owned::none);
        let mut outcome = Ok(());
        if let Some(protocol) = self.protocol.take() {
            let called = self.in_context(|| call_method(&protocol, &names().connection_lost, [&loss]));
            if let Err(Raised) = called {
                outcome = self.report_callback(&protocol, "connection_lost");
            }
        }
        let pending = if outcome.is_err() { raise::take() } else { None };
        // Once more: the end may have come from a thread that the table was closed to.
        self.release();
        self.close_socket();
        drop(self.outbound.take());
        match pending {
            Some(exception) => Err(raise::restore(exception)),
            None => Ok(()),
        }
    }

    /// Closes the socket, unless its number is another's by now (G1).
    pub fn close_socket(&self) {
        self.watched.store(-1, Ordering::Relaxed);
        let let_go = if is(&self.flags.number_lost) { &names().detach } else { &names().close };
        if let Some(socket) = self.socket.take()
            && call_method(&socket, let_go, []).is_err()
        {
            raise::write_unraisable(Some(&socket));
        }
    }

    /// Visits what the transport refers to, for the collector.
    pub fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        let mut references = vec![self.owner.as_ptr(), self.context.as_ptr(), self.extra.as_ptr()];
        references.extend(self.address.as_ref().map(Owned::as_ptr));
        for place in [&self.socket, &self.protocol, &self.waiter, &self.loss] {
            references.extend(place.with(|object| object.as_ref().map(Owned::as_ptr)));
        }
        self.outbound.with(|outbound| {
            references.extend(outbound.iter().filter_map(|datagram| match &datagram.target {
                Target::Object(object) => Some(object.as_ptr()),
                // `bytes` refer to nothing.
                Target::Peer | Target::Address(_) => None,
            }));
        });
        self.inbound.with(|inbound| references.extend(inbound.iter().map(|(_, sender)| sender.as_ptr())));
        let dictionary = self.dictionary();
        if !dictionary.is_null() {
            references.push(dictionary);
        }
        // SAFETY: called from the traverse slot with its own visitor; the objects are alive.
        let visited = references.into_iter().map(|reference| unsafe { visit(reference, arg) });
        visited.into_iter().find(|status| *status != 0).unwrap_or(0)
    }

    /// Breaks cycles for the collector.
    pub fn clear(&self) {
        drop(self.protocol.take());
        drop(self.waiter.take());
        drop(self.loss.take());
        drop(self.outbound.take());
        drop(self.inbound.take());
        // SAFETY: F1; a dict of the transport's own.
        unsafe { ffi::PyDict_Clear(self.extra.as_ptr()) };
    }
}
