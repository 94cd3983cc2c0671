//! What a shard says of itself: figures for operators, and the trace of what went in and out of
//! its policy for whoever must understand one.

use std::time::Duration;

use super::Shard;
use super::core::Core;

/// Figures of one core's shard, from its start.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// System calls made to submit operations or to wait for them (io_uring_enter(2)).
    pub enters: u64,
    /// Operations that the kernel took.
    pub operations: u64,
    /// Completions that the kernel gave.
    pub completions: u64,
    /// Completions that belonged to no operation any more; they were dropped.
    pub stale_completions: u64,
    /// Receives that ended because no buffer was left.
    pub receives_starved: u64,
    /// Receives armed again after that.
    pub receives_rearmed: u64,
    /// Received pieces that were copied out of the kernel's buffers because those ran short.
    pub pieces_copied: u64,
    /// Times that the completion queue had overflowed; nothing is lost by it.
    pub overflows: u64,
    /// Receive buffers that the kernel may fill now.
    pub buffers_free: u64,
    /// Receive buffers that hold bytes nobody has read, or that a `Chunk` lends.
    pub buffers_lent: u64,
    /// Facts that did not fit what the policy knew; they were ignored.
    pub events_ignored: u64,
    /// Panics of hooks, protocols, jobs and wakers; they were contained.
    pub panics: u64,
}

/// One entry of a trace: what the pool was told, or what it decided.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceRecord {
    /// When, since the first shard of the process read its clock.
    pub at: Duration,
    /// What, in words made for people: their form may change.
    pub what: String,
}

/// A recorded trace.
#[non_exhaustive]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// The newest records, oldest first.
    pub records: Vec<TraceRecord>,
    /// How many older ones had to go.
    pub dropped: u64,
}

impl Shard {
    pub(crate) fn shard_stats(&self) -> ShardStats {
        let panics = self.panics.get();
        self.enter(|core| ShardStats {
            panics,
            ..core.shard_stats()
        })
    }

    pub(crate) fn start_trace(&self, capacity: usize) {
        self.enter(|core| {
            // What is in the hand is not recorded.
            core.policy.empty_hand();
            core.tap.switch_on(capacity);
        });
    }

    pub(crate) fn take_trace(&self) -> Trace {
        let (records, dropped) = self.enter(|core| core.tap.take());
        let records = records.into_iter().map(|record| TraceRecord {
            at: Duration::from_nanos(record.at.as_nanos()),
            what: record.what.to_string(),
        });
        Trace {
            records: records.collect(),
            dropped,
        }
    }
}

impl Core {
    fn shard_stats(&self) -> ShardStats {
        let ring = self.backend.stats();
        let (free, all) = self.backend.buffers();
        ShardStats {
            enters: ring.enters,
            operations: ring.sqes,
            completions: ring.cqes,
            stale_completions: ring.stale_cqes,
            receives_starved: ring.enobufs,
            receives_rearmed: ring.rearms,
            pieces_copied: ring.copied,
            overflows: ring.overflows,
            buffers_free: free as u64,
            buffers_lent: all.saturating_sub(free) as u64,
            events_ignored: self.policy.ignored_events(),
            panics: 0,
        }
    }
}
