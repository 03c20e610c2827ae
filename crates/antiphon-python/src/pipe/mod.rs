//! Transports for pipes, and for sockets and character devices that are used like pipes.
//!
//! [`end`] has what both ends share: state, life, the user's half; [`read`] and [`write`] are one direction each.
//!
//! A pipe transport does not own its descriptor's place in the loop's table as a stream transport does: a terminal or
//! socket may have one of each over the same descriptor. Each takes back its own registrations, and only then closes its file.
//!
//! Source: CPython Lib/asyncio/unix_events.py (`_UnixReadPipeTransport`, `_UnixWritePipeTransport`).

pub mod end;
pub mod read;
pub mod write;

use crate::event_loop::EventLoop;
use crate::ffi::{Args, HeapType, Instance, Owned, Result};
use crate::method;
use crate::work::Kind;
use end::Parts;
use read::ReadPipe;
use write::WritePipe;

/// Gives a pipe transport its turn; `None`: the object is none.
#[inline]
pub fn run(kind: Kind, object: &Owned) -> Option<Result<()>> {
    if let Some(pipe) = Instance::<ReadPipe>::downcast(object) {
        return Some(match kind {
            Kind::Readable => pipe.on_readable(),
            _ => pipe.advance(),
        });
    }
    let pipe = Instance::<WritePipe>::downcast(object)?;
    Some(match kind {
        Kind::Readable => pipe.on_peer_closed(),
        Kind::Writable => pipe.flush(),
        _ => pipe.advance(),
    })
}

/// Ends a pipe transport that has lost its number, if `object` is one.
pub fn evict(object: &Owned, reason: impl FnOnce() -> Owned) {
    if let Some(pipe) = Instance::<ReadPipe>::downcast(object) {
        pipe.lose_number(reason());
    } else if let Some(pipe) = Instance::<WritePipe>::downcast(object) {
        pipe.lose(reason());
    }
}

fn make_read_pipe(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    read::open(Parts::bind(this, args)?)
}

fn make_write_pipe(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    write::open(Parts::bind(this, args)?)
}

/// Adds this module's methods to the loop's type.
pub fn add_methods(kind: HeapType) -> HeapType {
    kind.method(
        c"_make_read_pipe_transport",
        method!(c"_make_read_pipe_transport", make_read_pipe),
        c"_make_read_pipe_transport(pipe, protocol, waiter=None, extra=None): take the pipe's reading end over.",
    )
    .method(
        c"_make_write_pipe_transport",
        method!(c"_make_write_pipe_transport", make_write_pipe),
        c"_make_write_pipe_transport(pipe, protocol, waiter=None, extra=None): take the pipe's writing end over.",
    )
}

/// Makes the types.
pub fn load(module: &Owned) -> Result<()> {
    read::load(module)?;
    write::load(module)
}
