//! Cores that share an endpoint must find the same account of it, know who else is there, and
//! take over what a core that ends leaves behind. [`Registry`] is where they meet: one for each
//! group of shards.
//!
//! Promise: shards and endpoints are bounded; an endpoint that any shard uses is never dropped; a
//! [`Member`] that is dropped gives back all its permits, counts and requests, those who profit
//! are woken, and only then may another shard take its index, under a new epoch.
//!
//! A notice is the id of an endpoint that the shard should look at again: a grant
//! ([`SharedEndpoint::take_granted`]), a demand ([`SharedEndpoint::demand`]), a slot, or an address
//! that is out.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use super::endpoint::SharedEndpoint;
use super::members::{Bell, Members, SeatState};
use super::names::Names;
use super::sync::{Mutex, lock};
use super::total::Total;
use super::wake::Wake;
use super::{MAX_SHARDS, ShardId};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Tick;

/// The sizes of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Shards at once, at most [`MAX_SHARDS`].
    pub(crate) shards: usize,
    /// Endpoints, of all shards together.
    pub(crate) endpoints: usize,
    /// Connections of one endpoint, of all shards together.
    pub(crate) permits: u32,
    /// Connections of all endpoints and shards together, if that is limited.
    pub(crate) total: Option<u32>,
    /// Figures per endpoint and shard that are dropped when the shard ends.
    pub(crate) gauges: usize,
    /// Figures per endpoint and shard that outlive it.
    pub(crate) counters: usize,
    /// For how long after its expiry an answer may serve when no better one can be had.
    pub(crate) stale: Duration,
}

/// An endpoint in messages between shards. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EndpointId(u64);

impl EndpointId {
    /// In a notice: look at [`Registry::total_demand`].
    pub(crate) const ALL: Self = Self(0);
}

/// The meeting place of a group of shards. `K` names an endpoint.
#[derive(Debug)]
pub(crate) struct Registry<K> {
    limits: Limits,
    members: Arc<Members>,
    endpoints: Mutex<Endpoints<K>>,
    total: Option<Arc<Total>>,
    names: Names,
}

#[derive(Debug)]
struct Endpoints<K> {
    by_key: HashMap<K, Arc<SharedEndpoint>>,
    made: u64,
}

/// A shard's place in its group. Dropping it is leaving.
#[derive(Debug)]
pub(crate) struct Member<K: Eq + Hash + Clone> {
    id: ShardId,
    bell: Arc<Bell>,
    registry: Arc<Registry<K>>,
}

impl<K: Eq + Hash + Clone> Registry<K> {
    /// An empty group.
    pub(crate) fn new(limits: Limits) -> Self {
        let limits = Limits {
            shards: limits.shards.min(MAX_SHARDS),
            ..limits
        };
        let members = Arc::new(Members::new(limits.shards));
        Self {
            limits,
            total: limits.total.map(|limit| Arc::new(Total::new(limit))),
            names: Names::new(members.clone(), limits.stale),
            members,
            endpoints: Mutex::new(Endpoints {
                by_key: HashMap::new(),
                made: 0,
            }),
        }
    }

    /// What the group knows of names.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Takes a free index for a new shard.
    pub(crate) fn join(self: &Arc<Self>) -> Result<Member<K>> {
        let Some((id, bell)) = self.members.join() else {
            let most = self.limits.shards;
            let message = format!("the group has {most} shards already, the most it may have");
            return Err(Error::new(ErrorKind::Exhausted, message));
        };
        Ok(Member {
            id,
            bell,
            registry: self.clone(),
        })
    }

    /// What is shared of the endpoint `key`; made on the first call. Whoever uses the endpoint
    /// keeps the `Arc`: one that nobody keeps makes room for a new one when the table is full.
    pub(crate) fn shared(&self, key: &K) -> Result<Arc<SharedEndpoint>> {
        let mut endpoints = lock(&self.endpoints);
        if let Some(shared) = endpoints.by_key.get(key) {
            return Ok(shared.clone());
        }
        // Each shard keeps at most as many as `limits.endpoints`; beyond that, those that no shard
        // keeps go first.
        let most = self.limits.endpoints.saturating_mul(self.limits.shards);
        if endpoints.by_key.len() >= self.limits.endpoints
            && !endpoints.evict()
            && endpoints.by_key.len() >= most
        {
            let message = format!("all {most} endpoints that the group may know are in use");
            return Err(Error::new(ErrorKind::Exhausted, message));
        }
        endpoints.made += 1;
        let shared = Arc::new(SharedEndpoint::new(
            EndpointId(endpoints.made),
            &self.limits,
            self.total.clone(),
            self.members.clone(),
        ));
        endpoints.by_key.insert(key.clone(), shared.clone());
        Ok(shared)
    }

