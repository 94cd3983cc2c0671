//! Accounting that is kept in many places drifts apart unseen. [`PoolPolicy::check`] recounts
//! everything from the connections themselves.

use super::PoolPolicy;
use super::bucket::{Bucket, Expects, Permit};
use super::conn::{Conn, Look, Place, Stage};
use super::counts::Counts;
use super::event::{CloseReason, ConnKey, EndpointKey};
use super::settings::ATTEMPT_FLOOR;
use super::timers::Timer;
use crate::slot::Key;
use crate::time::Tick;

/// What an outsider may see of a connection.
#[cfg(feature = "sim")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) uses: u32,
    pub(crate) capacity: u32,
    pub(crate) stage: &'static str,
    pub(crate) idle: bool,
    /// It is looked at, before its protocol is asked for its health, if it is.
    pub(crate) looked_at: bool,
}

#[cfg(feature = "sim")]
impl Seen {
    /// The same after its last use has ended.
    pub(super) fn put_down(self) -> Self {
        Self {
            uses: 0,
            stage: "Idle",
            idle: true,
            ..self
        }
    }
}

#[cfg(feature = "sim")]
impl PoolPolicy {
    /// The connection as the policy has it.
    pub(crate) fn seen(&self, conn: ConnKey) -> Option<Seen> {
        let conn = self.conns.get(conn.0)?;
        Some(Seen {
            uses: conn.uses,
            capacity: conn.capacity,
            stage: match conn.stage {
                Stage::Dialing => "Dialing",
                Stage::Initialising => "Initialising",
                Stage::Ready if conn.uses == 0 => "Idle",
                Stage::Ready if conn.condemned.is_some() => "Condemned",
                Stage::Ready => "InUse",
                Stage::Checking => "Checking",
                Stage::Closing(_) => "Closing",
                Stage::Leaving => "Leaving",
                Stage::Expected => "Expected",
                Stage::Declined => "Declined",
                Stage::Claimed => "Claimed",
            },
            idle: conn.stage == Stage::Ready && conn.uses == 0,
            looked_at: conn.stage == Stage::Checking && conn.look != Look::None,
        })
    }

    /// How far the endpoint is with its next connection.
    pub(crate) fn seen_endpoint(&self, endpoint: EndpointKey) -> &'static str {
        let Some(bucket) = self.endpoints.get(endpoint.0) else {
            return "Gone";
        };
        match (bucket.permit, bucket.resolving) {
            (Permit::Asked, _) => "Asked",
            (Permit::Queued, _) => "Queued",
            (Permit::None, true) => "Resolving",
            (Permit::None, false) => "Resting",
        }
    }

    /// Whether the endpoint's next connection waits for a descriptor slot.
    pub(crate) fn is_parked(&self, endpoint: EndpointKey) -> bool {
        let bucket = self.endpoints.get(endpoint.0);
        bucket.is_some_and(|bucket| bucket.parked.is_some())
    }

    /// How many connections there are.
    pub(crate) fn conn_count(&self) -> usize {
        let conns = self.conns.iter().filter(|(_, conn)| conn.exists());
        conns.count()
    }

    /// How many permits it believes to hold for the endpoint.
    pub(crate) fn permits_held(&self, endpoint: EndpointKey) -> u32 {
        let bucket = self.endpoints.get(endpoint.0);
        bucket.map_or(0, |bucket| bucket.permits)
    }
}

