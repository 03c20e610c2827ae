//! A set of objects by identity: children that are not done yet.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::ffi::Owned;

/// Spreads addresses, whose low bits are all zero.
#[derive(Default)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("addresses are hashed as words");
    }

    #[inline]
    fn write_usize(&mut self, address: usize) {
        // The golden ratio's bits: good upper bits for the table's groups, good lower ones for its places.
        let spread = (address as u64 >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = spread ^ (spread >> 32);
    }
}

/// The set. Whatever it gives back is the caller's to drop, outside of cells (F3).
#[derive(Default)]
pub struct IdentitySet(HashMap<usize, Owned, BuildHasherDefault<AddressHasher>>);

impl IdentitySet {
    /// Adds an object; a second reference to one that is in the set comes back.
    #[inline]
    pub fn insert(&mut self, object: Owned) -> Option<Owned> {
        self.0.insert(object.as_ptr() as usize, object)
    }

    /// Takes an object out.
    #[inline]
    pub fn remove(&mut self, object: &Owned) -> Option<Owned> {
        self.0.remove(&(object.as_ptr() as usize))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The objects.
    pub fn iter(&self) -> impl Iterator<Item = &Owned> {
        self.0.values()
    }

    /// New references to all of them.
    pub fn to_vec(&self) -> Vec<Owned> {
        self.0.values().cloned().collect()
    }
}
