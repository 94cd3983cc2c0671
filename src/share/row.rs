//! What one shard says of one endpoint on the board: a figure of each kind for every address, and
//! some for all. Most names have a few addresses, so a [`Row`] grows by doubling.
//!
//! Promise: cells never move, so that readers need no lock; no two shards' cells share a cache line,
//! nor a pair of lines that is fetched together; what an earlier tenant of the shard's index still
//! writes is ignored.
//!
//! All figures are relaxed: none has other data behind it. Written by their shard alone, so that a
//! load and a store need not be one operation.

use std::time::Duration;

use super::ShardId;
use super::board::Load;
use super::sync::{AtomicU32, AtomicU64, OnceLock, Ordering};
use crate::time::Tick;

/// Addresses on two cache lines, which are fetched together.
const CELLS_PER_LINE: usize = if cfg!(ringpool_loom) { 1 } else { 8 };
/// Lines of the first part; the second has as many, and each further one twice as many.
const FIRST: usize = if cfg!(ringpool_loom) { 1 } else { 2 };
const PARTS: usize = if cfg!(ringpool_loom) { 2 } else { 4 };
/// How many addresses a row has room for.
pub(super) const CELLS: usize = CELLS_PER_LINE * (FIRST << (PARTS - 1));

/// The figures of one shard.
#[derive(Debug)]
pub(super) struct Row {
    /// The first tenant of the shard's index that may write here.
    epoch: AtomicU32,
    /// Since when the oldest get waits for a permit, in nanoseconds; [`NOBODY`] if none does.
    since: AtomicU64,
    parts: [OnceLock<Box<[Line]>>; PARTS],
}

#[derive(Debug)]
#[repr(align(128))]
struct Line([Cell; CELLS_PER_LINE]);

/// The figures of one address.
#[derive(Debug)]
struct Cell {
    /// Connections opening and open. While it is not zero, the column keeps its address.
    open: AtomicU32,
    in_use: AtomicU32,
    /// In microseconds, at least 1; 0 if not known.
    latency: AtomicU32,
}

const NOBODY: u64 = u64::MAX;

impl Row {
    pub(super) fn new(shard: ShardId) -> Self {
        Self {
            epoch: AtomicU32::new(shard.epoch),
            since: AtomicU64::new(NOBODY),
            parts: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    /// One connection more. False if `shard` has left.
    pub(super) fn opened(&self, shard: ShardId, column: usize) -> bool {
        if self.has_left(shard) {
            return false;
        }
        let (part, at) = place(column);
        let lines = self.parts[part].get_or_init(|| (0..lines_of(part)).map(Line::new).collect());
        let open = &lines[at / CELLS_PER_LINE].0[at % CELLS_PER_LINE].open;
        open.store(
            open.load(Ordering::Relaxed).saturating_add(1),
            Ordering::Relaxed,
        );
        true
    }

    /// One connection less. With the last one the other figures go: the column may get another
    /// address.
    pub(super) fn closed(&self, shard: ShardId, column: usize) {
        let Some(cell) = self.cell(column).filter(|_| !self.has_left(shard)) else {
            return;
        };
        match cell.open.load(Ordering::Relaxed) {
            0 | 1 => cell.clear(),
            open => cell.open.store(open - 1, Ordering::Relaxed),
        }
    }

    pub(super) fn open(&self, column: usize) -> u32 {
        let cell = self.cell(column);
        cell.map_or(0, |cell| cell.open.load(Ordering::Relaxed))
    }

    /// Ignored where `shard` has no connection.
    pub(super) fn set_load(&self, shard: ShardId, column: usize, load: Load) {
        let Some(cell) = self.cell(column).filter(|_| !self.has_left(shard)) else {
            return;
        };
        if cell.open.load(Ordering::Relaxed) == 0 {
            return;
        }
        let micros = load.latency.map_or(0, |latency| latency.as_micros().max(1));
        let micros = u32::try_from(micros).unwrap_or(u32::MAX);
        for (figure, value) in [(&cell.in_use, load.in_use), (&cell.latency, micros)] {
            // What is the same is not written: the line stays in the readers' caches.
            if figure.load(Ordering::Relaxed) != value {
                figure.store(value, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn load(&self, column: usize) -> Load {
        let Some(cell) = self.cell(column) else {
            return Load::default();
        };
        let latency = match cell.latency.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros.into())),
        };
        Load {
            in_use: cell.in_use.load(Ordering::Relaxed),
            latency,
        }
    }

    pub(super) fn set_wait(&self, shard: ShardId, since: Option<Tick>) {
        if !self.has_left(shard) {
            let since = since.map_or(NOBODY, Tick::as_nanos);
            self.since.store(since, Ordering::Relaxed);
        }
    }

    pub(super) fn wait(&self) -> Option<Tick> {
        let since = self.since.load(Ordering::Relaxed);
        (since != NOBODY).then(|| Tick::ZERO.plus(Duration::from_nanos(since)))
    }

    /// Zeroes everything for the next tenant, once.
    pub(super) fn forget(&self, shard: ShardId) {
        if self.has_left(shard) {
            return;
        }
        let next = shard.epoch.saturating_add(1);
        self.epoch.store(next, Ordering::Relaxed);
        self.since.store(NOBODY, Ordering::Relaxed);
        let lines = self.parts.iter().filter_map(OnceLock::get).flatten();
        lines.flat_map(|line| &line.0).for_each(Cell::clear);
    }

    fn has_left(&self, shard: ShardId) -> bool {
        shard.epoch < self.epoch.load(Ordering::Relaxed)
    }

    fn cell(&self, column: usize) -> Option<&Cell> {
        let (part, at) = place(column);
        let lines = self.parts.get(part)?.get()?;
        lines.get(at / CELLS_PER_LINE)?.0.get(at % CELLS_PER_LINE)
    }
}

impl Line {
    fn new(_: usize) -> Self {
        Self(std::array::from_fn(|_| Cell {
            open: AtomicU32::new(0),
            in_use: AtomicU32::new(0),
            latency: AtomicU32::new(0),
        }))
    }
}

impl Cell {
    fn clear(&self) {
        for figure in [&self.open, &self.in_use, &self.latency] {
            figure.store(0, Ordering::Relaxed);
        }
    }
}

/// The part in which a column is, and where in it.
fn place(column: usize) -> (usize, usize) {
    let first = CELLS_PER_LINE * FIRST;
    match (column / first).checked_ilog2() {
        None => (0, column),
        Some(doublings) => (doublings as usize + 1, column - (first << doublings)),
    }
}

fn lines_of(part: usize) -> usize {
    FIRST << part.saturating_sub(1)
}

#[cfg(all(test, not(ringpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_column_has_a_place_of_its_own() {
        let mut next = (0, 0);
        for column in 0..CELLS {
            let (part, at) = place(column);
            if part > next.0 {
                assert_eq!(next.1, lines_of(next.0) * CELLS_PER_LINE, "column {column}");
                next = (part, 0);
            }
            assert_eq!((part, at), next);
            next.1 += 1;
        }
        assert_eq!(next, (PARTS - 1, lines_of(PARTS - 1) * CELLS_PER_LINE));
    }

    #[test]
    fn a_row_is_as_large_as_documented() {
        assert_eq!(size_of::<Line>(), 128);
        assert!(size_of::<Row>() <= 128, "{}", size_of::<Row>());
        assert_eq!(CELLS, 128);
    }
}