impl PoolPolicy {
    /// Asserts that every figure and every list agrees with the tables.
    pub(crate) fn check(&self) {
        let mut waiting = 0;
        let mut timers = 0;
        for (key, bucket) in self.endpoints.iter() {
            let endpoint = EndpointKey(key);
            let conns = || {
                let all = self.conns.iter();
                all.filter(move |(_, conn)| conn.endpoint == endpoint)
            };
            let counts = &bucket.counts;
            self.check_gauges(counts, conns().map(|(_, conn)| conn));
            let ready = conns().filter(|(_, conn)| conn.was_ready).count() as u64;
            assert_eq!(
                counts.created + counts.received,
                counts.closed + counts.handed_over + ready,
                "created and closed"
            );
            assert_eq!(counts.waiters as usize, bucket.waiting.len());
            let parked = u32::from(bucket.parked.is_some());
            let given = Stage::Closing(CloseReason::HandedOver);
            let given = conns().filter(|(_, conn)| conn.stage == given).count() as u32;
            assert_eq!(bucket.permits + given, counts.slots() + parked, "permits");
            self.check_expected(endpoint, bucket);
            timers += self.check_races(endpoint, bucket);
            self.check_flights(endpoint, bucket);
            self.check_queues(endpoint, bucket);
            timers += self.check_moments(endpoint, bucket);
            waiting += bucket.waiting.len();
        }
        assert_eq!(waiting, self.waiters.len());
        self.check_ages();
        let stages = || self.conns.iter().map(|(_, conn)| conn.stage);
        let closing = stages().filter(|it| matches!(it, Stage::Closing(_) | Stage::Declined));
        assert_eq!(self.closing, closing.count());
        let expected = stages().filter(|it| *it == Stage::Expected);
        assert_eq!(self.expected, expected.count());
        assert!(self.timers.len() <= timers + waiting, "timers");
        self.check_lives();
        for (_, conn) in self.conns.iter() {
            assert!(!conn.timed || matches!(conn.stage, Stage::Ready | Stage::Checking));
        }
    }

    /// The endpoint's lists are what their members say.
    fn check_queues(&self, endpoint: EndpointKey, bucket: &Bucket) {
        let counts = &bucket.counts;
        assert!(bucket.waiting.len() <= self.settings.max_waiters);
        let queued = self.slot_queue.iter().filter(|q| **q == endpoint).count();
        assert_eq!(
            queued,
            usize::from(bucket.parked.is_some()),
            "the slot queue"
        );
        self.check_list(&bucket.idle.keys(&self.conns, |c| &c.links), Place::Idle);
        self.check_list(
            &bucket.partial.keys(&self.conns, |c| &c.links),
            Place::Partial,
        );
        let numbers = bucket.waiting.keys(&self.waiters, |w| &w.links);
        let numbers: Vec<_> = numbers
            .into_iter()
            .filter_map(|key| self.waiters.get(key).map(|waiter| waiter.number))
            .collect();
        assert!(numbers.is_sorted(), "waiters are in the order of arrival");
        if counts.waiters > counts.checking {
            assert!(bucket.idle.is_empty(), "idle while a get waits");
            assert!(bucket.partial.is_empty(), "capacity while a get waits");
        }
    }

    /// Returns how many of the endpoint's own moments are in the timers.
    fn check_moments(&self, endpoint: EndpointKey, bucket: &Bucket) -> usize {
        let look_at = bucket.moves.look_at();
        if look_at > Tick::ZERO && !self.draining {
            assert!(bucket.timer <= look_at, "nobody looks at the backups");
        }
        let moments = [
            (bucket.timer, Timer::Retry(endpoint)),
            (bucket.give_at, Timer::Give(endpoint)),
        ];
        let armed = || moments.iter().filter(|(at, _)| *at != Tick::NEVER);
        for (at, timer) in armed() {
            assert!(self.timers.contains(*at, *timer));
        }
        armed().count()
    }

    /// What counts as busy is what the connections to each address are.
    fn check_flights(&self, endpoint: EndpointKey, bucket: &Bucket) {
        let all = self.conns.iter().map(|(_, conn)| conn);
        let own: Vec<&Conn> = all
            .filter(|conn| conn.endpoint == endpoint && conn.exists())
            .collect();
        let mut conns = 0;
        for flight in bucket.flights.iter() {
            let there = || own.iter().filter(|conn| conn.address == flight.address);
            assert_eq!(flight.conns as usize, there().count(), "connections there");
            let uses: u32 = there().map(|conn| conn.uses).sum();
            assert_eq!(flight.uses, uses, "uses there");
            conns += flight.conns as usize;
        }
        assert_eq!(conns, own.len(), "connections that count nowhere");
    }

