//! One question of a resolution, and the two that make a host.
//!
//! Promise: what a server said of one family is not said of the other; a family that failed or is
//! late makes the host incomplete, never absent.

use std::net::{IpAddr, SocketAddr};

use super::{PARTIAL, PATIENCE, RESOLUTION_DELAY};
use crate::dns::known::{Known, Old};
use crate::dns::record::Records;
use crate::dns::search::Ended;
use crate::error::{Error, ErrorKind};
use crate::time::Tick;

/// A question that was asked for.
#[derive(Debug)]
pub(super) struct Ask {
    since: Tick,
    old: Option<Old>,
    known: Option<Known>,
    /// When it became known, to anybody.
    came: Tick,
}

/// How things stand with a question.
#[derive(Debug)]
pub(super) enum State {
    /// It is being asked, and nothing changes before then.
    Wait(Tick),
    /// It takes too long, and it was nothing before.
    Late,
    Known(Known),
}

impl Ask {
    pub(super) fn new(now: Tick) -> Self {
        Self {
            since: now,
            old: None,
            known: None,
            came: now,
        }
    }

    pub(super) fn tell(&mut self, now: Tick, known: Known) {
        self.came = match &known {
            Known::Found { learned, .. } => *learned,
            _ => now,
        };
        self.known = Some(known);
    }

    pub(super) fn is_asked(&mut self, since: Tick, old: Option<Old>) {
        self.since = self.since.min(since);
        self.old = old;
    }

    pub(super) fn since(&self) -> Tick {
        self.since
    }

    pub(super) fn as_known(&self) -> Option<&Known> {
        self.known.as_ref()
    }

    /// At `late`, or when it has taken too long for itself, old records serve.
    pub(super) fn state(&self, now: Tick, late: Tick) -> State {
        if let Some(known) = &self.known {
            return State::Known(known.clone());
        }
        let Some(old) = &self.old else {
            return State::Wait(Tick::NEVER);
        };
        let late = late.min(self.since.plus(PATIENCE));
        if now < late {
            return State::Wait(late);
        }
        match old {
            Old::Found { records, server } => State::Known(Known::Stale {
                records: records.clone(),
                server: *server,
                // What is being asked may be answered soon.
                until: now.plus(PARTIAL),
            }),
            Old::Absent => State::Late,
        }
    }
}

/// How things stand with the addresses of a name.
#[derive(Debug)]
pub(super) enum HostState {
    /// Nothing changes before then.
    Wait(Tick),
    Found(HostFound),
    Ended(Ended, Error),
}

/// The addresses of a name.
#[derive(Debug)]
pub(super) struct HostFound {
    /// IPv6 first.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) expires: Tick,
    pub(super) refresh: Tick,
    pub(super) learned: Tick,
    /// When the first of them was known.
    pub(super) came: Tick,
    /// `None` for what was not asked of a server.
    pub(super) server: Option<SocketAddr>,
    pub(super) is_stale: bool,
    /// Nothing failed and nothing is missing.
    pub(super) is_complete: bool,
}

impl HostState {
    pub(super) fn local(addresses: Vec<IpAddr>) -> Self {
        Self::Found(HostFound {
            addresses,
            ..HostFound::none()
        })
    }

    pub(super) fn waits(&self) -> Option<Tick> {
        match self {
            Self::Wait(until) => Some(*until),
            _ => None,
        }
    }

    pub(super) fn into_ended(self) -> Option<(Ended, Error)> {
        match self {
            Self::Ended(ended, error) => Some((ended, error)),
            _ => None,
        }
    }
}

impl HostFound {
    fn none() -> Self {
        Self {
            addresses: Vec::new(),
            expires: Tick::NEVER,
            refresh: Tick::NEVER,
            learned: Tick::ZERO,
            came: Tick::NEVER,
            server: None,
            is_stale: false,
            is_complete: true,
        }
    }

