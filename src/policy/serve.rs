//! Handing out and taking back: who gets a connection that is ready.
//!
//! Promise: a waiter is never overtaken; a clean return allocates nothing, sets no timer and pushes
//! no action, unless somebody waits.

use std::time::Duration;

use super::PoolPolicy;
use super::bucket::Bucket;
use super::conn::{Conn, Look, Place, Stage, links};
use super::event::{Action, CloseReason, ConnKey, EndpointKey, Hook, Return, WaiterKey};
use crate::slot::{Key, Slots};
use crate::time::Tick;

/// How much longer than the local oldest waiter another core must have waited to go first.
pub(crate) const DEMAND_GRACE: Duration = Duration::from_millis(50);

impl PoolPolicy {
    /// Serves waiters from what is ready, then opens what is missing.
    pub(super) fn settle(&mut self, now: Tick, endpoint: EndpointKey) {
        self.serve(now, endpoint);
        self.ensure(now, endpoint);
        self.expect(endpoint);
        self.evict_for_slots();
    }

    /// Gives the oldest waiters what is ready.
    fn serve(&mut self, now: Tick, endpoint: EndpointKey) {
        while let Some(bucket) = self.endpoints.get(endpoint.0)
            && let Some(waiter) = bucket.waiting.first()
        {
            if let Some((conn, reused)) = self.take_ready(now, endpoint) {
                self.leave(waiter);
                self.actions.push_back(Action::Grant {
                    waiter: WaiterKey(waiter),
                    conn,
                    reused,
                });
                continue;
            }
            // What is idle now needs a health check first: one per waiter.
            let Some(bucket) = self.endpoints.get(endpoint.0) else {
                return;
            };
            match bucket.idle.first() {
                Some(idle) if bucket.counts.waiters > bucket.counts.checking => {
                    self.start_check(ConnKey(idle));
                }
                _ => return,
            }
        }
    }

