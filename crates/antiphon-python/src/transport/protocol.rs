//! The protocol behind a transport, with its hot methods bound once.
//!
//! Source: asyncio documentation, "Protocols"; PEP 3156.

use std::ffi::{c_int, c_void};

use pyo3::ffi;

use crate::ffi::{Owned, Raised, Result, check};
use crate::names::names;
use crate::streams::feed::StreamsRef;
use crate::tls::transport::TlsRef;

/// How a protocol takes data.
#[derive(Clone)]
pub enum Receiver {
    /// `data_received(data)`, bound.
    Data(Owned),
    /// Another layer of ours, which is fed without Python's help.
    Layer(TlsRef),
    /// A `StreamReaderProtocol`, whose reader is fed without Python's help.
    Streams(StreamsRef),
    /// None of them: the lack shows when data comes, as in asyncio.
    Missing,
    /// `get_buffer(sizehint)` and `buffer_updated(nbytes)`, bound.
    Buffered {
        /// Gives the buffer that the next bytes go to.
        get_buffer: Owned,
        /// Takes how many came.
        buffer_updated: Owned,
    },
}

/// A protocol, ready to be called.
#[derive(Clone)]
pub struct Protocol {
    /// The user's object.
    pub object: Owned,
    /// Its receiving methods.
    pub receiver: Receiver,
}

impl Protocol {
    /// Looks the protocol's receiving methods up.
    ///
    /// # Errors
    /// `AttributeError` if it has none.
    pub fn new(object: Owned) -> Result<Self> {
        if let Some(layer) = TlsRef::new(object.clone()) {
            return Ok(Self { object, receiver: Receiver::Layer(layer) });
        }
        if let Some(streams) = StreamsRef::of(&object) {
            return Ok(Self { object, receiver: Receiver::Streams(streams) });
        }
        // SAFETY: F1; both are alive.
        let buffered = check(unsafe {
            ffi::PyObject_IsInstance(object.as_ptr(), names().buffered_protocol_class.as_ptr())
        })? != 0;
        let receiver = if buffered {
            Receiver::Buffered {
                get_buffer: object.attr(&names().get_buffer)?,
                buffer_updated: object.attr(&names().buffer_updated)?,
            }
        } else {
            match object.attr(&names().data_received) {
                Ok(method) => Receiver::Data(method),
                Err(raised) => {
                    // SAFETY: the class is alive while the interpreter is.
                    if !crate::ffi::raise::matches(unsafe { ffi::PyExc_AttributeError }) {
                        return Err(raised);
                    }
                    drop(crate::ffi::raise::take());
                    Receiver::Missing
                }
            }
        };
        Ok(Self { object, receiver })
    }

    /// Whether this is a layer of ours.
    #[inline]
    pub fn is_layer(&self) -> bool {
        matches!(self.receiver, Receiver::Layer(_))
    }

    /// The layer of ours that this is, if it is one.
    pub fn layer(&self) -> Option<TlsRef> {
        match &self.receiver {
            Receiver::Layer(layer) => Some(layer.clone()),
            _ => None,
        }
    }

    /// Visits what this refers to, for the collector.
    pub fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        let methods: [Option<&Owned>; 2] = match &self.receiver {
            Receiver::Data(method) => [Some(method), None],
            Receiver::Missing => [None, None],
            Receiver::Layer(layer) => [Some(layer.object()), None],
            Receiver::Streams(streams) => [Some(streams.object()), None],
            Receiver::Buffered { get_buffer, buffer_updated } => [Some(get_buffer), Some(buffer_updated)],
        };
        for reference in [Some(&self.object)].into_iter().chain(methods).flatten() {
            // SAFETY: called from a traverse slot with its own visitor.
            let status = unsafe { visit(reference.as_ptr(), arg) };
            if status != 0 {
                return status;
            }
        }
        0
    }
}

/// Runs `body` in `context`, where the methods of a protocol belong.
#[inline(always)]
pub fn in_context<R>(context: &Owned, body: impl FnOnce() -> Result<R>) -> Result<R> {
    // SAFETY: F1; a context that was entered is left on every path.
    unsafe {
        if ffi::PyContext_Enter(context.as_ptr()) != 0 {
            return Err(Raised);
        }
        let result = body();
        if ffi::PyContext_Exit(context.as_ptr()) != 0 {
            return Err(Raised);
        }
        result
    }
}