    /// Adds what is known of one family.
    fn add(&mut self, came: Tick, known: &Known) {
        match known {
            Known::Found {
                records,
                server,
                learned,
                refresh,
                expires,
            } => {
                self.add_records(records, *server);
                self.came = self.came.min(came);
                self.learned = self.learned.max(*learned);
                self.refresh = self.refresh.min(*refresh);
                self.expires = self.expires.min(*expires);
            }
            Known::Stale {
                records,
                server,
                until,
            } => {
                self.add_records(records, *server);
                self.came = self.came.min(came);
                self.is_stale = true;
                self.is_complete = false;
                self.expires = self.expires.min(*until);
            }
            Known::Failed { until, .. } => {
                self.is_complete = false;
                self.expires = self.expires.min(*until);
            }
            // A family that the name does not have changes with the one that it has.
            Known::NoData { .. } | Known::NxDomain { .. } => {}
        }
    }

    fn add_records(&mut self, records: &Records, server: SocketAddr) {
        if let Records::Addresses(addresses) = records {
            self.addresses.extend(addresses.iter().copied());
            self.server.get_or_insert(server);
        }
    }
}

/// The state of a host from its questions: AAAA, then A; what is not asked for is not there. With
/// `strict`, a family that fails fails the host.
pub(super) fn host(now: Tick, late: Tick, asks: [Option<&Ask>; 2], strict: bool) -> HostState {
    let asked = || asks.into_iter().flatten();
    let states: Vec<(&Ask, State)> = asked().map(|ask| (ask, ask.state(now, late))).collect();
    let mut found = HostFound::none();
    let (mut says, mut waits) = (Tick::NEVER, None::<(Tick, Tick)>);
    let (mut worst, mut is_late) = (None::<(Ended, Error)>, false);
    for (ask, state) in &states {
        match state {
            State::Known(known) => {
                found.add(ask.came, known);
                let is_absent = matches!(known, Known::NxDomain { .. });
                if is_absent || matches!(known, Known::Found { .. } | Known::Stale { .. }) {
                    says = says.min(ask.came);
                } else {
                    let (end, error) = ended(known, "no addresses");
                    if worst.as_ref().is_none_or(|(worst, _)| *worst < end) {
                        worst = Some((end, error));
                    }
                }
                if is_absent {
                    // A server's word for all families (RFC 8020).
                    worst = Some(ended(known, "no addresses"));
                }
            }
            State::Late => is_late = true,
            State::Wait(until) => {
                let (since, first) = waits.unwrap_or((Tick::ZERO, Tick::NEVER));
                waits = Some((since.max(ask.since), first.min(*until)));
            }
        }
    }
    if let Some((since, until)) = waits {
        // Who says something waits a little for who has not said anything yet.
        let due = match says {
            Tick::NEVER => Tick::NEVER,
            says => says.max(since).plus(RESOLUTION_DELAY),
        };
        if now < due {
            return HostState::Wait(due.min(until));
        }
        found.is_complete = false;
        found.expires = found.expires.min(now.plus(PARTIAL));
    }
    if is_late {
        found.is_complete = false;
        found.expires = found.expires.min(now.plus(PARTIAL));
    }
    let fails = strict && matches!(worst, Some((Ended::Temporary, _)));
    if !fails && !found.addresses.is_empty() {
        return HostState::Found(found);
    }
    worst.map_or_else(
        || {
            let text = "no answer in time, and there was none before";
            HostState::Ended(Ended::Temporary, Error::new(ErrorKind::Resolve, text))
        },
        |(ended, error)| HostState::Ended(ended, error),
    )
}

/// How a question ended that brought no records.
pub(super) fn ended(known: &Known, nothing: &str) -> (Ended, Error) {
    let error = |text| Error::new(ErrorKind::Resolve, text);
    match known {
        Known::NxDomain { server, .. } => {
            let text = format!("no such name (NXDOMAIN from {server})");
            (Ended::Absent, error(text))
        }
        Known::NoData { server, .. } => {
            let text = format!("{nothing} (NODATA from {server})");
            (Ended::NoData, error(text))
        }
        Known::Failed { error, .. } => (Ended::Temporary, error.clone()),
        Known::Found { .. } | Known::Stale { .. } => {
            (Ended::NoData, error(format!("{nothing} in the records")))
        }
    }
}
