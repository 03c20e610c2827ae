//! `SSLTransport`: TLS between a transport and a protocol, its state and its life.
//!
//! ```text
//!   Fresh ──lower_made──▶ Handshake ──connection_made──▶ Wrapped ──close, end of stream──▶ Flushing ──all sent──▶ Shutdown
//!     any of them ──failed, aborted, lower connection lost──▶ Unwrapped ──Advance──▶ connection_lost
//! ```
//!
//! To the transport below it is what a protocol is to a transport, but spoken to natively ([`super::lower`]); to the
//! protocol above it is an `asyncio.Transport`.
//!
//! **Invariant L2**: `connection_made` and `connection_lost` come in pairs, also where the handshake of an upgraded
//! connection fails: whoever was told of a connection is told of its end.
//!
//! Source: CPython Lib/asyncio/sslproto.py; asyncio documentation, "Transports".

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use pyo3::ffi;

use super::lower::Lower;
use super::records::Records;
use super::session::Session;
use crate::event_loop::EventLoop;
use crate::ffi::instance::{DictionarySlot, Typed};
use crate::ffi::raise;
use crate::ffi::{GilCell, Instance, Owned, Payload, Raised, Result, call, call_method};
use crate::names::{import, names};
use crate::transport::flow::FlowControl;
use crate::transport::protocol::{Protocol, Receiver, in_context};
use crate::transport::queue::WriteQueue;
use crate::transport::stream::{is, set, set_result_unless_cancelled};
use crate::work::{Kind, Work};

/// Marks of a fresh transport, in bytes (asyncio's own).
pub const DEFAULT_WRITE_HIGH: usize = 512 * 1024;
const DEFAULT_READ_HIGH: usize = 256 * 1024;

/// Where in its life a connection is; the order counts.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
#[repr(u8)]
pub enum Phase {
    /// Made; the transport below has not begun.
    Fresh,
    /// The two ends agree on keys.
    Handshake,
    /// Data goes both ways.
    Wrapped,
    /// Closing: what was written is sent, what has arrived is delivered.
    Flushing,
    /// Closing: the two ends say goodbye.
    Shutdown,
    /// The end.
    Unwrapped,
}

/// What the protocol was told of its connection last.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[repr(u8)]
pub enum Told {
    /// Nothing.
    Nothing,
    /// `connection_made` (or, after an upgrade, as if).
    Made,
    /// `eof_received`.
    Eof,
    /// `connection_lost`, or that is queued.
    Lost,
}

/// One bit each of a transport's state.
#[derive(Default)]
pub struct Flags {
    /// `close()` or `abort()` was called, or the connection is gone.
    pub closed: AtomicBool,
    /// `pause_reading()`.
    pub reading_paused: AtomicBool,
    /// The transport below was asked to receive nothing.
    pub lower_paused: AtomicBool,
    /// The transport below, one of somebody else's, has asked for a pause.
    pub lower_full: AtomicBool,
    /// The transport below has received its end of stream.
    pub lower_eof: AtomicBool,
    /// The peer has said goodbye (close_notify).
    pub goodbye_received: AtomicBool,
    /// The protocol is being called: what it writes and whether it closes is looked at right afterwards.
    pub delivering: AtomicBool,
    /// A flush is in the ready queue.
    pub flush_queued: AtomicBool,
    /// Another round of reading is in the ready queue.
    pub reading_queued: AtomicBool,
    /// OpenSSL may have put something into the outgoing BIO.
    pub outgoing: AtomicBool,
}

/// What a transport is given when it is made.
pub struct Parts {
    /// The protocol of the program.
    pub protocol: Owned,
    /// The TLS objects.
    pub session: Session,
    /// A future that is done after the handshake.
    pub waiter: Option<Owned>,
    /// A dict for `get_extra_info`.
    pub extra: Owned,
    /// Seconds until an unfinished handshake aborts.
    pub handshake_timeout: Owned,
    /// Seconds until an unanswered goodbye aborts.
    pub shutdown_timeout: Owned,
    /// Whether `connection_made` is not to be called: the protocol has had its.
    pub upgrade: bool,
}

