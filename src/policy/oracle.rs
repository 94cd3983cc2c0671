//! The naive oracle of [`model`](super::model): plain lists that say who must come first and what
//! must never be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::Settings;
use super::event::{Action, CloseReason, ConnKey, EndpointKey, Event, Received, WaiterKey};
use super::take::IDLE_LOOKED_AT;
use crate::balance::Balance;
use crate::error::ErrorKind;
use crate::target::Target;
use crate::time::Tick;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum State {
    Opening,
    Ready,
    /// On its way to another core.
    Leaving,
    Closing,
}

#[derive(Debug)]
pub(super) struct Known {
    pub(super) endpoint: EndpointKey,
    pub(super) state: State,
    /// In a health check, or to be closed when its last use ends.
    pub(super) unusable: bool,
    /// Another core has it, and its permit.
    pub(super) given: bool,
    pub(super) uses: u32,
    capacity: u32,
    pub(super) address: SocketAddr,
    /// Since when it idles, if so; a look alone does not change that.
    since: Tick,
    looked_at: bool,
    /// It failed while it was opened; the policy takes that in when it is closed.
    has_failed: bool,
}

/// The oracle.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// Waiters in the order of arrival.
    pub(super) waiting: Vec<(WaiterKey, EndpointKey, Tick)>,
    pub(super) conns: BTreeMap<ConnKey, Known>,
    /// Idle connections; the one that idles for the shortest time is last.
    idle: Vec<ConnKey>,
    ended: u64,
    /// Addresses of each endpoint.
    named: BTreeMap<(EndpointKey, SocketAddr), Named>,
    /// The last answer of each.
    pub(super) orders: BTreeMap<EndpointKey, Vec<SocketAddr>>,
    pub(super) balances: BTreeMap<EndpointKey, Balance>,
    /// The share of each address when it was dialed last.
    shares: BTreeMap<(EndpointKey, SocketAddr), u64>,
    /// Endpoints that have asked for a permit since they got one.
    pub(super) asks: BTreeSet<EndpointKey>,
}

#[derive(Debug, Clone, Copy)]
struct Named {
    priority: u16,
    /// How many fresh answers in a row lacked it.
    missed: u32,
    was_dialed: bool,
    /// Out for all cores.
    is_out: bool,
    /// Of the load.
    share: u64,
}

impl Oracle {
    fn used(&mut self, conn: ConnKey) {
        let known = self.conns.get_mut(&conn).expect("a connection that exists");
        assert_eq!(known.state, State::Ready);
        assert!(!known.unusable, "handed out though condemned");
        assert!(known.uses < known.capacity, "over its capacity");
        let (endpoint, address) = (known.endpoint, known.address);
        let place = (endpoint, address);
        assert!(
            self.named.contains_key(&place),
            "to an address that is gone"
        );
        if let Some(at) = self.idle.iter().position(|idle| *idle == conn) {
            self.idle.remove(at);
            let newer = self.idle[at..].iter();
            let newer: Vec<SocketAddr> = newer
                .map(|newer| &self.conns[newer])
                .filter(|newer| newer.endpoint == endpoint)
                .map(|newer| newer.address)
                .collect();
            assert!(newer.len() < IDLE_LOOKED_AT, "many were passed over");
            let is_timed = self.balances.get(&endpoint) == Some(&Balance::PowerOfTwo);
            for other in &newer {
                // Parts of a whole, compared crosswise, where the time of uses does not count.
                let (mine, theirs) = (self.load(place), self.load((endpoint, *other)));
                assert!(
                    is_timed || mine.0 * theirs.1 < theirs.0 * mine.1,
                    "a newer idle connection was passed over: {mine:?} {theirs:?}"
                );
            }
            if let Some(newest) = newer.last() {
                let uses = self.load((endpoint, *newest)).0 - 1;
                assert!(
                    uses > 0,
                    "the newest was passed over, though nobody uses its address"
                );
            }
        }
        self.conns.get_mut(&conn).expect("it exists").uses += 1;
    }

    /// Uses that the address would have with one more, and its share.
    fn load(&self, place: (EndpointKey, SocketAddr)) -> (u64, u64) {
        let conns = self.conns.values();
        let there = conns.filter(|conn| (conn.endpoint, conn.address) == place);
        let uses: u32 = there.map(|conn| conn.uses).sum();
        (u64::from(uses) + 1, self.shares[&place])
    }

    pub(super) fn hit(&mut self, conn: ConnKey, endpoint: EndpointKey) {
        assert_eq!(self.conns[&conn].endpoint, endpoint);
        let overtaken = self.waiting.iter().filter(|w| w.1 == endpoint);
        assert_eq!(overtaken.count(), 0, "overtook a waiter");
        self.used(conn);
    }

