//! The pool's decisions, without I/O, clock, `unsafe` or async: who gets which connection, when
//! one is opened, where to, and when one is closed.
//!
//! Promise: for every sequence of commands and events there is no panic; a waiter ends exactly
//! once and in the order of arrival; a permit is held for each connection that is this core's, and
//! one more at most per endpoint that waits for a slot; the same seed and the same sequence give
//! the same actions.
//!
//! One endpoint's next connection comes about in steps, each only while it is still wanted:
//! addresses (Resolve) → permit (AcquirePermit) → slot → Dial → Initialise → ready. When an
//! address fails the next one is dialed; when all have failed the endpoint pauses.

mod ages;
mod backoff;
mod balance;
#[cfg(feature = "bench")]
pub(crate) mod bench;
mod bucket;
#[cfg(any(test, fuzzing))]
pub(crate) mod bytes;
#[cfg(any(test, fuzzing, feature = "sim"))]
mod check;
mod close;
mod conn;
mod counts;
mod eject;
pub(crate) mod event;
mod expect;
mod flight;
mod give;
mod hand;
#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code))] // tests use more of it
pub(crate) mod harness;
#[cfg(test)]
mod histories;
mod list;
mod lives;
#[cfg(any(test, fuzzing))]
mod model;
mod moves;
#[cfg(any(test, fuzzing))]
mod op;
mod open;
#[cfg(any(test, fuzzing))]
mod oracle;
mod plan;
mod race;
mod refresh;
mod rng;
mod serve;
mod settings;
mod shrink;
mod spread;
mod take;
#[cfg(test)]
mod tests;
mod timers;
mod total;
mod waiters;
mod warm;

use std::collections::VecDeque;
use std::rc::Rc;

use self::ages::Ages;
use self::balance::Slice;
use self::bucket::Bucket;
use self::conn::{Conn, Stage};
pub(crate) use self::counts::Counts;
use self::event::{Action, CloseReason, ConnKey, EndpointKey, Event, Return, WaiterKey};
pub(crate) use self::hand::WithHand;
use self::lives::Lives;
use self::race::Spare;
pub(crate) use self::rng::Rng;
pub(crate) use self::settings::{PROBE_EVERY, Settings};
use self::timers::{Timer, Timers};
use self::waiters::Waiter;
use crate::balance::Balance;
use crate::error::{Error, ErrorKind, Result};
use crate::slot::Slots;
use crate::time::Tick;

/// Deadlines that one [`PoolPolicy::handle_timeout`] handles at most.
const TIMEOUT_BATCH: usize = 64;

/// What [`PoolPolicy::get`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Got {
    /// A connection (a use of it, if it is shared). `reused`: it was handed out before.
    Ready { conn: ConnKey, reused: bool },
    /// Ends by exactly one `Action::Grant` or `Action::Fail`, unless it is cancelled.
    Waiting(WaiterKey),
}

/// The pool of one core.
#[derive(Debug)]
pub(crate) struct PoolPolicy {
    settings: Settings,
    /// What the settings say of the [hand](hand).
    is_quiet: bool,
    endpoints: Slots<Bucket>,
    conns: Slots<Conn>,
    waiters: Slots<Waiter>,
    ages: Ages,
    lives: Lives,
    spare: Spare,
    timers: Timers,
    actions: VecDeque<Action>,
    /// Endpoints with a parked opening, in the order in which they came.
    slot_queue: VecDeque<EndpointKey>,
    /// Slots on their way to be free: those in the stages Closing and Declined.
    closing: usize,
    /// Slots in the stage Expected.
    expected: usize,
    next_waiter: u64,
    rng: Rng,
    draining: bool,
    ignored: u64,
    /// Since when somebody waits for a permit of the process that this core could set free.
    total_demand: Option<Tick>,
}

/// Commands.
impl PoolPolicy {
    /// An empty pool.
    pub(crate) fn new(settings: Settings, seed: u64) -> Self {
        let waiters = settings.max_waiters.saturating_mul(settings.max_endpoints);
        Self {
            endpoints: Slots::with_capacity(settings.max_endpoints),
            conns: Slots::with_capacity(settings.max_connections),
            waiters: Slots::with_capacity(waiters.min(u32::MAX as usize)),
            ages: Ages::default(),
            lives: Lives::default(),
            spare: Spare::default(),
            timers: Timers::default(),
            actions: VecDeque::new(),
            slot_queue: VecDeque::new(),
            closing: 0,
            expected: 0,
            next_waiter: 0,
            rng: Rng::new(seed),
            draining: false,
            ignored: 0,
            total_demand: None,
            is_quiet: settings.are_uses_quiet(),
            settings,
        }
    }

