//! The `sock_*` operations: sockets driven by coroutines, without transports.
//!
//! Each method of the loop gives a [`SocketOperation`], which behaves like the coroutine that asyncio's method returns:
//! nothing happens before its first step, the system call is tried at once in that step, and only a call that would block
//! waits for the descriptor.
//!
//! ```text
//! Created ──first step──▶ tried ──done──▶ Finished, without a yield
//!                           └─ would block ─▶ Waiting ⇄ tried again at each readiness ──▶ Finished
//! ```
//!
//! **Invariant O1**: an operation asks its socket object for the descriptor before every system call and never keeps the
//! number for one: a socket that was closed meanwhile answers -1. So an event that was under way while the number got a
//! new owner cannot make the operation touch that owner's file. The number which [`operation::Waiting`] remembers serves
//! to take the wait back only, and only while the table says that this very operation waits there (T1).
//!
//! | module | is |
//! |---|---|
//! | [`operation`] | the awaitable: its phases and the ways between them |
//! | [`coroutine`] | the same in Python's words: the coroutine protocol |
//! | [`collect`] | its end: the cycle collector, "never awaited" |
//! | [`waiter`] | what its task blocks on while it waits |
//! | [`future`] | the same in Python's words: the future protocol |
//! | [`action`] | what is to be done, and one try of it |
//! | [`receive`], [`send`], [`connect`], [`accept`] | the tries, by system calls |
//! | [`by_method`] | the tries for sockets of other classes, by their own methods |
//! | [`socket`], [`buffer`], [`system`] | socket objects, lent memory, system calls |
//!
//! Source: CPython Lib/asyncio/selector_events.py (`sock_recv` to `_sock_accept`); PEP 492.

pub mod accept;
pub mod action;
pub mod buffer;
pub mod by_method;
pub mod collect;
pub mod connect;
pub mod coroutine;
pub mod future;
pub mod operation;
pub mod receive;
pub mod send;
pub mod socket;
pub mod system;
pub mod waiter;

use crate::event_loop::EventLoop;
use crate::ffi::{Args, HeapType, Instance, Owned, Result};
use crate::method;
use crate::names::names;
use crate::work::Kind;
use operation::{Method, SocketOperation};

/// Gives an operation its turn: its descriptor is ready.
///
/// # Errors
/// `KeyboardInterrupt` and `SystemExit` only; whatever else goes wrong is the operation's result.
#[inline]
pub fn run(_owner: &Instance<EventLoop>, _kind: Kind, object: Owned) -> Result<()> {
    match Instance::<SocketOperation>::downcast(&object) {
        Some(operation) => operation.on_ready(),
        None => Ok(()),
    }
}

fn sock_recv(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    let names = names();
    operation::make(this, Method::Recv, args.bind([&names.sock, &names.n], 2)?)
}

fn sock_recv_into(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    let names = names();
    operation::make(this, Method::RecvInto, args.bind([&names.sock, &names.buf], 2)?)
}

fn sock_recvfrom(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    let names = names();
    operation::make(this, Method::RecvFrom, args.bind([&names.sock, &names.bufsize], 2)?)
}

fn sock_recvfrom_into(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    let names = names();
    operation::make(this, Method::RecvFromInto, args.bind([&names.sock, &names.buf, &names.nbytes], 2)?)
}

fn sock_sendall(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    let names = names();
    operation::make(this, Method::SendAll, args.bind([&names.sock, &names.data], 2)?)
}

fn sock_sendto(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    let names = names();
    operation::make(this, Method::SendTo, args.bind([&names.sock, &names.data, &names.address], 3)?)
}

fn sock_accept(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    operation::make(this, Method::Accept, args.bind([&names().sock], 1)?)
}

fn sock_connect_resolved(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    let names = names();
    operation::make(this, Method::Connect, args.bind([&names.sock, &names.address], 2)?)
}

/// Adds this module's methods to the loop's type.
pub fn add_methods(kind: HeapType) -> HeapType {
    kind.method(
        c"sock_recv",
        method!(c"sock_recv", sock_recv),
        c"sock_recv(sock, n): await up to `n` bytes; b'' at the end of the stream.",
    )
    .method(
        c"sock_recv_into",
        method!(c"sock_recv_into", sock_recv_into),
        c"sock_recv_into(sock, buf): receive into a writable buffer; the number of bytes received.",
    )
    .method(
        c"sock_recvfrom",
        method!(c"sock_recvfrom", sock_recvfrom),
        c"sock_recvfrom(sock, bufsize): receive a datagram; (data, address of the sender).",
    )
    .method(
        c"sock_recvfrom_into",
        method!(c"sock_recvfrom_into", sock_recvfrom_into),
        c"sock_recvfrom_into(sock, buf, nbytes=0): receive a datagram into a writable buffer, at most `nbytes` unless 0; \
          (number of bytes received, address of the sender).",
    )
    .method(
        c"sock_sendall",
        method!(c"sock_sendall", sock_sendall),
        c"sock_sendall(sock, data): send all of it. After an error nobody knows how much was sent.",
    )
    .method(
        c"sock_sendto",
        method!(c"sock_sendto", sock_sendto),
        c"sock_sendto(sock, data, address): send a datagram; the number of bytes sent.",
    )
    .method(
        c"sock_accept",
        method!(c"sock_accept", sock_accept),
        c"sock_accept(sock): accept a connection; (its non-blocking socket, address of the peer).",
    )
    .method(
        c"_sock_connect",
        method!(c"_sock_connect", sock_connect_resolved),
        c"_sock_connect(sock, address): connect to an address that needs no resolving.",
    )
}

/// Makes the types.
pub fn load(module: &Owned) -> Result<()> {
    socket::load()?;
    future::load(module)?;
    coroutine::load(module)
}
