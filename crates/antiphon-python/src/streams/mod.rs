//! asyncio's streams: `StreamReader`, `StreamWriter` and `StreamReaderProtocol`, natively.
//!
//! ```text
//!   transport ──bytes──▶ StreamReaderProtocol ──▶ StreamReader: buffer ──wakes──▶ read() … of a task
//!   transport ◀─write──  StreamWriter                                    drain() waits while the transport is full
//! ```
//!
//! A transport of ours whose protocol is exactly a `StreamReaderProtocol` hands its bytes over without a call in Python
//! ([`feed`]); all others call `data_received`, which does the same. The buffer's rules are
//! [`antiphon_core::stream_buffer`]'s.
//!
//! | module | is |
//! |---|---|
//! | [`bytes`] | chunks of the buffer, and `bytes` objects made of them |
//! | [`reader`] | the reader's state: feeding, waking, pausing |
//! | [`exposed`] | the buffer as programs see it when they reach for `_buffer` |
//! | [`read`] | `read`, `readexactly`, `readuntil`, `readline` and iteration, as native coroutines |
//! | [`separators`] | what `readuntil` is given |
//! | [`reader_type`] | the reader's type object |
//! | [`protocol`], [`protocol_type`] | the protocol |
//! | [`feed`] | bytes from a transport of ours |
//! | [`writer`] | the writer |
//! | [`drain`] | `drain` and `wait_closed`, as native coroutines |
//! | [`wait`] | waiting for a future, whoever made it |
//! | [`attributes`] | attributes that are references and flags |
//!
//! What runs once per connection (`open_connection`, the call of `client_connected_cb`) is in `python/antiphon/streams.py`.
//!
//! Source: CPython Lib/asyncio/streams.py.

mod attributes;
mod bytes;
mod drain;
mod exposed;
pub mod feed;
pub mod protocol;
mod protocol_type;
mod read;
mod reader;
mod reader_type;
mod separators;
mod wait;
mod writer;

use crate::coroutine;
use crate::ffi::{Owned, Result};

/// Makes the types.
pub fn load(module: &Owned) -> Result<()> {
    coroutine::load::<read::Read>(module)?;
    coroutine::load::<drain::Drain>(module)?;
    coroutine::load::<drain::WaitClosed>(module)?;
    reader_type::load(module)?;
    protocol_type::load(module)?;
    writer::load(module)
}
