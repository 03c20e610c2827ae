//! Datagram transports: UDP and Unix datagram sockets, one protocol call per datagram, few system calls.
//!
//! ```text
//! readable ─▶ Batch::receive (recvfrom or recvmmsg) ─▶ datagram_received … ─▶ Outbound::send (sendmmsg)
//! sendto ───▶ sendto(2) at once, or collected while a batch is delivered; what the kernel has no room for waits
//! ```
//!
//! | module | is |
//! |---|---|
//! | [`transport`] | a transport's state and life, invariant G1 |
//! | [`receive`], [`send`] | its two directions |
//! | [`batch`] | where datagrams land, many per call |
//! | [`outbound`] | what waits to be sent |
//! | [`address`] | addresses in the kernel's and in Python's form, and the memory of senders |
//! | [`methods`] | what Python sees |
//!
//! Source: CPython Lib/asyncio/selector_events.py (`_SelectorDatagramTransport`); udp(7), unix(7).

pub mod address;
pub mod batch;
pub mod methods;
pub mod outbound;
pub mod receive;
pub mod send;
pub mod transport;

use pyo3::ffi;

use crate::event_loop::EventLoop;
use crate::event_loop::watch::descriptor;
use crate::ffi::raise::{self, runtime_error};
use crate::ffi::{Args, HeapType, Instance, Owned, Raised, Result, call, call_method, check};
use crate::method;
use crate::names::{import, names};
use crate::work::Kind;
use transport::{Datagram, Parts, Peer};

pub use methods::load;

/// Gives a transport its turn.
#[inline]
pub fn run(datagram: &Instance<Datagram>, kind: Kind) -> Result<()> {
    match kind {
        Kind::Readable => datagram.on_readable(),
        Kind::Writable => datagram.on_writable(),
        Kind::Flush => datagram.deliver_kept(),
        _ => datagram.advance(),
    }
}

/// `_make_datagram_transport(sock, protocol, address=None, waiter=None, extra=None)`.
fn make_datagram_transport(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    let names = names();
    let [socket, protocol, address, waiter, extra] =
        args.bind([&names.sock, &names.protocol, &names.address, &names.waiter, &names.extra], 2)?;
    this.check_open()?;
    // SAFETY: F1; the arguments are alive during the call.
    let [socket, protocol, address, waiter, extra] = unsafe {
        [socket, protocol, address, waiter, extra]
            .map(|value| value.and_then(|value| Owned::from_optional(value)))
    };
    let (Some(socket), Some(protocol)) = (socket, protocol) else {
        return Err(runtime_error("a transport needs a socket and a protocol"));
    };
    let fd = descriptor(&socket)?;
    this.check_no_transport(fd)?;
    let (extra, peer) = describe(&socket, extra)?;
    transport::open(this, Parts { socket, fd, protocol, address, peer, waiter, extra })
}

/// What `get_extra_info` is to answer, and whom the socket is connected to.
fn describe(socket: &Owned, extra: Option<Owned>) -> Result<(Owned, Peer)> {
    let names = names();
    // SAFETY: F1; a copy, so that the maker's dict stays as it is; a new reference or null.
    let described = unsafe {
        Owned::from_new(match &extra {
            Some(extra) => ffi::PyDict_Copy(extra.as_ptr()),
            None => ffi::PyDict_New(),
        })?
    };
    let sockname = unless_os_error(call_method(socket, &names.getsockname, []))?;
    let peername = unless_os_error(call_method(socket, &names.getpeername, []))?;
    let peer = match &peername {
        None => Peer::Nobody,
        Some(name) if is_empty(name)? => Peer::Nameless,
        Some(_) => Peer::Named,
    };
    let wrapped = call(&import("asyncio.trsock", "TransportSocket")?, [socket])?;
    let facts = [
        (&names.socket, wrapped),
        (&names.sockname, sockname.unwrap_or_else(Owned::none)),
        (&names.peername, peername.unwrap_or_else(Owned::none)),
    ];
    for (name, value) in &facts {
        // SAFETY: F1; a dict and two living objects.
        check(unsafe { ffi::PyDict_SetItem(described.as_ptr(), name.as_ptr(), value.as_ptr()) })?;
    }
    Ok((described, peer))
}

fn is_empty(name: &Owned) -> Result<bool> {
    // SAFETY: F1; a living object.
    check(unsafe { ffi::PyObject_IsTrue(name.as_ptr()) }).map(|truth| truth == 0)
}

/// Takes an `OSError` for "there is none".
fn unless_os_error(outcome: Result) -> Result<Option<Owned>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        // SAFETY: the class is alive while the interpreter is.
        Err(Raised) if raise::matches(unsafe { ffi::PyExc_OSError }) => {
            drop(raise::take());
            Ok(None)
        }
        Err(raised) => Err(raised),
    }
}

/// Adds this module's methods to the loop's type.
pub fn add_methods(kind: HeapType) -> HeapType {
    kind.method(
        c"_make_datagram_transport",
        method!(c"_make_datagram_transport", make_datagram_transport),
        c"_make_datagram_transport(sock, protocol, address=None, waiter=None, extra=None): take the socket over.",
    )
}
