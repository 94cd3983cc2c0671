//! What was learnt of one name: of each kind of record apart, and of the name itself.
//!
//! Promise: a failure says nothing about the name and takes nothing away; that there is no such name
//! does not hold against records of another kind that are fresh (RFC 4074 §4.2: servers that say so
//! of AAAA alone).

use std::net::SocketAddr;
use std::time::Duration;

use crate::dns::{Answer, Kind, Known, Old, Records};
use crate::error::{Error, ErrorKind};
use crate::time::Tick;

/// However short the TTL, a question is not asked again sooner.
const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(86_400);
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(900);
/// The pause after a first failure; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// While old records serve, servers are left alone for so long (RFC 8767 §5).
const STALE_PAUSE: Duration = Duration::from_secs(30);
/// An answer is worth to be renewed in the last tenth of its time, and in its last second.
const REFRESH_SHARE: u32 = 10;
const MIN_REFRESH: Duration = Duration::from_secs(1);
/// How many addresses of one name are kept, whoever gave them.
const MAX_RECORDS: usize = 64;

/// The longest that a question is asked. Who hears of an answer later has stood still.
const MAX_ASKING: Duration = Duration::from_secs(10);

/// What was taken out of the table. The drop of an error may run code of the user's, whose resolver
/// made it: that must not happen under the lock.
pub(super) type Waste = Vec<Error>;

/// Between which moments an answer can count as fresh.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    now: Tick,
    /// Its TTL counts from when it was asked for: the answer cannot be older.
    asked: Tick,
    /// The machine has slept since.
    is_past: bool,
}

impl Span {
    /// What was `asked` and is heard of `now`; the machine woke up last at `woke`.
    pub(super) fn new(now: Tick, asked: Tick, woke: Tick) -> Self {
        let is_past = asked < woke;
        Self {
            now,
            asked,
            is_past,
        }
    }

    /// When it expires.
    fn end(self, ttl: Duration) -> Tick {
        let end = self.asked.plus(ttl.max(MIN_TTL));
        match () {
            () if self.is_past => end.min(self.now),
            // However slow the server, it is not asked again at once.
            () if self.now.since(self.asked) <= MAX_ASKING => end.max(self.now.plus(MIN_TTL)),
            () => end,
        }
    }
}

/// What is known of one name.
#[derive(Debug, Default)]
pub(super) struct Entry {
    by_kind: [Facts; 4],
    /// There is no such name.
    absent: Option<Absent>,
    /// The number of its last use.
    pub(super) used: u64,
}

#[derive(Debug, Default)]
struct Facts {
    found: Option<Found>,
    absent: Option<Absent>,
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Found {
    records: Records,
    server: SocketAddr,
    learned: Tick,
    refresh: Tick,
    expires: Tick,
}

#[derive(Debug, Clone, Copy)]
struct Absent {
    /// The kind that was asked for.
    kind: Kind,
    server: SocketAddr,
    learned: Tick,
    expires: Tick,
}

#[derive(Debug)]
struct Failure {
    error: Error,
    times: u32,
    until: Tick,
}

impl Entry {
    /// What is known at `now`.
    pub(super) fn look(&self, now: Tick, kind: Kind, stale: Duration) -> Option<Known> {
        let facts = self.facts(kind);
        let failure = facts.failure.as_ref().filter(|it| it.until > now);
        let serves = facts.found.as_ref().filter(|it| it.serves(now, stale));
        if let Some(found) = serves.filter(|it| it.expires > now) {
            return Some(Known::Found {
                records: found.records.clone(),
                server: found.server,
                learned: found.learned,
                // After a failure the servers have their pause here too.
                refresh: failure.map_or(found.refresh, |it| it.until.max(found.refresh)),
                expires: found.expires,
            });
        }
        if let Some(Absent { server, .. }) = facts.absent.filter(|it| it.expires > now) {
            return Some(Known::NoData { server });
        }
        if let Some(Absent { server, .. }) = self.absent.filter(|it| it.expires > now) {
            return Some(Known::NxDomain { server });
        }
        let failure = failure?;
        Some(match serves {
            Some(found) => Known::Stale {
                records: found.records.clone(),
                server: found.server,
                until: failure.until.min(found.expires.plus(stale)),
            },
            None => Known::Failed {
                error: failure.error.clone(),
                until: failure.until,
            },
        })
    }

    /// Whether it is worth to ask ahead of time, for who needs an answer until `end` at least.
    pub(super) fn wants_refresh(&self, now: Tick, kind: Kind, stale: Duration, end: Tick) -> bool {
        match self.look(now, kind, stale) {
            Some(Known::Found { refresh, .. }) => refresh <= now,
            Some(Known::NoData { .. } | Known::NxDomain { .. }) => {
                let absent = self.facts(kind).absent.or(self.absent);
                absent.is_some_and(|it| it.expires <= end && it.learned.plus(MIN_TTL) <= now)
            }
            Some(Known::Stale { .. } | Known::Failed { .. }) => false,
            None => true,
        }
    }

