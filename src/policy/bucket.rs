//! Everything one core knows about one endpoint: its queue, its connections' lists, its
//! addresses, and how far it is with opening the next connection.

use std::rc::Rc;

use super::balance::Addresses;
use super::counts::Counts;
use super::list::List;
use super::moves::Moves;
use super::race::Race;
use crate::error::Error;
use crate::time::Tick;

/// The endpoint's request for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permit {
    /// None is made.
    None,
    /// Made, without an answer yet.
    Asked,
    /// Answered by `PermitQueued`.
    Queued,
}

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// What errors call it: `HOST:PORT`.
    pub(crate) label: Rc<str>,
    pub(crate) counts: Counts,
    /// Nobody can tell how healthy its connections are.
    pub(crate) unchecked: bool,
    /// Waiters, oldest first.
    pub(crate) waiting: List,
    /// Idle connections, newest first.
    pub(crate) idle: List,
    /// Connections in use that have capacity for more.
    pub(crate) partial: List,
    pub(crate) last_get: Tick,
    /// Another core waits for a permit since then.
    pub(crate) demand: Option<Tick>,

    pub(crate) addresses: Addresses,
    pub(crate) expires: Tick,
    /// When the name is asked for again though nobody needs an address now; zero if never.
    pub(crate) refresh_at: Tick,
    /// An answer came that no opening has used yet: it is good for one even if it expired at once.
    pub(crate) answered: bool,
    pub(crate) resolving: bool,
    /// When it was asked for last.
    pub(crate) asked_at: Tick,
    /// The answer under way may rest on what counted before.
    pub(crate) is_outdated: bool,
    pub(crate) resolve_failures: u32,

    pub(crate) permit: Permit,
    /// Permits held: one per slot, and one for a parked race.
    pub(crate) permits: u32,
    /// Openings under way, each of one attempt or more.
    pub(crate) races: Vec<Race>,
    pub(crate) next_race: u64,
    /// The race that waits for a descriptor slot, without any attempt.
    pub(crate) parked: Option<u64>,
    /// Connections that change their address.
    pub(crate) moves: Moves,
    /// Users that a connection of this endpoint takes at once, by the last one that told.
    pub(crate) capacity: u32,

    /// Rounds of all addresses that failed in a row.
    pub(crate) failures: u32,
    /// The number of the current round.
    pub(crate) round: u64,
    /// Set when the current round began: waiters with lower numbers had come before it.
    pub(crate) round_mark: Option<u64>,
    /// The mark of the round that failed last.
    pub(crate) failed_mark: u64,
    /// No new opening before then.
    pub(crate) retry_at: Tick,
    /// No new opening for the sake of `min_idle` before then.
    pub(crate) warm_at: Tick,
    /// The deadline in the timers; [`Tick::NEVER`] if there is none.
    pub(crate) timer: Tick,
    pub(crate) last_error: Option<Error>,
}

impl Bucket {
    pub(crate) fn new(label: Rc<str>, now: Tick) -> Self {
        Self {
            label,
            counts: Counts::default(),
            unchecked: false,
            waiting: List::default(),
            idle: List::default(),
            partial: List::default(),
            last_get: now,
            demand: None,
            addresses: Addresses::default(),
            expires: Tick::ZERO,
            refresh_at: Tick::ZERO,
            answered: false,
            resolving: false,
            asked_at: Tick::ZERO,
            is_outdated: false,
            resolve_failures: 0,
            permit: Permit::None,
            permits: 0,
            races: Vec::new(),
            next_race: 0,
            parked: None,
            moves: Moves::default(),
            capacity: 1,
            failures: 0,
            round: 0,
            round_mark: None,
            failed_mark: 0,
            retry_at: Tick::ZERO,
            warm_at: Tick::ZERO,
            timer: Tick::NEVER,
            last_error: None,
        }
    }

    /// Whether nothing would be lost with it.
    pub(crate) fn is_unused(&self) -> bool {
        self.counts.slots() == 0
            && self.waiting.is_empty()
            && self.permits == 0
            && self.permit == Permit::None
            && !self.resolving
    }

    /// Openings under way.
    pub(crate) fn openings(&self) -> u32 {
        self.races.len() as u32
    }

    /// Attempts under way, the parked one included.
    pub(crate) fn attempts(&self) -> usize {
        let racing: usize = self.races.iter().map(|race| race.attempts.len()).sum();
        racing + usize::from(self.parked.is_some())
    }

    pub(crate) fn race_mut(&mut self, number: u64) -> Option<&mut Race> {
        self.races.iter_mut().find(|race| race.number == number)
    }

    pub(crate) fn in_backoff(&self, now: Tick) -> bool {
        now < self.retry_at
    }

    /// Openings that the waiters justify: no more than their uses need.
    pub(crate) fn needed_by_waiters(&self) -> u32 {
        let unserved = self.counts.waiters.saturating_sub(self.counts.checking);
        unserved.div_ceil(self.capacity.max(1))
    }
}
