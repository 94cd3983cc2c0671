//! Cores that each keep a limit of their own either exceed the endpoint's limit together or leave
//! part of it unused. [`Permits`] is the one account of the whole process: to hold a connection
//! is to hold a permit, from before it is opened until it is closed.
//!
//! Promise: the permits in use never exceed the limit, and are exactly those that living shards
//! hold; while one is free nobody is queued; a freed one goes to the shard that has waited
//! longest; a shard that ends gives back all it held. Touched at opening and closing, never on a
//! hit.
//!
//! A shard has at most one request per endpoint outstanding; `ledger` has its states.
//!
//! Another way to serve a request is a connection with its permit, which `offers` keeps the
//! account of: who asks puts a slot beside its request, who has one to spare claims it. What is
//! claimed is being served, and no demand to anybody else until that takes too long.

use std::time::Duration;

use super::ShardId;
use super::ledger::{Acquire, Demand, Ledger};
use super::offers::{Claim, Offers, Service, Withdrawn};
use super::sync::{Mutex, lock};
use super::total::Total;
use crate::slot::Key;
use crate::time::Tick;

/// The shards that must be told to look at an endpoint again: they were granted a permit, their
/// slot has come back, or the demand that they know of has changed. Empty, and not allocated,
/// while nobody waits.
pub(super) type Concerned = Vec<ShardId>;

/// How long a connection may be on its way. A giver that takes longer stands still, and the request
/// is a demand to the others again; from a receiver that takes longer a giver may take it back.
pub(crate) const STALLED: Duration = Duration::from_millis(250);

/// The right to hold connections of one endpoint.
#[derive(Debug)]
pub(super) struct Permits {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ledger: Ledger<ShardId>,
    offers: Offers,
}

impl Permits {
    /// `limit` permits, all free.
    pub(super) fn new(limit: u32) -> Self {
        let state = State {
            ledger: Ledger::new(limit),
            offers: Offers::default(),
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// Asks for one permit. A request that is queued already keeps its place; a grant that was not
    /// collected is collected.
    pub(super) fn acquire(&self, shard: ShardId, now: Tick) -> (Acquire, Concerned) {
        let mut state = lock(&self.state);
        match state.ledger.acquire(shard, now) {
            Acquire::Granted => (Acquire::Granted, Vec::new()),
            Acquire::Queued => (Acquire::Queued, state.concerned(Vec::new())),
        }
    }

    /// Gives one permit of `shard` back.
    pub(super) fn release(&self, shard: ShardId) -> Concerned {
        let mut state = lock(&self.state);
        debug_assert!(
            state.own(shard) == 0 || state.own(shard) > state.offers.claims_of(shard),
            "{shard:?} gives back a permit that it is giving away"
        );
        let granted = state.ledger.release(shard);
        state.concerned(granted)
    }

    /// Takes the request of `shard` back: out of the queue, or, if it was granted and not
    /// collected, by handing the permit on.
    pub(super) fn withdraw(&self, shard: ShardId) -> Concerned {
        let mut state = lock(&self.state);
        match state.ledger.withdraw(shard) {
            Some(granted) => state.concerned(granted),
            None => Vec::new(),
        }
    }

    /// The oldest of those for whom `shard` wants the permit it asked for waits since `since`.
    /// Nobody is told: who holds permits asks when it matters.
    pub(super) fn renew(&self, shard: ShardId, since: Tick) {
        lock(&self.state).ledger.renew(shard, since);
    }

    /// Since when the queued request of `shard` had waited, if it was granted; says so once.
    pub(super) fn take_granted(&self, shard: ShardId) -> Option<Tick> {
        lock(&self.state).ledger.collect(shard)
    }

    /// Since when the oldest queued request of another shard waits; if somebody has claimed it, when
    /// that will have taken too long.
    pub(super) fn oldest_other(&self, shard: ShardId) -> Option<Tick> {
        lock(&self.state).demand().of_others(shard)
    }

    /// Takes back all that `shard` holds and wants: it has ended. What it still says is ignored.
    pub(super) fn forget(&self, shard: ShardId) -> Concerned {
        let mut state = lock(&self.state);
        let Some(mut told) = state.ledger.forget(shard) else {
            return Vec::new();
        };
        told.extend(state.offers.forget(shard));
        state.concerned(told)
    }

    /// How many permits are held, by all shards.
    pub(super) fn in_use(&self) -> u32 {
        lock(&self.state).ledger.in_use()
    }

    /// How many permits `shard` holds, a grant that it has not collected included.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn held(&self, shard: ShardId) -> u32 {
        lock(&self.state).ledger.held(shard)
    }

    /// How many permits there are.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn limit(&self) -> u32 {
        lock(&self.state).ledger.limit()
    }
}

