//! Opening: from the wish for one more connection to a ready one.
//!
//! A wish becomes an opening when it has a permit; it then dials one address after the other
//! until one is ready or all have failed. Openings that failed on all addresses end the round:
//! the endpoint pauses, longer each time, and begins the next round if connections are still
//! wanted. After the last round allowed, the waiters that had come before it get the error, if
//! the endpoint has no connection that could serve them.
//!
//! Promise: never more openings than waiters need (and `min_idle` asks for), never more than
//! `max_connecting`, one new one per event; during a pause none begins.

use std::net::SocketAddr;
use std::time::Duration;

use super::PoolPolicy;
use super::backoff;
use super::bucket::{Bucket, Permit};
use super::conn::{Conn, Opening, Stage};
use super::event::{Action, CloseReason, ConnKey, EndpointKey, Hook};
use super::timers::Timer;
use crate::error::{Error, ErrorKind};
use crate::time::Tick;

/// How long `min_idle` waits when there is no permit or no slot to be had for it.
const WARM_PAUSE: Duration = Duration::from_secs(1);
/// A lifetime is shortened by up to one part in this many.
const LIFETIME_JITTER: u32 = 40;

impl PoolPolicy {
    /// Openings that waiters and `min_idle` justify.
    fn needed(&self, now: Tick, bucket: &Bucket) -> u32 {
        if self.draining {
            return 0;
        }
        bucket
            .needed_by_waiters()
            .saturating_add(self.needed_to_stay_warm(now, bucket))
    }

    fn wants_more(&self, now: Tick, endpoint: EndpointKey) -> bool {
        let bucket = self.endpoints.get(endpoint.0);
        bucket.is_some_and(|bucket| self.needed(now, bucket) > bucket.openings)
    }

    fn needed_to_stay_warm(&self, now: Tick, bucket: &Bucket) -> u32 {
        let min_idle = u32::try_from(self.settings.min_idle).unwrap_or(u32::MAX);
        let is_used =
            bucket.counts.gets > 0 && now < bucket.last_get.plus(self.settings.max_idle_time);
        if min_idle == 0 || !is_used || now < bucket.warm_at {
            return 0;
        }
        min_idle.saturating_sub(bucket.counts.idle)
    }

    /// Takes the next step towards a connection that is missing, or takes back the last one
    /// towards a connection that no longer is.
    pub(super) fn ensure(&mut self, now: Tick, endpoint: EndpointKey) {
        let Some(bucket) = self.endpoints.get(endpoint.0) else {
            return;
        };
        let needed = self.needed(now, bucket);
        let (openings, pausing) = (bucket.openings, bucket.in_backoff(now));
        let max_connecting = self.settings.max_connecting;
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        if needed <= openings || pausing {
            if bucket.permit == Permit::Queued {
                bucket.permit = Permit::None;
                self.actions.push_back(Action::WithdrawPermit { endpoint });
            }
            if needed < openings && bucket.parked.take().is_some() {
                bucket.openings -= 1;
                self.slot_queue.retain(|queued| *queued != endpoint);
                self.return_permit(endpoint);
            }
            if needed > openings {
                self.arm(endpoint);
            }
            return;
        }
        if openings as usize >= max_connecting
            || bucket.permit != Permit::None
            || bucket.parked.is_some()
        {
            return;
        }
        let fresh = !bucket.addresses.is_empty() && (bucket.answered || now < bucket.expires);
        if fresh {
            bucket.answered = false;
            bucket.permit = Permit::Asked;
            self.actions.push_back(Action::AcquirePermit { endpoint });
        } else if !bucket.resolving {
            bucket.resolving = true;
            self.actions.push_back(Action::Resolve { endpoint });
        }
    }

    pub(super) fn resolved(
        &mut self,
        now: Tick,
        endpoint: EndpointKey,
        addresses: &[SocketAddr],
        expires: Tick,
    ) -> Option<()> {
        if addresses.is_empty() {
            let error = Error::new(ErrorKind::Resolve, "the answer has no address");
            return self.resolve_failed(now, endpoint, error);
        }
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        if !std::mem::take(&mut bucket.resolving) {
            return None;
        }
        bucket.addresses.replace(addresses);
        bucket.expires = expires;
        bucket.answered = true;
        bucket.resolve_failures = 0;
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

    pub(super) fn permit_granted(
        &mut self,
        now: Tick,
        endpoint: EndpointKey,
        held: &[u32],
    ) -> Option<()> {
        let bucket = self.endpoints.get(endpoint.0)?;
        let wanted = self.needed(now, bucket) > bucket.openings
            && !bucket.in_backoff(now)
            && !bucket.addresses.is_empty()
            && bucket.parked.is_none()
            && (bucket.openings as usize) < self.settings.max_connecting;
        let next_waiter = self.next_waiter;
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        bucket.permit = Permit::None;
        bucket.permits += 1;
        if !wanted {
            self.return_permit(endpoint);
            self.settle(now, endpoint);
            return Some(());
        }
        bucket.addresses.note_held(held);
        if bucket.openings == 0 || bucket.round_mark.is_none() {
            bucket.round_mark = Some(next_waiter);
        }
        bucket.openings += 1;
        let opening = Box::new(Opening {
            round: bucket.round,
            since: now,
            ..Opening::default()
        });
        self.dial_next(now, endpoint, opening);
        self.settle(now, endpoint);
        Some(())
    }

    pub(super) fn permit_queued(&mut self, now: Tick, endpoint: EndpointKey) -> Option<()> {
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        if bucket.permit != Permit::Asked {
            return None;
        }
        bucket.permit = Permit::Queued;
        if bucket.needed_by_waiters() <= bucket.openings {
            // Only `min_idle` wants it: that is no reason to make another core give one up.
            self.pause_warming(now, endpoint);
        }
        self.settle(now, endpoint);
        Some(())
    }

    pub(super) fn pause_warming(&mut self, now: Tick, endpoint: EndpointKey) {
        if self.settings.min_idle == 0 {
            return;
        }
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.warm_at = now.plus(WARM_PAUSE);
            self.arm(endpoint);
        }
    }