    pub(super) fn put(&mut self, now: Tick, conn: ConnKey, clean: bool) {
        let known = self.conns.get_mut(&conn).expect("a connection that exists");
        known.uses -= 1;
        known.since = now;
        known.unusable |= !clean;
        if known.uses == 0 && !known.unusable && known.state == State::Ready {
            self.idles(conn);
        }
    }

    fn idles(&mut self, conn: ConnKey) {
        let since = |conn: &ConnKey| self.conns[conn].since;
        let at = self
            .idle
            .partition_point(|other| since(other) <= since(&conn));
        self.idle.insert(at, conn);
    }

    pub(super) fn acted(&mut self, now: Tick, settings: &Settings, action: &Action) {
        match action {
            Action::AcquirePermit { endpoint } => {
                self.asks.insert(*endpoint);
            }
            Action::Dial {
                conn,
                endpoint,
                address,
                ..
            } => {
                self.dialed(*endpoint, *address);
                let known = Known {
                    address: *address,
                    endpoint: *endpoint,
                    state: State::Opening,
                    unusable: false,
                    given: false,
                    uses: 0,
                    capacity: 1,
                    since: now,
                    looked_at: false,
                    has_failed: false,
                };
                assert!(self.conns.insert(*conn, known).is_none());
            }
            Action::CheckHealth { conn, .. }
            | Action::Look { conn, .. }
            | Action::Give { conn, .. } => {
                self.idle.retain(|idle| idle != conn);
                let known = self.conns.get_mut(conn).expect("it exists");
                assert_eq!((known.uses, known.state), (0, State::Ready));
                known.unusable = true;
                known.looked_at = matches!(action, Action::Look { .. });
                if matches!(action, Action::Give { .. }) {
                    known.state = State::Leaving;
                }
            }
            Action::Close { conn, reason } => {
                self.closes(settings.min_idle.max(1), *conn, *reason);
                let known = self.conns.get_mut(conn).expect("it exists");
                assert_ne!(known.state, State::Closing, "closed twice");
                assert_eq!(known.uses, 0, "closed in somebody's hands");
                assert_ne!(known.state, State::Leaving, "closed while it is given");
                let given_up = [CloseReason::AddressGone, CloseReason::ConnectCancelled];
                known.has_failed = known.state == State::Opening && !given_up.contains(reason);
                known.state = State::Closing;
                self.idle.retain(|idle| idle != conn);
            }
            Action::Grant { waiter, conn, .. } => {
                let endpoint = self.conns[conn].endpoint;
                let oldest = self.waiting.iter().position(|w| w.1 == endpoint);
                let (key, ..) = self.waiting.remove(oldest.expect("a waiter"));
                assert_eq!(key, *waiter, "not the oldest");
                self.ended += 1;
                self.used(*conn);
            }
            Action::Fail { waiter, error } => {
                let at = self.waiting.iter().position(|w| w.0 == *waiter);
                let (_, _, since) = self.waiting.remove(at.expect("it ends once"));
                if error.kind() == ErrorKind::GetTimeout {
                    assert!(now.since(since) >= settings.get_timeout);
                }
                self.ended += 1;
            }
            _ => {}
        }
    }

    /// What is gone is not dialed, and no backup while an address of a better priority was never tried;
    /// of the other family it may be in doubt for that.
    fn dialed(&mut self, endpoint: EndpointKey, address: SocketAddr) {
        let place = (endpoint, address);
        let named = self.named.get_mut(&place).expect("no address that is gone");
        named.was_dialed = true;
        self.shares.insert(place, named.share);
        let priority = named.priority;
        let better = self.named.iter().find(
            |((of, other), named): &(&(EndpointKey, SocketAddr), &Named)| {
                let is_like = *of == endpoint && other.is_ipv6() == address.is_ipv6();
                let is_like = is_like && !named.is_out;
                is_like && named.priority < priority && named.missed == 0 && !named.was_dialed
            },
        );
        assert!(better.is_none(), "{address} dialed before {better:?}");
    }