    /// What was known before, and may serve if nothing better can be had.
    pub(super) fn old(&self, now: Tick, kind: Kind, stale: Duration) -> Option<Old> {
        let facts = self.facts(kind);
        if let Some(found) = facts.found.as_ref().filter(|it| it.serves(now, stale)) {
            return Some(Old::Found {
                records: found.records.clone(),
                server: found.server,
            });
        }
        let absent = facts.absent.or(self.absent)?;
        (absent.expires.plus(stale) > now).then_some(Old::Absent)
    }

    /// Takes in how a question ended. Returns what is known from now on.
    pub(super) fn learn(
        &mut self,
        span: Span,
        kind: Kind,
        answer: Answer,
        stale: Duration,
        chance: u64,
        waste: &mut Waste,
    ) -> Known {
        let now = span.now;
        if span.is_past
            && let Some(known) = self.look(now, kind, stale)
        {
            // Others have asked since the machine slept.
            if let Answer::Failed(error) = answer {
                waste.push(error);
            }
            return known;
        }
        let mut why = None;
        match answer {
            Answer::Found {
                records,
                ttl,
                server,
            } => self.found(span, kind, bounded(records), ttl, server, waste),
            Answer::NoData { ttl, server } => {
                let absent = Absent::new(span, kind, ttl, server);
                let facts = Facts {
                    absent: Some(absent),
                    ..Facts::default()
                };
                self.replace(kind, facts, waste);
                self.absent = None;
            }
            Answer::NxDomain { ttl, server } => {
                self.no_such_name(Absent::new(span, kind, ttl, server), span, waste);
            }
            // Who has slept has not asked for long enough.
            Answer::Failed(error) if span.is_past => why = Some(error),
            Answer::Failed(error) => {
                // Old records of another kind serve the name too, where this kind had none.
                let serves = |it: &Facts| it.found.as_ref().is_some_and(|it| it.serves(now, stale));
                let has_old = serves(self.facts(kind))
                    || self.old(now, kind, stale).is_some() && self.by_kind.iter().any(serves);
                let before = self.facts_mut(kind).failed(now, error, has_old, chance);
                waste.extend(before);
            }
        }
        match self.look(now, kind, stale) {
            Some(known) => {
                waste.extend(why);
                known
            }
            None => self.outlived(now, kind, stale, why, waste),
        }
    }

    /// What is told of a question whose answer is not fresh any more when it is heard.
    fn outlived(
        &self,
        now: Tick,
        kind: Kind,
        stale: Duration,
        why: Option<Error>,
        waste: &mut Waste,
    ) -> Known {
        match self.old(now, kind, stale) {
            Some(Old::Found { records, server }) => {
                waste.extend(why);
                Known::Stale {
                    records,
                    server,
                    until: now,
                }
            }
            Some(Old::Absent) | None => {
                let text = "the answer was out of date when it was looked at";
                let error = why.unwrap_or_else(|| Error::new(ErrorKind::Resolve, text));
                Known::Failed { error, until: now }
            }
        }
    }

    fn found(
        &mut self,
        span: Span,
        kind: Kind,
        records: Records,
        ttl: Duration,
        from: SocketAddr,
        waste: &mut Waste,
    ) {
        let (now, ttl) = (span.now, ttl.min(MAX_TTL));
        let expires = span.end(ttl);
        let early = (ttl / REFRESH_SHARE).max(MIN_REFRESH);
        let ahead = expires.since(now).saturating_sub(early);
        let found = Found {
            records,
            server: from,
            learned: now,
            // Not within a second of the last question.
            refresh: now.plus(ahead.max(MIN_TTL)),
            expires,
        };
        let facts = Facts {
            found: Some(found),
            ..Facts::default()
        };
        self.replace(kind, facts, waste);
        // The name exists; who said that it does not meant the kind that it was asked for.
        if let Some(absent) = self.absent.take() {
            let other = self.facts_mut(absent.kind);
            if absent.kind != kind && other.found.is_none() {
                other.absent = Some(absent);
            }
        }
    }

    fn no_such_name(&mut self, absent: Absent, span: Span, waste: &mut Waste) {
        let is_fresh = |it: &Found| it.expires > span.now;
        let exists = |facts: &Facts| facts.found.as_ref().is_some_and(is_fresh);
        let others = || Kind::ALL.into_iter().filter(|kind| *kind != absent.kind);
        if others().any(|kind| exists(self.facts(kind))) {
            let facts = Facts {
                absent: Some(absent),
                ..Facts::default()
            };
            return self.replace(absent.kind, facts, waste);
        }
        for kind in Kind::ALL {
            self.replace(kind, Facts::default(), waste);
        }
        self.absent = Some(absent);
    }

