//! Child processes: started by a thread of their own loop, and reaped by the loop.
//!
//! ```text
//!   start() ──▶ spawner's thread: clone, execve ──inbox──▶ started(None | failure)
//!                                                             └─ pidfd readable, or a thread that waits ──▶ exited(code)
//! ```
//!
//! [`process`] is one child as the loop sees it, [`spawner`] the loop's threads, [`request`] what Python asks for. The
//! transport, its pipes and the `Popen` object are Python's business (`python/antiphon/subprocess.py`).

pub mod process;
pub mod request;
pub mod spawner;

use crate::event_loop::EventLoop;
use crate::ffi::{HeapType, Instance, Owned, Result};
use crate::method_noargs;
use crate::work::Kind;
use process::ChildProcess;

/// Gives a child its turn; `None`: the object is none.
#[inline]
pub fn run(kind: Kind, object: &Owned) -> Option<Result<()>> {
    let child = Instance::<ChildProcess>::downcast(object)?;
    Some(match kind {
        Kind::Readable => child.on_ended(),
        _ => child.on_started(),
    })
}

/// Adds this module's methods to the loop's type.
pub fn add_methods(kind: HeapType) -> HeapType {
    kind.method_noargs(
        c"_make_spawner",
        method_noargs!(make_spawner),
        c"_make_spawner(): the threads that start the loop's children and wait for them.",
    )
}

fn make_spawner(this: &Instance<EventLoop>) -> Result {
    spawner::make(this)
}

/// Makes the types.
pub fn load(module: &Owned) -> Result<()> {
    process::load(module)?;
    spawner::load(module)
}
