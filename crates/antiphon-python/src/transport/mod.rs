//! Transports and listeners: what runs per packet and per connection on stream sockets.
//!
//! [`stream`] has a transport's state and life, [`read`] and [`write`] its two directions, [`queue`] what waits to be
//! written, [`flow`] the marks on it, [`protocol`] the user's half, [`methods`] what Python sees, [`identity`] whose the
//! descriptor is, [`lend`] the socket in other hands, [`listener`] the accepting side.

pub mod flow;
pub mod identity;
pub mod lend;
pub mod listener;
pub mod methods;
pub mod protocol;
pub mod queue;
pub mod read;
pub mod stream;
pub mod write;

use pyo3::ffi;

use crate::datagram::transport::Datagram;
use crate::event_loop::EventLoop;
use crate::event_loop::watch::descriptor;
use crate::ffi::raise::runtime_error;
use crate::ffi::{Args, HeapType, Instance, Owned, Result};
use crate::names::names;
use crate::sockaddr::Address;
use crate::tls::transport::Tls;
use crate::work::Kind;
use crate::{method, method_one};
use listener::Listener;
use stream::{Parts, Stream};

/// Gives a native object its turn.
#[inline(always)]
pub fn run(owner: &Instance<EventLoop>, kind: Kind, object: Owned) -> Result<()> {
    if let Some(stream) = Instance::<Stream>::downcast(&object) {
        return match kind {
            Kind::Readable => stream.on_readable(),
            Kind::Writable => stream.on_writable(),
            Kind::Flush => stream.on_flush(),
            _ => stream.advance(),
        };
    }
    if let Some(tls) = Instance::<Tls>::downcast(&object) {
        return tls.run(kind);
    }
    if let Some(datagram) = Instance::<Datagram>::downcast(&object) {
        return crate::datagram::run(datagram, kind);
    }
    if let Some(listener) = Instance::<Listener>::downcast(&object) {
        return listener.on_readable();
    }
    if let Some(outcome) = crate::pipe::run(kind, &object) {
        return outcome;
    }
    if let Some(outcome) = crate::child::run(kind, &object) {
        return outcome;
    }
    crate::sock::run(owner, kind, object)
}

/// `_make_stream_transport(sock, protocol, waiter=None, extra=None, server=None)`.
fn make_stream_transport(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    let names = names();
    let [socket, protocol, waiter, extra, server] =
        args.bind([&names.sock, &names.protocol, &names.waiter, &names.extra, &names.server], 2)?;
    this.check_open()?;
    // SAFETY: F1; the arguments are alive during the call.
    unsafe {
        let optional =
            |value: Option<*mut ffi::PyObject>| value.and_then(|value| Owned::from_optional(value));
        let (Some(socket), Some(protocol)) = (optional(socket), optional(protocol)) else {
            return Err(runtime_error("a transport needs a socket and a protocol"));
        };
        let fd = descriptor(&socket)?;
        if let Some(used_by) = this.with_core(|core| core.io.transport(fd)).flatten()
            // One whose socket was closed behind its back has lost the number already (C2).
            && Instance::<Stream>::downcast(&used_by).is_none_or(|stream| stream.descriptor() >= 0)
            && !identity::evict_if_lost(this, fd)
        {
            ffi::PyErr_Format(
                ffi::PyExc_RuntimeError,
                c"File descriptor %d is used by transport %R".as_ptr(),
                fd,
                used_by.as_ptr(),
            );
            return Err(crate::ffi::Raised);
        }
        let family = Address::local(fd).map_or(libc::AF_UNSPEC, |address| address.family());
        let extra = match optional(extra) {
            // A copy: what is learned later is not written into the maker's dict.
            Some(extra) => Some(Owned::from_new(ffi::PyDict_Copy(extra.as_ptr()))?),
            None => None,
        };
        stream::open(
            this,
            Parts {
                fd,
                family,
                socket: Some(socket),
                peer: None,
                local: None,
                protocol,
                waiter: optional(waiter),
                extra,
                server: optional(server),
                context: Owned::from_new(ffi::PyContext_CopyCurrent())?,
            },
        )
    }
}

/// Adds this module's methods to the loop's type.
pub fn add_methods(kind: HeapType) -> HeapType {
    kind.method(
        c"_make_stream_transport",
        method!(c"_make_stream_transport", make_stream_transport),
        c"_make_stream_transport(sock, protocol, waiter=None, extra=None, server=None): take the socket over.",
    )
    .method(
        c"_start_serving",
        method!(c"_start_serving", listener::start_accepting),
        c"_start_serving(sock, protocol_factory, server, backlog, wrapper): accept until stopped.",
    )
    .method_one(
        c"_stop_serving",
        method_one!(listener::stop_accepting),
        c"_stop_serving(sock): accept no more there.",
    )
}

/// Makes the types.
pub fn load(module: &Owned) -> Result<()> {
    methods::load(module)?;
    listener::load(module)
}
