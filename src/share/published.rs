//! Statistics of an endpoint are asked for on one core and happen on all. Each shard publishes a
//! block of figures of its own, now and then; a reader adds the blocks up.
//!
//! Promise: a block has one writer and costs it plain stores; gauges of a shard that ended count
//! no more, its counters stay in the totals, which therefore never fall.

use super::ShardId;
use super::per_shard::PerShard;
use super::sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock};

/// The figures of one endpoint, by shard: first gauges, then counters.
#[derive(Debug)]
pub(crate) struct Published {
    gauges: usize,
    len: usize,
    blocks: PerShard<Block>,
    /// The counters of shards that ended; the gauges' places stay zero. Locked by readers too, so
    /// that none of them finds a count in both places or in neither.
    retired: Mutex<Box<[u64]>>,
}

#[derive(Debug)]
struct Block {
    /// The first tenant of the shard's index that may write here.
    epoch: AtomicU32,
    lines: Box<[Line]>,
}

/// Two cache lines of figures, which are fetched together.
#[derive(Debug)]
#[repr(align(128))]
struct Line([AtomicU64; FIGURES_PER_LINE]);

const FIGURES_PER_LINE: usize = 16;

impl Published {
    /// Zeroes, for a group of at most `shards`.
    pub(super) fn new(shards: usize, gauges: usize, counters: usize) -> Self {
        let len = gauges + counters;
        Self {
            gauges,
            len,
            blocks: PerShard::new(shards),
            retired: Mutex::new(vec![0; len].into()),
        }
    }

    /// Replaces the figures of `shard`. From that shard's thread alone.
    pub(crate) fn publish(&self, shard: ShardId, values: &[u64]) {
        debug_assert_eq!(values.len(), self.len);
        let Some(block) = self.blocks.entry(shard, || Block::new(shard, self.len)) else {
            return;
        };
        if shard.epoch < block.epoch.load(Ordering::Acquire) {
            return;
        }
        // Relaxed: each figure stands alone; a reader may see some of this turn's and some of the
        // last turn's.
        // Line by line, so that it is a store for each and no search for the next: this is done for
        // each batch of what tasks did.
        for (line, values) in block.lines.iter().zip(values.chunks(FIGURES_PER_LINE)) {
            for (cell, &value) in line.0.iter().zip(values) {
                cell.store(value, Ordering::Relaxed);
            }
        }
    }

    /// The figures of all shards together.
    pub(crate) fn totals(&self) -> Box<[u64]> {
        let retired = lock(&self.retired);
        let mut totals = retired.clone();
        for block in self.blocks.iter() {
            for (total, cell) in totals.iter_mut().zip(block.cells()) {
                *total = total.saturating_add(cell.load(Ordering::Relaxed));
            }
        }
        totals
    }

    /// The figures that each shard published last, with the shard's index.
    pub(crate) fn by_shard(&self) -> Vec<(usize, Box<[u64]>)> {
        let values = |block: &Block| {
            let cells = block.cells().take(self.len);
            cells.map(|cell| cell.load(Ordering::Relaxed)).collect()
        };
        let blocks = self.blocks.indexed();
        blocks
            .map(|(index, block)| (index, values(block)))
            .collect()
    }

    /// The figures that `shard` published last.
    #[cfg(test)]
    pub(crate) fn of(&self, shard: ShardId) -> Box<[u64]> {
        let block = self
            .blocks
            .get(shard)
            .filter(|block| block.epoch.load(Ordering::Acquire) == shard.epoch);
        let Some(block) = block else {
            return vec![0; self.len].into();
        };
        let values = block.cells().map(|cell| cell.load(Ordering::Relaxed));
        values.take(self.len).collect()
    }

    /// Drops the gauges of `shard` and retires its counters: it has let go of the endpoint. From
    /// that shard's thread alone.
    pub(super) fn retire(&self, shard: ShardId) {
        self.settle(shard, false);
    }

    /// The same for a shard that has ended: what it still publishes is ignored.
    pub(super) fn forget(&self, shard: ShardId) {
        self.settle(shard, true);
    }

    fn settle(&self, shard: ShardId, ended: bool) {
        let Some(block) = self.blocks.get(shard) else {
            return;
        };
        let mut retired = lock(&self.retired);
        if shard.epoch < block.epoch.load(Ordering::Acquire) {
            return;
        }
        for (index, (kept, cell)) in retired.iter_mut().zip(block.cells()).enumerate() {
            if index >= self.gauges {
                *kept = kept.saturating_add(cell.load(Ordering::Relaxed));
            }
            cell.store(0, Ordering::Relaxed);
        }
        if ended {
            let next = shard.epoch.saturating_add(1);
            block.epoch.store(next, Ordering::Release);
        }
    }
}

impl Block {
    fn new(shard: ShardId, len: usize) -> Self {
        let lines = len.div_ceil(FIGURES_PER_LINE);
        Self {
            epoch: AtomicU32::new(shard.epoch),
            lines: (0..lines)
                .map(|_| Line(std::array::from_fn(|_| AtomicU64::new(0))))
                .collect(),
        }
    }

    fn cells(&self) -> impl Iterator<Item = &AtomicU64> {
        self.lines.iter().flat_map(|line| &line.0)
    }
}

#[cfg(all(test, not(ringpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_shard_that_published_has_its_own_figures() {
        let published = Published::new(3, 1, 1);
        published.publish(ShardId::new(2, 1), &[3, 5]);
        published.publish(ShardId::new(0, 1), &[1, 2]);
        let figures = |shard: usize, values: [u64; 2]| (shard, Box::from(values));
        assert_eq!(
            published.by_shard(),
            [figures(0, [1, 2]), figures(2, [3, 5])]
        );
        published.forget(ShardId::new(2, 1));
        assert_eq!(published.by_shard()[1], figures(2, [0, 0]));
    }

    #[test]
    fn totals_add_the_last_figures_of_each_shard() {
        let published = Published::new(2, 1, 20);
        let mut values = [0; 21];
        (values[0], values[20]) = (3, 5);
        published.publish(ShardId::new(0, 1), &values);
        published.publish(ShardId::new(1, 1), &values);
        values[20] = 9;
        published.publish(ShardId::new(1, 1), &values);
        let totals = published.totals();
        assert_eq!((totals[0], totals[20], totals.len()), (6, 14, 21));
        assert_eq!(published.of(ShardId::new(0, 1))[20], 5);
    }

    #[test]
    fn x5_x6_a_dead_shard_keeps_its_counters_and_loses_its_gauges() {
        let published = Published::new(1, 1, 1);
        let (old, heir) = (ShardId::new(0, 1), ShardId::new(0, 2));
        published.publish(old, &[4, 10]);
        published.forget(old);
        published.forget(old);
        assert_eq!(*published.totals(), [0, 10]);
        published.publish(old, &[4, 10]);
        assert_eq!(*published.totals(), [0, 10]);
        published.publish(heir, &[1, 2]);
        published.retire(old);
        published.forget(old);
        assert_eq!(*published.totals(), [1, 12]);
        assert_eq!(*published.of(old), [0, 0]);
        assert_eq!(*published.of(heir), [1, 2]);
    }
}
