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
