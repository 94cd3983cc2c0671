//! Each core balances over all addresses of a name, on what *all* cores hold there. A shared
//! counter per address would bounce between cores with every connection; on the [`Board`] each
//! shard writes cells of its own and reads the others' only when it decides.
//!
//! Promise: a cell has one writer; the sum over shards is exact when nobody is writing, and
//! otherwise off by at most the writes under way; at most [`MAX_ADDRESSES`] addresses are kept,
//! and one makes room only when no shard has a connection there; a shard that ended counts zero.
//!
//! An address beyond the bound is not counted: its total reads zero. That takes more addresses
//! with open connections than a resolver's answer may have.

use std::net::SocketAddr;

use super::ShardId;
use super::per_shard::PerShard;
use super::sync::{AtomicU32, AtomicU64, Ordering, RwLock, read, write};

/// How many addresses of one endpoint are counted.
pub(super) const MAX_ADDRESSES: usize = if cfg!(ringpool_loom) { 2 } else { 64 };

/// Connections opening and open, by address and shard, of one endpoint.
#[derive(Debug)]
pub(crate) struct Board {
    /// The column of each address. A cell is written under the read lock and a column gets a new
    /// address under the write lock, so that no count lands in another address's column.
    addresses: RwLock<Vec<Place>>,
    rows: PerShard<Row>,
}

/// An address and its column.
#[derive(Debug)]
struct Place {
    address: SocketAddr,
    /// Connections opened so far, by all shards: a shared counter, for it changes only when a
    /// connection has opened.
    opened: AtomicU64,
}

/// What is known of one address, all shards together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) address: SocketAddr,
    /// Connections opened so far.
    pub(crate) opened: u64,
    /// Connections opening and open.
    pub(crate) open: u32,
}

/// The cells of one shard. Written by that shard alone, except by `forget`, which excludes it.
#[derive(Debug)]
struct Row {
    /// The first tenant of the shard's index that may write here.
    epoch: AtomicU32,
    open: [AtomicU32; MAX_ADDRESSES],
}

impl Board {
    /// An empty board for a group of at most `shards`.
    pub(super) fn new(shards: usize) -> Self {
        Self {
            addresses: RwLock::new(Vec::new()),
            rows: PerShard::new(shards),
        }
    }

    /// `shard` begins to open a connection to `address`.
    pub(crate) fn opened(&self, shard: ShardId, address: SocketAddr) {
        let Some(row) = self.rows.entry(shard, || Row::new(shard)) else {
            return;
        };
        let addresses = read(&self.addresses);
        if let Some(column) = column(&addresses, address) {
            row.change(shard, column, |open| open.saturating_add(1));
            return;
        }
        drop(addresses);
        let mut addresses = write(&self.addresses);
        if let Some(column) = self.column_for(&mut addresses, address) {
            row.change(shard, column, |open| open.saturating_add(1));
        }
    }

    /// A connection of `shard` to `address` is gone, or could not be opened.
    pub(crate) fn closed(&self, shard: ShardId, address: SocketAddr) {
        let addresses = read(&self.addresses);
        if let (Some(column), Some(row)) = (column(&addresses, address), self.rows.get(shard)) {
            row.change(shard, column, |open| open.saturating_sub(1));
        }
    }

