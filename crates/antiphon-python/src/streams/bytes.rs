//! Chunks of a stream's buffer are `bytes` objects; what is read is one of them, or one made of several.

use antiphon_core::stream_buffer::Taken;
use pyo3::ffi;

use crate::ffi::{NewBytes, Owned, Result};
use crate::transport::queue::bytes_of;

/// An exact `bytes` object.
///
/// Dropping one frees memory and runs no Python code, so it may happen in a cell (F3).
#[derive(Clone, Debug)]
pub struct Bytes(Owned);

impl Bytes {
    /// # Errors
    /// The object again if it is no exact `bytes` object.
    #[inline]
    pub fn new(object: Owned) -> std::result::Result<Self, Owned> {
        // SAFETY: F1; a living object.
        if unsafe { ffi::PyBytes_CheckExact(object.as_ptr()) } != 0 { Ok(Self(object)) } else { Err(object) }
    }

    /// The object as it is if it is `bytes`, else what `bytes(object)` makes of it.
    ///
    /// # Errors
    /// `TypeError` where that is nothing.
    #[inline]
    pub fn of(object: &Owned) -> Result<Self> {
        Self::new(object.clone()).or_else(|object| {
            // SAFETY: F1; gives an exact `bytes` object or null.
            unsafe { Owned::from_new(ffi::PyBytes_FromObject(object.as_ptr())).map(Self) }
        })
    }

    /// A copy of `bytes`.
    #[inline]
    pub fn copied(bytes: &[u8]) -> Result<Self> {
        Owned::bytes(bytes).map(Self)
    }
}

impl AsRef<[u8]> for Bytes {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        bytes_of(&self.0)
    }
}

/// What was taken from a buffer as one `bytes` object: the chunk itself where that is all, else one copy.
#[inline]
pub fn joined(taken: Taken<Bytes>) -> Result {
    match taken.into_chunk() {
        Ok(Bytes(object)) => Ok(object),
        Err(taken) => joined_parts(taken.len(), taken.parts()),
    }
}

/// The `len` bytes of `parts` as one object.
pub fn joined_parts<'a>(len: usize, parts: impl Iterator<Item = &'a [u8]>) -> Result {
    if len == 0 {
        return Owned::bytes(b"");
    }
    let mut room = NewBytes::with_room(len)?;
    for part in parts {
        room.append(part);
    }
    room.finish_appended()
}