    /// Makes an endpoint known; `label` (`HOST:PORT`) names it in errors. A full table lets go of
    /// the least lately used endpoint that has no connection, no waiter and nothing under way.
    pub(crate) fn add_endpoint(&mut self, now: Tick, label: Rc<str>) -> Result<EndpointKey> {
        if self.endpoints.is_full() {
            let unused = self.endpoints.iter().filter(|(_, b)| b.is_unused());
            if let Some((key, _)) = unused.min_by_key(|(_, bucket)| bucket.last_get) {
                self.forget(EndpointKey(key));
            }
        }
        let mut bucket = Bucket::new(label, now);
        bucket.addresses.slice = Slice::new(self.settings.core);
        match self.endpoints.insert(bucket) {
            Ok(key) => Ok(EndpointKey(key)),
            Err(bucket) => Err(Error::new(
                ErrorKind::Exhausted,
                "every endpoint that this core may know has connections or waiters (max_endpoints)",
            )
            .context(format!("adding the endpoint {}", bucket.label))),
        }
    }

    /// Forgets the endpoint, if it has no connection, no waiter and nothing under way.
    pub(crate) fn remove_endpoint(&mut self, endpoint: EndpointKey) {
        if self
            .endpoints
            .get(endpoint.0)
            .is_some_and(Bucket::is_unused)
        {
            self.forget(endpoint);
        }
    }

    fn forget(&mut self, endpoint: EndpointKey) {
        self.disarm(endpoint);
        self.endpoints.remove(endpoint.0);
    }

    /// The core ends: what it had is gone. The counters say so; nothing else can be asked for.
    pub(crate) fn end(&mut self) {
        for (_, conn) in self.conns.iter() {
            if let Some(bucket) = self.endpoints.get_mut(conn.endpoint.0) {
                let counts = &mut bucket.counts;
                if conn.stage == Stage::Closing(CloseReason::HandedOver) {
                    counts.handed_over += 1;
                    continue;
                }
                if conn.exists() && !matches!(conn.stage, Stage::Closing(_)) {
                    counts.closed_by[CloseReason::Drained as usize] += 1;
                }
                counts.closed += u64::from(conn.was_ready);
            }
        }
        let endpoints: Vec<_> = self.endpoints.iter().map(|(key, _)| key).collect();
        for key in endpoints {
            if let Some(bucket) = self.endpoints.get_mut(key) {
                bucket.counts.clear_gauges();
            }
        }
        self.draining = true;
    }

