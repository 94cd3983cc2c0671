//! A slab index alone is not an identity: it is reused, and a late completion for the old tenant
//! would reach the new one. `Slots` pairs every index with a generation, so that a stale [`Key`]
//! finds nothing.
//!
//! Promise: the capacity is fixed when the table is made and never grows; a key that was removed
//! never resolves again (until its 24-bit generation has wrapped, which takes 2²⁴ reuses of one
//! index).

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::num::NonZeroU64;

use slab::Slab;

/// Generations count modulo 2²⁴, because that is how many bits `user_data` has for them.
pub(crate) const GENERATION_MASK: u32 = (1 << 24) - 1;

/// The identity of an entry of a [`Slots`] table: an index and the generation that lived there. Both
/// are in one word that is never zero, the generation between the index and a last bit that is set:
/// two keys are compared at once, and no key takes no room of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key(NonZeroU64);

impl Key {
    /// A key from its parts; only the low 24 bits of `generation` count.
    pub(crate) const fn new(index: u32, generation: u32) -> Self {
        let generation = generation & GENERATION_MASK;
        let bits = (index as u64) << 32 | (generation as u64) << 1;
        Self(NonZeroU64::MIN.saturating_add(bits))
    }

    /// The index in the table.
    #[inline]
    pub(crate) const fn index(self) -> u32 {
        (self.0.get() >> 32) as u32
    }

    /// How often the index had been freed when this key was made, modulo 2²⁴.
    #[inline]
    pub(crate) const fn generation(self) -> u32 {
        self.0.get() as u32 >> 1
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.index(), self.generation())
    }
}

/// A map by keys of our own. Nobody outside chooses those, so a cheap hash is safe; and its order is
/// the same in each run.
pub(crate) type KeyMap<K, V> = HashMap<K, V, BuildHasherDefault<KeyHasher>>;

/// One multiplication for each word of a key.
#[derive(Debug, Default)]
pub(crate) struct KeyHasher(u64);

impl KeyHasher {
    /// Odd, with its ones spread: 2⁶⁴ divided by the golden ratio.
    const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
}

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(Self::SPREAD);
    }

    /// The map looks at the highest and the lowest bits; the best mixed ones are high.
    #[inline]
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

/// An entry knows its generation, so that finding it is one look-up.
#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: T,
}

/// How many entries more a table of `len` gets at once.
pub(crate) fn growth(len: usize) -> usize {
    len / 4 + 8
}

/// A table of fixed capacity whose keys go stale when their entry is removed.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    entries: Slab<Entry<T>>,
    /// What the next entry at each index is to have.
    generations: Vec<u32>,
    capacity: usize,
}

impl<T> Slots<T> {
    /// An empty table for `capacity` entries.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self {
            entries: Slab::new(),
            generations: Vec::new(),
            capacity,
        }
    }

    /// How many entries live in the table.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the table has no entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether [`insert`](Self::insert) would refuse.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= self.capacity
    }

    /// Puts `value` into a free slot, or gives it back if the table is full.
    pub(crate) fn insert(&mut self, value: T) -> Result<Key, T> {
        if self.is_full() {
            return Err(value);
        }
        self.grow();
        let index = self.entries.vacant_key();
        if index == self.generations.len() {
            self.generations.push(0);
        }
        let generation = self.generations[index];
        self.entries.insert(Entry { generation, value });
        Ok(Key::new(index as u32, generation))
    }

    /// Makes room for some more entries if there is none: tables of connections would waste more by
    /// twice the room than the rest of an idle one costs.
    fn grow(&mut self) {
        let len = self.entries.len();
        if len == self.entries.capacity() {
            let more = growth(len).min(self.capacity - len);
            self.entries.reserve_exact(more);
            self.generations.reserve_exact(more);
        }
    }

    /// The entry of `key`, or `None` if it was removed.
    #[inline]
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let entry = self.entries.get(key.index() as usize)?;
        (entry.generation == key.generation()).then_some(&entry.value)
    }

    /// The entry of `key`, or `None` if it was removed.
    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.index() as usize)?;
        (entry.generation == key.generation()).then_some(&mut entry.value)
    }

    /// Takes the entry of `key` out; its key is stale from now on.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        let entry = self.entries.try_remove(key.index() as usize)?;
        self.generations[key.index() as usize] = (entry.generation + 1) & GENERATION_MASK;
        Some(entry.value)
    }

    /// Every live entry with its key, by rising index.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.entries
            .iter()
            .map(|(index, entry)| (Key::new(index as u32, entry.generation), &entry.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r17_a_removed_key_never_finds_the_next_tenant() {
        let mut slots = Slots::with_capacity(2);
        let old = slots.insert("old").unwrap();
        assert_eq!(slots.remove(old), Some("old"));
        let new = slots.insert("new").unwrap();
        assert_eq!(new.index(), old.index());
        assert_ne!(new, old);
        assert_eq!(slots.get(old), None);
        assert_eq!(slots.get_mut(old), None);
        assert_eq!(slots.remove(old), None);
        assert_eq!(slots.get(new), Some(&"new"));
    }

    #[test]
    fn r17_a_full_table_gives_the_value_back() {
        let mut slots = Slots::with_capacity(1);
        slots.insert(1).unwrap();
        assert!(slots.is_full());
        assert_eq!(slots.insert(2), Err(2));
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn r17_the_generation_wraps_at_24_bits() {
        let mut slots = Slots::with_capacity(1);
        let first = slots.insert(()).unwrap();
        slots.remove(first);
        slots.generations[0] = GENERATION_MASK;
        let last = slots.insert(()).unwrap();
        assert_eq!(last.generation(), GENERATION_MASK);
        slots.remove(last);
        assert_eq!(slots.insert(()).unwrap().generation(), 0);
    }

    #[test]
    fn iteration_yields_keys_that_resolve() {
        let mut slots = Slots::with_capacity(3);
        let a = slots.insert('a').unwrap();
        slots.insert('b').unwrap();
        slots.remove(a);
        assert!(!slots.is_empty());
        let keys: Vec<Key> = slots.iter().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), 1);
        assert_eq!(slots.get(keys[0]), Some(&'b'));
    }

    #[test]
    fn a_key_keeps_both_parts_whatever_they_are_and_is_ordered_by_its_index_first() {
        let parts = [0, 1, 1 << 23, GENERATION_MASK];
        let mut keys = Vec::new();
        for index in [0, 1, 1 << 31, u32::MAX] {
            for generation in parts {
                let key = Key::new(index, generation);
                assert_eq!((key.index(), key.generation()), (index, generation));
                keys.push(key);
            }
        }
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(Key::new(7, GENERATION_MASK + 3), Key::new(7, 2));
        assert_eq!(size_of::<Option<Key>>(), 8);
    }

    #[test]
    fn keys_of_neighbours_and_of_generations_lie_apart() {
        use std::hash::Hash;
        let mut low = std::collections::HashSet::new();
        for (index, generation) in (0..64).flat_map(|i| (0..16).map(move |g| (i, g))) {
            let mut hasher = KeyHasher::default();
            Key::new(index, generation).hash(&mut hasher);
            low.insert(hasher.finish() & 0x0FFF);
        }
        // 1024 keys that fell at random into 4096 places would fill about 906.
        assert!(low.len() > 800, "{}", low.len());
    }

    #[test]
    fn a_key_is_printed_as_its_index_and_generation() {
        assert_eq!(format!("{:?}", Key::new(3, 2)), "3#2");
    }
}
