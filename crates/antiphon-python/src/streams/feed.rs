//! Bytes from a transport of ours to a reader of ours, without a call in Python.
//!
//! The transport knows that its protocol is exactly a `StreamReaderProtocol`; the reader is looked at each time, for it may be
//! a subclass's, gone, or have its `feed_data` replaced. Then it is called as asyncio calls it.

use super::protocol::StreamReaderProtocol;
use super::reader::StreamReader;
use crate::ffi::instance::Typed;
use crate::ffi::{Instance, Owned, Result, call_method};
use crate::names::names;

/// A protocol that transports feed natively.
pub type StreamsRef = Typed<StreamReaderProtocol>;

impl StreamsRef {
    /// The protocol behind `object` if it is exactly ours, with nothing replaced on the instance.
    pub fn of(object: &Owned) -> Option<Self> {
        Self::new(object.clone()).filter(|protocol| protocol.dictionary().is_null())
    }
}

impl Instance<StreamReaderProtocol> {
    /// As `data_received(bytes)`: at least one byte, of the transport's own buffer.
    ///
    /// # Errors
    /// What `data_received` would raise.
    #[inline]
    pub fn bytes_received(&self, bytes: &[u8]) -> Result<()> {
        let Some(reader) = self.stream_reader() else {
            return Ok(());
        };
        match Instance::<StreamReader>::downcast(&reader) {
            Some(native) if native.takes_bytes() => native.feed_bytes(bytes),
            _ => call_method(&reader, &names().feed_data, [&Owned::bytes(bytes)?]).map(drop),
        }
    }
}
