//! Everything one core knows about one endpoint: its queue, its connections' lists, its
//! addresses, and how far it is with opening the next connection.

use std::rc::Rc;

use super::balance::Addresses;
use super::conn::{Conn, Place, links};
use super::counts::Counts;
use super::eject::Probes;
use super::event::ConnKey;
use super::flight::Flights;
use super::list::{Links, List};
use super::plan::Moves;
use super::race::Race;
use super::shrink::Need;
use crate::error::Error;
use crate::slot::Slots;
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

/// What the endpoint expects of other cores while its request for a permit is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expects {
    None,
    /// A connection in this slot; also one that it declined and that is not free yet.
    Slot(ConnKey),
    /// Nothing by this request: the slot could not be kept open.
    Refused,
}

impl Expects {
    fn has_slot(self) -> bool {
        matches!(self, Self::Slot(_))
    }
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
    /// Since when the oldest idle one has been so, or before; [`Tick::NEVER`] if there was none when
    /// somebody asked.
    pub(crate) aged: Tick,
    pub(crate) last_get: Tick,
    /// Its first gets are to find connections.
    pub(crate) warmed: bool,
    /// Another core waits for a permit since then.
    pub(crate) demand: Option<Tick>,
    /// When that is long enough to take one of the last idle ones; [`Tick::NEVER`] if there is no
    /// such deadline in the timers.
    pub(crate) give_at: Tick,
    /// Its connections stay on the core that opened them.
    pub(crate) stays: bool,
    /// The slot into which another core may put a connection.
    pub(crate) expects: Expects,
    /// When its connections were cleared last.
    pub(crate) cleared: Option<Tick>,

    pub(crate) addresses: Addresses,
    /// How busy this core keeps each.
    pub(crate) flights: Flights,
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
    /// Permits held: one per connection that is this core's, and one for a parked race.
    pub(crate) permits: u32,
    /// Openings under way, each of one attempt or more.
    pub(crate) races: Vec<Race>,
    pub(crate) next_race: u64,
    /// The race that waits for a descriptor slot, without any attempt.
    pub(crate) parked: Option<u64>,
    /// Connections that change their address.
    pub(crate) moves: Moves,
    /// How many it needs.
    pub(crate) need: Need,
    /// Its addresses that are out for all cores.
    pub(crate) probes: Probes,
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
    /// How often there was no permit for them, or no slot, since there was one.
    pub(crate) extras_pauses: u32,
    /// When the last of those pauses ends.
    pub(crate) extras_at: Tick,
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
            aged: Tick::NEVER,
            last_get: now,
            warmed: false,
            demand: None,
            give_at: Tick::NEVER,
            stays: false,
            expects: Expects::None,
            cleared: None,
            addresses: Addresses::default(),
            flights: Flights::default(),
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
            need: Need::default(),
            probes: Probes::default(),
            capacity: 1,
            failures: 0,
            round: 0,
            round_mark: None,
            failed_mark: 0,
            retry_at: Tick::ZERO,
            warm_at: Tick::ZERO,
            extras_pauses: 0,
            extras_at: Tick::ZERO,
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
            && !self.expects.has_slot()
    }

    /// Takes a connection that said where it is out of its list.
    #[inline]
    pub(crate) fn unlist(&mut self, conns: &mut Slots<Conn>, (place, at): (Place, Links)) {
        match place {
            Place::None => {}
            Place::Partial => self.partial.unlink(conns, at, links),
            Place::Idle => self.idle.unlink(conns, at, links),
        }
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
