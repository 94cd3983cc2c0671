//! Who is asking what, and who waits for it.
//!
//! Promise: a question has at most one leader; whoever is taken off the list of followers is told;
//! nobody is on it twice. Bounded by what the shards ask and follow at once.

use std::collections::{BTreeSet, HashMap};

use crate::dns::Question;
use crate::share::ShardId;
use crate::time::Tick;

/// One question under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) leader: ShardId,
    pub(super) since: Tick,
    /// A leader that has not ended by then has lost its place.
    pub(super) lease: Tick,
    pub(super) followers: BTreeSet<ShardId>,
}

/// The questions under way.
#[derive(Debug, Default)]
pub(super) struct Flights {
    by_question: HashMap<Question, Flight>,
}

impl Flights {
    pub(super) fn get_mut(&mut self, question: &Question) -> Option<&mut Flight> {
        self.by_question.get_mut(question)
    }

    /// `shard` leads from now on. Who followed the one before follows it.
    pub(super) fn lead(&mut self, question: &Question, shard: ShardId, now: Tick, lease: Tick) {
        let before = self.by_question.remove(question);
        let mut followers = before.map_or_else(BTreeSet::new, |flight| flight.followers);
        followers.remove(&shard);
        let flight = Flight {
            leader: shard,
            since: now,
            lease,
            followers,
        };
        self.by_question.insert(question.clone(), flight);
    }

    /// `shard` has an answer. Returns who is to be told; a leader that took over from it goes on.
    #[must_use]
    pub(super) fn end(&mut self, question: &Question, shard: ShardId) -> Vec<ShardId> {
        let Some(flight) = self.by_question.get_mut(question) else {
            return Vec::new();
        };
        let told = std::mem::take(&mut flight.followers);
        if flight.leader == shard {
            self.by_question.remove(question);
        }
        told.into_iter().collect()
    }

    /// What `shard` leads is not late before `lease`.
    pub(super) fn renew(&mut self, shard: ShardId, lease: Tick) {
        let led = self.by_question.values_mut();
        for flight in led.filter(|flight| flight.leader == shard) {
            flight.lease = flight.lease.max(lease);
        }
    }

    /// `shard` has gone. Returns who followed it: the first of them to come back leads.
    #[must_use]
    pub(super) fn abandon(&mut self, shard: ShardId) -> Vec<ShardId> {
        let mut told = BTreeSet::new();
        self.by_question.retain(|_, flight| {
            flight.followers.remove(&shard);
            if flight.leader != shard {
                return true;
            }
            told.append(&mut flight.followers);
            false
        });
        told.into_iter().collect()
    }

    /// Nobody leads any more. Returns who followed.
    #[must_use]
    pub(super) fn clear(&mut self) -> Vec<ShardId> {
        let mut told = BTreeSet::new();
        for (_, mut flight) in self.by_question.drain() {
            told.append(&mut flight.followers);
        }
        told.into_iter().collect()
    }

    #[cfg(any(test, feature = "sim"))]
    pub(super) fn len(&self) -> usize {
        self.by_question.len()
    }
}
