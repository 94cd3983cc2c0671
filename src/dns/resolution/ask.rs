//! One question of a resolution, and the two that make a host.
//!
//! Promise: what a server said of one family is not said of the other, but for "no such name", which
//! is said of the name (RFC 2308, RFC 8020); a family that failed or is late makes the host
//! incomplete, never absent.

use std::net::{IpAddr, SocketAddr};

use super::{PARTIAL, PATIENCE, RESOLUTION_DELAY};
use crate::dns::known::{Known, Old};
use crate::dns::record::Records;
use crate::dns::search::Ended;
use crate::error::{Error, ErrorKind};
use crate::time::Tick;

/// What is said of a host that exists and has none.
const NOTHING: &str = "no addresses";

/// A question that was asked for.
#[derive(Debug)]
pub(super) struct Ask {
    since: Tick,
    old: Option<Old>,
    known: Option<Known>,
    /// When it became known, to anybody.
    came: Tick,
}

/// For how long a resolution waits for what it could do without.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// When old records serve.
    pub(super) late: Tick,
    /// There is nothing else: who has no old records is waited for to the end.
    pub(super) waits: bool,
}

/// How things stand with a question.
#[derive(Debug)]
pub(super) enum State {
    /// It is being asked, and nothing changes before then.
    Wait(Tick),
    /// It takes too long, and it was nothing before: what comes after it may be tried first.
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

    /// Whether it is being asked.
    pub(super) fn is_open(&self) -> bool {
        self.known.is_none()
    }

    pub(super) fn as_known(&self) -> Option<&Known> {
        self.known.as_ref()
    }

    /// As told by `patience`, or when it has taken too long for itself, old records serve.
    pub(super) fn state(&self, now: Tick, patience: Patience) -> State {
        if let Some(known) = &self.known {
            return State::Known(known.clone());
        }
        let Some(old) = &self.old else {
            return State::Wait(Tick::NEVER);
        };
        if patience.waits && matches!(old, Old::Absent) {
            return State::Wait(Tick::NEVER);
        }
        let late = patience.late.min(self.since.plus(PATIENCE));
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

    /// Something is missing that may come soon.
    fn lacks(&mut self, now: Tick) {
        self.is_complete = false;
        self.expires = self.expires.min(now.plus(PARTIAL));
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
pub(super) fn host(
    now: Tick,
    patience: Patience,
    asks: [Option<&Ask>; 2],
    strict: bool,
) -> HostState {
    let mut found = HostFound::none();
    let (mut says, mut waits) = (Tick::NEVER, None::<(Tick, Tick)>);
    // That there is no such name is said of all families (RFC 8020), whatever became of the other.
    let (mut absent, mut worst) = (None, None);
    let mut has_failed = false;
    for ask in asks.into_iter().flatten() {
        match ask.state(now, patience) {
            State::Known(known) => {
                found.add(ask.came, &known);
                has_failed |= matches!(known, Known::Failed { .. });
                match known {
                    Known::NoData { .. } | Known::Failed { .. } => {
                        worst = worse(worst, ended(&known, NOTHING));
                        continue;
                    }
                    Known::NxDomain { .. } => absent = Some(ended(&known, NOTHING)),
                    Known::Found { .. } | Known::Stale { .. } => {}
                }
                says = says.min(ask.came);
            }
            State::Late => {
                found.lacks(now);
                let text = "no answer in time, and there was none before";
                let error = Error::new(ErrorKind::Resolve, text);
                worst = worse(worst, (Ended::Temporary, error));
            }
            State::Wait(until) => {
                let (since, first) = waits.unwrap_or((Tick::ZERO, Tick::NEVER));
                waits = Some((since.max(ask.since), first.min(until)));
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
        found.lacks(now);
    }
    let is_refused = strict && has_failed;
    if !found.addresses.is_empty() && !is_refused {
        return HostState::Found(found);
    }
    match absent.or(worst) {
        Some((ended, error)) => HostState::Ended(ended, error),
        // Nothing is asked for.
        None => {
            let error = Error::new(ErrorKind::Resolve, NOTHING);
            HostState::Ended(Ended::NoData, error)
        }
    }
}

/// The one of the two that says less of the name.
fn worse(one: Option<(Ended, Error)>, other: (Ended, Error)) -> Option<(Ended, Error)> {
    match one {
        Some(one) if one.0 >= other.0 => Some(one),
        _ => Some(other),
    }
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