    /// Returns how many of the endpoint's races have a deadline.
    fn check_races(&self, endpoint: EndpointKey, bucket: &Bucket) -> usize {
        assert!(bucket.attempts() <= self.settings.max_connecting);
        let mut timers = 0;
        for race in &bucket.races {
            let is_parked = bucket.parked == Some(race.number);
            assert_eq!(race.attempts.is_empty(), is_parked, "an empty race");
            let conns = race.attempts.iter().map(|key| self.conns.get(key.0));
            let conns: Vec<&Conn> = conns.map(|conn| conn.expect("it exists")).collect();
            for conn in &conns {
                let of = conn.attempt.as_ref().map(|attempt| attempt.race);
                assert_eq!(of, Some(race.number));
            }
            let open = conns
                .iter()
                .filter(|conn| !matches!(conn.stage, Stage::Closing(_)));
            let began = open.filter_map(|conn| Some(conn.attempt.as_ref()?.began));
            let began: Vec<Tick> = began.collect();
            let apart = |pair: &[Tick]| pair[1] >= pair[0].plus(ATTEMPT_FLOOR);
            assert!(began.windows(2).all(apart), "attempts at once: {began:?}");
            if race.next_at != Tick::NEVER {
                let timer = Timer::Race(endpoint, race.number);
                assert!(self.timers.contains(race.next_at, timer));
                timers += 1;
            }
        }
        let known = |conn: &&Conn| {
            let of = conn.attempt.as_ref().map(|attempt| attempt.race);
            bucket.races.iter().any(|race| Some(race.number) == of)
        };
        for (_, conn) in self.conns.iter().filter(|(_, c)| c.endpoint == endpoint) {
            let is_opening = matches!(conn.stage, Stage::Dialing | Stage::Initialising);
            assert!(!is_opening || known(&conn), "an attempt without a race");
        }
        timers
    }

    /// A slot for a connection of another core is the only one, and kept for a queued request.
    fn check_expected(&self, endpoint: EndpointKey, bucket: &Bucket) {
        let slots = self.conns.iter();
        let slots = slots.filter(|(_, conn)| conn.endpoint == endpoint && !conn.exists());
        let slots: Vec<_> = slots.collect();
        match bucket.expects {
            Expects::Slot(key) => {
                assert_eq!(slots.len(), 1, "slots for another core's connection");
                assert_eq!(ConnKey(slots[0].0), key);
                let is_open = slots[0].1.stage == Stage::Expected;
                assert!(!is_open || bucket.permit == Permit::Queued, "expects");
            }
            Expects::None | Expects::Refused => assert!(slots.is_empty(), "nobody's slot"),
        }
    }

    fn check_gauges<'a>(&self, counts: &Counts, conns: impl Iterator<Item = &'a Conn>) {
        let mut found = Counts::default();
        for conn in conns {
            if let Some(gauge) = conn.gauge(&mut found) {
                *gauge += 1;
            }
            assert!(conn.uses <= conn.capacity);
            let is_checking = conn.stage == Stage::Checking;
            assert!(!is_checking || conn.uses == 0, "checking and in use");
            // One that closed before it was seen takes its purpose along.
            let is_over = matches!(conn.stage, Stage::Closing(_));
            let is_looked_at = conn.look != Look::None;
            assert!(!is_looked_at || is_checking || is_over, "looked at in use");
            let is_partial = conn.stage == Stage::Ready
                && conn.uses > 0
                && conn.uses < conn.capacity
                && conn.condemned.is_none();
            assert_eq!(conn.place == Place::Partial, is_partial);
            let is_idle = conn.stage == Stage::Ready && conn.uses == 0;
            assert_eq!(conn.place == Place::Idle, is_idle);
            assert!(!is_idle || conn.condemned.is_none(), "idle and condemned");
            assert!(!is_idle || !self.draining, "idle while it drains");
        }
        let gauges = |c: &Counts| [c.idle, c.checking, c.in_use, c.connecting, c.closing];
        assert_eq!(gauges(counts), gauges(&found));
    }

    fn check_list(&self, keys: &[Key], place: Place) {
        for key in keys {
            assert_eq!(self.conns.get(*key).map(|conn| conn.place), Some(place));
        }
    }
}
