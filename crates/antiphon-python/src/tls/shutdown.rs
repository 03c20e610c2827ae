//! The end of a TLS connection: closed from here, by the peer's goodbye, or by the end of the stream below.
//!
//! A stream that ends without goodbye (a truncated one) ends as if there had been one: `eof_received`, then
//! `connection_lost(None)`, as in asyncio. TLS has no half-closed state here: what `eof_received` answers is only logged.
//!
//! Source: CPython Lib/asyncio/sslproto.py (`_start_shutdown`, `_do_flush`, `_do_shutdown`, `eof_received`);
//! RFC 8446 section 6.1.

use pyo3::ffi;

use super::session::Outcome;
use super::transport::{Phase, Tls, Told};
use crate::ffi::raise;
use crate::ffi::{Instance, Owned, Raised, Result, call, call_method};
use crate::names::{import, names};
use crate::transport::stream::{is, set};

impl Instance<Tls> {
    /// Closes: sends what was written, says goodbye, waits for the peer's.
    pub fn close(&self) -> Result<()> {
        set(&self.flags.closed, true);
        match self.phase() {
            Phase::Fresh | Phase::Handshake => self.force_close(None),
            Phase::Wrapped => self.start_flushing(),
            // Whoever closes wants nothing more: unread bytes of a stream that has ended do not hold it any longer.
            Phase::Flushing => self.shut_down_if_flushed(),
            Phase::Shutdown | Phase::Unwrapped => Ok(()),
        }
    }

    fn start_flushing(&self) -> Result<()> {
        self.transition_to(Phase::Flushing);
        self.start_timer(&self.shutdown_timeout)?;
        self.flush_and_shut_down()
    }

    /// Delivers what has arrived, sends what was written, and goes on to the goodbye once nothing is left.
    pub fn flush_and_shut_down(&self) -> Result<()> {
        if is(&self.flags.delivering) {
            // Whoever delivers goes on here.
            return Ok(());
        }
        self.read_and_deliver()?;
        self.pump()?;
        self.shut_down_if_flushed()
    }

    /// From flushing to the goodbye, if all is sent.
    pub fn shut_down_if_flushed(&self) -> Result<()> {
        let flushed = self.phase() == Phase::Flushing
            && !is(&self.flags.delivering)
            && (is(&self.flags.closed) || !is(&self.flags.lower_eof) || !is(&self.flags.reading_paused))
            && self.queue.with(|queue| queue.is_empty());
        if !flushed {
            return Ok(());
        }
        self.transition_to(Phase::Shutdown);
        self.do_shutdown()
    }

    /// Says goodbye, and goes on when the peer has answered.
    pub fn do_shutdown(&self) -> Result<()> {
        if !is(&self.flags.lower_eof) {
            let outcome = self.session.shutdown();
            set(&self.flags.outgoing, true);
            match outcome {
                Outcome::Done(()) => {}
                Outcome::Again => return self.pump(),
                Outcome::Failed(exception) => {
                    self.pump()?;
                    return self.fatal_error(exception, "Fatal error on transport");
                }
            }
        }
        self.pump()?;
        self.tell_eof()?;
        self.shut_down_completed()
    }

    /// Goodbye was said on both sides: what the transport below has taken may still have to be sent.
    fn shut_down_completed(&self) -> Result<()> {
        let Some(lower) = self.lower().filter(|_| self.phase() == Phase::Shutdown) else {
            return Ok(());
        };
        if lower.queued_bytes()? == 0 {
            self.stop_timer()?;
        } else if self.timer.with(|timer| timer.is_none()) {
            // A peer that does not read must not hold the connection for ever (python/cpython, 3.14.1).
            self.start_timer(&self.shutdown_timeout)?;
        }
        lower.close()
    }

    /// The peer said goodbye.
    pub fn goodbye_received(&self) -> Result<()> {
        set(&self.flags.goodbye_received, true);
        self.tell_eof()?;
        self.close()
    }

    /// The stream below has ended. Gives whether it has to stay open for what is to be done yet.
    pub fn lower_ended(&self) -> Result<bool> {
        set(&self.flags.lower_eof, true);
        self.log("%r received EOF")?;
        match self.phase() {
            Phase::Handshake => {
                // SAFETY: the class is alive while the interpreter is.
                let reset = unsafe { Owned::from_borrowed(ffi::PyExc_ConnectionResetError) };
                self.handshake_failed(call(&reset, [])?)?;
            }
            Phase::Wrapped => {
                self.transition_to(Phase::Flushing);
                if !is(&self.flags.reading_paused) {
                    // A protocol that has paused takes its time; the peer, which has gone, does not.
                    self.start_timer(&self.shutdown_timeout)?;
                }
                self.flush_and_shut_down()?;
            }
            Phase::Flushing => self.flush_and_shut_down()?,
            Phase::Shutdown => self.do_shutdown()?,
            Phase::Fresh | Phase::Unwrapped => {}
        }
        Ok(self.phase() == Phase::Flushing)
    }

    /// Calls `eof_received`, once.
    fn tell_eof(&self) -> Result<()> {
        if self.told() != Told::Made {
            return Ok(());
        }
        self.set_told(Told::Eof);
        if let Some(upper) = self.upper() {
            return upper.lower_ended().map(drop);
        }
        let Some(protocol) = self.protocol_object() else {
            return Ok(());
        };
        set(&self.flags.delivering, true);
        let answer = self.in_context(|| call_method(&protocol, &names().eof_received, []));
        set(&self.flags.delivering, false);
        match answer {
            Ok(answer) if answer.truth()? => {
                call(&import("antiphon.reports", "eof_answer_ignored")?, [])?;
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(Raised) => match raise::take() {
                Some(exception) => self.fatal_error(exception, "Error calling eof_received()"),
                None => Ok(()),
            },
        }
    }
}
