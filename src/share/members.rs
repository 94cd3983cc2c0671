//! Shards of a group come and go, and the rest must be able to tell one of them something without
//! knowing whether it is still there. [`Members`] has a seat for each, and a bell in each seat.
//!
//! Promise: a notice reaches the shard that it was meant for, or nobody; notices of one endpoint
//! coalesce, and so do those of names; what a shard that sits down hears is meant for itself.
//!
//! States of a seat: free, live, leaving.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::ShardId;
use super::registry::EndpointId;
use super::sync::{AtomicBool, Mutex, Ordering, RwLock, lock, read, write};
use super::wake::Wake;

/// The shards of a group, and how to reach them.
#[derive(Debug)]
pub(super) struct Members {
    seats: RwLock<Vec<Seat>>,
}

#[derive(Debug, Default)]
struct Seat {
    epoch: u32,
    state: SeatState,
}

#[derive(Debug, Default)]
pub(super) enum SeatState {
    #[default]
    Free,
    Live(Arc<Bell>),
    Leaving,
}

/// How one shard is told.
#[derive(Debug)]
pub(super) struct Bell {
    pub(super) wake: Arc<Wake>,
    /// Bounded by the number of endpoints.
    notices: Mutex<BTreeSet<EndpointId>>,
    /// A question that the shard follows has ended, or lost its leader.
    names: AtomicBool,
}

impl Bell {
    /// Moves the notices to the end of `into`.
    pub(super) fn drain_notices(&self, into: &mut Vec<EndpointId>) {
        into.extend(std::mem::take(&mut *lock(&self.notices)));
    }

    /// Whether there was news of names.
    pub(super) fn take_names(&self) -> bool {
        // As in `Wake::take`: nearly always there is nothing.
        self.names.load(Ordering::Acquire) && self.names.swap(false, Ordering::AcqRel)
    }
}

impl Members {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            seats: RwLock::new((0..shards).map(|_| Seat::default()).collect()),
        }
    }

    pub(super) fn join(&self) -> Option<(ShardId, Arc<Bell>)> {
        let mut seats = write(&self.seats);
        // An index whose epochs are used up is not taken again.
        let (index, seat) = seats
            .iter_mut()
            .enumerate()
            .find(|(_, seat)| matches!(seat.state, SeatState::Free) && seat.epoch < u32::MAX - 1)?;
        let bell = Arc::new(Bell {
            wake: Arc::new(Wake::new()),
            notices: Mutex::new(BTreeSet::new()),
            names: AtomicBool::new(false),
        });
        seat.epoch += 1;
        seat.state = SeatState::Live(bell.clone());
        Some((ShardId::new(index, seat.epoch), bell))
    }

    pub(super) fn set(&self, shard: ShardId, state: SeatState) {
        write(&self.seats)[shard.index()].state = state;
    }

    /// The shards that are there.
    #[cfg(test)]
    pub(super) fn live(&self) -> Vec<ShardId> {
        let seats = read(&self.seats);
        let live = seats.iter().enumerate();
        live.filter(|(_, seat)| matches!(seat.state, SeatState::Live(_)))
            .map(|(index, seat)| ShardId::new(index, seat.epoch))
            .collect()
    }

    /// As if the seat had had so many tenants.
    #[cfg(all(test, not(ringpool_loom)))]
    pub(super) fn set_epoch(&self, index: usize, epoch: u32) {
        write(&self.seats)[index].epoch = epoch;
    }

    /// Tells `shard`, if it is still there, to look at `endpoint`.
    pub(super) fn notify(&self, shard: ShardId, endpoint: EndpointId) {
        if let Some(bell) = self.bell(shard) {
            lock(&bell.notices).insert(endpoint);
            bell.wake.wake();
        }
    }

    /// Tells all that are there but `shard` to look at `endpoint`.
    pub(super) fn notify_others(&self, shard: ShardId, endpoint: EndpointId) {
        let seats = read(&self.seats);
        let live = seats
            .iter()
            .enumerate()
            .map(|(index, seat)| match &seat.state {
                SeatState::Live(bell) if index != shard.index() => Some(bell.clone()),
                _ => None,
            });
        let others: Vec<Arc<Bell>> = live.flatten().collect();
        drop(seats);
        for bell in others {
            lock(&bell.notices).insert(endpoint);
            bell.wake.wake();
        }
    }

    /// Tells `shard`, if it is still there, to look at the questions that it follows.
    pub(super) fn notify_names(&self, shard: ShardId) {
        if let Some(bell) = self.bell(shard) {
            bell.names.store(true, Ordering::Release);
            bell.wake.wake();
        }
    }

    fn bell(&self, shard: ShardId) -> Option<Arc<Bell>> {
        match read(&self.seats).get(shard.index()) {
            Some(seat) if seat.epoch == shard.epoch => match &seat.state {
                SeatState::Live(bell) => Some(bell.clone()),
                SeatState::Free | SeatState::Leaving => None,
            },
            _ => None,
        }
    }
}
