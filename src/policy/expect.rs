//! A core whose waiters want a permit that is not to be had may be given another core's connection.
//! The kernel puts it into a slot that this core has chosen before; this file keeps that slot.
//!
//! Promise: at most one slot per endpoint, only while its request for a permit is queued for the sake
//! of waiters, and never one that an opening waits for; the slot is nobody else's until `Closed`; it
//! counts as no connection and holds no permit. What came is handed out like what was opened here.
//!
//! States of the slot: Expected → Checking (it came), or Declined → free, or Declined → Claimed (one
//! is on its way) → free, or Claimed at once (what came was not taken) → free.

use super::PoolPolicy;
use super::bucket::{Expects, Permit};
use super::conn::{Conn, Look, Stage};
use super::event::{Action, CloseReason, ConnKey, EndpointKey, Hook, Received, Return};
use crate::time::Tick;

impl PoolPolicy {
    /// The endpoint's connections stay on the core that opened them.
    pub(crate) fn never_hand_over(&mut self, endpoint: EndpointKey) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.stays = true;
        }
    }

    /// No other core can serve the request that the slot was kept for: none is tried again for it.
    pub(crate) fn expects_in_vain(&mut self, key: ConnKey) {
        if let Some(slot) = self.conns.get_mut(key.0)
            && slot.stage == Stage::Expected
        {
            slot.condemn(CloseReason::Demand);
        }
    }

    /// Whether a connection that another core gives is taken. One to an address that is not known here
    /// is not, nor one from before this core was last cleared, nor any other by this request.
    pub(crate) fn takes(&mut self, key: ConnKey, what: &Received) -> bool {
        let Some(slot) = self.conns.get_mut(key.0) else {
            return false;
        };
        let bucket = self.endpoints.get(slot.endpoint.0);
        let is_named = bucket.is_some_and(|it| it.addresses.position(what.address).is_some());
        let is_old = bucket.is_some_and(|it| it.cleared.is_some_and(|at| what.opened <= at));
        let refused = match (is_named, is_old) {
            (false, _) => Some(CloseReason::AddressGone),
            (true, true) => Some(CloseReason::Requested),
            (true, false) => None,
        };
        if let (Stage::Expected, Some(reason)) = (slot.stage, refused) {
            slot.condemn(reason);
            slot.stage = Stage::Claimed;
            self.expected -= 1;
        }
        slot.stage == Stage::Expected
    }

    /// Keeps a slot for a connection of another core if one would help, and no longer.
    pub(super) fn expect(&mut self, endpoint: EndpointKey) {
        let is_possible = self.settings.hand_over && !self.draining;
        let has_slot = self.slot_queue.is_empty() && !self.conns.is_full();
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        let is_queued = bucket.permit == Permit::Queued;
        let is_wanted = is_possible
            && !bucket.stays
            && is_queued
            && bucket.needed_by_waiters() > bucket.openings();
        match bucket.expects {
            Expects::Slot(_) if !is_wanted => self.decline(endpoint),
            Expects::Refused if !is_queued => bucket.expects = Expects::None,
            Expects::None if is_wanted && has_slot => {
                let Ok(key) = self.conns.insert(Conn::expected(endpoint)) else {
                    return;
                };
                let conn = ConnKey(key);
                bucket.expects = Expects::Slot(conn);
                self.expected += 1;
                self.actions.push_back(Action::Expect { conn, endpoint });
            }
            _ => {}
        }
    }

    /// The endpoint's slot, if it has one, is not for other cores any more.
    pub(super) fn decline(&mut self, endpoint: EndpointKey) {
        let bucket = self.endpoints.get(endpoint.0);
        if let Some(Expects::Slot(conn)) = bucket.map(|bucket| bucket.expects)
            && let Some(slot) = self.conns.get_mut(conn.0)
            && slot.stage == Stage::Expected
        {
            slot.stage = Stage::Declined;
            self.expected -= 1;
            self.closing += 1;
            self.actions.push_back(Action::Unexpect { conn, endpoint });
        }
    }

    /// Another core sends to the slot that was declined. Openings do not count on it: that core may
    /// stand still.
    pub(crate) fn slot_is_claimed(&mut self, key: ConnKey) {
        if let Some(slot) = self.conns.get_mut(key.0)
            && slot.stage == Stage::Declined
        {
            slot.stage = Stage::Claimed;
            self.closing -= 1;
            self.evict_for_slots();
        }
    }

    /// Openings that wait for a slot come before what other cores may give.
    pub(super) fn decline_for_slots(&mut self) {
        while self.expected > 0 && self.closing < self.slot_queue.len() {
            let slots = self.conns.iter().map(|(_, slot)| slot);
            let mut expected = slots.filter(|slot| slot.stage == Stage::Expected);
            let Some(endpoint) = expected.next().map(|slot| slot.endpoint) else {
                return;
            };
            drop(expected);
            self.decline(endpoint);
        }
    }

    /// The slot is free, without a connection.
    pub(super) fn slot_is_free(&mut self, now: Tick, key: ConnKey) -> Option<()> {
        let slot = self.conns.remove(key.0)?;
        let bucket = self.endpoints.get_mut(slot.endpoint.0)?;
        match slot.stage {
            Stage::Declined => self.closing -= 1,
            Stage::Claimed => {}
            _ => self.expected -= 1,
        }
        bucket.expects = match slot.condemned {
            Some(_) => Expects::Refused,
            None => Expects::None,
        };
        self.slots_freed(now);
        self.settle(now, slot.endpoint);
        Some(())
    }

    /// Another core's connection is in the slot, and its permit is this core's.
    pub(super) fn received(&mut self, now: Tick, key: ConnKey, what: Received) -> Option<()> {
        let conn = self.conns.get_mut(key.0)?;
        if conn.stage != Stage::Expected {
            return None;
        }
        let endpoint = conn.endpoint;
        conn.was_ready = true;
        conn.address = what.address;
        conn.capacity = what.capacity.max(1);
        conn.total_uses = what.total_uses;
        conn.deadline = what.deadline;
        // The other core's clock may have been read after this one's.
        conn.idle_since = what.idle_since.min(now);
        conn.opened = what.opened;
        self.expected -= 1;
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        bucket.expects = Expects::None;
        bucket.permit = Permit::None;
        bucket.permits += 1;
        bucket.counts.received += 1;
        let share = bucket.addresses.share(what.address);
        conn.spot = bucket.flights.join(what.address, share);
        self.begin_life(key);
        self.keep_refreshing(now, endpoint);
        self.received_ahead(endpoint);
        self.look(key, now);
        self.watch_need(now, endpoint);
        self.watch_ejected(now, endpoint);
        self.settle(now, endpoint);
        Some(())
    }

    /// A connection that changed its core, or did not, or whose receive has stopped, is nobody's here.
    /// What came for it while nobody watched is looked for first.
    pub(super) fn look(&mut self, key: ConnKey, now: Tick) {
        if let Some(conn) = self.conns.get_mut(key.0)
            && let Some(bucket) = self.endpoints.get_mut(conn.endpoint.0)
        {
            if let Some(gauge) = conn.gauge(&mut bucket.counts) {
                *gauge -= 1;
            }
            conn.stage = Stage::Checking;
            let is_doubtful = now.since(conn.idle_since) > self.settings.health_check_after;
            conn.look = match is_doubtful && self.settings.health_check && !bucket.unchecked {
                true => Look::First,
                false => Look::Only,
            };
            bucket.counts.checking += 1;
            let endpoint = conn.endpoint;
            let conn = key;
            self.actions.push_back(Action::Look { conn, endpoint });
        }
    }

    /// The connection that a get was answered with just now is not watched, and nobody takes it: that
    /// was no use of it. It is looked at, or closed.
    #[cold]
    pub(crate) fn not_taken(&mut self, now: Tick, key: ConnKey, how: Return) {
        let Some(conn) = self.conns.get_mut(key.0) else {
            return;
        };
        if conn.stage != Stage::Ready || conn.uses != 1 || conn.total_uses == 0 {
            return self.end_use(now, key, how);
        }
        conn.uses = 0;
        conn.total_uses -= 1;
        let reused = conn.total_uses > 0;
        if conn.condemned == Some(CloseReason::Uses) {
            conn.condemned = None;
        }
        let (endpoint, spot) = (conn.endpoint, conn.spot);
        self.displace(endpoint, key.0);
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.flights.end(spot);
            bucket.counts.gets -= 1;
            bucket.counts.reused -= u64::from(reused);
            bucket.counts.in_use -= 1;
            bucket.counts.idle += 1;
        }
        self.actions.retain(|action| {
            let Action::Notify { conn, hook, .. } = action else {
                return true;
            };
            *conn != key || *hook != Hook::Reused
        });
        match how {
            Return::Discard(reason) => self.close(key, reason),
            Return::Clean | Return::Unwatched => self.look(key, now),
        }
        self.settle(now, endpoint);
    }
}