/// The payload of `SSLTransport`.
pub struct Tls {
    owner: Owned,
    /// What protocol methods run in.
    context: Owned,
    /// The TLS objects.
    pub session: Session,
    /// What carries the records; none before it is known.
    pub lower: GilCell<Option<Lower>>,
    /// The protocol above; none after `connection_lost`.
    pub protocol: GilCell<Option<Protocol>>,
    waiter: GilCell<Option<Owned>>,
    /// What `get_extra_info` answers before it asks the transport below.
    pub extra: GilCell<Option<Owned>>,
    /// The timer of the handshake or of the shutdown.
    pub timer: GilCell<Option<Owned>>,
    /// See [`Parts`].
    pub handshake_timeout: Owned,
    /// See [`Parts`].
    pub shutdown_timeout: Owned,
    /// When the handshake began, on the loop's clock; kept in debug mode only.
    pub started: GilCell<Option<Owned>>,
    loss: GilCell<Option<Owned>>,
    phase: AtomicU8,
    told: AtomicU8,
    /// The other bits.
    pub flags: Flags,
    /// Records that have arrived.
    pub records: GilCell<Records>,
    /// Plaintext to send.
    pub queue: GilCell<WriteQueue>,
    /// When the protocol is asked to pause writing.
    pub flow: FlowControl,
    /// When the transport below is asked to pause reading.
    pub incoming: FlowControl,
    /// Writes to a connection that was gone.
    pub vain_writes: AtomicU32,
}

static TLS: OnceLock<usize> = OnceLock::new();

impl Payload for Tls {
    /// `asyncio.BaseTransport.__slots__` has one name, `_extra`.
    type BaseSlots = [usize; 1];
    type Dictionary = DictionarySlot;
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        TLS.get().map_or(std::ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }
}

/// Remembers the type once it is made.
pub fn set_type(kind: *mut ffi::PyTypeObject) {
    let _ = TLS.set(kind as usize);
}

/// A reference known to be a TLS transport.
pub type TlsRef = Typed<Tls>;

/// Makes a transport, which waits for the one below.
pub fn make(owner: &Instance<EventLoop>, parts: Parts) -> Result {
    let told = if parts.upgrade { Told::Made } else { Told::Nothing };
    Instance::create(Tls {
        owner: owner.owned(),
        // SAFETY: F1; a new reference or null.
        context: unsafe { Owned::from_new(ffi::PyContext_CopyCurrent())? },
        session: parts.session,
        lower: GilCell::new(None),
        protocol: GilCell::new(Some(Protocol::new(parts.protocol)?)),
        waiter: GilCell::new(parts.waiter),
        extra: GilCell::new(Some(parts.extra)),
        timer: GilCell::new(None),
        handshake_timeout: parts.handshake_timeout,
        shutdown_timeout: parts.shutdown_timeout,
        started: GilCell::new(None),
        loss: GilCell::new(None),
        phase: AtomicU8::new(Phase::Fresh as u8),
        told: AtomicU8::new(told as u8),
        flags: Flags::default(),
        records: GilCell::new(Records::default()),
        queue: GilCell::new(WriteQueue::default()),
        flow: FlowControl::new(DEFAULT_WRITE_HIGH),
        incoming: FlowControl::new(DEFAULT_READ_HIGH),
        vain_writes: AtomicU32::new(0),
    })
}

