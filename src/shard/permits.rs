//! Permits are shared by all cores: this core asks for them, gives them back, hears that others
//! wait for one, and tells the policy.
//!
//! Promise: a request is asked once and withdrawn once; another core's demand reaches the policy
//! when it is old enough, and its end does too.

use std::time::Duration;

use crate::policy::event::{EndpointKey, Event};
use crate::share::{Acquire, STALLED, ShardId};
use crate::time::Tick;

use super::core::Core;
use super::endpoints::held;

/// How long another core's waiter must have waited before this core gives up a connection for it.
/// A core whose waiters are served by its own returns asks for more all the time; closing for it at
/// once would only move connections to and fro, at the price of a connect each time.
pub(super) const PATIENCE: Duration = Duration::from_millis(5);

/// Cores that hear of one waiter act one after the other within this time more: what the first does the
/// others have heard of by then.
const APART: Duration = Duration::from_millis(5);

/// How soon a demand is looked at again that could not be met just now: the other core's mailbox was
/// full, or it had no slot.
const AGAIN: Duration = Duration::from_millis(20);

impl Core {
    pub(crate) fn acquire_permit(&mut self, endpoint: EndpointKey) {
        let Some(entry) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        // For how long waiters have waited is told when the driver settles, when a slot stands beside
        // the request: who heard it before would find none, and close a connection instead.
        let since = self.now;
        let event = match entry.shared.acquire(self.links.shard(), since) {
            Acquire::Granted => {
                let held = held(entry);
                self.tell_busy(endpoint);
                Event::PermitGranted { endpoint, held }
            }
            Acquire::Queued => {
                entry.queued = Some(since);
                Event::PermitQueued { endpoint }
            }
        };
        self.tell(event);
    }

    /// Tells the policy what all cores hold.
    pub(crate) fn survey(&mut self, endpoint: EndpointKey) {
        if let Some(entry) = self.endpoints.get(endpoint) {
            let held = held(entry);
            self.tell(Event::Surveyed { endpoint, held });
        }
    }

    pub(crate) fn withdraw_permit(&mut self, endpoint: EndpointKey) {
        if let Some(entry) = self.endpoints.get_mut(endpoint) {
            entry.shared.withdraw(self.links.shard());
            entry.queued = None;
        }
    }

    pub(crate) fn return_permit(&mut self, endpoint: EndpointKey) {
        self.total_was_met();
        let Some(entry) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        entry.shared.release(self.links.shard());
        self.demand_was_met(endpoint);
        let entry = self.endpoints.get(endpoint);
        if entry.is_some_and(|entry| entry.queued.is_some()) {
            self.tell(Event::StillQueued { endpoint });
        }
    }

    /// The policy answers each demand by one permit, or by one connection. It may have gone to another
    /// core, or back to this one: whoever still waits is told of again.
    pub(super) fn demand_was_met(&mut self, endpoint: EndpointKey) {
        let Some(entry) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        let stood = entry.demand.take().is_some();
        self.hear_notice(endpoint);
        let entry = self.endpoints.get(endpoint);
        if stood && entry.is_some_and(|entry| entry.demand.is_none()) {
            // Nothing is told anew: what the policy still has is over.
            let since = None;
            self.tell(Event::Demand { endpoint, since });
        }
    }

    /// Nobody that waits now can be given one: it is tried again, until the wait is worth a close.
    /// Notices of other things do not bring that about: two cores that try in vain would ring each
    /// other's bell without end.
    pub(super) fn look_at_demand_later(&mut self, endpoint: EndpointKey) {
        let (me, now) = (self.links.shard(), self.now);
        if let Some(entry) = self.endpoints.get_mut(endpoint) {
            entry.demand = None;
            if let Some(since) = entry.shared.demand(me) {
                let worth = since.plus(STALLED).max(now.plus(Duration::from_millis(1)));
                entry.again_at = worth.min(now.plus(AGAIN));
                let at = entry.again_at;
                self.endpoints.watch(endpoint, at);
            }
        }
    }

    /// Since when another core has waited, if that is long enough to close a connection for it that
    /// cannot be given to it. A core without a slot most often is about to have one: it has queued, or
    /// just received another, and may have lost its processor in between.
    pub(super) fn worthy_demand(&self, endpoint: EndpointKey) -> Option<Tick> {
        let entry = self.endpoints.get(endpoint)?;
        let since = entry.shared.demand(self.links.shard());
        since.filter(|since| self.now >= since.plus(STALLED))
    }

    /// What other cores did to the endpoints that this one shares with them.
    pub(crate) fn hear_notices(&mut self) {
        // All that follows rings this bell after it was left; most turns hear nothing.
        if !self.links.wake().take() {
            return;
        }
        for id in self.links.drain_notices() {
            self.hear_of_total(id);
            let Some(endpoint) = self.endpoints.by_id.get(&id).copied() else {
                continue;
            };
            self.hear_notice(endpoint);
        }
        self.hear_mesh();
        if self.links.take_names() {
            self.hear_names();
        }
        while let Some(job) = self.links.inbox.pop() {
            self.deferred
                .calls
                .push_back(super::deferred::Call::Job(job));
        }
    }