    /// The endpoint's connections are handed out without asking for their health.
    pub(crate) fn skip_health_checks(&mut self, endpoint: EndpointKey) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.unchecked = true;
        }
    }

    /// How the endpoint's connections are spread over its addresses; before it has any.
    pub(crate) fn set_balance(&mut self, endpoint: EndpointKey, balance: Balance) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.flights.is_timed = balance == Balance::PowerOfTwo;
            bucket.addresses.set_balance(balance);
        }
    }

    /// A connection now, or a place in the queue.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn get(&mut self, now: Tick, endpoint: EndpointKey) -> Result<Got> {
        self.get_since(now, endpoint, now)
    }

    /// A connection now, or a place in the queue, for a get that began at `since`: one whose
    /// connection died before it was handed out begins again, and its time does not.
    #[inline]
    pub(crate) fn get_since(
        &mut self,
        now: Tick,
        endpoint: EndpointKey,
        since: Tick,
    ) -> Result<Got> {
        if self.draining {
            return Err(draining());
        }
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return Err(Error::new(ErrorKind::InvalidInput, "unknown endpoint"));
        };
        bucket.counts.gets += 1;
        bucket.last_get = now;
        if bucket.waiting.is_empty()
            && let Some((conn, reused)) = self.take_ready(now, endpoint)
        {
            return Ok(Got::Ready { conn, reused });
        }
        let waiter = self.join(now, endpoint, since)?;
        self.settle(now, endpoint);
        Ok(Got::Waiting(waiter))
    }

    /// A connection now, or nothing: never waits, never opens, never overtakes a waiter. A newest
    /// idle connection whose health is in doubt is asked for it, for the next caller.
    #[inline]
    pub(crate) fn try_get(&mut self, now: Tick, endpoint: EndpointKey) -> Option<ConnKey> {
        if self.draining || !self.endpoints.get(endpoint.0)?.waiting.is_empty() {
            return None;
        }
        let Some((conn, _)) = self.take_ready(now, endpoint) else {
            let newest = self.endpoints.get(endpoint.0)?.idle.first();
            if let Some(newest) = newest {
                self.start_check(ConnKey(newest));
            }
            return None;
        };
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        bucket.counts.gets += 1;
        bucket.last_get = now;
        Some(conn)
    }

    /// The waiter is gone. What was started for it goes on: it belongs to the pool.
    pub(crate) fn cancel(&mut self, now: Tick, waiter: WaiterKey) {
        if let Some(left) = self.leave(waiter.0) {
            if let Some(bucket) = self.endpoints.get_mut(left.endpoint.0) {
                bucket.counts.cancelled += 1;
            }
            self.settle(now, left.endpoint);
        }
    }

    /// One use of the connection ends. A granted waiter that is gone ends its use by
    /// [`Return::Clean`].
    #[inline]
    pub(crate) fn put(&mut self, now: Tick, conn: ConnKey, how: Return) {
        self.end_use(now, conn, how);
    }

    /// Closes what is idle now and what is in use when it comes back.
    pub(crate) fn clear_endpoint(&mut self, now: Tick, endpoint: EndpointKey) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.cleared = Some(now);
            bucket.moves.give_up();
        }
        let of_endpoint = self.conns.iter().filter(|(_, c)| c.endpoint == endpoint);
        let keys: Vec<ConnKey> = of_endpoint.map(|(key, _)| ConnKey(key)).collect();
        for key in keys {
            let stage = self.conns.get(key.0).map(|conn| conn.stage);
            if matches!(stage, Some(Stage::Ready | Stage::Checking | Stage::Leaving)) {
                self.condemn(key, CloseReason::Requested);
            }
        }
        self.settle(now, endpoint);
    }
}

/// Events and deadlines.
impl PoolPolicy {
    /// Takes a fact in. One that does not fit what the policy knows is counted and ignored.
    pub(crate) fn handle_event(&mut self, now: Tick, event: Event) {
        let known = match event {
            Event::Resolved {
                endpoint,
                targets,
                expires,
                is_fresh,
            } => self.resolved(now, endpoint, &targets, expires, is_fresh),
            Event::ResolveFailed { endpoint, error } => self.resolve_failed(now, endpoint, error),
            Event::NamesChanged { endpoint } => self.names_changed(now, endpoint),
            Event::Busy { endpoint, busy } => self.busy_told(endpoint, &busy),
            Event::StillQueued { endpoint } => self.still_queued(now, endpoint),
            Event::Surveyed { endpoint, held } => self.surveyed(now, endpoint, &held),
            Event::Ejected { endpoint, out } => self.ejected(now, endpoint, &out),
            Event::Probe {
                endpoint,
                address,
                held,
            } => self.chosen_to_probe(now, endpoint, address, &held),
            Event::PermitGranted { endpoint, held } => self.permit_granted(now, endpoint, &held),
            Event::PermitQueued { endpoint } => self.permit_queued(now, endpoint),
            Event::Demand { endpoint, since } => self.demanded(now, endpoint, since),
            Event::DemandRenewed { endpoint, since } => self.demand_renewed(endpoint, since),
            Event::TotalDemand { since } => {
                self.total_demanded(now, since);
                Some(())
            }
            Event::TotalDemandRenewed { since } => {
                self.total_renewed(since);
                Some(())
            }
            Event::Connected { conn } => self.connected(now, conn),
            Event::ConnectFailed { conn, error } => self.connect_failed(now, conn, error),
            Event::Initialised {
                conn,
                capacity,
                watched,
            } => self.initialised(now, conn, capacity, watched),
            Event::InitFailed { conn, error } => self.init_failed(conn, error),
            Event::Broken { conn, reason } => self.broken(now, conn, reason),
            Event::Given { conn } => self.given(conn),
            Event::GiveFailed {
                conn,
                since,
                untouched,
            } => self.give_failed(now, conn, since, untouched),
            Event::Received { conn, what } => self.received(now, conn, what),
            Event::HealthChecked { conn, healthy } => self.health_checked(now, conn, healthy),
            Event::Closed { conn } => self.closed(now, conn),
            Event::Drain => {
                self.drain();
                Some(())
            }
        };
        if known.is_none() {
            self.ignored += 1;
        }
    }

