//! A transport's sending side: at once, or together with what else is sent while a batch is delivered.
//!
//! Outside of a delivery a datagram is handed to the kernel within `sendto`, and so is an error to the protocol. During one,
//! datagrams with addresses are collected (see [`super::outbound`] why those alone) and leave after it in few calls; then
//! `error_received` comes after the delivery. Order is kept in either case.
//!
//! Source: CPython Lib/asyncio/selector_events.py (`_SelectorDatagramTransport.sendto`, `_sendto_ready`).

use std::io;
use std::sync::atomic::Ordering;

use pyo3::ffi;

use super::address;
use super::outbound::{self, Outbound, Outgoing, Sent, Target};
use super::transport::{Datagram, Peer};
use crate::ffi::raise::{self, os_error_object};
use crate::ffi::{Instance, Owned, Raised, Result, call, call_method, check};
use crate::io_table::{Direction, Mode};
use crate::names::{import, names};
use crate::sock::by_method::unless_blocking;
use crate::transport::flow::tell_writer;
use crate::transport::queue::frozen;
use crate::transport::stream::{FORGIVEN_WRITES, is, set};
use crate::work::{Kind, Work};

const SEND_FAILED: &str = "Fatal write error on datagram transport";

impl Instance<Datagram> {
    /// `sendto(data, addr)`.
    ///
    /// # Errors
    /// `TypeError` for what is not bytes-like, `ValueError` for an address other than the transport's own, and whatever
    /// the protocol's `error_received` raises if it is called within.
    #[inline]
    pub fn send_to(&self, data: &Owned, address: Option<&Owned>) -> Result<()> {
        let data = frozen(data)?;
        if cfg!(not(Py_3_13)) && outbound::contents(&data).is_empty() {
            return Ok(());
        }
        if let (Some(only), Some(given)) = (&self.address, address) {
            check_same(given, only)?;
        }
        let lost = self.lost.load(Ordering::Relaxed) > 0;
        if lost && (self.address.is_some() || self.watched() < 0) {
            return self.send_to_lost();
        }
        let target = self.target(self.address.as_ref().or(address));
        let datagram = Outgoing { data, target };
        let collects = is(&self.flags.collecting);
        let queued = self.outbound.with(|outbound| outbound.len());
        if queued == 0 && !(collects && matches!(datagram.target, Target::Address(_))) {
            return self.send_now(datagram);
        }
        self.outbound.with(|outbound| outbound.push(datagram));
        if is(&self.flags.blocked) {
            return self.maybe_pause_protocol();
        }
        if collects && queued + 1 < outbound::MOST {
            return Ok(());
        }
        self.flush()
    }

    /// What a datagram for `address` is sent to.
    #[inline]
    fn target(&self, address: Option<&Owned>) -> Target {
        if self.peer == Peer::Named || (self.peer == Peer::Nameless && address.is_none()) {
            return Target::Peer;
        }
        match address {
            None => Target::Object(Owned::none()),
            Some(address) => match address::from_python(self.family, address) {
                Some(address) => Target::Address(address),
                None => Target::Object(address.clone()),
            },
        }
    }

    /// asyncio forgives a few datagrams that are given to a transport which has ended, then logs each.
    #[cold]
    fn send_to_lost(&self) -> Result<()> {
        if self.lost.fetch_add(1, Ordering::Relaxed) >= FORGIVEN_WRITES {
            call(&import("antiphon.reports", "write_to_lost")?, [])?;
        }
        Ok(())
    }

