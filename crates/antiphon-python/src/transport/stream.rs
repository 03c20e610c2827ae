//! `StreamTransport`: one connected stream socket (TCP or Unix), its state and its life.
//!
//! ```text
//!   made ──Advance──▶ connection_made, reading ──▶ … ──▶ closing ──(queue empty)──▶ Advance ──▶ connection_lost, closed
//! ```
//!
//! **Invariant C1**: the descriptor is closed in one place ([`Instance::<Stream>::call_connection_lost`]), after it was
//! released from the loop's table, and nothing uses its number afterwards: every operation takes it from [`Stream::fd`],
//! which is -1 from then on. So no byte of this connection can reach another one that got the same number.
//!
//! Source: CPython Lib/asyncio/selector_events.py (`_SelectorTransport`, `_SelectorSocketTransport`), transports.py.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering};

use pyo3::ffi;

use super::flow::FlowControl;
use super::identity::adopt;
use super::protocol::{Protocol, in_context};
use super::queue::WriteQueue;
use crate::event_loop::EventLoop;
use crate::ffi::instance::{DictionarySlot, Typed};
use crate::ffi::raise;
use crate::ffi::{GilCell, Instance, Owned, Payload, Raised, Result, call, call_method};
use crate::io_table::{Direction, Mode};
use crate::names::{import, names};
use crate::sockaddr::{Address, set_option};
use crate::tls::lower::Lower;
use crate::tls::transport::TlsRef;
use crate::work::{Kind, Work};

/// High-water mark of a fresh transport, in bytes.
const DEFAULT_HIGH: usize = 64 * 1024;
/// Writes to a lost connection that are forgiven before each one is logged.
pub const FORGIVEN_WRITES: u32 = 5;

/// One bit each of a transport's state.
#[derive(Default)]
pub struct Flags {
    /// `connection_made` was called.
    pub connected: AtomicBool,
    /// No new reads or writes; the connection ends once the queue is empty.
    pub closing: AtomicBool,
    /// `pause_reading()`.
    pub paused: AtomicBool,
    /// The peer sent its last byte.
    pub eof_received: AtomicBool,
    /// `write_eof()` was called.
    pub eof_written: AtomicBool,
    /// A flush is in the ready queue.
    pub flush_queued: AtomicBool,
    /// The data of this very moment is being delivered: what is written now leaves right after it.
    pub delivering: AtomicBool,
    /// The kernel took no more; the next flush waits for room.
    pub blocked: AtomicBool,
    /// The loop's table gave the descriptor back.
    pub released: AtomicBool,
    /// The descriptor was closed under the transport, and its number is another's to close (C2).
    pub number_lost: AtomicBool,
    /// The protocol is a layer of ours.
    pub layered: AtomicBool,
    /// Somebody else writes to the socket.
    pub lent: AtomicBool,
}

/// Reads a flag.
#[inline(always)]
pub fn is(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed)
}

/// Writes a flag.
#[inline(always)]
pub fn set(flag: &AtomicBool, value: bool) {
    flag.store(value, Ordering::Relaxed);
}

/// The payload of `StreamTransport`.
pub struct Stream {
    owner: Owned,
    fd: AtomicI32,
    family: i32,
    /// The socket as Python knows it; made on demand for accepted connections. It owns the descriptor if it is there.
    pub socket: GilCell<Option<Owned>>,
    /// What `get_extra_info` answers beside addresses.
    pub extra: GilCell<Option<Owned>>,
    /// Taken when the connection began: later the kernel may not know any more.
    pub peer: GilCell<Option<Box<Address>>>,
    /// Taken when somebody asks, at the latest when the connection ends.
    pub local: GilCell<Option<Box<Address>>>,
    /// The protocol; none after `connection_lost`.
    pub protocol: GilCell<Option<Protocol>>,
    context: Owned,
    server: GilCell<Option<Owned>>,
    waiter: GilCell<Option<Owned>>,
    /// Why the connection was lost, between the loss and `connection_lost`.
    loss: GilCell<Option<Owned>>,
    /// A future of whom the socket is lent to.
    pub borrower: GilCell<Option<Owned>>,
    /// Bytes to send.
    pub queue: GilCell<WriteQueue>,
    /// When the protocol is asked to pause writing.
    pub flow: FlowControl,
    /// 0 while the connection stands; then 1 and one more for every write to it.
    pub lost: AtomicU32,
    /// How much the next read is expected to bring, in bytes; 0: little, by way of the loop's buffer.
    pub expected_bytes: AtomicUsize,
    /// The other bits.
    pub flags: Flags,
}