    /// A connection to `address` has opened.
    pub(crate) fn connected(&self, address: SocketAddr) {
        let addresses = read(&self.addresses);
        if let Some(column) = column(&addresses, address) {
            addresses[column].opened.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every address that is counted, in the order in which they came.
    pub(crate) fn columns(&self) -> Vec<Column> {
        let known = read(&self.addresses);
        let column = |(column, place): (usize, &Place)| Column {
            address: place.address,
            opened: place.opened.load(Ordering::Relaxed),
            open: self.total(column),
        };
        known.iter().enumerate().map(column).collect()
    }

    /// How many connections all shards have opening or open at each of `addresses`.
    pub(crate) fn totals(&self, addresses: &[SocketAddr]) -> Box<[u32]> {
        let known = read(&self.addresses);
        addresses
            .iter()
            .map(|&address| column(&known, address).map_or(0, |column| self.total(column)))
            .collect()
    }

    /// How many connections `shard` has opening or open at `address`.
    #[cfg(feature = "sim")]
    pub(crate) fn held(&self, shard: ShardId, address: SocketAddr) -> u32 {
        let (known, row) = (read(&self.addresses), self.rows.get(shard));
        match (column(&known, address), row) {
            (Some(column), Some(row)) => row.open[column].load(Ordering::Relaxed),
            _ => 0,
        }
    }

    /// Zeroes the cells of `shard`: it has ended. What it still writes is ignored.
    pub(super) fn forget(&self, shard: ShardId) {
        let Some(row) = self.rows.get(shard) else {
            return;
        };
        let _nobody_writes = write(&self.addresses);
        if shard.epoch < row.epoch.load(Ordering::Relaxed) {
            return;
        }
        let next = shard.epoch.saturating_add(1);
        row.epoch.store(next, Ordering::Relaxed);
        for cell in &row.open {
            cell.store(0, Ordering::Relaxed);
        }
    }

    /// Relaxed: a count has no other data behind it. A reader that holds the write lock sees every
    /// write, because each was made under the read lock, which the write lock waits out.
    fn total(&self, column: usize) -> u32 {
        self.rows.iter().fold(0, |sum, row| {
            sum.saturating_add(row.open[column].load(Ordering::Relaxed))
        })
    }

    /// The column of `address`: the one that it has, a new one, or one whose address has no
    /// connections any more. The caller holds the write lock.
    fn column_for(&self, addresses: &mut Vec<Place>, address: SocketAddr) -> Option<usize> {
        if let Some(column) = column(addresses, address) {
            return Some(column);
        }
        let place = Place {
            address,
            opened: AtomicU64::new(0),
        };
        if addresses.len() < MAX_ADDRESSES {
            addresses.push(place);
            return Some(addresses.len() - 1);
        }
        let column = (0..MAX_ADDRESSES).find(|&column| self.total(column) == 0)?;
        addresses[column] = place;
        Some(column)
    }
}

impl Row {
    fn new(shard: ShardId) -> Self {
        Self {
            epoch: AtomicU32::new(shard.epoch),
            open: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// Writes one cell. The shard is its only writer while the caller holds a lock of the board's
    /// addresses, so that load and store need not be one operation.
    fn change(&self, shard: ShardId, column: usize, change: impl FnOnce(u32) -> u32) {
        if shard.epoch < self.epoch.load(Ordering::Relaxed) {
            return;
        }
        let cell = &self.open[column];
        cell.store(change(cell.load(Ordering::Relaxed)), Ordering::Relaxed);
    }
}

fn column(addresses: &[Place], address: SocketAddr) -> Option<usize> {
    addresses.iter().position(|known| known.address == address)
}

#[cfg(all(test, not(ringpool_loom)))]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 80))
    }

    fn shard(index: usize) -> ShardId {
        ShardId::new(index, 1)
    }

    #[test]
    fn totals_sum_over_shards_in_the_order_asked() {
        let board = Board::new(4);
        board.opened(shard(0), address(1));
        board.opened(shard(3), address(1));
        board.opened(shard(3), address(2));
        let asked = [address(2), address(9), address(1)];
        assert_eq!(*board.totals(&asked), [1, 0, 2]);
        board.closed(shard(3), address(1));
        assert_eq!(*board.totals(&asked), [1, 0, 1]);
    }

    #[test]
    fn columns_tell_what_was_opened_and_what_is_open() {
        let board = Board::new(2);
        board.opened(shard(0), address(1));
        board.opened(shard(1), address(1));
        board.connected(address(1));
        board.connected(address(9));
        board.closed(shard(0), address(1));
        let column = Column {
            address: address(1),
            opened: 1,
            open: 1,
        };
        assert_eq!(board.columns(), [column]);
    }

    #[test]
    fn x2_a_close_too_many_is_not_a_negative_count() {
        let board = Board::new(1);
        board.opened(shard(0), address(1));
        board.closed(shard(0), address(1));
        board.closed(shard(0), address(1));
        board.closed(shard(0), address(2));
        assert_eq!(*board.totals(&[address(1), address(2)]), [0, 0]);
    }

    #[test]
    fn only_an_address_without_connections_makes_room() {
        let board = Board::new(2);
        for last in 0..MAX_ADDRESSES as u8 {
            board.opened(shard(0), address(last));
        }
        board.opened(shard(1), address(100));
        assert_eq!(*board.totals(&[address(100)]), [0]);
        board.closed(shard(0), address(7));
        board.opened(shard(1), address(100));
        assert_eq!(
            *board.totals(&[address(100), address(7), address(6)]),
            [1, 0, 1]
        );
    }

    #[test]
    fn x5_x6_a_dead_shards_counts_are_gone_and_stay_gone() {
        let board = Board::new(2);
        board.opened(shard(0), address(1));
        board.opened(shard(1), address(1));
        board.forget(shard(1));
        assert_eq!(*board.totals(&[address(1)]), [1]);
        board.opened(shard(1), address(1));
        assert_eq!(*board.totals(&[address(1)]), [1]);
        let heir = ShardId::new(1, 2);
        board.opened(heir, address(1));
        board.closed(shard(1), address(1));
        board.forget(shard(1));
        assert_eq!(*board.totals(&[address(1)]), [2]);
    }
}

#[cfg(all(test, ringpool_loom))]
mod model {
    use std::sync::Arc;

    use loom::thread;

    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 80))
    }

    #[test]
    fn x9_two_writers_and_a_reader_never_miscount() {
        loom::model(|| {
            let board = Arc::new(Board::new(2));
            let writer = {
                let board = board.clone();
                thread::spawn(move || {
                    let shard = ShardId::new(0, 1);
                    board.opened(shard, address(1));
                    board.closed(shard, address(1));
                })
            };
            board.opened(ShardId::new(1, 1), address(1));
            let total = board.totals(&[address(1)])[0];
            assert!(total == 1 || total == 2);
            writer.join().unwrap();
            assert_eq!(*board.totals(&[address(1)]), [1]);
        });
    }

    #[test]
    fn a_column_is_not_taken_from_an_address_that_is_being_opened() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let board = Arc::new(Board::new(2));
            board.opened(ShardId::new(1, 1), address(1));
            board.opened(ShardId::new(1, 1), address(2));
            board.closed(ShardId::new(1, 1), address(2));
            let writer = {
                let board = board.clone();
                thread::spawn(move || board.opened(ShardId::new(0, 1), address(2)))
            };
            board.opened(ShardId::new(1, 1), address(3));
            writer.join().unwrap();
            // One column was free: exactly one of the two got it, and neither counts as the other.
            let totals = board.totals(&[address(1), address(2), address(3)]);
            assert!(*totals == [1, 1, 0] || *totals == [1, 0, 1]);
        });
    }
}
