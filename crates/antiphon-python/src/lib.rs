//! The Python door of antiphon: asyncio's event loop on the engine.
//!
//! This crate translates between Python objects and the two crates beneath it: [`antiphon_engine`], the machinery of a
//! loop, and [`antiphon_core`], the rules. It holds no scheduling rule of its own. What runs per callback or per packet is
//! here, what runs per connection or per loop is in `python/antiphon`.
//!
//! | module | is |
//! |---|---|
//! | [`ffi`] | the interpreter's C API in safe words, and the invariants F1–F3 |
//! | [`seat`] | which thread drives a loop, invariant S1 |
//! | [`task`] | tasks |
//! | [`work`] | what the ready queue holds |
//! | [`context`] | the contexts of callbacks, invariant X1 |
//! | [`coroutine`] | native coroutine objects, invariant N1 |
//! | [`group`] | `gather`, `wait`, `wait_for`, `as_completed`, `shield`, `timeout`, `TaskGroup` |
//! | [`hand_off`] | a blocked step loses the seat and gets it back, invariants P1–P3 |
//! | [`handle`] | `Handle`, `TimerHandle` |
//! | [`datagram`] | datagram transports |
//! | [`event_loop`] | `LoopBase` |
//! | [`future`] | `Future` |
//! | [`driver`] | what a loop waits with: epoll, or a simulation |
//! | [`io_table`] | who waits for which descriptor, invariant T1 |
//! | [`reports`] | what finalizers found open |
//! | [`sockaddr`] | socket addresses in the kernel's and in Python's form |
//! | [`sock`] | the `sock_*` operations as awaitables |
//! | [`sync`] | locks, events, conditions, semaphores, barriers and queues |
//! | [`transport`] | stream transports and listeners |
//! | [`tls`] | TLS transports, over those and others |
//! | [`pipe`] | pipe transports |
//! | [`streams`] | `StreamReader`, `StreamWriter`, `StreamReaderProtocol` |
//! | [`switched`] | what the tests' switches have to do with Python code |
//! | [`words`] | what threads share without a lock, as the models need it |
//! | [`watch`] | reports of steps that block the loop, invariants Q1 and Q2 |
//! | [`child`] | child processes: started by a thread, reaped by the loop |

mod child;
mod context;
mod coroutine;
mod datagram;
mod driver;
mod event_loop;
mod ffi;
mod future;
mod group;
mod hand_off;
mod handle;
mod io_table;
mod names;
mod pipe;
mod reports;
mod seat;
mod sock;
mod sockaddr;
mod streams;
mod switched;
mod sync;
mod task;
mod tls;
mod transport;
mod watch;
mod words;
mod work;

use std::ffi::CStr;

use pyo3::prelude::*;

use crate::ffi::Owned;

/// Adds a type to the module under its name.
fn add_type(module: &Owned, name: &'static CStr, kind: *mut pyo3::ffi::PyTypeObject) -> ffi::Result<()> {
    // SAFETY: F1; a type object is an object, and the module takes a reference of its own.
    ffi::check(unsafe { pyo3::ffi::PyModule_AddObjectRef(module.as_ptr(), name.as_ptr(), kind.cast()) })?;
    Ok(())
}

fn load(module: &Owned) -> ffi::Result<()> {
    names::load()?;
    handle::load(module)?;
    event_loop::load(module)?;
    future::load(module)?;
    task::load(module)?;
    sock::load(module)?;
    transport::load(module)?;
    tls::load(module)?;
    datagram::load(module)?;
    pipe::load(module)?;
    child::load(module)?;
    group::load(module)?;
    watch::load(module)?;
    streams::load(module)?;
    sync::load(module)?;
    hand_off::load(module)?;
    coroutine::function::load(module)
}

/// `antiphon._antiphon`: no GIL needed, all state is behind the seat or cells of its own.
#[pymodule(gil_used = false)]
fn _antiphon(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    switched::load(module)?;
    load(&Owned::from(module.clone().into_any())).map_err(|ffi::Raised| PyErr::fetch(module.py()))
}
