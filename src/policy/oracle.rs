//! The naive oracle of [`model`](super::model): plain lists that say who must come first and what
//! must never be.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::Settings;
use super::event::{Action, CloseReason, ConnKey, EndpointKey, Event, WaiterKey};
use crate::error::ErrorKind;
use crate::target::Target;
use crate::time::Tick;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum State {
    Opening,
    Ready,
    Closing,
}

#[derive(Debug)]
pub(super) struct Known {
    pub(super) endpoint: EndpointKey,
    pub(super) state: State,
    /// In a health check, or to be closed when its last use ends.
    pub(super) unusable: bool,
    pub(super) uses: u32,
    capacity: u32,
    address: SocketAddr,
    /// It failed while it was opened; the policy takes that in when it is closed.
    has_failed: bool,
}

/// The oracle.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// Waiters in the order of arrival.
    pub(super) waiting: Vec<(WaiterKey, EndpointKey, Tick)>,
    pub(super) conns: BTreeMap<ConnKey, Known>,
    /// Idle connections; the one that went idle last is last.
    idle: Vec<ConnKey>,
    ended: u64,
    /// Addresses of each endpoint.
    named: BTreeMap<(EndpointKey, SocketAddr), Named>,
}

#[derive(Debug, Clone, Copy)]
struct Named {
    priority: u16,
    /// How many fresh answers in a row lacked it.
    missed: u32,
    was_dialed: bool,
}

impl Oracle {
    fn used(&mut self, conn: ConnKey) {
        let known = self.conns.get_mut(&conn).expect("a connection that exists");
        assert_eq!(known.state, State::Ready);
        assert!(!known.unusable, "handed out though condemned");
        assert!(known.uses < known.capacity, "over its capacity");
        known.uses += 1;
        let endpoint = known.endpoint;
        let place = (endpoint, known.address);
        assert!(
            self.named.contains_key(&place),
            "to an address that is gone"
        );
        if let Some(at) = self.idle.iter().position(|idle| *idle == conn) {
            self.idle.remove(at);
            let newer = self.idle[at..].iter();
            let newer = newer.filter(|newer| self.conns[*newer].endpoint == endpoint);
            assert_eq!(newer.count(), 0, "a newer idle connection was passed over");
        }
    }

    pub(super) fn hit(&mut self, conn: ConnKey, endpoint: EndpointKey) {
        assert_eq!(self.conns[&conn].endpoint, endpoint);
        let overtaken = self.waiting.iter().filter(|w| w.1 == endpoint);
        assert_eq!(overtaken.count(), 0, "overtook a waiter");
        self.used(conn);
    }

    pub(super) fn put(&mut self, conn: ConnKey, clean: bool) {
        let known = self.conns.get_mut(&conn).expect("a connection that exists");
        known.uses -= 1;
        known.unusable |= !clean;
        if known.uses == 0 && !known.unusable && known.state == State::Ready {
            self.idle.push(conn);
        }
    }

    pub(super) fn acted(&mut self, now: Tick, settings: &Settings, action: &Action) {
        match action {
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
                    uses: 0,
                    capacity: 1,
                    has_failed: false,
                };
                assert!(self.conns.insert(*conn, known).is_none());
            }
            Action::CheckHealth { conn, .. } => {
                self.idle.retain(|idle| idle != conn);
                self.conns.get_mut(conn).expect("it exists").unusable = true;
            }
            Action::Close { conn, reason } => {
                self.closes(*conn, *reason);
                let known = self.conns.get_mut(conn).expect("it exists");
                assert_ne!(known.state, State::Closing, "closed twice");
                assert_eq!(known.uses, 0, "closed in somebody's hands");
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
        let priority = named.priority;
        let better = self.named.iter().find(
            |((of, other), named): &(&(EndpointKey, SocketAddr), &Named)| {
                let is_like = *of == endpoint && other.is_ipv6() == address.is_ipv6();
                is_like && named.priority < priority && named.missed == 0 && !named.was_dialed
            },
        );
        assert!(better.is_none(), "{address} dialed before {better:?}");
    }

    /// Whether the reason can be true.
    fn closes(&self, conn: ConnKey, reason: CloseReason) {
        let known = &self.conns[&conn];
        let ready =
            |other: &&Known| other.endpoint == known.endpoint && other.state == State::Ready;
        match reason {
            CloseReason::ConnectCancelled => assert_eq!(known.state, State::Opening),
            CloseReason::Rebalanced => {
                assert_eq!(known.state, State::Ready);
                let left = self.conns.values().filter(ready).count();
                assert!(left > 1, "the last connection is closed for the balance");
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
        for target in targets {
            let place = (endpoint, target.address);
            let known = self.named.get(&place);
            // A failure from before it was gone may still be told.
            let mut conns = self.conns.values();
            let fails = conns.any(|it| (it.endpoint, it.address) == place && it.has_failed);
            let named = Named {
                priority: target.priority,
                missed: 0,
                was_dialed: fails || known.is_some_and(|known| known.was_dialed),
            };
            self.named.insert(place, named);
        }
    }

    /// What an event that the policy takes changes.
    pub(super) fn told(&mut self, event: &Event) {
        match event {
            Event::Resolved {
                endpoint,
                targets,
                is_fresh,
                ..
            } => self.named(*endpoint, targets, *is_fresh),
            Event::Initialised { conn, capacity } => {
                if let Some(known) = self.conns.get_mut(conn)
                    && known.state == State::Opening
                {
                    known.state = State::Ready;
                    known.capacity = *capacity;
                    self.idle.push(*conn);
                }
            }
            Event::HealthChecked { conn, healthy } => {
                if let Some(known) = self.conns.get_mut(conn)
                    && known.state == State::Ready
                    && *healthy
                {
                    known.unusable = false;
                    self.idle.push(*conn);
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
