//! Each core balances over all addresses of a name, on what *all* cores hold there. A shared
//! counter per address would bounce between cores with every connection; on the [`Board`] each
//! shard writes cells of its own and reads the others' only when it decides.
//!
//! Promise: a cell has one writer; the sum over shards is exact when nobody is writing, and
//! otherwise off by at most the writes under way; at most [`MAX_ADDRESSES`] addresses are kept,
//! and one makes room only when no shard has a connection there; a shard that ended counts zero.
//!
//! Each figure is an atomic of its own, relaxed, and no sequence lock holds those of a cell
//! together: whoever decides by them adds them up over shards, so that they are of different moments
//! anyway, and no figure is wrong beside an older one. A reader of a sequence lock would have to wait
//! for a writer that lost its processor in the middle, as happens with more shards than processors.
//! What must belong together, an address and its figures, the lock of the addresses holds together.
//!
//! An address beyond the bound is not counted: its total reads zero. That takes more addresses
//! with open connections than a name is kept with.

use std::borrow::Borrow;
use std::net::SocketAddr;
use std::time::Duration;

use super::ShardId;
use super::per_shard::PerShard;
use super::row::{CELLS, Row};
use super::sync::{AtomicU64, Ordering, RwLock, read, write};
use crate::time::Tick;

/// How many addresses of one endpoint are counted.
pub(super) const MAX_ADDRESSES: usize = CELLS;

/// Connections opening and open, by address and shard, of one endpoint.
#[derive(Debug)]
pub(crate) struct Board {
    /// The column of each address. A cell is written under the read lock, or by a shard that has a
    /// connection there, and a column gets a new address under the write lock and when no shard has
    /// one, so that no count lands in another address's column.
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

/// Where the figures of one address are, as long as the shard that was told so has a connection
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot(usize);

#[cfg(test)]
impl Spot {
    pub(crate) fn at(column: usize) -> Self {
        Self(column)
    }
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

/// How busy an address is; of one shard when it writes, of all when they are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Connections that users have.
    pub(crate) in_use: u32,
    /// How long an answer takes, as a moving average; the mean over shards is by connections.
    pub(crate) latency: Option<Duration>,
}

impl Board {
    /// An empty board for a group of at most `shards`.
    pub(super) fn new(shards: usize) -> Self {
        Self {
            addresses: RwLock::new(Vec::new()),
            rows: PerShard::new(shards),
        }
    }

    /// `shard` begins to open a connection to `address`, whose figures are at the spot until its
    /// last connection there has closed.
    pub(crate) fn opened(&self, shard: ShardId, address: SocketAddr) -> Option<Spot> {
        let row = self.rows.entry(shard, || Row::new(shard))?;
        let addresses = read(&self.addresses);
        if let Some(column) = column(&addresses, address) {
            return row.opened(shard, column).then_some(Spot(column));
        }
        drop(addresses);
        let mut addresses = write(&self.addresses);
        let column = self.column_for(&mut addresses, address)?;
        row.opened(shard, column).then_some(Spot(column))
    }

    /// A connection of `shard` to `address` is gone, or could not be opened.
    pub(crate) fn closed(&self, shard: ShardId, address: SocketAddr) {
        let addresses = read(&self.addresses);
        if let (Some(column), Some(row)) = (column(&addresses, address), self.rows.get(shard)) {
            row.closed(shard, column);
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
    pub(crate) fn totals<A: Borrow<SocketAddr>>(
        &self,
        addresses: impl IntoIterator<Item = A>,
    ) -> Box<[u32]> {
        let known = read(&self.addresses);
        let total = |address: A| {
            let column = column(&known, *address.borrow());
            column.map_or(0, |column| self.total(column))
        };
        addresses.into_iter().map(total).collect()
    }

    /// How many connections `shard` has opening or open at `address`.
    #[cfg(feature = "sim")]
    pub(crate) fn held(&self, shard: ShardId, address: SocketAddr) -> u32 {
        let (known, row) = (read(&self.addresses), self.rows.get(shard));
        match (column(&known, address), row) {
            (Some(column), Some(row)) => row.open(column),
            _ => 0,
        }
    }

    /// Zeroes the cells of `shard`: it has ended. What it still writes is ignored. From that shard's
    /// thread.
    pub(super) fn forget(&self, shard: ShardId) {
        let Some(row) = self.rows.get(shard) else {
            return;
        };
        let _nobody_writes = write(&self.addresses);
        row.forget(shard);
    }

    /// A reader that holds the write lock sees every count, because each was written under the read
    /// lock, which the write lock waits out.
    fn total(&self, column: usize) -> u32 {
        let rows = self.rows.iter();
        rows.fold(0, |sum, row| sum.saturating_add(row.open(column)))
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

/// What changes with every use, and is therefore written when the driver settles and without a lock.
impl Board {
    /// How busy `shard` keeps the address at `spot`. From that shard's thread, and while it has a
    /// connection there.
    pub(crate) fn publish_load(&self, shard: ShardId, spot: Spot, load: Load) {
        if let Some(row) = self.rows.get(shard) {
            row.set_load(shard, spot.0, load);
        }
    }

    /// How busy all shards together keep each of `addresses`.
    pub(crate) fn loads(&self, addresses: &[SocketAddr]) -> Box<[Load]> {
        let known = read(&self.addresses);
        let load = |&address: &SocketAddr| match column(&known, address) {
            Some(column) => self.load(column),
            None => Load::default(),
        };
        addresses.iter().map(load).collect()
    }

    fn load(&self, column: usize) -> Load {
        let mut all = Load::default();
        let (mut weight, mut sum) = (0, 0);
        for row in self.rows.iter() {
            let load = row.load(column);
            all.in_use = all.in_use.saturating_add(load.in_use);
            if let Some(latency) = load.latency {
                let open = u128::from(row.open(column).max(1));
                weight += open;
                sum += open * latency.as_nanos();
            }
        }
        let mean = sum.checked_div(weight);
        let mean = mean.and_then(|nanos| u64::try_from(nanos).ok());
        all.latency = mean.map(Duration::from_nanos);
        all
    }
}

/// Who waits for a permit, which is asked with every connection that is given back while another core
/// does: no lock, and one load for each shard.
impl Board {
    /// Since when the oldest get waits for which `shard` has asked for a permit. From that shard's
    /// thread, after the queue for permits was told.
    pub(crate) fn publish_wait(&self, shard: ShardId, since: Option<Tick>) {
        if let Some(row) = self.rows.entry(shard, || Row::new(shard)) {
            row.set_wait(shard, since);
        }
    }

    /// What `shard` has published.
    #[cfg(feature = "sim")]
    pub(crate) fn wait_of(&self, shard: ShardId) -> Option<Tick> {
        self.rows.get(shard)?.wait()
    }

    /// Since when the oldest such get of any other shard waits.
    #[inline]
    pub(crate) fn wait_elsewhere(&self, shard: ShardId) -> Option<Tick> {
        let rows = self.rows.indexed();
        let others = rows.filter(|(index, _)| *index != shard.index());
        others.filter_map(|(_, row)| row.wait()).min()
    }
}

fn column(addresses: &[Place], address: SocketAddr) -> Option<usize> {
    addresses.iter().position(|known| known.address == address)
}

#[cfg(test)]
mod tests;