/// Connections that change cores with their permit.
impl Permits {
    /// Puts `slot` of `shard`, which can receive a connection, beside its queued request. False if
    /// nothing is queued, or another slot has not come back yet. Who looked for a slot before this one
    /// was there must look again.
    pub(super) fn expect(&self, shard: ShardId, slot: Key) -> (bool, Concerned) {
        let mut state = lock(&self.state);
        match state.ledger.is_queued(shard) && state.offers.offer(shard, slot) {
            true => (true, state.offers.take_missed()),
            false => (false, Vec::new()),
        }
    }

    /// `shard` wants no connection any more. If a claim stands in the way, the slot is not free before
    /// [`take_returned`](Self::take_returned) or a parcel says so.
    pub(super) fn unexpect(&self, shard: ShardId) -> (Withdrawn, Concerned) {
        let mut state = lock(&self.state);
        let before = state.offers.service(shard);
        let withdrawn = state.offers.withdraw(shard);
        (withdrawn, state.noticed(before))
    }

    /// Whether [`claim`](Self::claim) would find a slot now; if not, `shard` is told when there is
    /// one.
    pub(super) fn is_claimable(&self, shard: ShardId) -> bool {
        let mut state = lock(&self.state);
        let oldest = state.oldest_demand(shard);
        oldest.is_some_and(|to| state.offers.is_open(shard, to))
    }

    /// The slot of `shard` whose claim has ended without a transfer; says so once. A descriptor may
    /// have arrived there.
    pub(super) fn take_returned(&self, shard: ShardId) -> (Option<Key>, Concerned) {
        let mut state = lock(&self.state);
        let before = state.offers.service(shard);
        let slot = state.offers.take_returned(shard);
        (slot, state.noticed(before))
    }

    /// `shard` wants to give a connection to the oldest request of another shard that nobody has
    /// claimed. None if that one has no slot, for it must not be passed over: a permit helps it.
    pub(super) fn claim(&self, shard: ShardId, now: Tick) -> (Option<Claim>, Concerned) {
        let mut state = lock(&self.state);
        if state.own(shard) <= state.offers.claims_of(shard) {
            return (None, Vec::new());
        }
        let oldest = state.oldest_demand(shard);
        match oldest.and_then(|to| state.offers.claim(shard, to, now)) {
            Some(claim) => (Some(claim), state.concerned(Vec::new())),
            None => (None, Vec::new()),
        }
    }

    /// `shard` gives no more: the claim ends if it has not yet. True if the permit is still
    /// `shard`'s; false if it has moved with the connection. To be asked once for each claim.
    pub(super) fn unclaim(&self, shard: ShardId, claim: Claim) -> (bool, Concerned) {
        self.end(shard, claim, false)
    }

    /// The same where the receiver does not answer: it is no demand until it has noticed.
    pub(super) fn recall(&self, shard: ShardId, claim: Claim) -> (bool, Concerned) {
        self.end(shard, claim, true)
    }

    fn end(&self, shard: ShardId, claim: Claim, recalled: bool) -> (bool, Concerned) {
        let mut state = lock(&self.state);
        if state.offers.take_moved(shard, claim) {
            return (false, Vec::new());
        }
        match state.offers.end(shard, claim, recalled) {
            true => (true, state.concerned(vec![claim.to])),
            false => (true, Vec::new()),
        }
    }

