//! Every core needs the records of the same few names, and a name server should be asked once.
//! [`Names`] keeps what was learnt, for all cores, and knows who is asking what.
//!
//! Promise: what has expired is never returned as fresh; a question is asked by one shard at a time
//! and at most once per second, whatever its TTL; nothing is fresh for longer than a day, the
//! absence of a name for no longer than 15 minutes; a failure to ask is remembered for 1 s, twice
//! as long each time up to 30 s, and never replaces records that a server gave; at most
//! [`MAX_NAMES`] names are kept; no code of the user's runs under the lock. A TTL counts from when
//! the question was sent, and what was asked before the machine slept is out of date. Who follows a
//! question is told when it has ended, and when the shard that asks it is gone or late: the first of
//! them to come back then asks in its stead.
//!
//! States of a question: unknown; known; asked by a leader, with followers. Its records are fresh
//! or, for a while after that, old: old ones serve when asking fails or takes too long (RFC 8767).

mod entry;
mod flights;
#[cfg(all(test, ringpool_loom))]
mod model;
#[cfg(all(test, not(ringpool_loom)))]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use self::entry::{Entry, Span, Waste};
use self::flights::Flights;
use super::ShardId;
use super::members::Members;
use super::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::dns::{Answer, Known, Old, Question};
use crate::time::Tick;

/// How many names are kept.
pub(crate) const MAX_NAMES: usize = 4096;
/// How many make room at once when there is none.
const EVICTED: usize = MAX_NAMES / 64;
/// What is shorter is no sleep of the machine.
pub(crate) const LEAST_SLEEP: Duration = Duration::from_secs(1);

/// What a shard that needs an answer does.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Nothing: here it is.
    Known(Known),
    /// It asks, and tells the answer by [`Names::finish`].
    Lead { old: Option<Old> },
    /// Another shard has asked since `since`. It comes back when it is told to, or at `until`.
    Follow {
        since: Tick,
        until: Tick,
        old: Option<Old>,
    },
    /// Nobody asks, and the shard said that it cannot.
    Later { old: Option<Old> },
}

/// What is known of names, shared by all cores.
#[derive(Debug)]
pub(crate) struct Names {
    /// Goes up when what cores have copied may be worth less than what is here.
    epoch: AtomicU64,
    stale: Duration,
    table: Mutex<Table>,
    members: Arc<Members>,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Arc<str>, Entry>,
    flights: Flights,
    /// Counts uses: the order in which names were used last.
    uses: u64,
    /// Of the sources that the answers come from.
    generation: u64,
    /// How long the machine had slept when that was noticed last, and when that was.
    slept: Duration,
    woke: Tick,
}

/// How a question ended.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) answer: Answer,
    /// When what was answered was sent; of a failure, when asking began.
    pub(crate) asked: Tick,
    /// Of the sources that were asked.
    pub(crate) generation: u64,
}

impl Names {
    /// Nothing is known. Records serve for `stale` after they have expired, if they must.
    pub(super) fn new(members: Arc<Members>, stale: Duration) -> Self {
        Self {
            epoch: AtomicU64::new(0),
            stale,
            table: Mutex::new(Table::default()),
            members,
        }
    }

    /// What a shard has copied from here serves until it expires or this number changes.
    #[inline]
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// What is known of `question`; asks for the right, or the duty, to find out otherwise. A shard
    /// that may lead says until when it is trusted with that; it renews that while it is at work.
    pub(crate) fn join(
        &self,
        now: Tick,
        question: &Question,
        shard: ShardId,
        lease: Option<Tick>,
    ) -> Turn {
        let mut table = lock(&self.table);
        if let Some(known) = table.look(now, question, self.stale) {
            return Turn::Known(known);
        }
        let old = table.old(now, question, self.stale);
        // Who is late is not followed: the follower would have to come back at once.
        if let Some(flight) = table.flights.get_mut(question)
            && flight.lease > now
            && (flight.leader != shard || lease.is_none())
        {
            flight.followers.insert(shard);
            return Turn::Follow {
                since: flight.since,
                until: flight.lease,
                old,
            };
        }
        let Some(lease) = lease else {
            return Turn::Later { old };
        };
        table.flights.lead(question, shard, now, lease);
        Turn::Lead { old }
    }

    /// What is known of `question`, and what was known before, for a shard that asks or follows it
    /// already.
    pub(crate) fn look(&self, now: Tick, question: &Question) -> (Option<Known>, Option<Old>) {
        let mut table = lock(&self.table);
        let known = table.look(now, question, self.stale);
        (known, table.old(now, question, self.stale))
    }

    /// Whether `shard` should ask `question` ahead of time: what is known of it is worth to be
    /// renewed, or, if that is an absence, does not last until `end`; and nobody asks yet. If so,
    /// the shard leads.
    pub(crate) fn refresh(
        &self,
        now: Tick,
        question: &Question,
        shard: ShardId,
        lease: Tick,
        end: Tick,
    ) -> bool {
        let mut table = lock(&self.table);
        let entry = table.entries.get(&question.name);
        let is_due = entry.is_none_or(|it| it.wants_refresh(now, question.kind, self.stale, end));
        if !is_due || table.flights.get_mut(question).is_some() {
            return false;
        }
        table.flights.lead(question, shard, now, lease);
        true
    }

