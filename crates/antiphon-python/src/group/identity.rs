//! A set of objects by identity: children that are not done yet.

use std::collections::{HashMap, VecDeque};
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

    /// Whatever is no address; nothing here is.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte) ^ self.0 as usize);
        }
    }

    #[inline]
    fn write_usize(&mut self, address: usize) {
        // The golden ratio's bits: good upper bits for the table's groups, good lower ones for its places.
        let spread = (address as u64 >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = spread ^ (spread >> 32);
    }
}

type Table = HashMap<usize, Owned, BuildHasherDefault<AddressHasher>>;

/// Below this length a row is searched.
const SHORT: usize = 16;

/// The set. Whatever it gives back is the caller's to drop, outside of cells (F3).
///
/// Children end in the order of their beginnings as a rule, so it is a row that is left in front; a table is made of a long
/// one when somebody leaves it elsewhere.
#[derive(Default)]
pub struct IdentitySet {
    row: VecDeque<Owned>,
    table: Option<Table>,
}

impl IdentitySet {
    /// Adds an object that is not in it.
    #[inline]
    pub fn insert(&mut self, object: Owned) {
        match &mut self.table {
            None => self.row.push_back(object),
            Some(table) => {
                // A second reference to one that is in the table after all waits in the row.
                if let Some(before) = table.insert(object.as_ptr() as usize, object) {
                    self.row.push_back(before);
                }
            }
        }
    }

    /// Takes an object out.
    #[inline]
    pub fn remove(&mut self, object: &Owned) -> Option<Owned> {
        if self.row.front().is_some_and(|front| front.as_ptr() == object.as_ptr()) {
            return self.row.pop_front();
        }
        self.remove_elsewhere(object)
    }

    fn remove_elsewhere(&mut self, object: &Owned) -> Option<Owned> {
        if self.table.is_none() && self.row.len() > SHORT {
            let mut table = Table::default();
            let row = std::mem::take(&mut self.row);
            self.row = row.into_iter().filter_map(|one| table.insert(one.as_ptr() as usize, one)).collect();
            self.table = Some(table);
        }
        if let Some(found) = self.table.as_mut().and_then(|table| table.remove(&(object.as_ptr() as usize))) {
            if self.table.as_ref().is_some_and(HashMap::is_empty) {
                self.table = None;
            }
            return Some(found);
        }
        let place = self.row.iter().position(|one| one.as_ptr() == object.as_ptr())?;
        self.row.remove(place)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.row.len() + self.table.as_ref().map_or(0, HashMap::len)
    }

    /// The objects.
    pub fn iter(&self) -> impl Iterator<Item = &Owned> {
        self.row.iter().chain(self.table.iter().flat_map(HashMap::values))
    }

    /// New references to all of them.
    pub fn to_vec(&self) -> Vec<Owned> {
        self.iter().cloned().collect()
    }
}
