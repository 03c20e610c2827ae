//! The `sock_*` operations as awaitables.

use crate::ffi::{HeapType, Owned, Result};

/// Adds this module's methods to the loop's type.
pub fn add_methods(kind: HeapType) -> HeapType {
    kind
}

/// Makes the types.
pub fn load(_module: &Owned) -> Result<()> {
    Ok(())
}

/// Gives an operation its turn.
pub fn run(
    _owner: &crate::ffi::Instance<crate::event_loop::EventLoop>,
    _kind: crate::work::Kind,
    _object: Owned,
) -> Result<()> {
    Ok(())
}