    /// Hands one datagram to the kernel; nothing waits before it.
    #[inline]
    fn send_now(&self, datagram: Outgoing) -> Result<()> {
        if self.family == libc::AF_UNSPEC || matches!(datagram.target, Target::Object(_)) {
            return match self.send_by_method(&datagram) {
                Ok(true) => Ok(()),
                Ok(false) => self.keep(datagram),
                Err(Raised) => self.send_now_raised(),
            };
        }
        match datagram.send(self.descriptor()?) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.keep(datagram),
            Err(error) => self.refused_now(&os_error_object(&error)),
        }
    }

    /// The socket's own method raised within `sendto`.
    #[cold]
    fn send_now_raised(&self) -> Result<()> {
        // SAFETY: the class is alive while the interpreter is.
        let ordinary = raise::matches(unsafe { ffi::PyExc_OSError });
        match raise::take() {
            Some(exception) if ordinary => self.refused_now(&exception),
            Some(exception) => self.fatal_error(exception, SEND_FAILED),
            None => Ok(()),
        }
    }

    /// `error_received` within `sendto`: what it raises is the caller's.
    #[cold]
    fn refused_now(&self, exception: &Owned) -> Result<()> {
        match self.protocol() {
            Some(protocol) => call_method(&protocol, &names().error_received, [exception]).map(drop),
            None => Ok(()),
        }
    }

    /// The kernel has no room: the datagram waits.
    #[cold]
    fn keep(&self, datagram: Outgoing) -> Result<()> {
        if self.lost.load(Ordering::Relaxed) > 0 {
            return Ok(());
        }
        self.outbound.with(|outbound| outbound.push(datagram));
        self.wait_for_room()?;
        self.maybe_pause_protocol()
    }

    /// Sends by the socket's own method; false: it would block.
    fn send_by_method(&self, datagram: &Outgoing) -> Result<bool> {
        let Some(socket) = self.socket() else {
            return Ok(true);
        };
        let names = names();
        let sent = match &datagram.target {
            Target::Peer => call_method(&socket, &names.send, [&datagram.data]),
            Target::Object(address) => call_method(&socket, &names.sendto, [&datagram.data, address]),
            Target::Address(address) => {
                let address = address.to_python()?.unwrap_or_else(Owned::none);
                call_method(&socket, &names.sendto, [&datagram.data, &address])
            }
        };
        Ok(unless_blocking(sent)?.is_some())
    }

    /// Sends what is queued, unless the kernel is known to be full.
    ///
    /// # Errors
    /// `KeyboardInterrupt` and `SystemExit` of a protocol's method; what is left is sent when the loop goes on.
    pub fn flush(&self) -> Result<()> {
        if is(&self.flags.blocked) || self.outbound.with(|outbound| outbound.is_empty()) {
            return Ok(());
        }
        self.send_queued()
    }

    /// There is room again.
    pub fn on_writable(&self) -> Result<()> {
        if self.lost.load(Ordering::Relaxed) > 0 {
            return Ok(());
        }
        self.send_queued()
    }

    fn send_queued(&self) -> Result<()> {
        let collected = self.flags.collecting.swap(true, Ordering::Relaxed);
        let outcome = self.send_all();
        set(&self.flags.collecting, collected);
        match outcome {
            Ok(true) => self.drained(),
            Ok(false) => {
                self.wait_for_room()?;
                self.maybe_resume_protocol()?;
                self.maybe_pause_protocol()
            }
            Err(Raised) => {
                let exception = raise::take();
                if !self.outbound.with(|outbound| outbound.is_empty()) {
                    self.wait_for_room()?;
                }
                Err(exception.map_or(Raised, raise::restore))
            }
        }
    }

    /// Sends until nothing is left (true) or the kernel takes no more (false).
    fn send_all(&self) -> Result<bool> {
        loop {
            let fd = if self.family == libc::AF_UNSPEC { -1 } else { self.descriptor()? };
            // Out of the cell meanwhile: datagrams that are gone are dropped.
            let mut outbound = self.outbound.take();
            let sent = if fd < 0 && self.family == libc::AF_UNSPEC {
                by_method(&outbound)
            } else {
                outbound.send(fd)
            };
            let first = if matches!(sent, Sent::ByMethod) { outbound.pop() } else { None };
            self.put_back(outbound);
            match (sent, first) {
                (Sent::All, _) => return Ok(true),
                (Sent::Blocked, _) => return Ok(false),
                (Sent::Refused(error), _) => self.tell_error(&os_error_object(&error))?,
                (Sent::ByMethod, Some(datagram)) => match self.send_by_method(&datagram) {
                    Ok(true) => {}
                    Ok(false) => {
                        self.outbound.with(|outbound| outbound.push_front(datagram));
                        return Ok(false);
                    }
                    Err(Raised) => self.failed_by_method(SEND_FAILED)?,
                },
                (Sent::ByMethod, None) => return Ok(true),
            }
        }
    }

    /// Puts the queue back in front of what was given meanwhile.
    fn put_back(&self, mut outbound: Outbound) {
        let emptied = self.outbound.with(|place| {
            outbound.append(place);
            std::mem::replace(place, outbound)
        });
        drop(emptied);
    }

    fn wait_for_room(&self) -> Result<()> {
        if self.lost.load(Ordering::Relaxed) > 0 || is(&self.flags.blocked) {
            return Ok(());
        }
        let work = Work::new(Kind::Writable, self.owned());
        self.owner_loop().watch(self.watched(), Direction::Write, Mode::Persistent, work)?;
        set(&self.flags.blocked, true);
        Ok(())
    }

    /// Everything is sent: resumes the protocol, ends what waited for this.
    fn drained(&self) -> Result<()> {
        if self.flags.blocked.swap(false, Ordering::Relaxed) && self.is_registered() {
            self.owner_loop().unwatch(self.watched(), Direction::Write);
        }
        self.maybe_resume_protocol()?;
        if is(&self.flags.closing) && self.outbound.with(|outbound| outbound.is_empty()) {
            self.end(None);
        }
        Ok(())
    }

    /// Asks the protocol to pause if too much waits.
    pub fn maybe_pause_protocol(&self) -> Result<()> {
        let queued = self.outbound.with(|outbound| outbound.len_bytes());
        if self.flow.must_pause(queued) { self.tell_protocol(&names().pause_writing) } else { Ok(()) }
    }

    fn maybe_resume_protocol(&self) -> Result<()> {
        let queued = self.outbound.with(|outbound| outbound.len_bytes());
        if self.flow.must_resume(queued) { self.tell_protocol(&names().resume_writing) } else { Ok(()) }
    }

    fn tell_protocol(&self, method: &Owned) -> Result<()> {
        match self.protocol() {
            Some(protocol) => tell_writer(self.owner_loop(), &self.owned(), &protocol, method),
            None => Ok(()),
        }
    }
}

/// A queue whose socket knows its own methods only.
fn by_method(outbound: &Outbound) -> Sent {
    if outbound.is_empty() { Sent::All } else { Sent::ByMethod }
}

/// # Errors
/// `ValueError` with asyncio's words unless both addresses are equal.
fn check_same(given: &Owned, only: &Owned) -> Result<()> {
    // SAFETY: F1; living objects.
    if check(unsafe { ffi::PyObject_RichCompareBool(given.as_ptr(), only.as_ptr(), ffi::Py_EQ) })? != 0 {
        return Ok(());
    }
    // SAFETY: F1; the format takes one object.
    unsafe {
        let format = c"Invalid address: must be None or %S".as_ptr();
        ffi::PyErr_Format(ffi::PyExc_ValueError, format, only.as_ptr());
    }
    Err(Raised)
}