impl Instance<Tls> {
    /// Where in its life the connection is.
    #[inline(always)]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Fresh,
            1 => Phase::Handshake,
            2 => Phase::Wrapped,
            3 => Phase::Flushing,
            4 => Phase::Shutdown,
            _ => Phase::Unwrapped,
        }
    }

    /// Goes on to a later phase.
    pub fn transition_to(&self, phase: Phase) {
        debug_assert!(self.phase() <= phase, "a life goes one way: {:?} to {phase:?}", self.phase());
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// What the protocol was told last.
    pub fn told(&self) -> Told {
        match self.told.load(Ordering::Relaxed) {
            0 => Told::Nothing,
            1 => Told::Made,
            2 => Told::Eof,
            _ => Told::Lost,
        }
    }

    /// Notes what the protocol is told now.
    pub fn set_told(&self, told: Told) {
        self.told.store(told as u8, Ordering::Relaxed);
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

    /// The transport below.
    #[inline]
    pub fn lower(&self) -> Option<Lower> {
        self.lower.get()
    }

    /// The protocol above.
    pub fn protocol_object(&self) -> Option<Owned> {
        self.protocol.with(|protocol| protocol.as_ref().map(|protocol| protocol.object.clone()))
    }

    /// How the protocol takes data.
    #[inline]
    pub fn receiver(&self) -> Option<Receiver> {
        self.protocol.with(|protocol| protocol.as_ref().map(|protocol| protocol.receiver.clone()))
    }

    /// Whether the protocol is another layer of TLS.
    #[inline]
    pub fn has_upper(&self) -> bool {
        self.protocol.with(|protocol| protocol.as_ref().is_some_and(Protocol::is_layer))
    }

    /// Another layer of TLS, where that is the protocol.
    pub fn upper(&self) -> Option<TlsRef> {
        self.protocol.with(|protocol| protocol.as_ref().and_then(Protocol::layer))
    }

    /// Runs `body` in the transport's context, where protocol methods belong.
    #[inline(always)]
    pub fn in_context<R>(&self, body: impl FnOnce() -> Result<R>) -> Result<R> {
        in_context(&self.context, body)
    }

    /// Hands the connection to another protocol.
    pub fn set_protocol(&self, protocol: Protocol) {
        if let Some(upper) = protocol.layer() {
            upper.attach(Lower::Tls(self.reference()));
            upper.flow.inherit(&self.flow);
        }
        drop(self.protocol.replace(Some(protocol)));
    }

    /// A new reference that knows its type.
    pub fn reference(&self) -> TlsRef {
        // SAFETY: this is one.
        unsafe { Typed::new_unchecked(self.owned()) }
    }

    /// Learns what carries the records.
    pub fn attach(&self, lower: Lower) {
        drop(self.lower.replace(Some(lower)));
    }

    /// The work items of this transport.
    pub fn run(&self, kind: Kind) -> Result<()> {
        match kind {
            Kind::Flush => self.on_flush(),
            Kind::Readable => self.on_reading_queued(),
            _ => self.call_connection_lost(),
        }
    }

    /// Calls `self._on_timeout` in so many seconds.
    pub fn start_timer(&self, seconds: &Owned) -> Result<()> {
        let on_timeout = self.owned().attr(&names()._on_timeout)?;
        let timer = call_method(&self.owner, &names().call_later, [seconds, &on_timeout])?;
        drop(self.timer.replace(Some(timer)));
        Ok(())
    }

    /// Takes the timer back, which refers to this transport.
    pub fn stop_timer(&self) -> Result<()> {
        if let Some(timer) = self.timer.take() {
            call_method(&timer, &names().cancel, [])?;
        }
        Ok(())
    }

    /// What is raised in timers' and protocols' place: reported, and the end of the connection.
    ///
    /// # Errors
    /// `KeyboardInterrupt` and `SystemExit` leave the loop.
    #[cold]
    pub fn fatal_error(&self, exception: Owned, message: &str) -> Result<()> {
        if raise::leaves_loop(&exception) {
            return Err(raise::restore(exception));
        }
        let protocol = self.protocol_object().unwrap_or_else(Owned::none);
        let report = import("antiphon.reports", "tls_failed")?;
        let message = Owned::str(message)?;
        let reported = call(&report, [&self.owner, &self.owned(), &protocol, &message, &exception]);
        self.force_close(Some(exception))?;
        reported.map(|_| ())
    }

    /// The exception that is set ends the connection.
    #[cold]
    pub fn raised(&self, message: &str) -> Result<()> {
        match raise::take() {
            Some(exception) => self.fatal_error(exception, message),
            None => Ok(()),
        }
    }

    /// Ends the connection at once, without goodbye; queued data is lost.
    pub fn force_close(&self, exception: Option<Owned>) -> Result<()> {
        set(&self.flags.closed, true);
        self.transition_to(Phase::Unwrapped);
        drop(self.queue.with(WriteQueue::take_all));
        match self.lower() {
            Some(lower) => lower.force_close(exception),
            None => Ok(()),
        }
    }

    /// The transport below is gone; `exception` says why.
    pub fn lower_lost(&self, exception: Option<Owned>) -> Result<()> {
        set(&self.flags.closed, true);
        self.transition_to(Phase::Unwrapped);
        drop(self.queue.with(WriteQueue::take_all));
        self.vain_writes.fetch_add(1, Ordering::Relaxed);
        self.stop_timer()?;
        match self.told() {
            Told::Made | Told::Eof => {
                self.set_told(Told::Lost);
                drop(self.loss.replace(exception.clone()));
                self.owner().push(Work::new(Kind::Advance, self.owned()));
            }
            Told::Nothing => drop(self.protocol.take()),
            Told::Lost => {}
        }
        self.wake_waiter(exception)
    }

    fn call_connection_lost(&self) -> Result<()> {
        let loss = self.loss.take();
        let Some(protocol) = self.protocol.take() else {
            return Ok(());
        };
        if let Some(upper) = protocol.layer() {
            return upper.lower_lost(loss);
        }
        let loss = loss.unwrap_or_else(Owned::none);
        let protocol = protocol.object;
        match self.in_context(|| call_method(&protocol, &names().connection_lost, [&loss])) {
            Ok(_) => Ok(()),
            Err(Raised) => self.report_callback(&protocol, "connection_lost"),
        }
    }

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

    /// Ends the wait of whoever asked for the connection.
    pub fn wake_waiter(&self, exception: Option<Owned>) -> Result<()> {
        let Some(waiter) = self.waiter.take() else {
            return Ok(());
        };
        let Some(exception) = exception else {
            return set_result_unless_cancelled(&waiter);
        };
        let done = call_method(&waiter, &names().done, [])?;
        if !done.truth()? {
            call_method(&waiter, &names().set_exception, [&exception])?;
        }
        Ok(())
    }

    /// Writes a debug message about this transport, in debug mode.
    pub fn log(&self, message: &str) -> Result<()> {
        if self.owner().debug() {
            call(&import("antiphon.reports", "log")?, [&Owned::str(message)?, &self.owned()])?;
        }
        Ok(())
    }

    /// Whether nothing more is sent or received.
    pub fn is_closing(&self) -> Result<bool> {
        if is(&self.flags.closed) {
            return Ok(true);
        }
        match self.lower() {
            Some(lower) => lower.is_closing(),
            None => Ok(false),
        }
    }

    /// Visits what the transport refers to, for the collector.
    pub fn traverse(&self, visit: ffi::visitproc, arg: *mut std::ffi::c_void) -> std::ffi::c_int {
        let mut references: Vec<*mut ffi::PyObject> =
            vec![self.owner.as_ptr(), self.context.as_ptr(), self.handshake_timeout.as_ptr()];
        references.push(self.shutdown_timeout.as_ptr());
        for place in [&self.waiter, &self.extra, &self.timer, &self.started, &self.loss] {
            references.extend(place.with(|object| object.as_ref().map(Owned::as_ptr)));
        }
        references.extend(self.lower.with(|lower| lower.as_ref().map(|lower| lower.object().as_ptr())));
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
        let status = self.session.traverse(visit, arg);
        if status != 0 {
            return status;
        }
        self.protocol.with(|protocol| protocol.as_ref().map_or(0, |protocol| protocol.traverse(visit, arg)))
    }

    /// Breaks cycles for the collector.
    pub fn clear(&self) {
        drop(self.protocol.take());
        drop(self.lower.take());
        drop(self.waiter.take());
        drop(self.extra.take());
        drop(self.timer.take());
        drop(self.loss.take());
    }
}
