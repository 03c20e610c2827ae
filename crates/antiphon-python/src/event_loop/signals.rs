//! The pipe through which signals reach the loop, and handlers that the main thread need not install.
//!
//! Python's own handler, which only the main thread can set, writes to the pipe (`signal.set_wakeup_fd`). While another thread
//! runs the loop because the main thread's step blocks, the engine's handler is installed instead: it writes to the same pipe.

use antiphon_engine::SignalPipe;

use super::EventLoop;
use crate::child::process::integer;
use crate::ffi::raise::{os_error, runtime_error};
use crate::ffi::{HeapType, Instance, Owned, Result};
use crate::{method_noargs, method_one};

impl Instance<EventLoop> {
    /// Short access to the pipe, which is made on first use.
    fn with_signal_pipe<R>(&self, f: impl FnOnce(&mut SignalPipe) -> R) -> Result<R> {
        self.check_open()?;
        if self.signal_pipe.with(|pipe| pipe.is_none()) {
            let made = SignalPipe::new().map_err(|error| os_error(&error))?;
            drop(self.signal_pipe.replace(Some(made)));
        }
        let outcome = self.signal_pipe.with(|pipe| pipe.as_mut().map(f));
        outcome.ok_or_else(|| runtime_error("Event loop is closed"))
    }
}

/// `(read, write)` of the pipe.
fn signal_pipe(this: &Instance<EventLoop>) -> Result {
    let (read, write) = this.with_signal_pipe(|pipe| (pipe.read_fd(), pipe.write_fd()))?;
    Owned::tuple([Owned::int(read.into())?, Owned::int(write.into())?])
}

/// `_watch_signal(sig)`.
fn watch_signal(this: &Instance<EventLoop>, number: &Owned) -> Result {
    let number = integer(number)?;
    let watched = this.with_signal_pipe(|pipe| pipe.watch(number))?;
    watched.map_err(|error| os_error(&error.into())).map(|()| Owned::none())
}

/// `_unwatch_signal(sig)`.
fn unwatch_signal(this: &Instance<EventLoop>, number: &Owned) -> Result {
    let number = integer(number)?;
    this.with_signal_pipe(|pipe| pipe.unwatch(number)).map(Owned::bool)
}

/// Adds this file's methods to the type.
pub fn add_methods(kind: HeapType) -> HeapType {
    kind.method_noargs(
        c"_signal_pipe",
        method_noargs!(signal_pipe),
        c"(read, write) of the pipe for signal.set_wakeup_fd.",
    )
    .method_one(
        c"_watch_signal",
        method_one!(watch_signal),
        c"Have a signal written to that pipe by a handler that any thread can install.",
    )
    .method_one(
        c"_unwatch_signal",
        method_one!(unwatch_signal),
        c"Take that back; whether there was one. What the signal did before is in force again.",
    )
}