    /// `shard` has asked `question`. Returns what is known from now on, and tells the followers; what
    /// other sources than today's said holds for a second. `chance` spreads the pauses after
    /// failures.
    pub(crate) fn finish(
        &self,
        now: Tick,
        question: &Question,
        shard: ShardId,
        heard: Heard,
        chance: u64,
    ) -> Known {
        let (kind, mut waste) = (question.kind, Waste::new());
        let mut table = lock(&self.table);
        let span = Span::new(now, heard.asked, table.woke);
        // What was asked of other servers than today's is passed on to who waited, and not kept.
        let is_current = heard.generation == table.generation;
        let mut apart = Entry::default();
        let entry = match is_current {
            true => table.entry(now, &question.name, self.stale, &mut waste),
            false => &mut apart,
        };
        let was_bad = entry.is_failing(kind);
        let known = entry.learn(span, kind, heard.answer, self.stale, chance, &mut waste);
        let is_better = was_bad && !entry.is_failing(kind);
        let told = table.flights.end(question, shard);
        if is_better {
            self.epoch.fetch_add(1, Ordering::Release);
        }
        drop(table);
        self.tell(told);
        drop(waste);
        match is_current {
            true => known,
            false => entry::brief(known, now),
        }
    }

    /// `shard` does not ask `question` any more, and has no answer: who followed asks in its stead.
    pub(crate) fn give_up(&self, question: &Question, shard: ShardId) {
        let told = lock(&self.table).flights.end(question, shard);
        self.tell(told);
    }

    /// `shard` is at work on what it asks, and trusted with it until `lease`.
    pub(crate) fn renew(&self, shard: ShardId, lease: Tick) {
        lock(&self.table).flights.renew(shard, lease);
    }

    /// `shard` asks nothing any more: it has ended. Others take over what it was asking.
    pub(crate) fn abandon(&self, shard: ShardId) {
        let told = lock(&self.table).flights.abandon(shard);
        self.tell(told);
    }

    /// The sources have changed: nothing of what the former ones said is kept.
    pub(crate) fn flush(&self, generation: u64) {
        let mut table = lock(&self.table);
        if generation <= table.generation {
            return;
        }
        table.generation = generation;
        let dropped = std::mem::take(&mut table.entries);
        let told = table.flights.clear();
        self.epoch.fetch_add(1, Ordering::Release);
        drop(table);
        drop(dropped);
        self.tell(told);
    }

    /// The machine has slept, for so long altogether, and may have woken up elsewhere: all is asked
    /// anew, and what was known, or is answered of what was asked before, serves only if there is no
    /// answer.
    pub(crate) fn woke_up(&self, now: Tick, slept: Duration) {
        let mut waste = Waste::new();
        let mut table = lock(&self.table);
        // Each core reads the clocks for itself, and none reads quite the same.
        if slept < table.slept + LEAST_SLEEP {
            return;
        }
        (table.slept, table.woke) = (slept, now);
        for entry in table.entries.values_mut() {
            entry.expire(now, &mut waste);
        }
        self.epoch.fetch_add(1, Ordering::Release);
        drop(table);
    }

    /// Outside of the lock: a waker may run a scheduler's code.
    fn tell(&self, shards: Vec<ShardId>) {
        for shard in shards {
            self.members.notify_names(shard);
        }
    }

    /// How many names are kept and how many questions are being asked.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn counts(&self) -> (usize, usize) {
        let table = lock(&self.table);
        (table.entries.len(), table.flights.len())
    }
}

impl Table {
    fn look(&mut self, now: Tick, question: &Question, stale: Duration) -> Option<Known> {
        self.uses += 1;
        let entry = self.entries.get_mut(&question.name)?;
        entry.used = self.uses;
        entry.look(now, question.kind, stale)
    }

    fn old(&self, now: Tick, question: &Question, stale: Duration) -> Option<Old> {
        let entry = self.entries.get(&question.name)?;
        entry.old(now, question.kind, stale)
    }

    /// The entry of `name`, with room made for it if it is new.
    fn entry(
        &mut self,
        now: Tick,
        name: &Arc<str>,
        stale: Duration,
        waste: &mut Waste,
    ) -> &mut Entry {
        if self.entries.len() >= MAX_NAMES && !self.entries.contains_key(name) {
            self.make_room(now, stale, waste);
        }
        self.uses += 1;
        let entry = self.entries.entry(name.clone()).or_default();
        entry.used = self.uses;
        entry
    }

    /// Drops some: what is of no use any more before what is only old, and that before the rest; of
    /// each, what was not used for longest.
    fn make_room(&mut self, now: Tick, stale: Duration, waste: &mut Waste) {
        let worth = |entry: &Entry| (entry.worth(now, stale), entry.used);
        let mut all: Vec<_> = self.entries.values().map(worth).collect();
        let (_, last, _) = all.select_nth_unstable(EVICTED.saturating_sub(1));
        let last = *last;
        let dropped = self.entries.extract_if(|_, entry| worth(entry) <= last);
        waste.extend(dropped.flat_map(|(_, entry)| entry.into_waste()));
    }
}
