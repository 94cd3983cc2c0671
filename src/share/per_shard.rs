//! A table with one entry for each shard that any endpoint might meet would take megabytes for a
//! group of two. [`PerShard`] makes an entry when its shard first writes.
//!
//! Promise: entries never move and never go away while the table lives, so that readers need no
//! lock; no two shards' entries share a cache line, nor a pair of lines that is fetched together
//! (hence 128 bytes).

use super::ShardId;
use super::sync::OnceLock;

/// A lazily filled table by the index of shards.
#[derive(Debug)]
pub(super) struct PerShard<T> {
    entries: Box<[OnceLock<Box<Padded<T>>>]>,
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
        }
    }

    /// The entry of `shard`, made on its first use. `None` if the shard is of a larger group.
    pub(super) fn entry(&self, shard: ShardId, make: impl FnOnce() -> T) -> Option<&T> {
        let entry = self.entries.get(shard.index())?;
        Some(&entry.get_or_init(|| Box::new(Padded(make()))).0)
    }

    /// The entry of `shard`, if it was made.
    pub(super) fn get(&self, shard: ShardId) -> Option<&T> {
        let entry = self.entries.get(shard.index())?;
        Some(&entry.get()?.0)
    }

    /// The entries that were made.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries
            .iter()
            .filter_map(|entry| Some(&entry.get()?.0))
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
