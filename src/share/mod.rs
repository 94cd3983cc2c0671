//! What cores share: who holds how many connections of an endpoint, the right to hold one more,
//! the names that were resolved, and the means to wake each other. Everything else belongs to one
//! core alone.
//!
//! Promise: nothing here is touched on a hit; no file does I/O or reads a clock; every table is
//! bounded; what a core held is taken back when it ends, and a core that takes over its number
//! starts from nothing.

#[cfg(feature = "bench")]
pub(crate) mod bench;
mod board;
mod eject;
mod endpoint;
mod latest;
mod ledger;
mod mailbox;
mod members;
mod mesh;
mod names;
mod offers;
mod per_shard;
mod permits;
mod published;
mod registry;
mod row;
mod sync;
mod total;
mod wake;

use std::fmt;

pub(crate) use board::{Column, Load, Spot};
pub(crate) use endpoint::SharedEndpoint;
pub(crate) use latest::{Latest, Seen, Turns};
pub(crate) use ledger::Acquire;
pub(crate) use mailbox::Mailbox;
pub(crate) use mesh::{Mesh, Parcel, Post};
#[cfg(feature = "sim")]
pub(crate) use names::MAX_NAMES;
pub(crate) use names::{Heard, LEAST_SLEEP, Turn};
pub(crate) use offers::{Claim, Withdrawn};
pub(crate) use permits::STALLED;
pub(crate) use registry::{EndpointId, Limits, Member, Registry};
pub(crate) use wake::Wake;

/// How many shards one group may have at once.
pub(crate) const MAX_SHARDS: usize = 256;

/// A shard of a group. The index is reused when a shard has left, the pair with the epoch is not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ShardId {
    index: u16,
    epoch: u32,
}

impl ShardId {
    /// The `epoch`-th tenant of `index`, counted from 1.
    fn new(index: usize, epoch: u32) -> Self {
        debug_assert!(index < MAX_SHARDS);
        Self {
            index: index as u16,
            epoch,
        }
    }

    /// The place in tables that have one entry for each shard.
    pub(crate) fn index(self) -> usize {
        usize::from(self.index)
    }
}

impl fmt::Debug for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {}", self.index)?;
        if self.epoch == 1 {
            return Ok(());
        }
        write!(f, " (epoch {})", self.epoch)
    }
}
