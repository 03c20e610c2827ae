//! TLS over any transport: the record loop and the buffers, with the interpreter's own `ssl` objects doing the TLS.
//!
//! ```text
//!                    feed, received, lower_ended, lower_lost, progressed
//!   StreamTransport ─────────────────────────▶ SSLTransport ──▶ protocol of the program
//!                   ◀───────────────────────── (session: SSLObject between two MemoryBIOs)
//!                    pull, flush, pause_reading, close
//! ```
//!
//! [`transport`] has the state and life, [`handshake`] its beginning, [`shutdown`] its end, [`read`] and [`write`] the
//! two directions, [`records`] where records begin and end, [`session`] the interpreter's objects, [`window`] memory lent
//! to them, [`lower`] what carries the records, [`methods`] what Python sees. What runs once per connection is in
//! `python/antiphon/tls.py`.
//!
//! Source: CPython Lib/asyncio/sslproto.py.

pub mod handshake;
pub mod lower;
pub mod methods;
pub mod read;
pub mod records;
pub mod session;
pub mod shutdown;
pub mod transport;
pub mod window;
pub mod write;

use pyo3::ffi;

use crate::event_loop::EventLoop;
use crate::ffi::raise::type_error;
use crate::ffi::{Args, HeapType, Instance, Owned, Result};
use crate::method;
use session::Session;
use transport::Parts;

/// `_make_tls_transport(protocol, session, waiter, extra, handshake_timeout, shutdown_timeout, upgrade)`.
fn make_tls_transport(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    let [protocol, session, waiter, extra, handshake_timeout, shutdown_timeout, upgrade] = args.positional()
    else {
        return Err(type_error("_make_tls_transport() takes 7 arguments"));
    };
    this.check_open()?;
    // SAFETY: F1; the arguments are alive during the call.
    let parts = unsafe {
        Parts {
            protocol: Owned::from_borrowed(*protocol),
            session: Session::from_tuple(&Owned::from_borrowed(*session))?,
            waiter: Owned::from_optional(*waiter),
            extra: Owned::from_borrowed(*extra),
            handshake_timeout: Owned::from_borrowed(*handshake_timeout),
            shutdown_timeout: Owned::from_borrowed(*shutdown_timeout),
            upgrade: *upgrade == ffi::Py_True(),
        }
    };
    transport::make(this, parts)
}

/// Adds this module's methods to the loop's type.
pub fn add_methods(kind: HeapType) -> HeapType {
    kind.method(
        c"_make_tls_transport",
        method!(c"_make_tls_transport", make_tls_transport),
        c"_make_tls_transport(protocol, session, waiter, extra, handshake_timeout, shutdown_timeout, upgrade)",
    )
}

/// Makes the types.
pub fn load(module: &Owned) -> Result<()> {
    window::load()?;
    methods::load(module)
}
