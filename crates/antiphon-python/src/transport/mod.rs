//! Stream transports and listeners.

use crate::event_loop::EventLoop;
use crate::ffi::{HeapType, Instance, Owned, Result};
use crate::work::Kind;

/// Adds this module's methods to the loop's type.
pub fn add_methods(kind: HeapType) -> HeapType {
    kind
}

/// Makes the types.
pub fn load(_module: &Owned) -> Result<()> {
    Ok(())
}

/// Gives a native object its turn.
pub fn run(_owner: &Instance<EventLoop>, _kind: Kind, _object: Owned) -> Result<()> {
    Ok(())
}
