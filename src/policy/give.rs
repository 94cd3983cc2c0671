//! A core that has a connection to spare gives it to one that waits, instead of closing it there and
//! having it opened anew here.
//!
//! Promise: what is given is idle and clean, and in nobody's hands until the answer; it and its
//! permit are this core's until the other has it; one that comes back is as it was, or closes for
//! what happened to it meanwhile. A core in use keeps its last [`LOW_WATER`] idle ones until another
//! has waited longer than the grace.
//!
//! States of a connection: idle → Leaving → Closing (given), or Checking → idle (it came back), or
//! idle at once (nothing was sent), or Closing (it came back too late). One that comes back has idled
//! all the time.

use super::PoolPolicy;
use super::conn::Stage;
use super::event::{Action, CloseReason, ConnKey, EndpointKey, Received};
use super::serve::DEMAND_GRACE;
use super::settings::{IN_USE, LOW_WATER};
use super::timers::Timer;
use crate::time::Tick;

impl PoolPolicy {
    /// What another core must know of a connection that is given to it.
    pub(crate) fn leaving(&self, key: ConnKey) -> Option<Received> {
        let conn = self.conns.get(key.0)?;
        (conn.stage == Stage::Leaving).then_some(Received {
            address: conn.address,
            capacity: conn.capacity,
            total_uses: conn.total_uses,
            idle_since: conn.idle_since,
            opened: conn.opened,
            deadline: conn.deadline,
        })
    }

    /// Whether the connection that leaves is wanted back.
    pub(crate) fn is_wanted_back(&self, key: ConnKey) -> bool {
        let conn = self.conns.get(key.0);
        conn.is_some_and(|it| it.stage == Stage::Leaving && it.condemned.is_some())
    }

    /// Whether the endpoint has connections that nobody here wants: they cost another core less than
    /// the wait for what others might give back soon.
    pub(crate) fn has_to_spare(&self, now: Tick, endpoint: EndpointKey) -> bool {
        let bucket = self.endpoints.get(endpoint.0);
        let is_quiet =
            bucket.is_some_and(|it| it.counts.idle > 0 && now >= it.last_get.plus(IN_USE));
        is_quiet && self.may_give(endpoint)
    }

    /// Whether a connection of the endpoint could go to another core.
    fn may_give(&self, endpoint: EndpointKey) -> bool {
        let bucket = self.endpoints.get(endpoint.0);
        self.settings.hand_over && !self.draining && bucket.is_some_and(|bucket| !bucket.stays)
    }

    /// Whether the endpoint keeps its last idle connections though another core waits since `since`;
    /// then it is looked at again when the grace is over.
    pub(super) fn keeps_last(&mut self, now: Tick, endpoint: EndpointKey, since: Tick) -> bool {
        let fair = since.plus(DEMAND_GRACE);
        let may_give = self.may_give(endpoint);
        let Some(bucket) = self.endpoints.get(endpoint.0) else {
            return false;
        };
        let is_in_use = now < bucket.last_get.plus(IN_USE);
        let are_last = bucket.counts.idle as usize <= LOW_WATER;
        if !may_give || !is_in_use || !are_last || now > fair {
            return false;
        }
        self.give_later(endpoint, fair.plus(std::time::Duration::from_nanos(1)));
        true
    }

    /// Lets go of a connection that nobody uses, for another core that waits.
    pub(super) fn spare(&mut self, endpoint: EndpointKey, key: ConnKey) {
        self.give_later(endpoint, Tick::NEVER);
        let is_exclusive = self.conns.get(key.0).is_some_and(|it| it.capacity == 1);
        if is_exclusive && self.may_give(endpoint) {
            self.give(endpoint, key);
        } else {
            self.close(key, CloseReason::Demand);
        }
    }

    fn give(&mut self, endpoint: EndpointKey, key: ConnKey) {
        self.displace(endpoint, key.0);
        if let Some(conn) = self.conns.get_mut(key.0)
            && let Some(bucket) = self.endpoints.get_mut(endpoint.0)
        {
            conn.stage = Stage::Leaving;
            conn.timed = false;
            bucket.counts.idle -= 1;
            bucket.counts.closing += 1;
            let conn = key;
            self.actions.push_back(Action::Give { conn, endpoint });
        }
    }

    /// Another core has it. What is left here is a descriptor, whose permit went with it.
    pub(super) fn given(&mut self, key: ConnKey) -> Option<()> {
        let conn = self.conns.get_mut(key.0)?;
        if conn.stage != Stage::Leaving {
            return None;
        }
        let reason = CloseReason::HandedOver;
        conn.stage = Stage::Closing(reason);
        self.closing += 1;
        let bucket = self.endpoints.get_mut(conn.endpoint.0)?;
        bucket.permits -= 1;
        bucket.counts.closed_by[reason as usize] += 1;
        self.actions.push_back(Action::Close { conn: key, reason });
        Some(())
    }

    /// It is still this core's; `since`: another waits for one and cannot be given any; `untouched`:
    /// it was watched all the time.
    pub(super) fn give_failed(
        &mut self,
        now: Tick,
        key: ConnKey,
        since: Option<Tick>,
        untouched: bool,
    ) -> Option<()> {
        let conn = self.conns.get_mut(key.0)?;
        if conn.stage != Stage::Leaving {
            return None;
        }
        let endpoint = conn.endpoint;
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        let is_named = bucket.addresses.position(conn.address).is_some();
        if is_named && conn.condemned == Some(CloseReason::AddressGone) {
            conn.condemned = None;
        }
        conn.stage = Stage::Ready;
        bucket.counts.closing -= 1;
        bucket.counts.idle += 1;
        bucket.demand = None;
        let deadline = conn.deadline;
        self.begin_life(key);
        let conn = self.conns.get_mut(key.0)?;
        let reason = conn
            .condemned
            .or((now >= deadline).then_some(CloseReason::Lifetime))
            .or(since.map(|_| CloseReason::Demand));
        match reason {
            Some(reason) => self.close(key, reason),
            None if untouched => self.went_free(now, endpoint, key),
            None => self.look(key, now),
        }
        self.settle(now, endpoint);
        Some(())
    }

    /// The grace of a demand that found only the last idle connections is over.
    pub(super) fn give_due(&mut self, now: Tick, endpoint: EndpointKey) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        bucket.give_at = Tick::NEVER;
        let since = bucket.demand;
        if since.is_some() {
            self.demanded(now, endpoint, since);
        }
    }

    /// The endpoint is to be looked at again at `at`; for [`Tick::NEVER`] it is not.
    pub(super) fn give_later(&mut self, endpoint: EndpointKey, at: Tick) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0)
            && bucket.give_at != at
        {
            let timer = Timer::Give(endpoint);
            self.timers.remove(bucket.give_at, timer);
            bucket.give_at = at;
            self.timers.insert(at, timer);
        }
    }
}