    fn replace(&mut self, kind: Kind, facts: Facts, waste: &mut Waste) {
        let before = std::mem::replace(self.facts_mut(kind), facts);
        waste.extend(before.failure.map(|it| it.error));
    }

    /// Whether what is said of `kind` is the best that could be had, and not good.
    pub(super) fn is_failing(&self, kind: Kind) -> bool {
        self.facts(kind).failure.is_some()
    }

    /// All that its drop might do.
    pub(super) fn into_waste(self) -> impl Iterator<Item = Error> {
        let failures = self.by_kind.into_iter().filter_map(|it| it.failure);
        failures.map(|it| it.error)
    }

    /// Nothing is fresh any more, and nothing has failed.
    pub(super) fn expire(&mut self, now: Tick, waste: &mut Waste) {
        for facts in &mut self.by_kind {
            waste.extend(facts.failure.take().map(|it| it.error));
            if let Some(found) = &mut facts.found {
                found.expires = found.expires.min(now);
            }
            if let Some(absent) = &mut facts.absent {
                absent.expires = absent.expires.min(now);
            }
        }
        if let Some(absent) = &mut self.absent {
            absent.expires = absent.expires.min(now);
        }
    }

    /// How much it is worth to be kept: 2 for what is fresh, 1 for what may serve, 0 for nothing.
    pub(super) fn worth(&self, now: Tick, stale: Duration) -> u8 {
        let fresh = |absent: &Option<Absent>| absent.is_some_and(|it| it.expires > now);
        let worth = |facts: &Facts| match &facts.found {
            Some(found) if found.expires > now => 2,
            _ if fresh(&facts.absent) => 2,
            Some(found) if found.serves(now, stale) => 1,
            _ => u8::from(facts.failure.as_ref().is_some_and(|it| it.until > now)),
        };
        let of_kinds = self.by_kind.iter().map(worth).max();
        match fresh(&self.absent) {
            true => 2,
            false => of_kinds.unwrap_or(0),
        }
    }

    fn facts(&self, kind: Kind) -> &Facts {
        &self.by_kind[kind as usize]
    }

    fn facts_mut(&mut self, kind: Kind) -> &mut Facts {
        &mut self.by_kind[kind as usize]
    }
}

impl Facts {
    /// Returns the error of the failure before.
    fn failed(&mut self, now: Tick, error: Error, has_old: bool, chance: u64) -> Option<Error> {
        // One that has been forgotten since is not counted.
        let last = self.failure.as_ref();
        let last = last.filter(|it| it.until.plus(MAX_PAUSE) > now);
        let times = last.map_or(0, |it| it.times);
        let pause = if has_old {
            spread_up(STALE_PAUSE, chance)
        } else {
            let doubled = FIRST_PAUSE.saturating_mul(1 << times.min(5));
            spread_down(doubled.min(MAX_PAUSE), chance).max(FIRST_PAUSE)
        };
        let before = self.failure.replace(Failure {
            error,
            times: times.saturating_add(1),
            until: now.plus(pause),
        });
        before.map(|it| it.error)
    }
}

impl Found {
    /// Whether it may be shown at all, fresh or not.
    fn serves(&self, now: Tick, stale: Duration) -> bool {
        self.expires.plus(stale) > now
    }
}

impl Absent {
    /// Without a TTL it may not be kept; for a second it is not asked again all the same.
    fn new(span: Span, kind: Kind, ttl: Option<Duration>, server: SocketAddr) -> Self {
        let ttl = ttl.unwrap_or(MIN_TTL).min(MAX_NEGATIVE_TTL);
        Self {
            kind,
            server,
            learned: span.now,
            expires: span.end(ttl),
        }
    }
}

/// The same, for no longer than a question must be left alone.
pub(super) fn brief(mut known: Known, now: Tick) -> Known {
    if let Known::Found {
        refresh, expires, ..
    } = &mut known
    {
        let soon = now.plus(MIN_TTL);
        (*refresh, *expires) = (soon.min(*refresh), soon.min(*expires));
    }
    known
}

fn bounded(records: Records) -> Records {
    match records {
        Records::Addresses(all) if all.len() > MAX_RECORDS => {
            Records::Addresses(all[..MAX_RECORDS].into())
        }
        Records::Services(all) if all.len() > MAX_RECORDS => {
            Records::Services(all[..MAX_RECORDS].into())
        }
        Records::Bindings(all) if all.len() > MAX_RECORDS => {
            Records::Bindings(all[..MAX_RECORDS].into())
        }
        records => records,
    }
}

/// Up to a quarter less, by chance.
fn spread_down(pause: Duration, chance: u64) -> Duration {
    pause - quarter(pause, chance)
}

/// Up to a quarter more, by chance.
fn spread_up(pause: Duration, chance: u64) -> Duration {
    pause + quarter(pause, chance)
}

fn quarter(pause: Duration, chance: u64) -> Duration {
    pause / 4 * (chance % 1024) as u32 / 1024
}
