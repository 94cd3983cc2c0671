//! What all shards share of one endpoint: the account of its permits, the board, the statistics, and
//! who is told when one of them changes. [`SharedEndpoint`] puts these together.
//!
//! Promise: whoever must look at something after a call is told before the call returns, and after
//! every lock is released: a waker may run a scheduler's code.
//!
//! Where the process has a limit of its own, a request goes on to `total` when it has the endpoint's
//! permit, and is granted when it has both.

use std::net::SocketAddr;
use std::sync::Arc;

use super::ShardId;
use super::board::Board;
use super::eject::Ejections;
use super::ledger::Acquire;
use super::members::Members;
use super::offers::{Claim, Withdrawn};
use super::permits::{Concerned, Permits};
use super::published::Published;
use super::registry::{EndpointId, Limits};
use super::total::{News, Request, Total};
use crate::policy::event::Verdict;
use crate::slot::Key;
use crate::time::Tick;

/// What all shards share of one endpoint.
#[derive(Debug)]
pub(crate) struct SharedEndpoint {
    id: EndpointId,
    permits: Permits,
    total: Option<Arc<Total>>,
    board: Board,
    ejections: Ejections,
    published: Published,
    members: Arc<Members>,
}

impl SharedEndpoint {
    /// Nobody uses it yet.
    pub(super) fn new(
        id: EndpointId,
        limits: &Limits,
        total: Option<Arc<Total>>,
        members: Arc<Members>,
    ) -> Self {
        Self {
            id,
            permits: Permits::new(limits.permits),
            total,
            board: Board::new(limits.shards),
            ejections: Ejections::default(),
            published: Published::new(limits.shards, limits.gauges, limits.counters),
            members,
        }
    }

    /// Takes back what `shard` has here: it has ended. What it holds of the total is not from here.
    pub(super) fn forget(&self, shard: ShardId) -> Concerned {
        let mut concerned = self.permits.bequeath(shard, self.total.as_deref());
        concerned.extend(self.permits.forget(shard));
        self.board.forget(shard);
        self.published.forget(shard);
        concerned
    }

    /// The name of the endpoint in notices.
    pub(crate) fn id(&self) -> EndpointId {
        self.id
    }

    /// Asks for the right to hold one connection more.
    pub(crate) fn acquire(&self, shard: ShardId, now: Tick) -> Acquire {
        if let Some(total) = &self.total
            && total.knows(self.request(shard))
        {
            return self.ask_total(total, shard, now);
        }
        let (answer, concerned) = self.permits.acquire(shard, now);
        self.tell(concerned);
        match &self.total {
            Some(total) if answer == Acquire::Granted => self.ask_total(total, shard, now),
            _ => answer,
        }
    }

    /// Takes the queued request back; if it was granted meanwhile and not collected, the permit
    /// goes on to the next.
    pub(crate) fn withdraw(&self, shard: ShardId) {
        let waited = self.total.as_ref();
        let waited = waited.and_then(|total| total.withdraw(self.request(shard)));
        match waited {
            Some(news) => {
                self.spread(news);
                self.tell(self.permits.release(shard));
            }
            None => self.tell(self.permits.withdraw(shard)),
        }
    }

    /// Since when the oldest waiter waits for whom `shard` asked for a permit.
    pub(crate) fn renew(&self, shard: ShardId, since: Tick) {
        self.permits.renew(shard, since);
        if let Some(total) = &self.total {
            total.renew(self.request(shard), since);
        }
    }

    /// Gives one permit of `shard` back; it goes to the shard that has waited longest.
    pub(crate) fn release(&self, shard: ShardId) {
        if let Some(total) = &self.total {
            self.spread(total.release(shard));
        }
        self.tell(self.permits.release(shard));
    }

    /// `shard` lets go of the endpoint: its gauges are nothing, its counters stay in the totals.
    pub(crate) fn retire(&self, shard: ShardId) {
        self.board.publish_wait(shard, None);
        self.published.retire(shard);
    }

    /// Whether the queued request of `shard` was granted; says so once.
    pub(crate) fn take_granted(&self, shard: ShardId) -> bool {
        let Some(total) = &self.total else {
            return self.permits.take_granted(shard).is_some();
        };
        if total.take_granted(self.request(shard)) {
            return true;
        }
        let since = self.permits.take_granted(shard);
        since.is_some_and(|since| self.ask_total(total, shard, since) == Acquire::Granted)
    }

    /// Since when another shard waits for a permit of this endpoint.
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

    /// The addresses that are out.
    pub(crate) fn ejections(&self) -> &Ejections {
        &self.ejections
    }

