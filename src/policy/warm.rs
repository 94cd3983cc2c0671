//! Connections that nobody waits for: `min_idle` of them are to be ready before they are needed.
//!
//! Promise: as many as the limits leave; where there is no permit or no slot for them, or for other
//! things that no waiter needs, they are tried again after a pause that doubles until one is to be had:
//! at a limit that many cores share, each such request is heard by all of them.

use std::time::Duration;

use super::PoolPolicy;
use super::bucket::Bucket;
use super::draining;
use super::event::EndpointKey;
use crate::error::Result;
use crate::time::Tick;

/// How long what no waiter needs waits when there is no permit or no slot to be had for it; it doubles
/// up to eight times as long.
const EXTRAS_PAUSE: Duration = Duration::from_secs(1);

impl PoolPolicy {
    pub(super) fn needed_to_stay_warm(&self, now: Tick, bucket: &Bucket) -> u32 {
        let min_idle = u32::try_from(self.settings.min_idle).unwrap_or(u32::MAX);
        let is_wanted = bucket.counts.gets > 0 || bucket.warmed;
        let is_used = is_wanted && now < bucket.last_get.plus(self.settings.max_idle_time);
        if min_idle == 0 || !is_used || now < bucket.warm_at {
            return 0;
        }
        min_idle.saturating_sub(bucket.counts.idle)
    }

    /// The first gets are to find connections: the endpoint counts as used from now on.
    pub(crate) fn warm_up(&mut self, now: Tick, endpoint: EndpointKey) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.warmed = true;
            bucket.extras_may_go_on(now);
            bucket.warm_at = Tick::ZERO;
            bucket.last_get = now;
            self.settle(now, endpoint);
        }
    }

    /// Whether `min_idle` connections are idle, or as many as the limits allow, or why none can be
    /// opened; `None` while more are on their way.
    pub(crate) fn is_warm(&self, now: Tick, endpoint: EndpointKey) -> Option<Result<()>> {
        if self.draining {
            return Some(Err(draining()));
        }
        let Some(bucket) = self.endpoints.get(endpoint.0) else {
            return Some(Ok(()));
        };
        if self.needed_to_stay_warm(now, bucket) == 0 {
            return Some(Ok(()));
        }
        let has_no_address = bucket.addresses.is_empty() && bucket.in_backoff(now);
        let is_over = bucket.failures > self.settings.connect_retry_count || has_no_address;
        let error = bucket.last_error.clone().filter(|_| is_over);
        error.map(Err)
    }

    /// What no waiter needs is not tried again for a while.
    pub(super) fn pause_extras(&mut self, now: Tick, endpoint: EndpointKey) {
        let wants_idle = |bucket| self.needed_to_stay_warm(now, bucket) > 0;
        let wants_idle = self.endpoints.get(endpoint.0).is_some_and(wants_idle);
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        bucket.probes.hold_back();
        if !wants_idle && bucket.moves.wanted(now) == 0 && bucket.probes.waits() {
            // It was for a probe alone: nothing else is in vain.
            return;
        }
        if now >= bucket.extras_at {
            let pause = EXTRAS_PAUSE * (1 << bucket.extras_pauses.min(3));
            bucket.extras_pauses = bucket.extras_pauses.saturating_add(1);
            bucket.extras_at = now.plus(pause);
        }
        let later = bucket.extras_at;
        self.extras_wait(endpoint, later);
    }

    /// What nobody used yet broke: a server that drops it would be dialed without end.
    pub(super) fn pause_replacements(&mut self, now: Tick, endpoint: EndpointKey) {
        self.extras_wait(endpoint, now.plus(EXTRAS_PAUSE));
    }

    fn extras_wait(&mut self, endpoint: EndpointKey, later: Tick) {
        let min_idle = self.settings.min_idle;
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            if min_idle > 0 {
                bucket.warm_at = bucket.warm_at.max(later);
            }
            bucket.moves.pause_until(later);
            self.arm(endpoint);
        }
    }
}

impl Bucket {
    /// There is a permit again: no pause is longer than the first.
    pub(super) fn extras_may_go_on(&mut self, now: Tick) {
        (self.extras_pauses, self.extras_at) = (0, Tick::ZERO);
        let first = now.plus(EXTRAS_PAUSE);
        self.warm_at = self.warm_at.min(first);
        self.moves.pause_until(self.moves.pause().min(first));
    }
}