    /// The connection that `from` gave has reached the slot of the claim, whose shard takes it with
    /// its permit: the request and the claim have ended. False, and the claim has ended alone, if
    /// either of them was gone before. The permit of the `total` moves under the same lock, so that
    /// the end of `from`, which comes here first, finds both or neither.
    pub(super) fn transfer(
        &self,
        from: ShardId,
        claim: Claim,
        total: Option<&Total>,
    ) -> (bool, Concerned) {
        let mut state = lock(&self.state);
        let wanted = state.ledger.is_queued(claim.to);
        let before = state.offers.service(claim.to);
        if !state.offers.settle(from, claim, wanted) {
            return (false, state.noticed(before));
        }
        state.ledger.leave_queue(claim.to);
        state.ledger.pass(from, claim.to);
        if let Some(total) = total {
            total.pass(from, claim.to);
        }
        (true, state.concerned(Vec::new()))
    }

    /// `shard` is about to end. Where a connection of its may lie in another shard's slot, a permit
    /// goes with it until [`slot_closed`](Self::slot_closed): the kernel may have delivered what
    /// `shard` can no longer close.
    pub(super) fn bequeath(&self, shard: ShardId, total: Option<&Total>) -> Concerned {
        let mut state = lock(&self.state);
        // A request that waits for the total has a permit of this account alone.
        let of_total = total.map_or(u32::MAX, |total| total.own(shard));
        let spare = state.own(shard).min(of_total);
        let mut told = Vec::new();
        for heir in state.offers.bequeath(shard, spare, &mut told) {
            state.ledger.pass(shard, heir);
            if let Some(total) = total {
                total.pass(shard, heir);
            }
        }
        state.concerned(told)
    }

    /// The slot of `shard`, which other shards could use, is closed. True if it leaves a permit,
    /// which is `shard`'s to give back.
    pub(super) fn slot_closed(&self, shard: ShardId, slot: Key) -> bool {
        lock(&self.state).offers.slot_closed(shard, slot)
    }

    /// How many permits `shard` holds for connections of shards that have ended.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn inherited(&self, shard: ShardId) -> u32 {
        lock(&self.state).offers.inherited(shard)
    }

    /// How many permits have left `shard` without its having asked yet.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn moved(&self, shard: ShardId) -> u32 {
        lock(&self.state).offers.moved_from(shard)
    }
}

impl State {
    /// The permits of connections that are `shard`'s.
    fn own(&self, shard: ShardId) -> u32 {
        let (held, uncollected) = (self.ledger.held(shard), self.ledger.uncollected(shard));
        held.saturating_sub(uncollected + self.offers.inherited(shard))
    }

    /// The requests that others may serve, and since when.
    fn demands(&self) -> impl Iterator<Item = (ShardId, Tick)> {
        let requests = self.ledger.requests();
        requests.filter_map(|(asker, since)| match self.offers.service(asker) {
            Service::Nothing => Some((asker, since)),
            Service::Claimed(at) => Some((asker, since.max(at.plus(STALLED)))),
            Service::Recalled => None,
        })
    }

    /// A shard has perhaps noticed that a connection was called back: then its request is a demand.
    fn noticed(&mut self, before: Service) -> Concerned {
        match before {
            Service::Recalled => self.concerned(Vec::new()),
            _ => Vec::new(),
        }
    }

    /// Whose request is the oldest, of those that are not `shard`'s.
    fn oldest_demand(&self, shard: ShardId) -> Option<ShardId> {
        let others = self.demands().filter(|&(asker, _)| asker != shard);
        others.min_by_key(|&(_, since)| since).map(|(to, _)| to)
    }

    fn demand(&self) -> Demand {
        Demand::of(self.demands())
    }

    /// What the others are told of: who looks then sees also when a claim will have taken too long.
    fn unserved(&self) -> Demand {
        let requests = self.ledger.requests();
        Demand::of(requests.filter(|it| self.offers.service(it.0) == Service::Nothing))
    }

    /// Adds to `told` the shards for whom the demand has changed.
    fn concerned(&mut self, mut told: Concerned) -> Concerned {
        let demand = self.unserved();
        self.ledger
            .retell(&mut told, |shard| demand.of_others(shard));
        told
    }
}

#[cfg(test)]
mod tests;
