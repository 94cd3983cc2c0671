//! What a resolution ends with.

use std::net::{IpAddr, SocketAddr};

use super::Places;
use super::ask::{HostFound, HostState};
use crate::dns::known::Known;
use crate::dns::record::{Question, Records};
use crate::dns::service::Place;
use crate::dns::sources::Origin;
use crate::time::Tick;

/// Where an outcome comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whence {
    /// Nobody was asked.
    Local(Origin),
    /// The user's own resolver.
    Given,
    /// A name server, for this resolution.
    Server(SocketAddr),
    /// A name server, for an earlier one.
    Cache(SocketAddr),
    /// A name server, and its time is over.
    Stale(SocketAddr),
}

/// The places of a name and their addresses, at least one.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) places: Vec<Place>,
    /// Those of each place.
    pub(crate) addresses: Vec<Vec<IpAddr>>,
    pub(crate) expires: Tick,
    /// From when on it is worth to ask again before it expires.
    pub(crate) refresh: Tick,
    /// When the newest part of it came.
    pub(crate) learned: Tick,
    pub(crate) whence: Whence,
    pub(crate) is_stale: bool,
    /// Every question had an answer from a server: what is not in it is not there.
    pub(crate) is_complete: bool,
    /// What it rests on.
    pub(crate) questions: Vec<Question>,
}

impl Outcome {
    /// Known without asking.
    pub(super) fn local(place: Place, addresses: Vec<IpAddr>, origin: Origin) -> Self {
        Self {
            places: vec![place],
            addresses: vec![addresses],
            expires: Tick::NEVER,
            refresh: Tick::NEVER,
            learned: Tick::ZERO,
            whence: Whence::Local(origin),
            is_stale: false,
            is_complete: true,
            questions: Vec::new(),
        }
    }

    /// The addresses of a host.
    pub(super) fn of_host(
        place: Place,
        found: HostFound,
        began: Tick,
        used: Vec<Question>,
    ) -> Self {
        let whence = whence(&found, began);
        Self {
            places: vec![place],
            addresses: vec![found.addresses],
            expires: found.expires,
            refresh: found.refresh,
            learned: found.learned,
            whence,
            is_stale: found.is_stale,
            is_complete: found.is_complete,
            questions: used,
        }
    }

    /// The addresses of the places of `stage`, as far as `hosts` has them; for what is still being
    /// asked, or failed, the hints. `None` if there are none at all.
    pub(super) fn of_places(
        now: Tick,
        stage: &Places,
        hosts: &[HostState],
        began: Tick,
        used: Vec<Question>,
    ) -> Option<Self> {
        let mut outcome = Self {
            places: stage.places.clone(),
            addresses: Vec::new(),
            expires: Tick::NEVER,
            refresh: Tick::NEVER,
            learned: Tick::ZERO,
            whence: Whence::Local(Origin::Hosts),
            is_stale: false,
            is_complete: true,
            questions: used,
        };
        for (place, host) in stage.places.iter().zip(hosts) {
            let addresses = outcome.of_place(now, place, host, began);
            outcome.addresses.push(addresses);
        }
        if outcome.addresses.iter().all(Vec::is_empty) {
            return None;
        }
        for known in &stage.by {
            outcome.led_by(known, began);
        }
        if !stage.is_whole {
            outcome.is_partial(now);
        }
        Some(outcome)
    }

    /// Takes in how things stand with the host of `place`; its addresses.
    fn of_place(&mut self, now: Tick, place: &Place, host: &HostState, began: Tick) -> Vec<IpAddr> {
        match host {
            HostState::Found(found) => {
                self.limit(found.expires, found.refresh, found.learned);
                self.is_stale |= found.is_stale;
                self.is_complete &= found.is_complete;
                if let Whence::Local(_) = self.whence {
                    self.whence = whence(found, began);
                }
                found.addresses.clone()
            }
            HostState::Ended(ended, _) if *ended != super::Ended::Temporary => Vec::new(),
            HostState::Ended(..) | HostState::Wait(_) => {
                self.is_partial(now);
                place.hints.clone()
            }
        }
    }

    /// Takes in that these records led to the places.
    fn led_by(&mut self, known: &Known, began: Tick) {
        match known {
            Known::Found {
                expires,
                refresh,
                learned,
                server,
                ..
            } => {
                self.limit(*expires, *refresh, *learned);
                if let Whence::Local(_) = self.whence {
                    self.whence = whence_of(*server, *learned, began);
                }
            }
            Known::Stale { until, server, .. } => {
                self.limit(*until, Tick::NEVER, Tick::ZERO);
                (self.is_stale, self.is_complete) = (true, false);
                self.whence = Whence::Stale(*server);
            }
            Known::Failed { until, .. } => {
                self.limit(*until, Tick::NEVER, Tick::ZERO);
                self.is_complete = false;
            }
            Known::NoData { .. } | Known::NxDomain { .. } => {}
        }
    }

    /// Something is missing that may come soon.
    fn is_partial(&mut self, now: Tick) {
        self.limit(now.plus(super::PARTIAL), Tick::NEVER, Tick::ZERO);
        self.is_complete = false;
    }

    /// What the user's own resolver said; `None` if that is nothing.
    pub(super) fn given(known: &Known, port: u16, question: Question) -> Option<Self> {
        let (records, expires, refresh, learned, is_stale) = match known {
            Known::Found {
                records,
                expires,
                refresh,
                learned,
                ..
            } => (records, *expires, *refresh, *learned, false),
            Known::Stale { records, until, .. } => (records, *until, Tick::NEVER, Tick::ZERO, true),
            _ => return None,
        };
        let Records::Given(answered) = records else {
            return None;
        };
        let targets = answered.targets(port).filter(|it| it.address.port() != 0);
        let (places, addresses): (Vec<_>, Vec<_>) = targets
            .map(|target| {
                let place = Place {
                    host: question.name.clone(),
                    port: target.address.port(),
                    priority: target.priority,
                    weight: target.weight,
                    hints: Vec::new(),
                };
                (place, vec![target.address.ip()])
            })
            .unzip();
        (!places.is_empty()).then(|| Self {
            places,
            addresses,
            expires,
            refresh,
            learned,
            whence: Whence::Given,
            is_stale,
            is_complete: !is_stale,
            questions: vec![question],
        })
    }

    fn limit(&mut self, expires: Tick, refresh: Tick, learned: Tick) {
        self.expires = self.expires.min(expires);
        self.refresh = self.refresh.min(refresh);
        self.learned = self.learned.max(learned);
    }
}

fn whence(found: &HostFound, began: Tick) -> Whence {
    match found.server {
        None => Whence::Local(Origin::Hosts),
        Some(server) if found.is_stale => Whence::Stale(server),
        Some(server) => whence_of(server, found.learned, began),
    }
}

fn whence_of(server: SocketAddr, learned: Tick, began: Tick) -> Whence {
    match learned >= began {
        true => Whence::Server(server),
        false => Whence::Cache(server),
    }
}
