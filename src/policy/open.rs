//! Opening: from the wish for one more connection to a ready one.
//!
//! A wish becomes an opening when it has a permit; it then dials one address after the other
//! until one is ready or all have failed, several at once if they are slow (see `race`).
//! Openings that failed on all addresses end the round: the endpoint pauses, longer each time, and
//! begins the next round if connections are still wanted. After the last round allowed, the waiters
//! that had come before it get the error, if the endpoint has no connection that could serve them.
//!
//! Promise: never more openings than waiters, `min_idle`, moves and probes need, never more than
//! `max_connecting` connects, one new one per event; during a pause none begins.

use std::net::SocketAddr;

use super::PoolPolicy;
use super::backoff;
use super::balance::Wish;
use super::bucket::{Bucket, Permit};
use super::conn::{Conn, Stage};
use super::event::{Action, CloseReason, ConnKey, EndpointKey, Hook, Verdict};
use super::race::set_error;
use super::timers::Timer;
use crate::error::Error;
use crate::time::Tick;

/// A lifetime is shortened by up to one part in this many.
const LIFETIME_JITTER: u32 = 40;

impl PoolPolicy {
    /// Openings that waiters, `min_idle`, moves and probes justify.
    pub(super) fn needed(&self, now: Tick, bucket: &Bucket) -> u32 {
        if self.draining {
            return 0;
        }
        bucket
            .needed_by_waiters()
            .saturating_add(self.needed_to_stay_warm(now, bucket))
            .saturating_add(bucket.moves.wanted(now))
            .saturating_add(bucket.probes.wanted())
    }

    fn wants_more(&self, now: Tick, endpoint: EndpointKey) -> bool {
        let bucket = self.endpoints.get(endpoint.0);
        bucket.is_some_and(|bucket| self.needed(now, bucket) > bucket.openings())
    }

    /// Takes the next step towards a connection that is missing, or takes back the last one
    /// towards a connection that no longer is.
    pub(super) fn ensure(&mut self, now: Tick, endpoint: EndpointKey) {
        self.watch_ended(now, endpoint);
        if let Some(number) = self.due_race(now, endpoint) {
            self.ensure_rival(now, endpoint, number);
        }
        let Some(bucket) = self.endpoints.get(endpoint.0) else {
            return;
        };
        let needed = self.needed(now, bucket);
        if needed > bucket.openings() && !bucket.in_backoff(now) {
            self.ensure_opening(now, endpoint);
        } else {
            self.take_back(now, endpoint, needed);
        }
    }

    /// Asks for what the next opening needs.
    fn ensure_opening(&mut self, now: Tick, endpoint: EndpointKey) {
        let max_connecting = self.settings.max_connecting;
        let room = self.settings.room();
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        if bucket.attempts() >= max_connecting
            || bucket.permit != Permit::None
            || bucket.parked.is_some()
            || bucket.addresses.are_busy(&Wish::first(now, room))
        {
            return;
        }
        let fresh = !bucket.addresses.is_empty() && (bucket.answered || now < bucket.expires);
        if fresh {
            bucket.answered = false;
            bucket.permit = Permit::Asked;
            self.actions.push_back(Action::AcquirePermit { endpoint });
        } else {
            self.resolve(now, endpoint);
        }
    }

    /// No opening more is wanted, or none may begin: perhaps there are too many.
    fn take_back(&mut self, now: Tick, endpoint: EndpointKey, needed: u32) {
        let is_due = self.due_race(now, endpoint).is_some();
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        if bucket.permit == Permit::Queued && !is_due {
            bucket.permit = Permit::None;
            self.decline(endpoint);
            self.actions.push_back(Action::WithdrawPermit { endpoint });
        }
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        let openings = bucket.openings();
        if needed > openings {
            self.arm(endpoint);
        } else if needed < openings {
            if let Some(number) = bucket.parked.take() {
                self.remove_race(endpoint, number);
                self.slot_queue.retain(|queued| *queued != endpoint);
                self.return_permit(endpoint);
            }
            self.cancel_losers(now, endpoint);
        }
    }