    /// One use ends; see [`PoolPolicy::put`].
    #[inline]
    pub(super) fn end_use(&mut self, now: Tick, key: ConnKey, how: Return) {
        let conn = self.conns.get_mut(key.0);
        let Some(conn) = conn.filter(|c| c.stage == Stage::Ready && c.uses > 0) else {
            self.ignored += 1;
            return;
        };
        let endpoint = conn.endpoint;
        conn.uses -= 1;
        if let Return::Discard(reason) = how {
            conn.condemn(reason);
        } else if now >= conn.deadline {
            conn.condemn(CloseReason::Lifetime);
        }
        let (uses, condemned, place) = (conn.uses, conn.condemned, conn.place);
        let is_first = conn.total_uses == 1 && !matches!(how, Return::Discard(_));
        if uses == 0 {
            conn.idle_since = now;
        }
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.flights.end(conn.spot);
            if bucket.flights.is_timed && conn.capacity == 1 {
                bucket
                    .flights
                    .observe(conn.spot, now, now.since(conn.taken_at));
            }
            if uses == 0 {
                bucket.counts.in_use -= 1;
                bucket.counts.idle += 1;
            }
        }
        if is_first {
            let address = conn.address;
            self.report_use(endpoint, address);
        }
        if place == Place::Partial && (uses == 0 || condemned.is_some()) {
            self.displace(endpoint, key.0);
        }
        match condemned {
            None if uses == 0 => self.came_back(now, endpoint, key, how),
            _ => self.end_use_otherwise(now, key, how, place),
        }
    }

    /// One use has ended of a connection that is condemned, or has others.
    #[inline(never)]
    fn end_use_otherwise(&mut self, now: Tick, key: ConnKey, how: Return, place: Place) {
        let Some(conn) = self.conns.get(key.0) else {
            return;
        };
        let (endpoint, uses, condemned) = (conn.endpoint, conn.uses, conn.condemned);
        match condemned {
            Some(CloseReason::Rebalanced) if uses == 0 && self.is_reprieved(now, endpoint, key) => {
                self.came_back(now, endpoint, key, how);
                self.watch_backups(now, endpoint, now);
            }
            Some(reason) if uses == 0 => {
                self.close(key, reason);
                self.settle(now, endpoint);
            }
            Some(_) => {}
            None if self.is_due_to_another_core(now, endpoint) => {
                // A connection that many share may never be free; this one takes no more users.
                if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
                    bucket.demand = None;
                }
                self.condemn(key, CloseReason::Demand);
                self.settle(now, endpoint);
            }
            None => {
                if place == Place::None {
                    self.place_partial(endpoint, key.0);
                }
                self.serve_if_waited_for(now, endpoint);
            }
        }
    }

    /// Its last user gave a good connection back.
    #[inline]
    fn came_back(&mut self, now: Tick, endpoint: EndpointKey, key: ConnKey, how: Return) {
        match how {
            Return::Unwatched => self.look(key, now),
            _ => self.went_free(now, endpoint, key),
        }
    }

    /// A good connection has no users: the oldest waiter's, another core's, or idle.
    #[inline]
    pub(super) fn went_free(&mut self, now: Tick, endpoint: EndpointKey, key: ConnKey) {
        let is_wanted_elsewhere = !self.slot_queue.is_empty() || self.total_demand.is_some();
        match self.endpoints.get_mut(endpoint.0) {
            Some(bucket) if !is_wanted_elsewhere && !bucket.wants_what_is_free() => {
                if let Some(since) = bucket.place_idle(&mut self.conns, now, key.0) {
                    self.note_age(endpoint, since);
                }
            }
            _ => self.went_free_wanted(now, endpoint, key),
        }
    }

    /// The same when somebody may want it, here or elsewhere.
    #[inline(never)]
    fn went_free_wanted(&mut self, now: Tick, endpoint: EndpointKey, key: ConnKey) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        let closes_ahead = bucket.moves.may_close_on_return();
        let makes_room = bucket.probes.may_close_on_return();
        // Who waits elsewhere gets its permit, and opens where all have fewest.
        if closes_ahead && self.closes_on_return(now, endpoint, key) {
            self.close_ahead(endpoint, key);
            self.settle(now, endpoint);
            return;
        }
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        if let Some(since) = bucket.demand {
            let oldest = bucket.waiting.first().and_then(|w| self.waiters.get(w));
            let is_due = oldest.is_none_or(|oldest| oldest.since > since.plus(DEMAND_GRACE));
            if is_due && !self.keeps_last(now, endpoint, since) {
                self.meet_demand(now, endpoint, key);
                return;
            }
        }
        if self.slot_is_due_elsewhere(endpoint) {
            self.close(key, CloseReason::Evicted);
            self.settle(now, endpoint);
            return;
        }
        if self.total_is_due(endpoint) {
            self.meet_total(now, endpoint, key);
            return;
        }
        if makes_room && self.close_for_probe(endpoint, key) {
            self.settle(now, endpoint);
            return;
        }
        let bucket = self.endpoints.get_mut(endpoint.0);
        let since = bucket.and_then(|it| it.place_idle(&mut self.conns, now, key.0));
        if let Some(since) = since {
            self.note_age(endpoint, since);
        }
        self.serve_if_waited_for(now, endpoint);
    }

    /// Whether another core has waited longer, by the grace, than it takes to share fairly and than
    /// anybody here.
    #[inline]
    fn is_due_to_another_core(&self, now: Tick, endpoint: EndpointKey) -> bool {
        let bucket = self.endpoints.get(endpoint.0);
        let Some(since) = bucket.and_then(|bucket| bucket.demand) else {
            return false;
        };
        let fair = since.plus(DEMAND_GRACE);
        now > fair
            && self
                .oldest_wait(endpoint)
                .is_none_or(|oldest| oldest > fair)
    }

    /// Whether the opening that the next freed descriptor slot goes to wants it for a waiter that
    /// is older than the oldest here: an endpoint with many waiters must not keep all slots.
    #[inline]
    fn slot_is_due_elsewhere(&self, endpoint: EndpointKey) -> bool {
        // The slots of connections that close go to the openings before it.
        let Some(parked) = self.slot_queue.get(self.closing) else {
            return false;
        };
        if *parked == endpoint {
            return false;
        }
        match (self.oldest_wait(*parked), self.oldest_wait(endpoint)) {
            (Some(theirs), Some(ours)) => ours > theirs.plus(DEMAND_GRACE),
            _ => false,
        }
    }

    #[inline]
    fn serve_if_waited_for(&mut self, now: Tick, endpoint: EndpointKey) {
        let bucket = self.endpoints.get(endpoint.0);
        if bucket.is_some_and(|b| !b.waiting.is_empty()) || !self.slot_queue.is_empty() {
            self.settle(now, endpoint);
        }
    }

    /// A connection that was not in use before is free: new, or found healthy.
    pub(super) fn became_free(&mut self, now: Tick, endpoint: EndpointKey, key: ConnKey) {
        self.went_free(now, endpoint, key);
        self.settle(now, endpoint);
    }

    #[inline]
    pub(super) fn place_partial(&mut self, endpoint: EndpointKey, key: Key) {
        if let Some(conn) = self.conns.get_mut(key)
            && let Some(bucket) = self.endpoints.get_mut(endpoint.0)
        {
            conn.place = Place::Partial;
            bucket.partial.push_first(&mut self.conns, key, links);
        }
    }

    /// Takes the connection out of the lists it is in.
    #[inline]
    pub(super) fn displace(&mut self, endpoint: EndpointKey, key: Key) {
        let (Some(conn), Some(bucket)) =
            (self.conns.get_mut(key), self.endpoints.get_mut(endpoint.0))
        else {
            return;
        };
        let at = conn.leave_list();
        bucket.unlist(&mut self.conns, at);
    }

    /// Asks an idle connection for its health.
    pub(super) fn start_check(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.get_mut(key.0) else {
            return;
        };
        let endpoint = conn.endpoint;
        self.displace(endpoint, key.0);
        if let Some(conn) = self.conns.get_mut(key.0)
            && let Some(bucket) = self.endpoints.get_mut(endpoint.0)
        {
            conn.stage = Stage::Checking;
            bucket.counts.idle -= 1;
            bucket.counts.checking += 1;
            self.actions.push_back(Action::CheckHealth {
                conn: key,
                endpoint,
            });
        }
    }

    pub(super) fn health_checked(&mut self, now: Tick, key: ConnKey, healthy: bool) -> Option<()> {
        let conn = self.conns.get_mut(key.0)?;
        if conn.stage != Stage::Checking {
            return None;
        }
        let endpoint = conn.endpoint;
        let look = std::mem::take(&mut conn.look);
        if look == Look::First && healthy {
            let conn = key;
            self.actions
                .push_back(Action::CheckHealth { conn, endpoint });
            return Some(());
        }
        conn.stage = Stage::Ready;
        if look != Look::Only {
            conn.idle_since = now;
        }
        let late = now >= conn.deadline;
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        bucket.counts.checking -= 1;
        bucket.counts.idle += 1;
        if healthy && !late {
            self.became_free(now, endpoint, key);
            return Some(());
        }
        let reason = match look {
            _ if healthy => CloseReason::Lifetime,
            Look::None => CloseReason::Unhealthy,
            Look::Only | Look::First => CloseReason::Unwatched,
        };
        self.close(key, reason);
        self.settle(now, endpoint);
        Some(())
    }

    /// Another core waits, or waits no more.
    pub(super) fn demand_renewed(
        &mut self,
        endpoint: EndpointKey,
        since: Option<Tick>,
    ) -> Option<()> {
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        if bucket.demand.is_some() {
            bucket.demand = since;
        }
        Some(())
    }

    /// One demand takes one connection, which nobody uses.
    fn meet_demand(&mut self, now: Tick, endpoint: EndpointKey, key: ConnKey) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.demand = None;
        }
        self.spare(endpoint, key);
        self.settle(now, endpoint);
    }

    pub(super) fn demanded(
        &mut self,
        now: Tick,
        endpoint: EndpointKey,
        since: Option<Tick>,
    ) -> Option<()> {
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        bucket.demand = since;
        if let Some(since) = since
            && let Some(oldest) = bucket.idle.last()
        {
            if !self.keeps_last(now, endpoint, since) {
                self.meet_demand(now, endpoint, ConnKey(oldest));
            }
        } else if let Some(since) = since
            && let Some(shared) = bucket.partial.first()
            && now > since.plus(DEMAND_GRACE)
        {
            // A connection that many share may never be idle; this one takes no more users.
            bucket.demand = None;
            self.condemn(ConnKey(shared), CloseReason::Demand);
            self.settle(now, endpoint);
        }
        Some(())
    }

    pub(super) fn notify(&mut self, endpoint: EndpointKey, conn: ConnKey, hook: Hook) {
        if self.settings.notify {
            self.actions.push_back(Action::Notify {
                endpoint,
                conn,
                hook,
            });
        }
    }
}

impl Bucket {
    /// Whether a connection that comes free may have to do more here than to idle.
    #[inline]
    pub(super) fn wants_what_is_free(&self) -> bool {
        let is_waited_for = !self.waiting.is_empty() || self.demand.is_some();
        is_waited_for || self.moves.may_close_on_return() || self.probes.may_close_on_return()
    }

    /// Into the list of idle connections, where one that idled before keeps its time: returned if it
    /// is before what is noted.
    #[inline]
    fn place_idle(&mut self, conns: &mut Slots<Conn>, now: Tick, key: Key) -> Option<Tick> {
        let conn = conns.get_mut(key)?;
        let since = conn.idle_since;
        conn.place = Place::Idle;
        if since == now {
            self.idle.push_first(conns, key, links);
        } else {
            let is_older = |it: &Conn| it.idle_since <= since;
            self.idle.insert(conns, key, links, is_older);
        }
        (since < self.aged).then_some(since)
    }
}
