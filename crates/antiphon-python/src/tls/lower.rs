//! What carries the records of a TLS transport: a stream, another TLS transport, or a transport of somebody else's.
//!
//! The first two are spoken to natively, both ways, and pull ciphertext when they can send it
//! ([`Instance::<Tls>::pull`]); so at most one batch of it exists at a time, and all that waits is plaintext, under the
//! protocol's own high-water mark. The third one is called as any Python transport is; towards it `antiphon.tls` has a
//! protocol that passes its calls on.

use crate::ffi::instance::Typed;
use crate::ffi::{Instance, Owned, Result, call_method};
use crate::names::names;
use crate::transport::methods::{pause_reading, resume_reading};
use crate::transport::stream::{Stream, is};

use super::session::size_of;
use super::transport::{Tls, TlsRef};

/// The transport below.
#[derive(Clone)]
pub enum Lower {
    /// A stream socket of ours.
    Stream(Typed<Stream>),
    /// TLS within TLS.
    Tls(TlsRef),
    /// Any other object with the methods of a transport.
    Other(Owned),
}

impl Lower {
    /// The native transport that `object` is, or whatever it is.
    pub fn new(object: Owned) -> Self {
        match (Typed::new(object.clone()), Typed::new(object.clone())) {
            (Some(stream), _) => Self::Stream(stream),
            (_, Some(tls)) => Self::Tls(tls),
            _ => Self::Other(object),
        }
    }

    /// The transport as an object.
    pub fn object(&self) -> &Owned {
        match self {
            Self::Stream(stream) => stream.object(),
            Self::Tls(tls) => tls.object(),
            Self::Other(object) => object,
        }
    }

    /// Lets it pull and send what `layer` has, as far as it can just now; then it says so by `progressed`.
    #[inline]
    pub fn flush(&self, layer: &Instance<Tls>) -> Result<()> {
        match self {
            Self::Stream(stream) if is(&stream.flags.blocked) => {
                // Counted there, so that a peer cannot make OpenSSL answer without end.
                if let Some(records) = layer.take_outgoing()? {
                    stream.queue.with(|queue| queue.push(records));
                }
                Ok(())
            }
            Self::Stream(stream) => stream.flush_now(),
            Self::Tls(tls) => tls.pump(),
            Self::Other(object) => loop {
                let full = is(&layer.flags.lower_full);
                let Some(records) = (if full { layer.take_outgoing()? } else { layer.pull()? }) else {
                    return layer.progressed();
                };
                if call_method(object, &names().write, [&records]).is_err() {
                    return layer.raised("Fatal write error on SSL transport");
                }
            },
        }
    }

    /// Bytes that it has taken and not yet sent.
    #[inline]
    pub fn queued_bytes(&self) -> Result<usize> {
        match self {
            Self::Stream(stream) => Ok(stream.queue.with(|queue| queue.len_bytes())),
            Self::Tls(tls) => tls.unsent_bytes(),
            Self::Other(object) => size_of(&call_method(object, &names().get_write_buffer_size, [])?),
        }
    }

    /// Receives nothing until resumed.
    pub fn pause_reading(&self) -> Result<()> {
        match self {
            Self::Stream(stream) => pause_reading(stream).map(drop),
            Self::Tls(tls) => tls.pause_reading(),
            Self::Other(object) => call_method(object, &names().pause_reading, []).map(drop),
        }
    }

    /// Receives again.
    pub fn resume_reading(&self) -> Result<()> {
        match self {
            Self::Stream(stream) => resume_reading(stream).map(drop),
            Self::Tls(tls) => tls.resume_reading(),
            Self::Other(object) => call_method(object, &names().resume_reading, []).map(drop),
        }
    }

    /// Ends it once all is sent.
    pub fn close(&self) -> Result<()> {
        match self {
            Self::Stream(stream) => stream.close(),
            Self::Tls(tls) => tls.close(),
            Self::Other(object) => call_method(object, &names().close, []).map(drop),
        }
    }

    /// Ends it at once.
    pub fn force_close(&self, exception: Option<Owned>) -> Result<()> {
        match self {
            Self::Stream(stream) => {
                stream.force_close(exception);
                Ok(())
            }
            Self::Tls(tls) => tls.force_close(exception),
            Self::Other(object) => {
                let exception = exception.unwrap_or_else(Owned::none);
                call_method(object, &names()._force_close, [&exception]).map(drop)
            }
        }
    }

    /// Whether it is closed or about to be.
    pub fn is_closing(&self) -> Result<bool> {
        match self {
            Self::Stream(stream) => Ok(is(&stream.flags.closing)),
            Self::Tls(tls) => tls.is_closing(),
            Self::Other(object) => call_method(object, &names().is_closing, [])?.truth(),
        }
    }
}