    /// Every endpoint, for statistics.
    pub(crate) fn endpoints(&self) -> Vec<(K, Arc<SharedEndpoint>)> {
        let endpoints = lock(&self.endpoints);
        let entries = endpoints.by_key.iter();
        entries
            .map(|(key, shared)| (key.clone(), shared.clone()))
            .collect()
    }

    /// Since when somebody waits, with an endpoint's permit, for one of the process.
    pub(crate) fn total_demand(&self) -> Option<Tick> {
        self.total.as_ref().and_then(|total| total.oldest())
    }

    /// `shard` closes a connection for the one who waits longest for a permit of the process.
    pub(crate) fn promise_total(&self, shard: ShardId, now: Tick) {
        let news = self.total.as_ref().map(|total| total.promise(shard, now));
        for (other, endpoint) in news.into_iter().flatten() {
            self.members.notify(other, endpoint);
        }
    }

    /// How many connections all shards hold to all endpoints, if that is limited.
    #[cfg(test)]
    pub(super) fn total_in_use(&self) -> u32 {
        self.total.as_ref().map_or(0, |total| total.in_use())
    }

    /// The shards that are there.
    #[cfg(test)]
    pub(crate) fn live(&self) -> Vec<ShardId> {
        self.members.live()
    }

    fn leave(&self, shard: ShardId, bell: &Bell) {
        self.members.set(shard, SeatState::Leaving);
        bell.wake.silence();
        // Told after the lock is released: a waker may run a scheduler's code.
        let mut told = Vec::new();
        for shared in lock(&self.endpoints).by_age() {
            let concerned = shared.forget(shard);
            told.extend(concerned.into_iter().map(|other| (other, shared.id())));
        }
        if let Some(total) = &self.total {
            told.extend(total.forget(shard));
        }
        for (other, endpoint) in told {
            self.members.notify(other, endpoint);
        }
        self.names.abandon(shard);
        self.members.set(shard, SeatState::Free);
    }
}

impl<K> Endpoints<K> {
    /// All of them, the oldest first: the map's own order is another one in each process.
    fn by_age(&self) -> Vec<&Arc<SharedEndpoint>> {
        let mut all: Vec<_> = self.by_key.values().collect();
        all.sort_unstable_by_key(|shared| shared.id());
        all
    }

    /// Drops the oldest endpoint that nobody uses. Under the lock nobody can begin to use it.
    fn evict(&mut self) -> bool {
        let unused =
            |shared: &Arc<SharedEndpoint>| Arc::strong_count(shared) == 1 && shared.in_use() == 0;
        let oldest = self
            .by_key
            .values()
            .filter(|shared| unused(shared))
            .map(|shared| shared.id())
            .min();
        let Some(oldest) = oldest else {
            return false;
        };
        self.by_key.retain(|_, shared| shared.id() != oldest);
        true
    }
}

impl<K: Eq + Hash + Clone> Member<K> {
    /// Who this is.
    pub(crate) fn id(&self) -> ShardId {
        self.id
    }

    /// The group.
    #[cfg(test)]
    pub(crate) fn registry(&self) -> &Arc<Registry<K>> {
        &self.registry
    }

    /// The shard's bell.
    pub(crate) fn wake(&self) -> &Arc<Wake> {
        &self.bell.wake
    }

    /// Moves the notices to the end of `into`.
    pub(crate) fn drain_notices(&self, into: &mut Vec<EndpointId>) {
        self.bell.drain_notices(into);
    }

    /// Tells the shard once more to look at `endpoint`.
    #[cfg(feature = "sim")]
    pub(crate) fn remind(&self, endpoint: EndpointId) {
        self.registry.members.notify(self.id, endpoint);
    }

    /// Whether a question that the shard follows has ended or lost its leader; says so once.
    pub(crate) fn take_names(&self) -> bool {
        self.bell.take_names()
    }
}

impl<K: Eq + Hash + Clone> Drop for Member<K> {
    fn drop(&mut self) {
        self.registry.leave(self.id, &self.bell);
    }
}

#[cfg(test)]
mod tests;