    /// Whether the reason can be true; of each endpoint `least` stay until their time has come.
    fn closes(&self, least: usize, conn: ConnKey, reason: CloseReason) {
        let known = &self.conns[&conn];
        let ready =
            |other: &&Known| other.endpoint == known.endpoint && other.state == State::Ready;
        match reason {
            CloseReason::ConnectCancelled => assert_eq!(known.state, State::Opening),
            CloseReason::Rebalanced => {
                assert_eq!(known.state, State::Ready);
                let left = self.conns.values().filter(ready).count();
                // The last one goes only where its successor has no permit beside it.
                let asks = self.asks.contains(&known.endpoint);
                assert!(
                    left > 1 || asks,
                    "the last connection is closed for the balance"
                );
            }
            CloseReason::Surplus => {
                assert_eq!((known.state, known.uses), (State::Ready, 0));
                let left = self.conns.values().filter(ready).count();
                assert!(left > least, "more than the surplus is closed");
            }
            CloseReason::AddressGone => {
                let missed = self.named.get(&(known.endpoint, known.address));
                assert!(
                    missed.is_none_or(|named| named.missed > 0),
                    "its address was named"
                );
            }
            _ => {}
        }
    }

    /// An answer that the policy took.
    fn named(&mut self, endpoint: EndpointKey, targets: &[Target], is_fresh: bool) {
        if targets.is_empty() {
            return;
        }
        self.named.retain(|(of, address), named| {
            let is_named = targets.iter().any(|target| target.address == *address);
            named.missed += u32::from(*of == endpoint && is_fresh && !is_named);
            *of != endpoint || named.missed < 2
        });
        let order = targets.iter().map(|target| target.address).collect();
        self.orders.insert(endpoint, order);
        for target in targets {
            let place = (endpoint, target.address);
            let known = self.named.get(&place);
            // A failure from before it was gone may still be told.
            let mut conns = self.conns.values();
            let fails = conns.any(|it| (it.endpoint, it.address) == place && it.has_failed);
            let weight = match self.balances.get(&endpoint) {
                Some(Balance::RoundRobin) => 1,
                _ => target.weight,
            };
            let named = Named {
                priority: target.priority,
                missed: 0,
                was_dialed: fails || known.is_some_and(|known| known.was_dialed),
                is_out: known.is_some_and(|known| known.is_out),
                share: (u64::from(weight) * 1000).max(1),
            };
            self.named.insert(place, named);
        }
    }

    /// Another core's connection is this one's.
    pub(super) fn received(&mut self, conn: ConnKey, endpoint: EndpointKey, what: &Received) {
        let address = what.address;
        let known = Known {
            endpoint,
            state: State::Ready,
            unusable: true,
            given: false,
            uses: 0,
            capacity: what.capacity,
            address,
            since: what.idle_since,
            looked_at: false,
            has_failed: false,
        };
        let named = self.named.get(&(endpoint, address)).expect("it is gone");
        self.shares.insert((endpoint, address), named.share);
        assert!(self.conns.insert(conn, known).is_none());
    }

    fn initialised(&mut self, now: Tick, conn: ConnKey, capacity: u32, watched: bool) {
        if let Some(known) = self.conns.get_mut(&conn)
            && known.state == State::Opening
        {
            known.state = State::Ready;
            known.capacity = capacity;
            known.since = now;
            known.unusable = !watched;
            if watched {
                self.idles(conn);
            }
        }
    }

    /// What an event that the policy takes changes.
    pub(super) fn told(&mut self, now: Tick, event: &Event) {
        match event {
            Event::Resolved {
                endpoint,
                targets,
                is_fresh,
                ..
            } => self.named(*endpoint, targets, *is_fresh),
            Event::Ejected { endpoint, out } => {
                let order = self.orders.get(endpoint).into_iter().flatten();
                for (address, out) in order.zip(out) {
                    if let Some(named) = self.named.get_mut(&(*endpoint, *address)) {
                        named.is_out = out.is_some();
                    }
                }
            }
            Event::Initialised {
                conn,
                capacity,
                watched,
            } => self.initialised(now, *conn, *capacity, *watched),
            Event::HealthChecked { conn, healthy } => {
                if let Some(known) = self.conns.get_mut(conn)
                    && known.state == State::Ready
                    && *healthy
                {
                    known.unusable = false;
                    if !known.looked_at {
                        known.since = now;
                    }
                    self.idles(*conn);
                }
            }
            Event::GiveFailed {
                conn,
                untouched: true,
                ..
            } => {
                if let Some(known) = self.conns.get_mut(conn) {
                    known.state = State::Ready;
                    known.unusable = false;
                    self.idles(*conn);
                }
            }
            Event::Given { conn } | Event::GiveFailed { conn, .. } => {
                if let Some(known) = self.conns.get_mut(conn) {
                    known.state = State::Ready;
                    known.given = matches!(event, Event::Given { .. });
                }
            }
            Event::ConnectFailed { conn, .. } | Event::Closed { conn } => {
                self.conns.remove(conn);
            }
            Event::Broken { conn, .. } => {
                if let Some(known) = self.conns.get_mut(conn) {
                    known.unusable = true;
                }
            }
            _ => {}
        }
    }
}
