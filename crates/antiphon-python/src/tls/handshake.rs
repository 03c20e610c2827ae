//! The handshake: begun when the transport below is there, gone on with as records arrive, ended by a deadline.
//!
//! What happens once per connection besides (the certificate, log lines, words of errors) is in `antiphon.tls`.
//!
//! Source: CPython Lib/asyncio/sslproto.py (`_start_handshake`, `_do_handshake`, `_on_handshake_complete`).

use pyo3::ffi;

use super::session::Outcome;
use super::transport::{Phase, Tls, Told};
use crate::ffi::raise;
use crate::ffi::{Instance, Owned, Raised, Result, call, call_method};
use crate::names::{import, names};
use crate::transport::stream::set;

impl Instance<Tls> {
    /// The transport below has begun.
    pub fn lower_made(&self) -> Result<()> {
        if self.phase() != Phase::Fresh {
            return Ok(());
        }
        if self.owner().debug() {
            self.log("%r starts SSL handshake")?;
            let now = call_method(self.owner_object(), &names().time, [])?;
            drop(self.started.replace(Some(now)));
        }
        self.transition_to(Phase::Handshake);
        let started = self.start_timer(&self.handshake_timeout).and_then(|()| self.do_handshake());
        match started {
            Ok(()) => Ok(()),
            Err(Raised) => self.raised("SSL handshake failed"),
        }
    }

    /// Goes on with the handshake as far as the bytes reach.
    pub fn do_handshake(&self) -> Result<()> {
        let outcome = self.session.do_handshake();
        set(&self.flags.outgoing, true);
        if self.phase() != Phase::Handshake {
            // A callback of the context's (SNI) has ended the connection.
            return Ok(());
        }
        match outcome {
            Outcome::Done(()) => self.handshake_completed(),
            Outcome::Again => self.pump(),
            Outcome::Failed(exception) => {
                // The alert that tells the peer why.
                self.pump()?;
                self.handshake_failed(exception)
            }
        }
    }

    fn handshake_completed(&self) -> Result<()> {
        self.stop_timer()?;
        let complete = import("antiphon.tls", "handshake_completed")?;
        let extra = self.extra.get().unwrap_or_else(Owned::none);
        let started = self.started.take().unwrap_or_else(Owned::none);
        let completed =
            call(&complete, [self.owner_object(), &self.owned(), self.session.object(), &extra, &started]);
        if let Err(Raised) = completed {
            return match raise::take() {
                Some(exception) => self.handshake_failed(exception),
                None => Ok(()),
            };
        }
        if self.phase() != Phase::Handshake {
            return Ok(());
        }
        self.transition_to(Phase::Wrapped);
        if self.told() == Told::Nothing
            && let Some(protocol) = self.protocol_object()
        {
            self.set_told(Told::Made);
            set(&self.flags.delivering, true);
            let made = self.in_context(|| call_method(&protocol, &names().connection_made, [&self.owned()]));
            set(&self.flags.delivering, false);
            if let Err(Raised) = made {
                return self.raised("Fatal error: protocol.connection_made() call failed.");
            }
        }
        self.wake_waiter(None)?;
        self.go_on()
    }

    /// Ends the connection: the two ends could not agree, or one of them has gone.
    pub fn handshake_failed(&self, exception: Owned) -> Result<()> {
        if raise::leaves_loop(&exception) {
            return Err(raise::restore(exception));
        }
        self.stop_timer()?;
        let message = call(&import("antiphon.tls", "handshake_failure")?, [&exception])?;
        // SAFETY: F1; a string object, whose text lives as long as it.
        let text = unsafe {
            let text = ffi::PyUnicode_AsUTF8(message.as_ptr());
            if text.is_null() {
                return Err(Raised);
            }
            std::ffi::CStr::from_ptr(text).to_string_lossy()
        };
        self.fatal_error(exception.clone(), &text)?;
        self.wake_waiter(Some(exception))
    }

    /// The timer rang: the peer has taken too long, for the handshake or for its goodbye.
    pub fn on_timeout(&self) -> Result<()> {
        drop(self.timer.take());
        match self.phase() {
            Phase::Handshake => {
                let late = import("antiphon.tls", "handshake_timed_out")?;
                let exception = call(&late, [&self.handshake_timeout])?;
                self.fatal_error(exception, "Fatal error on transport")
            }
            Phase::Flushing | Phase::Shutdown => {
                let exception = call(&import("antiphon.tls", "shutdown_timed_out")?, [])?;
                self.force_close(Some(exception))
            }
            _ => Ok(()),
        }
    }
}
