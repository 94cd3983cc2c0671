//! The limits of many endpoints add up to more than a process may hold. [`Total`] is one more
//! account over all of them: a shard that has the endpoint's permit asks here for the second.
//!
//! Promise: what all endpoints hold together never exceeds the limit; a freed permit goes to the
//! request whose waiter has waited longest, whatever its endpoint; a shard that ends gives back all
//! it held.
//!
//! A request holds its endpoint's permit while it waits here, and one that holds a permit of this
//! account never waits for its endpoint: the order is always the same, so nobody waits in a circle.

use super::STALLED;
use super::ShardId;
use super::ledger::{Acquire, Asker, Ledger};
use super::registry::EndpointId;
use super::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::time::Tick;

/// Who asks: a shard may ask once for each endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) shard: ShardId,
    pub(super) endpoint: EndpointId,
}

impl Asker for Request {
    fn shard(self) -> ShardId {
        self.shard
    }
}

/// Who must be told, and to look at what: requests that were granted, and
/// [`EndpointId::ALL`] for shards to which the demand has changed.
pub(super) type News = Vec<(ShardId, EndpointId)>;

/// The right to hold connections, of all endpoints together.
#[derive(Debug)]
pub(super) struct Total {
    state: Mutex<State>,
    /// The demand, for those who only look: as nanoseconds, or [`NOBODY`].
    oldest: AtomicU64,
}

/// Nobody waits.
const NOBODY: u64 = u64::MAX;

#[derive(Debug)]
struct State {
    ledger: Ledger<Request>,
    /// Who closes a connection for who waits, and since when: its permit comes to the queue. The
    /// oldest first; no more of one shard than it holds permits.
    promised: Vec<(ShardId, Tick)>,
}

impl Total {
    /// `limit` permits, all free.
    pub(super) fn new(limit: u32) -> Self {
        Self {
            state: Mutex::new(State {
                ledger: Ledger::new(limit),
                promised: Vec::new(),
            }),
            oldest: AtomicU64::new(NOBODY),
        }
    }

    /// What changed is told, and seen by those who look.
    fn news(&self, state: &mut State, granted: Vec<Request>) -> News {
        let demand = state.demand();
        self.publish(demand);
        state.news(demand, granted)
    }

    fn publish(&self, demand: Option<Tick>) {
        let oldest = demand.map_or(NOBODY, Tick::as_nanos);
        self.oldest.store(oldest, Ordering::Relaxed);
    }

    /// Asks for one permit for a request that waits since `since`.
    pub(super) fn acquire(&self, request: Request, since: Tick) -> (Acquire, News) {
        let mut state = lock(&self.state);
        match state.ledger.acquire(request, since) {
            Acquire::Granted => (Acquire::Granted, News::new()),
            Acquire::Queued => (Acquire::Queued, self.news(&mut state, Vec::new())),
        }
    }

    /// Whether the request waits here, or was granted and not collected.
    pub(super) fn knows(&self, request: Request) -> bool {
        lock(&self.state).ledger.is_known(request)
    }

    /// Gives one permit of `shard` back.
    pub(super) fn release(&self, shard: ShardId) -> News {
        let mut state = lock(&self.state);
        let kept = state.promised.iter().position(|it| it.0 == shard);
        if let Some(at) = kept {
            state.promised.remove(at);
        }
        let granted = state.ledger.release(shard);
        self.news(&mut state, granted)
    }

    /// Takes the request back, or hands on what it was granted. `None` if there was none.
    pub(super) fn withdraw(&self, request: Request) -> Option<News> {
        let mut state = lock(&self.state);
        let granted = state.ledger.withdraw(request)?;
        Some(self.news(&mut state, granted))
    }

    /// The request waits since `since`.
    pub(super) fn renew(&self, request: Request, since: Tick) {
        let mut state = lock(&self.state);
        state.ledger.renew(request, since);
        self.publish(state.demand());
    }

    /// Whether the request was granted; says so once.
    pub(super) fn take_granted(&self, request: Request) -> bool {
        lock(&self.state).ledger.collect(request).is_some()
    }

    /// `shard` closes a connection for who waits here: the first request that nobody does so for is
    /// no demand any more, until `shard` has given a permit back, or for [`STALLED`].
    pub(super) fn promise(&self, shard: ShardId, now: Tick) -> News {
        let mut state = lock(&self.state);
        let is_due = state.demand().is_some_and(|since| since <= now);
        let own = state.promised.iter().filter(|it| it.0 == shard).count();
        if state.ledger.held(shard) as usize > own && is_due {
            state.promised.push((shard, now));
        }
        self.news(&mut state, Vec::new())
    }

    /// Since when the oldest request waits here for which nobody closes a connection. The shard that
    /// made it counts like any other: its connections to other endpoints help too. Where somebody
    /// does so for each, this is the moment at which the first of them stands still.
    pub(super) fn oldest(&self) -> Option<Tick> {
        let oldest = self.oldest.load(Ordering::Relaxed);
        (oldest != NOBODY).then(|| Tick::from_nanos(oldest))
    }

    /// How many permits `shard` has for connections.
    pub(super) fn own(&self, shard: ShardId) -> u32 {
        let state = lock(&self.state);
        let (held, uncollected) = (state.ledger.held(shard), state.ledger.uncollected(shard));
        held.saturating_sub(uncollected)
    }

    /// Who must hear of the demand and has not: permits that moved may be the first of their shard.
    pub(super) fn tell(&self) -> News {
        self.news(&mut lock(&self.state), Vec::new())
    }

    /// Moves one permit from hand to hand; [`tell`](Self::tell) is to follow.
    pub(super) fn pass(&self, from: ShardId, to: ShardId) {
        lock(&self.state).ledger.pass(from, to);
    }

    /// Takes back all that `shard` holds and wants: it has ended. What it still says is ignored.
    pub(super) fn forget(&self, shard: ShardId) -> News {
        let mut state = lock(&self.state);
        match state.ledger.forget(shard) {
            Some(granted) => {
                state.promised.retain(|it| it.0 != shard);
                self.news(&mut state, granted)
            }
            None => News::new(),
        }
    }

    /// How many permits are held, by all shards.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> u32 {
        lock(&self.state).ledger.in_use()
    }
}

impl State {
    /// What is promised goes to those whose waiters are oldest, whatever their place in the queue.
    fn demand(&self) -> Option<Tick> {
        let waits = self.ledger.requests().map(|(_, since)| since);
        if self.promised.is_empty() {
            return waits.min();
        }
        let mut waits: Vec<_> = waits.collect();
        waits.sort_unstable();
        // When so many promises are still good, that many waiters are served by them.
        let only = |good: usize| match self.promised.len().checked_sub(good + 1) {
            None => Some(Tick::ZERO),
            Some(last) => self.promised.get(last).map(|it| it.1.plus(STALLED)),
        };
        let unserved = waits.iter().take(self.promised.len() + 1).enumerate();
        let moments = unserved.filter_map(|(good, since)| Some((*since).max(only(good)?)));
        moments.min()
    }

    fn news(&mut self, demand: Option<Tick>, granted: Vec<Request>) -> News {
        let mut told = Vec::new();
        self.ledger.retell(&mut told, |_| demand);
        let granted = granted.into_iter();
        granted
            .map(|request| (request.shard, request.endpoint))
            .chain(told.into_iter().map(|shard| (shard, EndpointId::ALL)))
            .collect()
    }
}

#[cfg(test)]
mod tests;
