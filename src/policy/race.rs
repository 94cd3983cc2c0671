//! Happy Eyeballs (RFC 8305), for a pool. An address that swallows packets would cost whoever waits
//! the whole `connect_timeout`; so an attempt that takes long gets company: another address, of the
//! other family if there is one. What is ready first ends the race.
//!
//! An opening is a race of one attempt or more. Its states: one attempt → due (the attempt delay is
//! over: it asks for a permit for the next) → more attempts → won (the others are cancelled, unless
//! waiters still need them) → gone. Where no permit, slot or place is to be had, the oldest attempt
//! is cut short and its permit dials the next address: the first after the attempt delay, each further
//! one after twice as long, one whose server answered after
//! [`PATIENCE_MAX`](opening::PATIENCE_MAX), which is the longest. What was cut so gets a second try, without hurry, when all others have failed. Where no address that
//! is left may have one attempt more, an opening ends, and begins anew when an attempt has ended.
//!
//! Promise: attempts begin [`ATTEMPT_DELAY`] apart, or at once when one failed, and those under way
//! together never less than [`ATTEMPT_FLOOR`] apart; each has a permit and a slot; an address is
//! dialed once per race (twice if it was cut, again if it was gone and is named anew); what an answer
//! brings meanwhile joins; for a name with one address there is no race.

mod opening;

use std::net::SocketAddr;

pub(crate) use opening::Race;

use super::PoolPolicy;
use super::bucket::Permit;
use super::conn::{Attempt, Conn, Stage};
use super::event::{Action, CloseReason, ConnKey, EndpointKey, Verdict};
use super::settings::{ATTEMPT_DELAY, ATTEMPT_FLOOR, PROBE_EVERY};
use super::timers::Timer;
use crate::error::Error;
use crate::time::Tick;

/// What openings that are over have left for those to come, so that these allocate nothing.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    races: Vec<Race>,
    #[allow(clippy::vec_box)] // the boxes are what is kept
    attempts: Vec<Box<Attempt>>,
}

impl Spare {
    /// How many of each are kept.
    const MOST: usize = 64;

    /// The attempt is over.
    pub(super) fn take(&mut self, mut attempt: Box<Attempt>) -> Attempt {
        let over = std::mem::take(&mut *attempt);
        if self.attempts.len() < Self::MOST {
            self.attempts.push(attempt);
        }
        over
    }
}