    /// Takes in what `shard` learned of one of `all` addresses, for all cores; `chance` is a random number.
    /// True if that changed which are out.
    pub(crate) fn report(
        &self,
        shard: ShardId,
        now: Tick,
        news: (SocketAddr, Verdict),
        all: &[SocketAddr],
        chance: u64,
    ) -> bool {
        let changed = self.ejections.report(now, news, all, chance);
        if changed {
            self.members.notify_others(shard, self.id);
        }
        changed
    }

    /// The statistics.
    pub(crate) fn published(&self) -> &Published {
        &self.published
    }

    fn request(&self, shard: ShardId) -> Request {
        Request {
            shard,
            endpoint: self.id,
        }
    }

    /// `shard` has the endpoint's permit, and asks for one of the total.
    fn ask_total(&self, total: &Total, shard: ShardId, since: Tick) -> Acquire {
        let (answer, news) = total.acquire(self.request(shard), since);
        self.spread(news);
        answer
    }

    fn spread(&self, news: News) {
        for (shard, endpoint) in news {
            self.members.notify(shard, endpoint);
        }
    }

    fn tell(&self, concerned: Concerned) {
        for shard in concerned {
            self.members.notify(shard, self.id);
        }
    }
}

/// Connections that change cores: `offers` says what may be when.
impl SharedEndpoint {
    /// Puts `slot`, which can receive a connection, beside the queued request of `shard`. False if
    /// nothing is queued (a grant is on its way), or another slot has not come back yet.
    pub(crate) fn expect(&self, shard: ShardId, slot: Key) -> bool {
        let (is_offered, concerned) = self.permits.expect(shard, slot);
        self.tell(concerned);
        is_offered
    }

    /// `shard` wants no connection from others any more. If one is under way, the slot may not be
    /// used before [`take_returned`](Self::take_returned) names it or a parcel for it comes.
    pub(crate) fn unexpect(&self, shard: ShardId) -> Withdrawn {
        let (withdrawn, concerned) = self.permits.unexpect(shard);
        self.tell(concerned);
        withdrawn
    }

    /// Whether the oldest request of another shard has a slot for a connection of `shard`; if not,
    /// `shard` is told when it has.
    pub(crate) fn is_claimable(&self, shard: ShardId) -> bool {
        self.permits.is_claimable(shard)
    }

    /// The slot of `shard` whose giver has given up, or gone; says so once. A descriptor may have
    /// arrived there nevertheless.
    pub(crate) fn take_returned(&self, shard: ShardId) -> Option<Key> {
        let (slot, concerned) = self.permits.take_returned(shard);
        self.tell(concerned);
        slot
    }

    /// The slot of `shard`, which expected a connection and got none that it took, is closed. If its
    /// giver has ended meanwhile, its permit is free only now: the connection may have lain there.
    pub(crate) fn slot_closed(&self, shard: ShardId, slot: Key) {
        if self.permits.slot_closed(shard, slot) {
            self.release(shard);
        }
    }

    /// The oldest request of another shard that nobody has claimed is `shard`'s to serve with one of
    /// its own connections. `None` if there is none or it has no slot: then only a permit helps.
    pub(crate) fn claim(&self, shard: ShardId, now: Tick) -> Option<Claim> {
        let (claim, concerned) = self.permits.claim(shard, now);
        self.tell(concerned);
        claim
    }

    /// To be called once for each claim, when it has failed, or its answer has come, or the shard
    /// cannot wait any longer. True if the permit is still `shard`'s; false if it has moved.
    pub(crate) fn unclaim(&self, shard: ShardId, claim: Claim) -> bool {
        let (kept, concerned) = self.permits.unclaim(shard, claim);
        self.tell(concerned);
        kept
    }

    /// The same where the answer takes longer than [`STALLED`](super::STALLED): the receiver is nobody's
    /// to serve until it has noticed.
    pub(crate) fn recall(&self, shard: ShardId, claim: Claim) -> bool {
        let (kept, concerned) = self.permits.recall(shard, claim);
        self.tell(concerned);
        kept
    }

    /// `to` takes the connection that `from` sent to `slot`, with its permit, for its queued
    /// request, which ends. False if the request or the claim has ended: `to` lets go of the slot.
    pub(crate) fn transfer(&self, from: ShardId, to: ShardId, slot: Key) -> bool {
        let (moved, concerned) =
            self.permits
                .transfer(from, Claim { to, slot }, self.total.as_deref());
        self.tell(concerned);
        if let Some(total) = self.total.as_ref().filter(|_| moved) {
            self.spread(total.tell());
        }
        moved
    }

    /// How many permits `shard` holds for what shards that have ended may have left in its slots.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn inherited(&self, shard: ShardId) -> u32 {
        self.permits.inherited(shard)
    }

    /// How many permits of `shard` have moved without its having asked: it still counts them.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn moved(&self, shard: ShardId) -> u32 {
        self.permits.moved(shard)
    }
}
