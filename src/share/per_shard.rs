//! A table with one entry for each shard that any endpoint might meet would take megabytes for a
//! group of two. [`PerShard`] makes an entry when its shard first writes.
//!
//! Promise: entries never move and never go away while the table lives, so that readers need no
//! lock; no two shards' entries share a cache line, nor a pair of lines that is fetched together
//! (hence 128 bytes). Shards have the lowest numbers that are free, and a reader looks no further than
//! the highest one that ever wrote.

use super::ShardId;
use super::sync::{AtomicU32, OnceLock, Ordering};

/// A lazily filled table by the index of shards.
#[derive(Debug)]
pub(super) struct PerShard<T> {
    entries: Box<[OnceLock<Box<Padded<T>>>]>,
    /// No entry was made from here on. Grows once an entry is made: what a shard wrote under a lock
    /// is seen by whoever takes that lock later.
    end: AtomicU32,
}

/// Alone on its cache lines.
#[derive(Debug)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T> PerShard<T> {
    /// An empty table for shards with indices below `shards`.
    pub(super) fn new(shards: usize) -> Self {
        Self {
            entries: (0..shards).map(|_| OnceLock::new()).collect(),
            end: AtomicU32::new(0),
        }
    }

    /// The entry of `shard`, made on its first use. `None` if the shard is of a larger group.
    pub(super) fn entry(&self, shard: ShardId, make: impl FnOnce() -> T) -> Option<&T> {
        let entry = self.entries.get(shard.index())?;
        if let Some(made) = entry.get() {
            return Some(&made.0);
        }
        let made = entry.get_or_init(|| Box::new(Padded(make())));
        let end = u32::try_from(shard.index() + 1).unwrap_or(u32::MAX);
        self.end.fetch_max(end, Ordering::Release);
        Some(&made.0)
    }

    /// The entry of `shard`, if it was made.
    pub(super) fn get(&self, shard: ShardId) -> Option<&T> {
        let entry = self.entries.get(shard.index())?;
        Some(&entry.get()?.0)
    }

    /// The entries that were made.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.indexed().map(|(_, entry)| entry)
    }

    /// The same, each with the index of its shard.
    pub(super) fn indexed(&self) -> impl Iterator<Item = (usize, &T)> {
        let end = self.end.load(Ordering::Acquire) as usize;
        let entries = self.entries.iter().take(end).enumerate();
        entries.filter_map(|(index, entry)| Some((index, &entry.get()?.0)))
    }
}

#[cfg(all(test, not(ringpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn entries_are_made_once_and_keep_their_distance() {
        let table = PerShard::new(3);
        let (a, b) = (ShardId::new(0, 1), ShardId::new(2, 1));
        assert!(table.get(a).is_none());
        table.entry(a, || 1).unwrap();
        table.entry(a, || 2).unwrap();
        table.entry(b, || 3).unwrap();
        assert_eq!(table.iter().copied().collect::<Vec<i32>>(), [1, 3]);
        let address = std::ptr::from_ref(table.get(a).unwrap()).addr();
        assert_eq!(address % 128, 0);
    }

    #[test]
    fn a_shard_beyond_the_table_has_no_entry() {
        let table = PerShard::new(1);
        assert!(table.entry(ShardId::new(1, 1), || ()).is_none());
    }
}
