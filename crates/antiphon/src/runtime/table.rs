//! What a loop keeps by key, callbacks and descriptors: a slab with generations.

/// A place in a table, and which of its owners is meant; one word, so that what is queued is a pair of words.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub(crate) struct Key(u64);

impl Key {
    const fn new(index: u32, generation: u32) -> Self {
        Self((index as u64) << 32 | generation as u64)
    }

    const fn index(self) -> u32 {
        (self.0 >> 32) as u32
    }

    const fn generation(self) -> u32 {
        self.0 as u32
    }

    /// As one number.
    pub(crate) const fn to_bits(self) -> u64 {
        self.0
    }

    /// The inverse of [`to_bits`](Self::to_bits).
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

pub(crate) struct Table<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Table<T> {
    pub(crate) const fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }

    /// # Panics
    /// With 2^32 - 1 entries at once.
    pub(crate) fn insert(&mut self, value: T) -> Key {
        if let Some(index) = self.free.pop() {
            let entry = &mut self.entries[index as usize];
            entry.value = Some(value);
            return Key::new(index, entry.generation);
        }
        let index = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        assert!(index < u32::MAX, "more entries than can be counted");
        self.entries.push(Entry { generation: 0, value: Some(value) });
        Key::new(index, 0)
    }

    #[inline]
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        self.entries
            .get(key.index() as usize)
            .filter(|entry| entry.generation == key.generation())
            .and_then(|entry| entry.value.as_ref())
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entries.get_mut(key.index() as usize)?;
        if entry.generation != key.generation() {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.index());
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().filter_map(|entry| entry.value.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_of_a_former_owner_finds_nothing() {
        let mut table = Table::new();
        let first = table.insert("first");
        assert_eq!(table.remove(first), Some("first"));
        let second = table.insert("second");
        assert_eq!((second.index(), second.generation()), (first.index(), 1));
        assert_eq!(table.get(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get(second), Some(&"second"));
        for key in [first, second] {
            assert_eq!(Key::from_bits(key.to_bits()), key);
        }
    }
}
