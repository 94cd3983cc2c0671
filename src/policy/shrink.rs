//! A burst opens connections that nobody needs afterwards. The newest idle one is handed out first, so
//! the others would go after `max_idle_time`; until then they are a load for the server, and keep
//! permits that other cores want. So a core measures how many it uses, and lets go of what is beyond
//! that sooner.
//!
//! The measure is HAProxy's: the most connections in use at once since the last look, or an estimate
//! that comes down to it by half with each look. Of what exceeds it, half is closed at each look.
//!
//! Promise: nothing that is in use closes; at least `min_idle` stay idle, and the last connection
//! stays for `max_idle_time`; no address loses one while another has more, for its weight. A use
//! costs one comparison. An endpoint of which a core has no more than `min_idle` connections, or one,
//! has no deadline.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::PoolPolicy;
use super::conn::Stage;
use super::event::{CloseReason, ConnKey, EndpointKey};
use crate::slot::Key;
use crate::time::Tick;

/// How many connections one endpoint needs.
#[derive(Debug, Default)]
pub(crate) struct Need {
    /// The most in use at once since the last look.
    peak: u32,
    estimate: u32,
    /// The next look; zero if there is none.
    look_at: Tick,
}

impl Need {
    /// So many are in use.
    #[inline]
    pub(crate) fn used(&mut self, in_use: u32) {
        self.peak = self.peak.max(in_use);
    }

    pub(crate) fn look_at(&self) -> Tick {
        self.look_at
    }

    /// What is needed, and begins to measure anew, with those in use now.
    fn renew(&mut self, in_use: u32) -> u32 {
        let half_way = self.estimate.saturating_add(self.peak) / 2;
        self.estimate = self.peak.max(half_way);
        self.peak = in_use;
        self.estimate
    }
}

impl PoolPolicy {
    /// There is a connection more: it may be one too many later.
    pub(super) fn watch_need(&mut self, now: Tick, endpoint: EndpointKey) {
        let (interval, least) = (self.settings.shrink_interval, self.least());
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0)
            && !interval.is_zero()
            && bucket.need.look_at == Tick::ZERO
            && bucket.counts.live() > least
        {
            bucket.need.look_at = now.plus(interval);
            self.arm(endpoint);
        }
    }

    /// The endpoint's moment may be that of a look.
    pub(super) fn look_at_need(&mut self, now: Tick, endpoint: EndpointKey) {
        let min_idle = u32::try_from(self.settings.min_idle).unwrap_or(u32::MAX);
        let least = self.least();
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        if bucket.need.look_at == Tick::ZERO || bucket.need.look_at > now {
            return;
        }
        bucket.need.look_at = Tick::ZERO;
        let (live, in_use) = (bucket.counts.live(), bucket.counts.in_use);
        let needed = bucket.need.renew(in_use);
        let kept = needed.max(in_use.saturating_add(min_idle)).max(least);
        let surplus = live.saturating_sub(kept);
        if surplus > 0 {
            self.let_go(endpoint, surplus.div_ceil(2));
        }
        self.watch_need(now, endpoint);
    }

    /// With so many connections there is nothing to look for.
    fn least(&self) -> u32 {
        let min_idle = u32::try_from(self.settings.min_idle).unwrap_or(u32::MAX);
        min_idle.max(1)
    }

    /// Closes so many idle connections, one after the other of the address that has most for its
    /// weight, and there the longest idle one.
    fn let_go(&mut self, endpoint: EndpointKey, count: u32) {
        let Some(bucket) = self.endpoints.get(endpoint.0) else {
            return;
        };
        let mut places: BTreeMap<SocketAddr, Place> = BTreeMap::new();
        for (_, conn) in self.conns.iter().filter(|(_, c)| c.endpoint == endpoint) {
            if matches!(conn.stage, Stage::Ready | Stage::Checking) {
                let share = bucket.flights.share(conn.spot).max(1);
                places.entry(conn.address).or_insert(Place::new(share)).held += 1;
            }
        }
        let mut next = bucket.idle.first();
        while let Some(key) = next
            && let Some(conn) = self.conns.get(key)
        {
            if let Some(place) = places.get_mut(&conn.address) {
                place.idle.push(key);
            }
            next = conn.links.next();
        }
        for _ in 0..count {
            let places = places.values_mut().filter(|place| !place.idle.is_empty());
            let Some(most) = places.max_by_key(|place| place.held * WHOLE / place.share) else {
                return;
            };
            most.held -= 1;
            if let Some(oldest) = most.idle.pop() {
                self.close(ConnKey(oldest), CloseReason::Surplus);
            }
        }
    }
}

/// Parts of a connection, to compare addresses of different weights.
const WHOLE: u64 = 1 << 32;

/// What there is at one address.
struct Place {
    held: u64,
    share: u64,
    /// The newest first.
    idle: Vec<Key>,
}

impl Place {
    fn new(share: u64) -> Self {
        let idle = Vec::new();
        Self {
            held: 0,
            share,
            idle,
        }
    }
}