    pub(super) fn permit_granted(
        &mut self,
        now: Tick,
        endpoint: EndpointKey,
        held: &[u32],
    ) -> Option<()> {
        let rival = self.due_race(now, endpoint);
        self.decline(endpoint);
        let bucket = self.endpoints.get(endpoint.0)?;
        let may = !bucket.in_backoff(now)
            && !bucket.addresses.is_empty()
            && bucket.parked.is_none()
            && bucket.attempts() < self.settings.max_connecting
            && (rival.is_some()
                || !bucket
                    .addresses
                    .are_busy(&Wish::first(now, self.settings.room())));
        let is_full = self.conns.is_full();
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        bucket.permit = Permit::None;
        bucket.permits += 1;
        bucket.extras_may_go_on(now);
        bucket.moves.has_permit();
        if may {
            bucket.addresses.note_held(held);
            self.doubt_moves(now, endpoint);
        }
        let bucket = self.endpoints.get(endpoint.0)?;
        let needed = self.needed(now, bucket);
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        match rival {
            Some(number) if may && !is_full => self.dial_next(now, endpoint, number),
            _ if may && needed > bucket.openings() => self.begin_race(now, endpoint),
            _ => self.return_permit(endpoint),
        }
        self.settle(now, endpoint);
        Some(())
    }