    /// Dials the opening's next address, parks it if there is no slot, or ends its round.
    pub(super) fn dial_next(&mut self, now: Tick, endpoint: EndpointKey, opening: Box<Opening>) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        let Some(address) =
            bucket
                .addresses
                .pick(now, &opening.tried, opening.since, &mut self.rng)
        else {
            self.round_failed(now, endpoint, &opening);
            return;
        };
        if self.conns.is_full() {
            self.park(now, endpoint, opening);
            return;
        }
        let timeout = self.settings.connect_timeout;
        let conn = Conn::dialing(endpoint, address, now.plus(timeout), opening);
        if let Ok(key) = self.conns.insert(conn) {
            bucket.addresses.dialing(address);
            bucket.counts.connecting += 1;
            self.actions.push_back(Action::Dial {
                conn: ConnKey(key),
                endpoint,
                address,
                timeout,
            });
        }
    }

    /// Keeps the opening, with its permit, until a slot is free; gives it up if only `min_idle`
    /// wants it.
    fn park(&mut self, now: Tick, endpoint: EndpointKey, opening: Box<Opening>) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        if bucket.needed_by_waiters() < bucket.openings || bucket.parked.is_some() {
            bucket.openings -= 1;
            self.return_permit(endpoint);
            self.pause_warming(now, endpoint);
            return;
        }
        bucket.parked = Some(opening);
        self.slot_queue.push_back(endpoint);
        self.evict_for_slots();
    }

    pub(super) fn connected(&mut self, now: Tick, key: ConnKey) -> Option<()> {
        let conn = self.conns.get_mut(key.0)?;
        if conn.stage != Stage::Dialing {
            return None;
        }
        conn.stage = Stage::Initialising;
        self.actions.push_back(Action::Initialise {
            conn: key,
            endpoint: conn.endpoint,
            timeout: conn.deadline.since(now),
        });
        Some(())
    }

    pub(super) fn connect_failed(&mut self, now: Tick, key: ConnKey, error: Error) -> Option<()> {
        match self.conns.get(key.0)?.stage {
            Stage::Dialing => {}
            // It was to be closed while it dialed, and now nothing remains of it.
            Stage::Closing(_) => return self.closed(now, key),
            _ => return None,
        }
        let conn = self.conns.remove(key.0)?;
        let bucket = self.endpoints.get_mut(conn.endpoint.0)?;
        bucket.counts.connecting -= 1;
        let error = error.context(format!("connecting to tcp:{}", conn.address));
        let opening = conn.opening.unwrap_or_default();
        self.attempt_failed(now, conn.endpoint, conn.address, opening, error);
        self.slots_freed(now);
        self.settle(now, conn.endpoint);
        Some(())
    }

    pub(super) fn init_failed(&mut self, key: ConnKey, error: Error) -> Option<()> {
        let conn = self.conns.get_mut(key.0)?;
        if conn.stage != Stage::Initialising {
            return None;
        }
        let step = format!("initialising the connection to tcp:{}", conn.address);
        if let Some(opening) = &mut conn.opening {
            opening.error = Some(error.context(step));
        }
        self.close(key, CloseReason::InitFailed);
        Some(())
    }

    /// One address failed and its slot is free; the opening still holds its permit.
    pub(super) fn attempt_failed(
        &mut self,
        now: Tick,
        endpoint: EndpointKey,
        address: SocketAddr,
        mut opening: Box<Opening>,
        error: Error,
    ) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        if self.draining {
            // No address is picked any more, so that none keeps account of it.
            bucket.openings -= 1;
            self.return_permit(endpoint);
            return;
        }
        bucket.counts.connect_errors += 1;
        if is_of_this_host(&error) {
            bucket.addresses.failed_here(now, address);
        } else {
            bucket.addresses.failed(now, address, &mut self.rng);
        }
        bucket.last_error = Some(error.context(format!("connecting to {}", bucket.label)));
        opening.tried.push(address);
        let is_last = bucket.addresses.are_spent(&opening.tried, opening.since);
        let openings = bucket.openings;
        let bucket = self.endpoints.get(endpoint.0);
        let is_wanted = bucket.is_some_and(|bucket| self.needed(now, bucket) >= openings);
        if is_wanted || is_last {
            self.dial_next(now, endpoint, opening);
        } else if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.openings -= 1;
            self.return_permit(endpoint);
        }
    }

    /// The opening has no address left to try: it ends, and with it the endpoint's round.
    fn round_failed(&mut self, now: Tick, endpoint: EndpointKey, opening: &Opening) {
        self.return_permit(endpoint);
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        bucket.openings -= 1;
        // Openings of one round fail together; the first of them ends it.
        if opening.round == bucket.round {
            bucket.round += 1;
            bucket.failed_mark = bucket.round_mark.take().unwrap_or(0);
            bucket.failures = bucket.failures.saturating_add(1);
            bucket.retry_at = now.plus(backoff::delay(
                bucket.failures,
                self.settings.connect_retry_delay,
                self.settings.connect_retry_delay_max,
                &mut self.rng,
            ));
            self.arm(endpoint);
        }
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        let retries = bucket.failures.saturating_sub(1);
        let is_final = bucket.failures > self.settings.connect_retry_count;
        if is_final && bucket.openings == 0 && bucket.counts.live() == 0 {
            let mark = bucket.failed_mark;
            if let Some(mut error) = bucket.last_error.clone() {
                if retries > 0 {
                    error = error.context(format!("after {retries} retry attempts"));
                }
                self.fail_waiters(endpoint, mark, &error);
            }
        }
    }

    pub(super) fn initialised(&mut self, now: Tick, key: ConnKey, capacity: u32) -> Option<()> {
        let conn = self.conns.get_mut(key.0)?;
        if conn.stage != Stage::Initialising {
            return None;
        }
        let longest = self.settings.max_connection_lifetime;
        let shorter = longest.saturating_sub(self.rng.part_of(longest / LIFETIME_JITTER));
        conn.stage = Stage::Ready;
        conn.was_ready = true;
        conn.opening = None;
        conn.capacity = capacity.max(1);
        conn.deadline = now.plus(shorter);
        let (endpoint, address, deadline) = (conn.endpoint, conn.address, conn.deadline);
        self.timers.insert(deadline, Timer::Lifetime(key));
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        bucket.counts.connecting -= 1;
        bucket.counts.idle += 1;
        bucket.counts.created += 1;
        bucket.capacity = capacity.max(1);
        bucket.openings -= 1;
        bucket.addresses.succeeded(address);
        bucket.failures = 0;
        bucket.retry_at = Tick::ZERO;
        bucket.round_mark = None;
        bucket.last_error = None;
        self.arm(endpoint);
        self.notify(endpoint, key, Hook::Created);
        self.became_free(now, endpoint, key);
        Some(())
    }

    /// Sets the endpoint's timer to the next moment at which it may try again.
    fn arm(&mut self, endpoint: EndpointKey) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        // The later moment is set when the earlier one has come.
        let moments = [bucket.retry_at, bucket.warm_at];
        let pending = moments.into_iter().filter(|at| *at > Tick::ZERO);
        let next = pending.min().unwrap_or(Tick::NEVER);
        let timer = Timer::Retry(endpoint);
        self.timers.remove(bucket.timer, timer);
        bucket.timer = next;
        self.timers.insert(next, timer);
    }

    pub(super) fn disarm(&mut self, endpoint: EndpointKey) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            let timer = Timer::Retry(endpoint);
            self.timers.remove(bucket.timer, timer);
            bucket.timer = Tick::NEVER;
        }
    }

    pub(super) fn retry_due(&mut self, now: Tick, endpoint: EndpointKey) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        bucket.timer = Tick::NEVER;
        if bucket.warm_at <= now {
            bucket.warm_at = Tick::ZERO;
        }
        if bucket.retry_at <= now {
            bucket.retry_at = Tick::ZERO;
        }
        let is_over = bucket.retry_at == Tick::ZERO;
        if is_over
            && !self.wants_more(now, endpoint)
            && let Some(bucket) = self.endpoints.get_mut(endpoint.0)
        {
            // Nobody wants the next round: the one after that is a first one again.
            bucket.failures = 0;
        }
        self.arm(endpoint);
        self.settle(now, endpoint);
    }
}

/// Whether a connect failed for want of something here: no port, no memory, no descriptor. That says
/// nothing about the address (connect(2), socket(2)).
fn is_of_this_host(error: &Error) -> bool {
    let here = [
        libc::EADDRNOTAVAIL,
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::EMFILE,
        libc::ENFILE,
    ];
    let errno = error.raw_os_error();
    errno.is_some_and(|errno| here.contains(&errno))
}