    fn hear_notice(&mut self, endpoint: EndpointKey) {
        self.hear_ejected(endpoint);
        let Some(entry) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        if entry.shared.take_granted(self.links.shard()) {
            entry.queued = None;
            let held = held(entry);
            self.tell_busy(endpoint);
            self.tell(Event::PermitGranted { endpoint, held });
        }
        self.close_returned_slot(endpoint);
        self.look_at_demand(endpoint);
    }

    /// Tells the policy how long another core has waited for a permit of `endpoint`, once that is
    /// long enough to be worth a connection.
    pub(super) fn look_at_demand(&mut self, endpoint: EndpointKey) {
        let now = self.now;
        let Some(entry) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        entry.elsewhere = entry.shared.board().wait_elsewhere(self.links.shard());
        let since = entry.shared.demand(self.links.shard());
        let me = self.links.shard();
        let is_old = |since: &Tick| now >= since.plus(patience(me));
        // Asked first, for who asks is told of the next slot.
        let can_be_given = || entry.shared.is_claimable(me) && now >= entry.keeps_until;
        // What is given costs no connect: where nobody wants it, nothing is won by patience.
        let mut is_spare = || self.policy.has_to_spare(now, endpoint);
        let may_be_told = || now >= entry.again_at || entry.demand.is_some();
        let worth = since.filter(|since| match is_old(since) {
            true => may_be_told() || can_be_given(),
            false => is_spare() && can_be_given(),
        });
        let changed = entry.demand != worth;
        entry.demand = worth;
        let (again_at, keeps_until) = (entry.again_at, entry.keeps_until);
        if changed {
            self.tell(Event::Demand {
                endpoint,
                since: worth,
            });
        }
        if let (Some(since), None) = (since, worth) {
            let soon = [since.plus(patience(me)), keeps_until];
            let soon = soon.into_iter().filter(|at| *at > now).min();
            let next = soon.unwrap_or(again_at);
            self.endpoints.watch(endpoint, next);
        }
    }

    /// Looks again at the demands that were too young.
    pub(crate) fn look_at_demands(&mut self) {
        if self
            .endpoints
            .look_at_due()
            .is_none_or(|due| due > self.now)
        {
            return;
        }
        if self
            .endpoints
            .total
            .look_at
            .is_some_and(|at| at <= self.now)
        {
            self.look_at_total();
        }
        for endpoint in std::mem::take(&mut self.endpoints.watched) {
            if let Some(entry) = self.endpoints.get_mut(endpoint) {
                entry.watched = false;
                self.look_at_demand(endpoint);
            }
        }
    }

    /// Tells the other cores since when the oldest waiter here waits for a permit, where that has
    /// changed: a core that serves its waiters well does not look as if it starved. The queue is told
    /// before the board, so that who sees it there finds it here.
    pub(super) fn publish_wait(&mut self, endpoint: EndpointKey) {
        let (me, since) = (self.links.shard(), self.policy.oldest_wait(endpoint));
        let Some(entry) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        if let (Some(known), Some(since)) = (&mut entry.queued, since)
            && *known != since
        {
            *known = since;
            entry.shared.renew(me, since);
        }
        if entry.shown != entry.queued {
            entry.shown = entry.queued;
            entry.shared.board().publish_wait(me, entry.shown);
        }
    }

    /// Before a connection is given to a waiter here: does another core still wait longer? Asked with
    /// every return while one does, so the board is read first, and the queue only when it says that
    /// something has changed.
    #[inline]
    pub(crate) fn renew_demand(&mut self, endpoint: EndpointKey) {
        self.renew_total();
        let me = self.links.shard();
        let Some(entry) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        if entry.demand.is_none() {
            return;
        }
        let elsewhere = entry.shared.board().wait_elsewhere(me);
        if entry.elsewhere == elsewhere {
            return;
        }
        entry.elsewhere = elsewhere;
        let since = entry.shared.demand(me);
        let since = since.filter(|since| self.now >= since.plus(patience(me)));
        if since == entry.demand {
            return;
        }
        entry.demand = since;
        self.tell(Event::DemandRenewed { endpoint, since });
        if since.is_none() {
            // Perhaps only too young now; the others tell only of what is new.
            self.endpoints.watch(endpoint, self.now.plus(patience(me)));
        }
    }
}

/// How long another core's waiter must have waited before the core `me` acts: multiples of the golden
/// ratio lie about evenly, however many cores there are.
pub(super) fn patience(me: ShardId) -> Duration {
    let part = u64::from((me.index() as u32).wrapping_mul(0x9E37_79B9));
    PATIENCE + Duration::from_nanos((APART.as_nanos() as u64 * part) >> 32)
}
