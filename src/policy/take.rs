//! Which connection a get takes, of those that are ready. This is what most gets do and nothing else,
//! so everything is looked up once, and what is seldom stands aside.
//!
//! Promise: a connection in use that has capacity for more goes before an idle one, and the newest
//! idle one before older ones, but for one of the few next to it whose address is less busy; taking
//! it allocates nothing, sets no timer and pushes no action (unless hooks want to be told).

use std::cmp::Ordering;

use super::PoolPolicy;
use super::bucket::Bucket;
use super::conn::{Conn, Place};
use super::event::{CloseReason, ConnKey, EndpointKey, Hook};
use super::settings::Settings;
use crate::slot::{Key, Slots};
use crate::time::Tick;

/// How many idle connections a get chooses from.
pub(super) const IDLE_LOOKED_AT: usize = 4;

impl PoolPolicy {
    /// A use of a connection that may be handed out at once.
    #[inline]
    pub(super) fn take_ready(
        &mut self,
        now: Tick,
        endpoint: EndpointKey,
    ) -> Option<(ConnKey, bool)> {
        loop {
            let bucket = self.endpoints.get_mut(endpoint.0)?;
            let key = match bucket.partial.first() {
                Some(partial) => partial,
                None if bucket.flights.is_single() => bucket.idle.first()?,
                None => best_idle(&self.settings, &self.conns, now, bucket)?,
            };
            let conn = self.conns.get_mut(key)?;
            let was_idle = conn.place == Place::Idle;
            if now >= conn.deadline {
                self.condemn(ConnKey(key), CloseReason::Lifetime);
                continue;
            }
            if was_idle && now >= self.settings.idle_until(conn) {
                // A get may come before its timer, when the process stood still (P13).
                self.condemn(ConnKey(key), CloseReason::IdleTime);
                continue;
            }
            if was_idle && self.settings.is_in_doubt(now, bucket, conn) {
                return None;
            }
            let reused = conn.total_uses > 0;
            conn.begin_use(now, &self.settings);
            let is_partial = conn.uses < conn.capacity && conn.condemned.is_none();
            bucket.flights.begin(conn.spot);
            bucket.counts.reused += u64::from(reused);
            if was_idle || !is_partial {
                let at = conn.leave_list();
                bucket.unlist(&mut self.conns, at);
            }
            if was_idle {
                bucket.counts.idle -= 1;
                bucket.counts.in_use += 1;
                bucket.need.used(bucket.counts.in_use);
                if is_partial || self.settings.tells_reuse || self.settings.min_idle > 0 {
                    self.idles_no_more(now, endpoint, ConnKey(key), reused);
                }
            }
            return Some((ConnKey(key), reused));
        }
    }

    /// Since when the connection has been idle that a get would take now; `None` if it would take none
    /// or one that is in use.
    pub(crate) fn idle_since(&self, now: Tick, endpoint: EndpointKey) -> Option<Tick> {
        let bucket = self.endpoints.get(endpoint.0)?;
        if bucket.partial.first().is_some() {
            return None;
        }
        let key = match bucket.flights.is_single() {
            true => bucket.idle.first()?,
            false => best_idle(&self.settings, &self.conns, now, bucket)?,
        };
        self.conns.get(key).map(|conn| conn.idle_since)
    }

    /// What follows from the first use of a connection that was idle.
    #[inline(never)]
    fn idles_no_more(&mut self, now: Tick, endpoint: EndpointKey, key: ConnKey, reused: bool) {
        let conn = self.conns.get(key.0);
        if conn.is_some_and(|conn| conn.uses < conn.capacity && conn.condemned.is_none()) {
            self.place_partial(endpoint, key.0);
        }
        if reused && self.settings.tells_reuse {
            self.notify(endpoint, key, Hook::Reused);
        }
        if self.settings.min_idle > 0 {
            self.ensure(now, endpoint);
        }
    }
}

impl Settings {
    /// When the connection, which is idle, will have been so too long.
    #[inline]
    fn idle_until(&self, conn: &Conn) -> Tick {
        conn.idle_since.plus(self.max_idle_time)
    }

    /// Whether the idle connection is to be asked for its health before it is handed out.
    #[inline]
    fn is_in_doubt(&self, now: Tick, bucket: &Bucket, conn: &Conn) -> bool {
        self.health_check
            && !bucket.unchecked
            && now.since(conn.idle_since) > self.health_check_after
    }
}

impl Conn {
    #[inline]
    fn begin_use(&mut self, now: Tick, settings: &Settings) {
        self.total_uses += 1;
        if self.total_uses == settings.max_connection_uses {
            self.condemn(CloseReason::Uses);
        }
        self.uses += 1;
        self.taken_at = now;
    }
}

/// The newest idle connection, or one of the next few whose address is less busy: with an idle
/// address at hand there is nothing to look for. Only those that may be handed out at once are
/// looked at, and nothing older than one that may not.
fn best_idle(settings: &Settings, conns: &Slots<Conn>, now: Tick, bucket: &Bucket) -> Option<Key> {
    let newest = bucket.idle.first()?;
    let conn = conns.get(newest)?;
    let (mut best, mut least) = (newest, bucket.flights.cost(now, conn.spot));
    let mut next = conn.links.next();
    for _ in 1..IDLE_LOOKED_AT {
        let Some(conn) = next.and_then(|key| conns.get(key)) else {
            break;
        };
        let is_over = now >= conn.deadline || now >= settings.idle_until(conn);
        if least.uses == 0 || is_over || settings.is_in_doubt(now, bucket, conn) {
            break;
        }
        let cost = bucket.flights.cost(now, conn.spot);
        if let (Some(key), Ordering::Less) = (next, cost.compare(&least)) {
            (best, least) = (key, cost);
        }
        next = conn.links.next();
    }
    Some(best)
}