static STREAM: OnceLock<usize> = OnceLock::new();

impl Payload for Stream {
    /// `asyncio.BaseTransport.__slots__` has one name, `_extra`.
    type BaseSlots = [usize; 1];
    type Dictionary = DictionarySlot;
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        STREAM.get().map_or(std::ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }
}

/// Remembers the type once it is made.
pub fn set_type(kind: *mut ffi::PyTypeObject) {
    let _ = STREAM.set(kind as usize);
}

/// What a new transport is made from.
pub struct Parts {
    /// The connected, non-blocking descriptor.
    pub fd: RawFd,
    /// `AF_…`.
    pub family: i32,
    /// The Python socket that owns the descriptor, if there is one.
    pub socket: Option<Owned>,
    /// The peer's address, if it is known already.
    pub peer: Option<Address>,
    /// The address on this side, if it is known already.
    pub local: Option<Address>,
    /// The user's protocol.
    pub protocol: Owned,
    /// A future that is done once reading has begun.
    pub waiter: Option<Owned>,
    /// A dict for `get_extra_info`.
    pub extra: Option<Owned>,
    /// The server that accepted the connection.
    pub server: Option<Owned>,
    /// What protocol calls run in.
    pub context: Owned,
}

/// Makes a transport and queues the beginning of its life. On failure the descriptor stays the caller's.
pub fn open(owner: &Instance<EventLoop>, parts: Parts) -> Result {
    let protocol = Protocol::new(parts.protocol)?;
    if parts.peer.is_none() && matches!(parts.family, libc::AF_INET | libc::AF_INET6) {
        // Small writes are joined per turn here; Nagle's waiting for acknowledgements would only add to that. Accepted
        // sockets have inherited it from their listener.
        let _ = set_option(parts.fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
    }
    let peer = parts.peer.or_else(|| Address::peer(parts.fd).ok());
    let transport = Instance::create(Stream {
        owner: owner.owned(),
        fd: AtomicI32::new(parts.fd),
        family: parts.family,
        socket: GilCell::new(parts.socket),
        extra: GilCell::new(parts.extra),
        peer: GilCell::new(peer.map(Box::new)),
        local: GilCell::new(parts.local.map(Box::new)),
        protocol: GilCell::new(None),
        context: parts.context,
        server: GilCell::new(None),
        waiter: GilCell::new(parts.waiter),
        loss: GilCell::new(None),
        borrower: GilCell::new(None),
        queue: GilCell::new(WriteQueue::default()),
        flow: FlowControl::new(DEFAULT_HIGH),
        lost: AtomicU32::new(0),
        expected_bytes: AtomicUsize::new(0),
        flags: Flags::default(),
    })?;
    // SAFETY: just made with this payload.
    let this = unsafe { Instance::<Stream>::from_ptr(transport.as_ptr()) };
    this.set_protocol(protocol);
    if let Err(Raised) = adopt(owner, parts.fd, &transport) {
        this.fd.store(-1, Ordering::Relaxed);
        return Err(Raised);
    }
    if let Some(server) = parts.server {
        if let Err(Raised) = call_method(&server, &names()._attach, [&transport]) {
            this.release();
            this.fd.store(-1, Ordering::Relaxed);
            return Err(Raised);
        }
        drop(this.server.replace(Some(server)));
    }
    owner.push(Work::new(Kind::Advance, transport.clone()));
    Ok(transport)
}

impl Instance<Stream> {
    /// The descriptor, -1 once the connection is closed (C1).
    #[inline(always)]
    pub fn fd(&self) -> RawFd {
        self.fd.load(Ordering::Relaxed)
    }

    /// `AF_…` of the socket.
    pub fn family(&self) -> i32 {
        self.family
    }

    /// The loop.
    #[inline(always)]
    pub fn owner(&self) -> &Instance<EventLoop> {
        // SAFETY: transports are made by loops only, for themselves.
        unsafe { Instance::from_ptr(self.owner.as_ptr()) }
    }

    /// The loop as an object.
    pub fn owner_object(&self) -> &Owned {
        &self.owner
    }

    /// The user's protocol.
    pub fn protocol_object(&self) -> Option<Owned> {
        self.protocol.with(|protocol| protocol.as_ref().map(|protocol| protocol.object.clone()))
    }

    /// Runs `body` in the transport's context, where protocol methods belong.
    #[inline(always)]
    pub fn in_context<R>(&self, body: impl FnOnce() -> Result<R>) -> Result<R> {
        in_context(&self.context, body)
    }

    /// The layer of ours that the protocol is, if it is one.
    #[inline]
    pub fn layer(&self) -> Option<TlsRef> {
        if !is(&self.flags.layered) {
            return None;
        }
        self.protocol.with(|protocol| protocol.as_ref().and_then(Protocol::layer))
    }

    /// Hands the connection to another protocol.
    pub fn set_protocol(&self, protocol: Protocol) {
        let layer = protocol.layer();
        set(&self.flags.layered, layer.is_some());
        if let Some(layer) = layer {
            // SAFETY: this is a stream.
            layer.attach(Lower::Stream(unsafe { Typed::new_unchecked(self.owned()) }));
            layer.flow.inherit(&self.flow);
        }
        drop(self.protocol.replace(Some(protocol)));
    }

    /// The life's next step: its beginning, or its end.
    pub fn advance(&self) -> Result<()> {
        if !is(&self.flags.connected) {
            set(&self.flags.connected, true);
            self.begin()?;
            // Lost while it began: the end was queued behind the beginning.
            return Ok(());
        }
        self.call_connection_lost()
    }

    fn begin(&self) -> Result<()> {
        let mut outcome = Ok(());
        if let Some(layer) = self.layer() {
            outcome = layer.lower_made();
        } else if let Some(protocol) = self.protocol_object() {
            let called =
                self.in_context(|| call_method(&protocol, &names().connection_made, [&self.owned()]));
            if let Err(Raised) = called {
                outcome = self.report_callback(&protocol, "connection_made");
            }
        }
        // What leaves the loop leaves it after this: the connection stands all the same.
        let leaving = if outcome.is_err() { raise::take() } else { None };
        if !is(&self.flags.closing) && !is(&self.flags.paused) {
            self.start_reading()?;
        }
        if let Some(waiter) = self.waiter.take() {
            set_result_unless_cancelled(&waiter)?;
        }
        leaving.map_or(Ok(()), |exception| Err(raise::restore(exception)))
    }

    /// Asks the driver for data.
    pub fn start_reading(&self) -> Result<()> {
        if self.fd() < 0 {
            return Ok(());
        }
        let work = Work::new(Kind::Readable, self.owned());
        if let Err(Raised) = self.owner().watch(self.fd(), Direction::Read, Mode::Persistent, work) {
            let exception = raise::take().unwrap_or_else(Owned::none);
            self.fatal_error(exception, "Fatal read error on socket transport")?;
        }
        Ok(())
    }

    /// Asks it for none.
    pub fn stop_reading(&self) {
        if self.is_registered() {
            self.owner().unwatch(self.fd(), Direction::Read);
        }
    }

    /// Reports a protocol method that raised and has no caller to tell, as asyncio does for its callbacks.
    ///
    /// # Errors
    /// `KeyboardInterrupt` and `SystemExit` leave the loop.
    fn report_callback(&self, protocol: &Owned, method: &str) -> Result<()> {
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

    /// Ends the connection because of `exception`, which is reported unless it is an `OSError`.
    #[cold]
    pub fn fatal_error(&self, exception: Owned, message: &str) -> Result<()> {
        if raise::leaves_loop(&exception) {
            return Err(raise::restore(exception));
        }
        let protocol = self.protocol_object().unwrap_or_else(Owned::none);
        let report = import("antiphon.reports", "transport_failed")?;
        let reported =
            call(&report, [&self.owner, &self.owned(), &protocol, &Owned::str(message)?, &exception]);
        self.force_close(Some(exception));
        reported.map(|_| ())
    }

    /// Ends the connection at once; queued data is lost.
    pub fn force_close(&self, exception: Option<Owned>) {
        if self.lost.load(Ordering::Relaxed) > 0 {
            return;
        }
        let unsent: VecDeque<Owned> = self.queue.with(WriteQueue::take_all);
        set(&self.flags.closing, true);
        self.end(exception);
        drop(unsent);
    }

    /// Ends the connection once the queue is empty.
    pub fn close(&self) -> Result<()> {
        if is(&self.flags.closing) {
            return Ok(());
        }
        set(&self.flags.closing, true);
        if is(&self.flags.layered) && !is(&self.flags.blocked) {
            // What the layer holds was written before this.
            self.flush_now()?;
        }
        if self.queue.with(|queue| queue.is_empty()) {
            self.end(None);
            return Ok(());
        }
        self.stop_reading();
        self.flush()
    }

    /// Nothing is left to send: queues the end of the transport's life.
    pub fn end(&self, exception: Option<Owned>) {
        if self.lost.swap(1, Ordering::Relaxed) > 0 {
            return;
        }
        self.release();
        drop(self.loss.replace(exception));
        self.owner().push(Work::new(Kind::Advance, self.owned()));
    }

    /// Leaves the loop's table of descriptors: from here on no event reaches this transport (C1).
    pub fn release(&self) {
        if self.is_registered() {
            let fd = self.fd();
            let released = self.owner().with_core(|core| core.io.release(&mut core.engine.driver, fd));
            if let Some((waiters, number_lost)) = released {
                set(&self.flags.released, true);
                set(&self.flags.number_lost, number_lost);
                drop(waiters);
            }
        }
    }

    fn call_connection_lost(&self) -> Result<()> {
        let loss = self.loss.take().unwrap_or_else(Owned::none);
        let layer = self.layer();
        let protocol = self.protocol.take().map(|protocol| protocol.object);
        let mut outcome = Ok(());
        if let Some(layer) = layer {
            outcome = layer.lower_lost(if loss.is_none() { None } else { Some(loss.clone()) });
        } else if let Some(protocol) = &protocol {
            let called = self.in_context(|| call_method(protocol, &names().connection_lost, [&loss]));
            if let Err(Raised) = called {
                outcome = self.report_callback(protocol, "connection_lost");
            }
        }
        let pending = if outcome.is_err() { raise::take() } else { None };
        if self.fail_borrower(&loss).is_err() {
            raise::write_unraisable(None);
        }
        // Once more: the end may have come from a thread that the table was closed to.
        self.release();
        self.close_descriptor();
        if let Some(server) = self.server.take()
            && call_method(&server, &names()._detach, [&self.owned()]).is_err()
        {
            raise::write_unraisable(Some(&server));
        }
        match pending {
            Some(exception) => Err(raise::restore(exception)),
            None => Ok(()),
        }
    }

    /// Closes the descriptor; the only place that does (C1).
    pub fn close_descriptor(&self) {
        let fd = self.fd();
        if fd < 0 {
            return;
        }
        if is(&self.flags.released) && self.local.with(|local| local.is_none()) {
            let local = Address::local(fd).ok().map(Box::new);
            drop(self.local.replace(local));
        }
        self.fd.store(-1, Ordering::Relaxed);
        // A number that was lost is another's to close (C2).
        let number_lost = is(&self.flags.number_lost);
        if let Some(socket) = self.socket.take() {
            let let_go = if number_lost { &names().detach } else { &names().close };
            if call_method(&socket, let_go, []).is_err() {
                raise::write_unraisable(Some(&socket));
            }
        } else if !number_lost {
            // SAFETY: the transport owns the descriptor, and gave its number up above.
            unsafe { libc::close(fd) };
        }
    }

    /// Visits what the transport refers to, for the collector.
    pub fn traverse(&self, visit: ffi::visitproc, arg: *mut std::ffi::c_void) -> std::ffi::c_int {
        let mut references: Vec<*mut ffi::PyObject> = vec![self.owner.as_ptr(), self.context.as_ptr()];
        for place in [&self.socket, &self.extra, &self.server, &self.waiter, &self.loss, &self.borrower] {
            references.extend(place.with(|object| object.as_ref().map(Owned::as_ptr)));
        }
        self.queue.with(|queue| references.extend(queue.iter().map(Owned::as_ptr)));
        let dictionary = self.dictionary();
        if !dictionary.is_null() {
            references.push(dictionary);
        }
        for reference in references {
            // SAFETY: called from the traverse slot with its own visitor.
            let status = unsafe { visit(reference, arg) };
            if status != 0 {
                return status;
            }
        }
        self.protocol.with(|protocol| protocol.as_ref().map_or(0, |protocol| protocol.traverse(visit, arg)))
    }

    /// Breaks cycles for the collector.
    pub fn clear(&self) {
        drop(self.protocol.take());
        drop(self.waiter.take());
        drop(self.borrower.take());
        drop(self.server.take());
        drop(self.extra.take());
        drop(self.queue.with(WriteQueue::take_all));
    }
}

/// Completes a future with `None`, unless it was cancelled meanwhile.
pub fn set_result_unless_cancelled(future: &Owned) -> Result<()> {
    let cancelled = call_method(future, &names().cancelled, [])?;
    // SAFETY: F1; a living object.
    if crate::ffi::check(unsafe { ffi::PyObject_IsTrue(cancelled.as_ptr()) })? == 0 {
        call_method(future, &names().set_result, [&Owned::none()])?;
    }
    Ok(())
}
