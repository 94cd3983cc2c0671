//! Cores that share an endpoint must find the same account of it, know who else is there, and
//! take over what a core that ends leaves behind. [`Registry`] is where they meet: one for each
//! group of shards.
//!
//! Promise: shards and endpoints are bounded; an endpoint that any shard uses is never dropped; a
//! [`Member`] that is dropped gives back all its permits, counts and requests, those who profit
//! are woken, and only then may another shard take its index, under a new epoch.
//!
//! A notice is the id of an endpoint of which the shard should ask
//! [`SharedEndpoint::take_granted`] and [`SharedEndpoint::demand`].

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use super::board::Board;
use super::members::{Bell, Members, SeatState};
use super::names::Names;
use super::permits::{Acquire, Concerned, Permits};
use super::published::Published;
use super::sync::{Mutex, lock};
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

/// The meeting place of a group of shards. `K` names an endpoint.
#[derive(Debug)]
pub(crate) struct Registry<K> {
    limits: Limits,
    members: Arc<Members>,
    endpoints: Mutex<Endpoints<K>>,
    names: Names,
}

#[derive(Debug)]
struct Endpoints<K> {
    by_key: HashMap<K, Arc<SharedEndpoint>>,
    made: u64,
}

/// What all shards share of one endpoint.
#[derive(Debug)]
pub(crate) struct SharedEndpoint {
    id: EndpointId,
    permits: Permits,
    board: Board,
    published: Published,
    members: Arc<Members>,
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
        let limits = &self.limits;
        let shared = Arc::new(SharedEndpoint {
            id: EndpointId(endpoints.made),
            permits: Permits::new(limits.permits),
            board: Board::new(limits.shards),
            published: Published::new(limits.shards, limits.gauges, limits.counters),
            members: self.members.clone(),
        });
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
            let concerned = shared.permits.forget(shard);
            told.extend(concerned.into_iter().map(|other| (other, shared.id)));
            shared.board.forget(shard);
            shared.published.forget(shard);
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
        all.sort_unstable_by_key(|shared| shared.id);
        all
    }

    /// Drops the oldest endpoint that nobody uses. Under the lock nobody can begin to use it.
    fn evict(&mut self) -> bool {
        let unused = |shared: &Arc<SharedEndpoint>| {
            Arc::strong_count(shared) == 1 && shared.permits.in_use() == 0
        };
        let oldest = self
            .by_key
            .values()
            .filter(|shared| unused(shared))
            .map(|shared| shared.id)
            .min();
        let Some(oldest) = oldest else {
            return false;
        };
        self.by_key.retain(|_, shared| shared.id != oldest);
        true
    }
}

impl SharedEndpoint {
    /// The name of the endpoint in notices.
    pub(crate) fn id(&self) -> EndpointId {
        self.id
    }

    /// Asks for the right to hold one connection more.
    pub(crate) fn acquire(&self, shard: ShardId, now: Tick) -> Acquire {
        let (answer, concerned) = self.permits.acquire(shard, now);
        self.tell(concerned);
        answer
    }

    /// Takes the queued request back; if it was granted meanwhile and not collected, the permit
    /// goes on to the next.
    pub(crate) fn withdraw(&self, shard: ShardId) {
        self.tell(self.permits.withdraw(shard));
    }

    /// Since when the oldest waiter waits for whom `shard` asked for a permit.
    pub(crate) fn renew(&self, shard: ShardId, since: Tick) {
        self.permits.renew(shard, since);
    }

    /// Gives one permit of `shard` back; it goes to the shard that has waited longest.
    pub(crate) fn release(&self, shard: ShardId) {
        self.tell(self.permits.release(shard));
    }

    /// `shard` lets go of the endpoint: its gauges are nothing, its counters stay in the totals.
    pub(crate) fn retire(&self, shard: ShardId) {
        self.published.retire(shard);
    }

    /// Whether the queued request of `shard` was granted; says so once.
    pub(crate) fn take_granted(&self, shard: ShardId) -> bool {
        self.permits.take_granted(shard)
    }

    /// Since when another shard waits for a permit.
    pub(crate) fn demand(&self, shard: ShardId) -> Option<Tick> {
        self.permits.oldest_other(shard)
    }

    /// How many connections all shards may hold.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn limit(&self) -> u32 {
        self.permits.limit()
    }

    /// How many permits all shards hold.
    pub(crate) fn in_use(&self) -> u32 {
        self.permits.in_use()
    }

    /// How many permits `shard` holds.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn held(&self, shard: ShardId) -> u32 {
        self.permits.held(shard)
    }

    /// The connections by address.
    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    /// The statistics.
    pub(crate) fn published(&self) -> &Published {
        &self.published
    }

    fn tell(&self, concerned: Concerned) {
        for shard in concerned {
            self.members.notify(shard, self.id);
        }
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