/// Attempts.
impl PoolPolicy {
    /// Begins an opening with a permit that it has.
    pub(super) fn begin_race(&mut self, now: Tick, endpoint: EndpointKey) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            if bucket.races.is_empty() || bucket.round_mark.is_none() {
                bucket.round_mark = Some(self.next_waiter);
            }
            let is_waited_for = bucket.is_short();
            let number = bucket.next_race;
            bucket.next_race += 1;
            let race = Race::new(number, now, bucket.round, self.spare.races.pop());
            bucket.races.push(race);
            let turn = |address| bucket.addresses.turn(address);
            bucket.probes.begin(number, is_waited_for, turn);
            self.dial_next(now, endpoint, number);
        }
    }

    /// Dials the race's next address with a permit that it has; parks it if there is no slot, or
    /// ends the attempt, or the race.
    pub(super) fn dial_next(&mut self, now: Tick, endpoint: EndpointKey, number: u64) {
        let is_full = self.conns.is_full();
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        let Some(at) = bucket.races.iter().position(|race| race.number == number) else {
            self.return_permit(endpoint);
            return;
        };
        bucket.addresses.slice.widen(bucket.counts.slots() + 1);
        let race = &mut bucket.races[at];
        let is_alone = race.attempts.is_empty();
        let aim = bucket.probes.aim(number).filter(|aim| {
            let is_first = race.tried.is_empty();
            is_first && bucket.addresses.may_probe(*aim, self.settings.room())
        });
        race.is_probe = aim.is_some();
        let wish = race.wish(&self.settings);
        let mut is_busy = bucket.addresses.are_busy(&wish);
        let mut pick = aim.or_else(|| bucket.addresses.pick(now, &wish, &mut self.rng));
        if pick.is_none() && is_alone && !is_busy && race.try_cut_ones_again() {
            let wish = race.wish(&self.settings);
            is_busy = bucket.addresses.are_busy(&wish);
            pick = bucket.addresses.pick(now, &wish, &mut self.rng);
        }
        match pick {
            None if is_alone && !is_busy => self.round_failed(now, endpoint, number),
            Some(_) if is_full && is_alone => self.park(now, endpoint, number),
            Some(address) if !is_full => self.dial(now, endpoint, number, address),
            _ => self.end_attempt(endpoint, number),
        }
    }

    fn dial(&mut self, now: Tick, endpoint: EndpointKey, number: u64, address: SocketAddr) {
        let mut timeout = self.settings.connect_timeout;
        let mut attempt = self.spare.attempts.pop().unwrap_or_default();
        *attempt = Attempt {
            race: number,
            began: now,
            error: None,
        };
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        let mut races = bucket.races.iter();
        if races.any(|it| it.number == number && it.is_probe && it.tried.is_empty()) {
            // When it is over the next probe may begin.
            timeout = timeout.min(PROBE_EVERY);
        }
        let spot = bucket
            .flights
            .join(address, bucket.addresses.share(address));
        let conn = Conn::dialing(endpoint, address, spot, now.plus(timeout), attempt);
        let Ok(key) = self.conns.insert(conn) else {
            bucket.flights.leave(spot);
            return;
        };
        bucket.addresses.dialing(address);
        bucket.counts.connecting += 1;
        if let Some(race) = bucket.race_mut(number) {
            race.tried.push(address);
            race.attempts.push(ConnKey(key));
            race.is_beside = false;
            race.due = false;
        }
        self.actions.push_back(Action::Dial {
            conn: ConnKey(key),
            endpoint,
            address,
            timeout,
        });
        self.await_next(endpoint, number, now.plus(ATTEMPT_DELAY));
        self.keep_refreshing(now, endpoint);
        self.watch_ejected(now, endpoint);
    }

    /// The race's next attempt is due at `at`, if there is an address left for one.
    pub(super) fn await_next(&mut self, endpoint: EndpointKey, number: u64, at: Tick) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        let Some(race) = bucket.races.iter_mut().find(|race| race.number == number) else {
            return;
        };
        let timer = Timer::Race(endpoint, number);
        self.timers.remove(race.next_at, timer);
        let is_last = race.is_patient || bucket.addresses.are_spent(&race.wish(&self.settings));
        race.next_at = if is_last { Tick::NEVER } else { at };
        race.due = false;
        self.timers.insert(race.next_at, timer);
    }

    /// An answer came: a race that had dialed all that was known may have another address now.
    pub(super) fn join_races(&mut self, now: Tick, endpoint: EndpointKey) {
        let Some(bucket) = self.endpoints.get(endpoint.0) else {
            return;
        };
        let mut resting = Vec::new();
        for race in &bucket.races {
            let newest = race.attempts.last().and_then(|key| self.conns.get(key.0));
            if let Some(newest) = newest
                && race.next_at == Tick::NEVER
                && !race.due
            {
                let at = newest.began().plus(ATTEMPT_DELAY).max(now);
                resting.push((race.number, at));
            }
        }
        for (number, at) in resting {
            self.await_next(endpoint, number, at);
        }
    }

    /// The attempt delay of the newest attempt is over, or the floor after it.
    pub(super) fn race_is_due(&mut self, now: Tick, endpoint: EndpointKey, number: u64) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        let Some(race) = bucket.races.iter_mut().find(|race| race.number == number) else {
            return;
        };
        race.next_at = Tick::NEVER;
        race.due = true;
        let newest = race.attempts.last().and_then(|key| self.conns.get(key.0));
        if let Some(newest) = newest
            && matches!(newest.stage, Stage::Dialing | Stage::Initialising)
            && now >= newest.began().plus(ATTEMPT_DELAY)
        {
            // It counts once, however often it is found to be slow.
            if race.slow.replace(newest.address) != Some(newest.address) {
                bucket.addresses.overdue(now, newest.address, &mut self.rng);
            }
            race.is_beside = true;
        }
        self.doubt_aim(now, endpoint);
        self.watch_backups(now, endpoint, now);
        self.settle(now, endpoint);
    }

    /// The race that wants another attempt, while its connection is still wanted.
    pub(super) fn due_race(&self, now: Tick, endpoint: EndpointKey) -> Option<u64> {
        let bucket = self.endpoints.get(endpoint.0)?;
        if bucket.in_backoff(now) || !bucket.races.iter().any(|race| race.due) {
            return None;
        }
        // Where there are more openings than are needed, only as many as that get company; all of
        // them may be slow.
        let needed = self.needed(now, bucket) as usize;
        // A probe that is slow has shown something; it gets company when waiters would have its place.
        let are_short = bucket.is_short();
        let due = bucket.races.iter().take(needed).filter(|race| race.due);
        let mut due = due.filter(|race| are_short || !race.is_probe);
        let race = due.find(|race| {
            let wish = race.wish(&self.settings);
            !bucket.addresses.are_spent(&wish) && !bucket.addresses.are_busy(&wish)
        })?;
        Some(race.number)
    }

    /// Asks for a permit for the race's next attempt, or makes its oldest one free its own.
    pub(super) fn ensure_rival(&mut self, now: Tick, endpoint: EndpointKey, number: u64) {
        let is_full = self.conns.is_full();
        let max_connecting = self.settings.max_connecting;
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        match bucket.permit {
            Permit::Asked => {}
            Permit::None
                if !is_full && bucket.parked.is_none() && bucket.attempts() < max_connecting =>
            {
                bucket.permit = Permit::Asked;
                self.actions.push_back(Action::AcquirePermit { endpoint });
            }
            Permit::None | Permit::Queued => self.cut_oldest(now, endpoint, number),
        }
    }

    /// There is no room for a further attempt: the race's oldest one makes way for it.
    fn cut_oldest(&mut self, now: Tick, endpoint: EndpointKey, number: u64) {
        let bucket = self.endpoints.get_mut(endpoint.0);
        let Some(race) = bucket.and_then(|bucket| bucket.race_mut(number)) else {
            return;
        };
        race.due = false;
        let Some(key) = race.attempts.first().copied() else {
            return;
        };
        let Some(oldest) = self.conns.get(key.0) else {
            return;
        };
        if matches!(oldest.stage, Stage::Closing(_)) {
            return;
        }
        let address = oldest.address;
        let fair = oldest.began().plus(race.patience(oldest.stage));
        if now < fair {
            // Meanwhile there may be room for one beside it.
            let at = fair.min(now.plus(ATTEMPT_DELAY));
            self.await_next(endpoint, number, at);
            return;
        }
        race.cut.push(address);
        self.close(key, CloseReason::ConnectCancelled);
    }

    /// Cancels what is left of races that were won and that nobody needs.
    pub(super) fn cancel_losers(&mut self, now: Tick, endpoint: EndpointKey) {
        while let Some(bucket) = self.endpoints.get(endpoint.0)
            && self.needed(now, bucket) < bucket.openings()
            && let Some(won) = bucket.races.iter().find(|race| race.won)
        {
            let number = won.number;
            let losers = won.attempts.clone();
            self.remove_race(endpoint, number);
            for key in losers {
                let Some(conn) = self.conns.get_mut(key.0) else {
                    continue;
                };
                if matches!(conn.stage, Stage::Closing(_)) {
                    // It failed, or was cut: its close will tell.
                    continue;
                }
                conn.attempt = None;
                let address = conn.address;
                if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
                    bucket.addresses.gave_up(address);
                }
                self.close(key, CloseReason::ConnectCancelled);
            }
        }
    }

    /// The connection is ready: it leaves its race, which is won.
    pub(super) fn win_race(&mut self, now: Tick, endpoint: EndpointKey, key: ConnKey) {
        let Some(conn) = self.conns.get_mut(key.0) else {
            return;
        };
        let (winner, attempt) = (conn.address, conn.attempt.take());
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        let number = attempt.map(|attempt| self.spare.take(attempt).race);
        let mut races = bucket.races.iter_mut();
        let Some(race) = races.find(|race| Some(race.number) == number) else {
            return;
        };
        race.attempts.retain(|other| *other != key);
        race.won = true;
        let slow = race.slow;
        if let Some(slow) = slow {
            let rng = &mut self.rng;
            bucket.addresses.outrun(now, slow, winner, rng);
        }
        if bucket.probes.aim(race.number) == Some(winner) {
            bucket.probes.end(race.number);
            race.is_probe = false;
        }
        let beaten = slow.filter(|slow| bucket.addresses.is_beaten(*slow, winner));
        if race.attempts.is_empty() {
            let number = race.number;
            self.remove_race(endpoint, number);
        }
        if let Some(beaten) = beaten {
            self.report(endpoint, beaten, Verdict::Failed);
        }
    }

    /// TCP is connected: the server is there, and `init` has as long again before another address
    /// is tried (draft-ietf-happy-happyeyeballs-v3, section 6.1).
    pub(super) fn extend_race(&mut self, now: Tick, endpoint: EndpointKey, number: u64) {
        self.await_next(endpoint, number, now.plus(ATTEMPT_DELAY));
    }

    /// The race is over: nothing of it is under way, or nobody waits for what is.
    pub(super) fn remove_race(&mut self, endpoint: EndpointKey, number: u64) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        if let Some(at) = bucket.races.iter().position(|race| race.number == number) {
            let race = bucket.races.remove(at);
            let timer = Timer::Race(endpoint, number);
            self.timers.remove(race.next_at, timer);
            bucket.probes.end(number);
            if self.spare.races.len() < Spare::MOST {
                self.spare.races.push(race);
            }
        }
    }

    /// The attempt ends without a connection; its race goes on if it has others.
    fn end_attempt(&mut self, endpoint: EndpointKey, number: u64) {
        self.return_permit(endpoint);
        let bucket = self.endpoints.get_mut(endpoint.0);
        let race = bucket.and_then(|bucket| bucket.race_mut(number));
        if race.is_some_and(|race| race.attempts.is_empty()) {
            self.remove_race(endpoint, number);
        }
    }

    /// An attempt's connection is gone before it was ready. Its permit is still held.
    pub(super) fn attempt_ended(
        &mut self,
        now: Tick,
        endpoint: EndpointKey,
        key: ConnKey,
        address: SocketAddr,
        attempt: Attempt,
    ) {
        let number = attempt.race;
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        if let Some(race) = bucket.race_mut(number) {
            race.attempts.retain(|other| *other != key);
        }
        if bucket.probes.aim(number) == Some(address) {
            bucket.probes.end(number);
            if let Some(race) = bucket.race_mut(number) {
                race.is_probe = false;
            }
        }
        match attempt.error {
            Some(error) if !self.draining => self.note_failure(now, endpoint, address, error),
            _ => bucket.addresses.gave_up(address),
        }
        self.go_on(now, endpoint, number);
    }

    /// What becomes of the permit of an attempt that ended.
    fn go_on(&mut self, now: Tick, endpoint: EndpointKey, number: u64) {
        let Some(bucket) = self.endpoints.get(endpoint.0) else {
            return;
        };
        let Some(at) = bucket.races.iter().position(|race| race.number == number) else {
            self.return_permit(endpoint);
            return;
        };
        let race = &bucket.races[at];
        let needed = self.needed(now, bucket);
        let is_wanted = match race.attempts.is_empty() {
            true => !self.draining && needed >= bucket.openings(),
            false => (at as u64) < u64::from(needed),
        };
        let is_last = race.cut.is_empty() && bucket.addresses.are_spent(&race.wish(&self.settings));
        let newest = race.attempts.last().and_then(|key| self.conns.get(key.0));
        match newest.map(|newest| newest.began().plus(ATTEMPT_FLOOR)) {
            Some(floor) if is_wanted && now < floor => {
                self.end_attempt(endpoint, number);
                self.await_next(endpoint, number, floor);
            }
            Some(_) if is_wanted => self.dial_next(now, endpoint, number),
            None if is_wanted || (is_last && !self.draining) => {
                self.dial_next(now, endpoint, number);
            }
            _ => self.end_attempt(endpoint, number),
        }
    }
}

impl Conn {
    /// When its attempt began.
    fn began(&self) -> Tick {
        let attempt = self.attempt.as_ref();
        attempt.map_or(Tick::ZERO, |attempt| attempt.began)
    }
}

/// The error of an attempt, as its connection knows it.
pub(super) fn set_error(conn: &mut Conn, error: Error) {
    if let Some(attempt) = &mut conn.attempt {
        attempt.error = Some(error);
    }
}
