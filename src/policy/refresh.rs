//! A name's addresses change while connections to the old ones live. The name is asked for again
//! when its answer expires, as long as the endpoint has connections or waiters, and what changed is
//! carried over to the connections.
//!
//! Promise: for its own sake an endpoint asks no more often than once per [`REFRESH_FLOOR`], and
//! the less often the longer nobody got anything from it; but within that when what names are asked
//! of has changed; a failure or an empty answer removes nothing, and is followed by a pause that
//! grows; an address that is gone gets no new connection: its idle ones close, those in use when they
//! come back; one that comes back is as good as before.

use std::time::Duration;

use super::PoolPolicy;
use super::backoff;
use super::bucket::Bucket;
use super::conn::Stage;
use super::event::{Action, CloseReason, ConnKey, EndpointKey};
use super::settings::REFRESH_FLOOR;
use crate::error::{Error, ErrorKind};
use crate::target::Target;
use crate::time::Tick;

/// Which part of the time since the last get must pass between two questions: connections that idle
/// for a day need not know each minute whether their addresses have changed.
const UNUSED_PART: u32 = 8;

impl PoolPolicy {
    /// Asks for the endpoint's addresses, unless that is under way.
    pub(super) fn resolve(&mut self, now: Tick, endpoint: EndpointKey) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0)
            && !std::mem::replace(&mut bucket.resolving, true)
        {
            (bucket.asked_at, bucket.is_outdated) = (now, false);
            self.actions.push_back(Action::Resolve { endpoint });
        }
    }

    pub(super) fn resolved(
        &mut self,
        now: Tick,
        endpoint: EndpointKey,
        targets: &[Target],
        expires: Tick,
        is_fresh: bool,
    ) -> Option<()> {
        if targets.is_empty() {
            let error = Error::new(ErrorKind::Resolve, "the answer has no address");
            return self.resolve_failed(now, endpoint, error);
        }
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        if !std::mem::take(&mut bucket.resolving) {
            return None;
        }
        bucket.expires = expires;
        let next = bucket.next_question(now);
        let has_gone = bucket.addresses.replace(now, targets, next, is_fresh);
        bucket.answered = true;
        bucket.resolve_failures = 0;
        self.refresh_later(now, endpoint);
        if has_gone {
            self.leave_gone(endpoint);
        }
        self.join_races(now, endpoint);
        self.reinstate(endpoint);
        self.plan_moves(now, endpoint);
        self.settle(now, endpoint);
        Some(())
    }

    pub(super) fn resolve_failed(
        &mut self,
        now: Tick,
        endpoint: EndpointKey,
        error: Error,
    ) -> Option<()> {
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        if !std::mem::take(&mut bucket.resolving) {
            return None;
        }
        bucket.counts.resolve_errors += 1;
        bucket.resolve_failures = bucket.resolve_failures.saturating_add(1);
        let again = now.plus(backoff::delay(
            bucket.resolve_failures,
            self.settings.connect_retry_delay,
            self.settings.connect_retry_delay_max,
            &mut self.rng,
        ));
        if !bucket.addresses.is_empty() {
            // A failure is not absence: what was known stays good until it is asked again.
            bucket.expires = again;
            bucket.answered = true;
            self.refresh_later(now, endpoint);
            self.settle(now, endpoint);
            return Some(());
        }
        let error = error.context(format!("connecting to {}", bucket.label));
        bucket.last_error = Some(error.clone());
        bucket.retry_at = again;
        // Where no address was ever known there is no connection, and no opening, that could serve
        // those who wait.
        self.fail_waiters(endpoint, u64::MAX, &error);
        self.settle(now, endpoint);
        Some(())
    }

    /// The endpoint has a connection again: its addresses are kept up to date from now on.
    pub(super) fn keep_refreshing(&mut self, now: Tick, endpoint: EndpointKey) {
        let bucket = self.endpoints.get(endpoint.0);
        if bucket.is_some_and(|bucket| bucket.refresh_at == Tick::ZERO && !bucket.resolving) {
            self.refresh_later(now, endpoint);
        }
    }

    /// Plans the next question for when what is known expires.
    fn refresh_later(&mut self, now: Tick, endpoint: EndpointKey) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.refresh_at = match bucket.next_question(now) {
                Tick::NEVER => Tick::ZERO,
                next => next,
            };
            if bucket.is_outdated {
                bucket.ask_by(now);
            }
            self.arm(endpoint);
        }
    }

    /// What names are asked of has changed. The name is asked for again within [`REFRESH_FLOOR`],
    /// not at the same moment as all others; what is known serves until there is an answer.
    pub(super) fn names_changed(&mut self, now: Tick, endpoint: EndpointKey) -> Option<()> {
        let later = self.rng.part_of(REFRESH_FLOOR);
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        if bucket.resolving {
            bucket.is_outdated = true;
        } else if !bucket.addresses.is_empty() {
            bucket.ask_by(now.plus(later));
            self.arm(endpoint);
        }
        Some(())
    }

    /// How long it may take until a change of what names are asked of is noticed: the longer the
    /// longer nobody got anything; `None` if nobody would ever notice.
    pub(crate) fn names_pause(&self, now: Tick, endpoint: EndpointKey) -> Option<Duration> {
        let bucket = self.endpoints.get(endpoint.0)?;
        bucket.is_used().then(|| bucket.unused_part(now))
    }

    /// The endpoint's moment may be that of a refresh, or of an address that was missing for long.
    pub(super) fn refresh(&mut self, now: Tick, endpoint: EndpointKey) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        let is_due = bucket.refresh_at > Tick::ZERO && bucket.refresh_at <= now;
        let asks = is_due && bucket.is_used();
        if is_due {
            bucket.refresh_at = Tick::ZERO;
        }
        if is_due && !asks {
            // Nobody asks now: who needs an address asks first.
            bucket.expires = bucket.expires.min(now);
        }
        if bucket.addresses.drop_held(now) {
            self.leave_gone(endpoint);
        }
        if asks {
            self.resolve(now, endpoint);
        }
    }

    /// Connections in use whose address was gone and is named again may be used again.
    fn reinstate(&mut self, endpoint: EndpointKey) {
        let Some(bucket) = self.endpoints.get(endpoint.0) else {
            return;
        };
        let conns = self.conns.iter().filter(|(_, conn)| {
            let was_gone = conn.condemned == Some(CloseReason::AddressGone);
            conn.endpoint == endpoint
                && was_gone
                && conn.stage == Stage::Ready
                && bucket.addresses.position(conn.address).is_some()
        });
        let again: Vec<_> = conns.map(|(key, _)| key).collect();
        for key in again {
            if let Some(conn) = self.conns.get_mut(key) {
                conn.condemned = None;
                if conn.uses < conn.capacity {
                    self.place_partial(endpoint, key);
                }
            }
        }
    }

    /// Ends the connections to addresses that are gone; those on their way there go elsewhere.
    fn leave_gone(&mut self, endpoint: EndpointKey) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        let addresses = &bucket.addresses;
        let is_gone = |address| addresses.position(address).is_none();
        for race in &mut bucket.races {
            race.forget(is_gone);
        }
        let conns = self.conns.iter();
        let gone = conns.filter(|(_, conn)| {
            conn.endpoint == endpoint && conn.exists() && is_gone(conn.address)
        });
        let gone: Vec<_> = gone.map(|(key, conn)| (ConnKey(key), conn.stage)).collect();
        for (key, stage) in gone {
            match stage {
                Stage::Ready | Stage::Checking | Stage::Leaving => {
                    self.condemn(key, CloseReason::AddressGone);
                }
                Stage::Dialing | Stage::Initialising => self.close(key, CloseReason::AddressGone),
                Stage::Closing(_) | Stage::Expected | Stage::Declined | Stage::Claimed => {}
            }
        }
    }
}

impl Bucket {
    /// When its name is to be asked for again after what is known now.
    fn next_question(&self, now: Tick) -> Tick {
        let pause = self.unused_part(now).max(REFRESH_FLOOR);
        self.expires.max(now.plus(pause))
    }

    fn unused_part(&self, now: Tick) -> Duration {
        now.since(self.last_get) / UNUSED_PART
    }

    /// Its name is asked for again by `at`, if that is not sooner than the floor allows.
    fn ask_by(&mut self, at: Tick) {
        let at = at.max(self.asked_at.plus(REFRESH_FLOOR));
        self.refresh_at = match self.refresh_at {
            Tick::ZERO => at,
            planned => planned.min(at),
        };
    }

    /// Whether anybody would notice that its addresses changed.
    pub(super) fn is_used(&self) -> bool {
        self.counts.slots() > 0 || !self.waiting.is_empty()
    }
}