    pub(super) fn permit_queued(&mut self, now: Tick, endpoint: EndpointKey) -> Option<()> {
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        if bucket.permit != Permit::Asked {
            return None;
        }
        bucket.permit = Permit::Queued;
        if !bucket.is_short() {
            // Only the pool itself wants it: no reason to make another core give one up.
            self.pause_extras(now, endpoint);
        }
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.moves.is_succeeded_elsewhere();
        }
        self.make_room_to_move(now, endpoint);
        self.make_room_to_probe(endpoint);
        self.settle(now, endpoint);
        Some(())
    }

    /// Keeps the race, with its permit, until a slot is free; gives it up if no waiter wants it.
    pub(super) fn park(&mut self, now: Tick, endpoint: EndpointKey, number: u64) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        let is_probe = bucket.probes.aim(number).is_some();
        let for_waiters = bucket.openings_for_waiters();
        let is_extra = is_probe || bucket.needed_by_waiters() < for_waiters;
        if is_extra || bucket.parked.is_some() {
            self.remove_race(endpoint, number);
            self.return_permit(endpoint);
            self.pause_extras(now, endpoint);
            return;
        }
        bucket.parked = Some(number);
        self.slot_queue.push_back(endpoint);
        self.evict_for_slots();
    }

    pub(super) fn connected(&mut self, now: Tick, key: ConnKey) -> Option<()> {
        let conn = self.conns.get_mut(key.0)?;
        if conn.stage != Stage::Dialing {
            return None;
        }
        conn.stage = Stage::Initialising;
        let endpoint = conn.endpoint;
        self.actions.push_back(Action::Initialise {
            conn: key,
            endpoint,
            timeout: conn.deadline.since(now),
        });
        if let Some(number) = conn.attempt.as_ref().map(|attempt| attempt.race) {
            self.extend_race(now, endpoint, number);
        }
        Some(())
    }

    pub(super) fn connect_failed(&mut self, now: Tick, key: ConnKey, error: Error) -> Option<()> {
        match self.conns.get(key.0)?.stage {
            Stage::Dialing => {}
            // It was to be closed while it dialed, and now nothing remains of it.
            Stage::Closing(_) => return self.closed(now, key),
            _ => return None,
        }
        let mut conn = self.conns.remove(key.0)?;
        let bucket = self.endpoints.get_mut(conn.endpoint.0)?;
        bucket.counts.connecting -= 1;
        let step = format!("connecting to tcp:{}", conn.address);
        set_error(&mut conn, error.context(step));
        self.left(now, key, conn);
        Some(())
    }

    /// A connection is gone, and its slot free; its permit is held by the attempt that it was, if it
    /// was one.
    pub(super) fn left(&mut self, now: Tick, key: ConnKey, conn: Conn) {
        let endpoint = conn.endpoint;
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.flights.leave(conn.spot);
        }
        match conn.attempt {
            Some(attempt) => {
                let attempt = self.spare.take(attempt);
                self.attempt_ended(now, endpoint, key, conn.address, attempt);
            }
            None => self.return_permit(endpoint),
        }
        self.slots_freed(now);
        self.settle(now, endpoint);
    }

    pub(super) fn init_failed(&mut self, key: ConnKey, error: Error) -> Option<()> {
        let conn = self.conns.get_mut(key.0)?;
        if conn.stage != Stage::Initialising {
            return None;
        }
        let step = format!("initialising the connection to tcp:{}", conn.address);
        set_error(conn, error.context(step));
        self.close(key, CloseReason::InitFailed);
        Some(())
    }

    /// One address failed.
    pub(super) fn note_failure(
        &mut self,
        now: Tick,
        endpoint: EndpointKey,
        address: SocketAddr,
        error: Error,
    ) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        bucket.counts.connect_errors += 1;
        let is_of_this_host = is_of_this_host(&error);
        if is_of_this_host {
            bucket.addresses.failed_here(now, address, &mut self.rng);
        } else {
            bucket.addresses.failed(now, address, &mut self.rng);
        }
        bucket.last_error = Some(error.context(format!("connecting to {}", bucket.label)));
        if !is_of_this_host {
            self.report(endpoint, address, Verdict::Failed);
        }
        self.even_out_later(now, endpoint);
        self.give_up_lost_aim(now, endpoint);
        self.watch_backups(now, endpoint, now);
    }

    /// The race has no address left to try: it ends, and with it the endpoint's round.
    pub(super) fn round_failed(&mut self, now: Tick, endpoint: EndpointKey, number: u64) {
        self.return_permit(endpoint);
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        let round = bucket.race_mut(number).map(|race| race.round);
        self.remove_race(endpoint, number);
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        bucket.moves.give_up();
        // Openings of one round fail together; the first of them ends it.
        if round == Some(bucket.round) {
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
        if is_final && bucket.races.is_empty() && bucket.counts.live() == 0 {
            let mark = bucket.failed_mark;
            if let Some(mut error) = bucket.last_error.clone() {
                if retries > 0 {
                    error = error.context(format!("after {retries} retry attempts"));
                }
                self.fail_waiters(endpoint, mark, &error);
            }
        }
    }

    pub(super) fn initialised(
        &mut self,
        now: Tick,
        key: ConnKey,
        capacity: u32,
        watched: bool,
    ) -> Option<()> {
        let conn = self.conns.get_mut(key.0)?;
        if conn.stage != Stage::Initialising {
            return None;
        }
        let longest = self.settings.max_connection_lifetime;
        let shorter = longest.saturating_sub(self.rng.part_of(longest / LIFETIME_JITTER));
        conn.stage = Stage::Ready;
        conn.was_ready = true;
        conn.capacity = capacity.max(1);
        conn.deadline = now.plus(shorter);
        conn.idle_since = now;
        conn.opened = now;
        let (endpoint, address) = (conn.endpoint, conn.address);
        self.begin_life(key);
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        bucket.counts.connecting -= 1;
        bucket.counts.idle += 1;
        bucket.counts.created += 1;
        bucket.capacity = capacity.max(1);
        let had_failed = bucket.addresses.succeeded(address);
        bucket.failures = 0;
        bucket.retry_at = Tick::ZERO;
        bucket.round_mark = None;
        bucket.last_error = None;
        self.win_race(now, endpoint, key);
        self.watch_need(now, endpoint);
        self.report_ready(endpoint, address);
        if had_failed {
            self.even_out_soon(now, endpoint);
        }
        self.arm(endpoint);
        self.notify(endpoint, key, Hook::Created);
        match watched {
            true => self.became_free(now, endpoint, key),
            false => {
                self.look(key, now);
                self.settle(now, endpoint);
            }
        }
        self.moved(now, endpoint, address);
        self.watch_backups(now, endpoint, now);
        Some(())
    }

    /// Sets the endpoint's timer to the next moment at which it has something to do.
    pub(super) fn arm(&mut self, endpoint: EndpointKey) {
        if self.draining {
            return;
        }
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        // The later moment is set when the earlier one has come.
        let moments = [
            bucket.retry_at,
            bucket.warm_at,
            bucket.moves.pause(),
            bucket.moves.look_at(),
            bucket.moves.even_at(),
            bucket.probes.at(),
            bucket.refresh_at,
            bucket.need.look_at(),
        ];
        let hold = bucket.addresses.next_hold();
        let pending = moments
            .into_iter()
            .chain(hold)
            .filter(|at| *at > Tick::ZERO);
        let next = pending.min().unwrap_or(Tick::NEVER);
        let timer = Timer::Retry(endpoint);
        self.timers.remove(bucket.timer, timer);
        bucket.timer = next;
        self.timers.insert(next, timer);
    }

    pub(super) fn disarm(&mut self, endpoint: EndpointKey) {
        self.give_later(endpoint, Tick::NEVER);
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
        bucket.moves.resume(now);
        let is_over = bucket.retry_at == Tick::ZERO;
        if is_over
            && !self.wants_more(now, endpoint)
            && let Some(bucket) = self.endpoints.get_mut(endpoint.0)
        {
            // Nobody wants the next round: the one after that is a first one again.
            bucket.failures = 0;
        }
        self.refresh(now, endpoint);
        self.look_at_backups(now, endpoint);
        self.look_at_need(now, endpoint);
        self.look_at_balance(now, endpoint);
        self.look_at_ejected(now, endpoint);
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