    /// Handles deadlines that have come, a bounded batch of them: while
    /// [`poll_timeout`](Self::poll_timeout) is not after `now`, there are more.
    pub(crate) fn handle_timeout(&mut self, now: Tick) {
        for _ in 0..TIMEOUT_BATCH {
            if let Some((oldest, deadline)) = self.idle_deadline()
                && deadline <= now
            {
                let endpoint = self.conns.get(oldest).map(|conn| conn.endpoint);
                self.close(ConnKey(oldest), CloseReason::IdleTime);
                if let Some(endpoint) = endpoint {
                    self.settle(now, endpoint);
                }
                continue;
            }
            if let Some(conn) = self.ended_life(now) {
                self.lifetime_ended(now, conn);
                continue;
            }
            match self.timers.pop_due(now) {
                None => return,
                Some(Timer::Waiter(waiter)) => self.waiter_expired(now, waiter),
                Some(Timer::Give(endpoint)) => self.give_due(now, endpoint),
                Some(Timer::Race(endpoint, number)) => self.race_is_due(now, endpoint, number),
                Some(Timer::Retry(endpoint)) => self.retry_due(now, endpoint),
            }
        }
    }

    /// The next thing to do.
    #[inline]
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(crate) fn poll_timeout(&mut self) -> Option<Tick> {
        let idle = self.idle_deadline().map(|(_, deadline)| deadline);
        let life = self.next_end().map(|(at, _)| at);
        let timed = idle.into_iter().chain(life).chain(self.timers.next());
        timed.min()
    }
}

/// Getters.
impl PoolPolicy {
    /// The figures of the endpoint on this core.
    pub(crate) fn counts(&self, endpoint: EndpointKey) -> Option<&Counts> {
        Some(&self.endpoints.get(endpoint.0)?.counts)
    }

    /// Where the connection goes.
    #[cfg(any(test, feature = "bench"))]
    pub(crate) fn address(&self, conn: ConnKey) -> Option<std::net::SocketAddr> {
        Some(self.conns.get(conn.0)?.address)
    }

    /// How many connections go, or are to go, to the address.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn held_at(&self, address: std::net::SocketAddr) -> u32 {
        let all = self.endpoints.iter().map(|(key, _)| EndpointKey(key));
        all.map(|endpoint| self.held_of(endpoint, address)).sum()
    }

    /// Those of one endpoint.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn held_of(&self, endpoint: EndpointKey, address: std::net::SocketAddr) -> u32 {
        let all = self.conns.iter().map(|(_, conn)| conn);
        let own = all.filter(|conn| conn.endpoint == endpoint && conn.exists());
        own.filter(|conn| conn.address == address).count() as u32
    }

    /// How often a deadline was set.
    #[cfg(test)]
    pub(crate) fn timer_changes(&self) -> u64 {
        self.timers.changes
    }

    /// Whether a question for the endpoint's addresses is under way.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_resolving(&self, endpoint: EndpointKey) -> bool {
        let bucket = self.endpoints.get(endpoint.0);
        bucket.is_some_and(|bucket| bucket.resolving)
    }

    /// Whose the connection is.
    pub(crate) fn endpoint_of(&self, conn: ConnKey) -> Option<EndpointKey> {
        Some(self.conns.get(conn.0)?.endpoint)
    }

    /// Since when the oldest waiter of the endpoint waits.
    pub(crate) fn oldest_wait(&self, endpoint: EndpointKey) -> Option<Tick> {
        let oldest = self.endpoints.get(endpoint.0)?.waiting.first()?;
        Some(self.waiters.get(oldest)?.since)
    }

    /// Whether actions wait to be polled.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        !self.actions.is_empty()
    }

    /// Whether it drains and nothing is left: no connection, waiter or permit.
    pub(crate) fn is_drained(&self) -> bool {
        let quiet = |bucket: &Bucket| bucket.permits == 0 && bucket.permit == bucket::Permit::None;
        self.draining
            && self.conns.is_empty()
            && self.waiters.is_empty()
            && self.endpoints.iter().all(|(_, bucket)| quiet(bucket))
    }

    /// Events and returns that fitted nothing.
    pub(crate) fn ignored_events(&self) -> u64 {
        self.ignored
    }
}

fn draining() -> Error {
    Error::new(ErrorKind::Draining, "the pool is draining")
}
