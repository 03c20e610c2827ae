//! A transport's receiving side: a batch of datagrams per readiness event, one protocol call each.
//!
//! What the protocol sends meanwhile is collected and leaves when the batch is delivered, together ([`super::send`]).
//! Callbacks that were queued meanwhile run after the batch, as in libuv.
//!
//! Source: CPython Lib/asyncio/selector_events.py (`_SelectorDatagramTransport._read_ready`).

use pyo3::ffi;

use super::batch::Batch;
use super::transport::Datagram;
use crate::ffi::raise::{self, os_error_object, type_error};
use crate::ffi::{Instance, Owned, Raised, Result, call_method};
use crate::names::names;
use crate::sock::by_method::unless_blocking;
use crate::transport::stream::{is, set};
use crate::work::{Kind, Work};

/// What asyncio receives at most.
const MOST_BYTES: i64 = 256 * 1024;

impl Instance<Datagram> {
    /// The socket is readable: receives and delivers.
    #[inline]
    pub fn on_readable(&self) -> Result<()> {
        if is(&self.flags.closing) || is(&self.flags.paused) {
            return Ok(());
        }
        if !self.inbound.with(|inbound| inbound.is_empty()) {
            return self.deliver_kept();
        }
        if self.family == libc::AF_UNSPEC {
            return self.delivering(|| self.receive_by_method());
        }
        let owner = self.owner_loop();
        // The batch leaves the core meanwhile: delivering runs Python code.
        let mut batch = owner.with_core(|core| core.datagrams.take()).flatten().unwrap_or_default();
        let outcome = self.delivering(|| self.receive_batch(&mut batch));
        drop(owner.with_core(|core| core.datagrams.replace(batch)));
        outcome
    }

    /// Delivers what was kept when reading was paused, or the loop left, in the midst of a batch.
    pub fn deliver_kept(&self) -> Result<()> {
        self.delivering(|| {
            while !is(&self.flags.closing)
                && !is(&self.flags.paused)
                && let Some((data, sender)) = self.inbound.with(|inbound| inbound.pop_front())
            {
                if let Err(Raised) = self.deliver(&data, &sender) {
                    self.deliver_rest_later();
                    return Err(Raised);
                }
            }
            Ok(())
        })
    }

    fn deliver_rest_later(&self) {
        if !self.inbound.with(|inbound| inbound.is_empty()) {
            self.owner_loop().push(Work::new(Kind::Flush, self.owned()));
        }
    }

    /// Runs `body`, which calls the protocol, in the transport's context, and sends what was collected meanwhile.
    #[inline]
    fn delivering(&self, body: impl FnOnce() -> Result<()>) -> Result<()> {
        set(&self.flags.collecting, true);
        let outcome = self.in_context(body);
        set(&self.flags.collecting, false);
        if self.outbound.with(|outbound| outbound.is_empty()) {
            return outcome;
        }
        let pending = if outcome.is_err() { raise::take() } else { None };
        let sent = self.flush();
        match pending {
            Some(pending) => {
                if sent.is_err() {
                    raise::write_unraisable(None);
                }
                Err(raise::restore(pending))
            }
            None => sent,
        }
    }

    #[inline]
    fn receive_batch(&self, batch: &mut Batch) -> Result<()> {
        let many = self.pace.with(|pace| pace.many());
        let count = match batch.receive(self.descriptor()?, self.family, many) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) => return self.tell_error(&os_error_object(&error)),
        };
        self.pace.with(|pace| pace.received(count));
        let mut leaving = None;
        for place in 0..count {
            if is(&self.flags.closing) {
                break;
            }
            let (data, sender) = match batch.take(place) {
                Ok(datagram) => datagram,
                Err(Raised) => return self.receive_failed(),
            };
            if is(&self.flags.paused) || leaving.is_some() {
                self.inbound.with(|inbound| inbound.push_back((data, sender)));
            } else if let Err(Raised) = self.deliver(&data, &sender) {
                leaving = raise::take();
            }
        }
        match leaving {
            None => Ok(()),
            Some(exception) => {
                self.deliver_rest_later();
                Err(raise::restore(exception))
            }
        }
    }

    /// `datagram_received`; what it raises goes to the exception handler.
    ///
    /// # Errors
    /// `KeyboardInterrupt` and `SystemExit` only.
    #[inline]
    fn deliver(&self, data: &Owned, sender: &Owned) -> Result<()> {
        let Some(protocol) = self.protocol() else {
            return Ok(());
        };
        match call_method(&protocol, &names().datagram_received, [data, sender]) {
            Ok(_) => Ok(()),
            Err(Raised) => self.report_callback(&protocol, "datagram_received"),
        }
    }

    /// `error_received`; what it raises goes to the exception handler.
    ///
    /// # Errors
    /// `KeyboardInterrupt` and `SystemExit` only.
    #[cold]
    pub fn tell_error(&self, exception: &Owned) -> Result<()> {
        let Some(protocol) = self.protocol() else {
            return Ok(());
        };
        match call_method(&protocol, &names().error_received, [exception]) {
            Ok(_) => Ok(()),
            Err(Raised) => self.report_callback(&protocol, "error_received"),
        }
    }

    #[cold]
    fn receive_failed(&self) -> Result<()> {
        match raise::take() {
            Some(exception) => self.fatal_error(exception, "Fatal read error on datagram transport"),
            None => Ok(()),
        }
    }

    /// One datagram by `recvfrom()`, for sockets whose class or addresses are not known here.
    fn receive_by_method(&self) -> Result<()> {
        let Some(socket) = self.socket() else {
            return Ok(());
        };
        let received =
            Owned::int(MOST_BYTES).and_then(|most| call_method(&socket, &names().recvfrom, [&most]));
        match unless_blocking(received).and_then(|pair| pair.map(|pair| halves(&pair)).transpose()) {
            Ok(None) => Ok(()),
            Ok(Some((data, sender))) => self.deliver(&data, &sender),
            Err(Raised) => self.failed_by_method("Fatal read error on datagram transport"),
        }
    }

    /// A method of the socket's own raised: an `OSError` is the protocol's business, everything else ends the transport.
    #[cold]
    pub fn failed_by_method(&self, message: &str) -> Result<()> {
        // SAFETY: the class is alive while the interpreter is.
        let ordinary = raise::matches(unsafe { ffi::PyExc_OSError });
        match raise::take() {
            Some(exception) if ordinary => self.tell_error(&exception),
            Some(exception) => self.fatal_error(exception, message),
            None => Ok(()),
        }
    }
}

/// The items of a pair.
fn halves(pair: &Owned) -> Result<(Owned, Owned)> {
    // SAFETY: F1; the items are borrowed from the tuple, which is checked to be a pair.
    unsafe {
        if ffi::PyTuple_Check(pair.as_ptr()) == 0 || ffi::PyTuple_GET_SIZE(pair.as_ptr()) != 2 {
            return Err(type_error("recvfrom() must return a pair of data and address"));
        }
        let item = |place| Owned::from_borrowed(ffi::PyTuple_GET_ITEM(pair.as_ptr(), place));
        Ok((item(0), item(1)))
    }
}
