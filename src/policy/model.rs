//! A history of gets, answers and time, played against a naive oracle: plain lists, updated from
//! what the policy was told and what it did, that say who must come first and what must never be.
//!
//! Where the histories come from is not said here: `histories` draws them, `bytes` reads them.

use std::time::Duration;

use super::event::{Action, CloseReason, ConnKey, EndpointKey, Event, Received, Return};
use super::harness::{Harness, MS, settings};
use super::op::{Bounds, Op};
use super::oracle::{Oracle, State};
use super::settings::REFRESH_FLOOR;
use super::{Got, Settings};
use crate::balance::Balance;
use crate::error::ErrorKind;
use crate::target::Target;
use crate::time::Tick;

/// Attempts under way to one address.
const CONNECTING: usize = 2;

/// Plays one history after another against the oracle.
pub(super) struct Run {
    harness: Harness,
    oracle: Oracle,
    settings: Settings,
    endpoints: Vec<EndpointKey>,
    seen: usize,
    drained: bool,
}

impl Run {
    pub(super) fn new(bounds: Bounds) -> Self {
        let settings = Settings {
            max_connections: bounds.max_connections,
            max_waiters: 6,
            max_connecting: 3,
            max_connecting_per_address: CONNECTING,
            min_idle: bounds.min_idle,
            max_connection_uses: bounds.uses,
            max_connection_lifetime: Duration::from_secs(20),
            max_idle_time: Duration::from_secs(6),
            shrink_interval: Duration::from_secs(2),
            connect_retry_count: 1,
            health_check: bounds.health_check,
            notify: bounds.notify,
            tells_reuse: bounds.notify,
            hand_over: bounds.elsewhere.is_some(),
            ..settings()
        };
        let mut harness = Harness::new(settings.clone());
        harness.elsewhere = bounds.elsewhere.unwrap_or(0);
        harness.limit = bounds.limit + harness.elsewhere;
        harness.addresses = bounds.addresses;
        harness.capacity = bounds.capacity;
        harness.ttl = Duration::from_secs(bounds.ttl);
        let endpoints = ["a:1", "b:2", "c:3"].map(|label| harness.endpoint(label));
        let mut oracle = Oracle::default();
        let balances = [
            Balance::LeastConnections,
            Balance::RoundRobin,
            Balance::PowerOfTwo,
        ];
        for (endpoint, balance) in endpoints.into_iter().zip(balances) {
            harness.policy.set_balance(endpoint, balance.clone());
            oracle.balances.insert(endpoint, balance);
        }
        Self {
            harness,
            oracle,
            settings,
            endpoints: endpoints.into(),
            seen: 0,
            drained: false,
        }
    }

    /// Lets the oracle see what was done, and compares.
    fn compare(&mut self) {
        for endpoint in self.harness.grants.drain(..) {
            self.oracle.asks.remove(&endpoint);
        }
        for action in &self.harness.log[self.seen..] {
            self.oracle.acted(self.harness.now, &self.settings, action);
        }
        self.seen = self.harness.log.len();
        let conns = || self.oracle.conns.values();
        let open = conns().count() + self.harness.open_slots.len();
        assert!(open <= self.settings.max_connections);
        let mut slots = 0;
        for endpoint in &self.endpoints {
            let counts = self.harness.counts(*endpoint);
            let of = |state| {
                let all = conns().filter(|c| c.endpoint == *endpoint && c.state == state);
                all.count() as u32
            };
            assert_eq!(counts.connecting, of(State::Opening));
            assert_eq!(counts.live(), of(State::Ready));
            let closing = of(State::Closing) + of(State::Leaving);
            assert_eq!(counts.closing, closing);
            let in_use = conns().filter(|c| c.endpoint == *endpoint && c.uses > 0);
            assert_eq!(counts.in_use as usize, in_use.count());
            let waiting = self.oracle.waiting.iter().filter(|w| w.1 == *endpoint);
            assert_eq!(counts.waiters as usize, waiting.count());
            assert!(counts.connecting as usize <= self.settings.max_connecting);
            let opening = conns().filter(|c| c.endpoint == *endpoint && c.state == State::Opening);
            let to: Vec<_> = opening.map(|c| c.address).collect();
            for address in &to {
                assert!(to.iter().filter(|it| *it == address).count() <= CONNECTING);
            }
            slots += counts.slots() as usize;
        }
        let given = conns().filter(|c| c.given).count();
        assert!(
            self.harness.held + given >= slots,
            "a slot without a permit"
        );
        assert!(self.harness.held + given <= slots + self.endpoints.len());
    }

    fn event(&mut self, event: Event) {
        self.oracle.told(self.harness.now, &event);
        self.harness.event(event);
        self.compare();
    }

    /// Answers one action, and lets freed permits go to those who queue.
    fn answer(&mut self, action: &Action, well: bool) {
        let event = match *action {
            Action::Dial { conn, .. } if !well => Some(Event::ConnectFailed {
                conn,
                error: super::harness::refused(),
            }),
            Action::Dial { conn, .. } => Some(Event::Connected { conn }),
            Action::Initialise { conn, .. } if well => Some(Event::Initialised {
                conn,
                capacity: self.harness.capacity,
                watched: true,
            }),
            Action::CheckHealth { conn, .. } | Action::Look { conn, .. } => {
                Some(Event::HealthChecked {
                    conn,
                    healthy: well,
                })
            }
            Action::Close { conn, .. } => Some(Event::Closed { conn }),
            Action::Give { conn, .. } => return self.gave(conn, well),
            Action::Probe { endpoint, .. } if !well => {
                return self.eject(endpoint, 0xFF, MS * 1500);
            }
            Action::Resolve { endpoint } if well => {
                self.resolved(endpoint);
                return;
            }
            _ => None,
        };
        match event {
            Some(event) => {
                self.oracle.told(self.harness.now, &event);
                self.harness.event(event);
            }
            None if well => self.harness.answer(action),
            None => self.harness.refuse(action),
        }
        self.compare();
        self.harness.grant_queued();
        self.compare();
    }

    /// A connection is another core's, or comes back; then another core may need a permit.
    fn gave(&mut self, conn: ConnKey, well: bool) {
        let since = self
            .harness
            .now
            .as_nanos()
            .is_multiple_of(2)
            .then_some(self.harness.now);
        let event = match well {
            true => Event::Given { conn },
            false => Event::GiveFailed {
                conn,
                since,
                untouched: self.harness.now.as_nanos().is_multiple_of(3),
            },
        };
        if well {
            self.harness.held -= 1;
            self.harness.elsewhere += 1;
        }
        self.event(event);
        self.harness.grant_queued();
        self.compare();
    }

    fn receive(&mut self, index: usize, address: usize) {
        let slots = &self.harness.open_slots;
        let targets = self.harness.list();
        if slots.is_empty() || targets.is_empty() || self.harness.elsewhere == 0 {
            return;
        }
        let slot = slots[index % slots.len()];
        let now = self.harness.now;
        let what = Received {
            address: targets[address % targets.len()].address,
            capacity: 1,
            total_uses: 0,
            idle_since: Tick::from_nanos(now.as_nanos() - now.as_nanos() % 400_000_000),
            opened: now,
            deadline: now.plus(self.settings.max_connection_lifetime / 2),
        };
        if self.harness.policy.takes(slot.1, &what) {
            self.oracle.received(slot.1, slot.0, &what);
        }
        self.harness.receive(slot, what);
        self.compare();
    }

    /// Answers the question for addresses, unless something stray has.
    fn resolved(&mut self, endpoint: EndpointKey) {
        let event = self.harness.resolved(endpoint);
        if self.harness.policy.is_resolving(endpoint) {
            self.oracle.told(self.harness.now, &event);
        }
        self.harness.event(event);
        self.compare();
        self.harness.grant_queued();
        self.compare();
    }

    /// Two addresses of IPv6, two of IPv4, which are second to them, and one in reserve; the first of
    /// IPv4 is in reserve too. With weights from 0 to 2.
    fn change(&mut self, bits: u8, is_fresh: bool) {
        let target = |at: u8| Target {
            address: match at {
                0 | 1 => ([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(at)], 80).into(),
                _ => ([127, 0, 0, at], 80).into(),
            },
            priority: u16::from(at == 2 || at == 4),
            group: u16::from(at / 2 == 1),
            weight: u16::from(at % 3),
        };
        let named = (0..5).filter(|at| bits & (1 << at) != 0);
        self.harness.targets = Some(named.map(target).collect());
        self.harness.is_fresh = is_fresh;
    }

    /// Other cores found out which addresses fail; never more than half of them are out.
    fn eject(&mut self, endpoint: EndpointKey, bits: u8, later: Duration) {
        let at = self.harness.now.plus(later);
        let count = self.oracle.orders.get(&endpoint).map_or(0, Vec::len);
        let mut left = count / 2;
        let out = (0..count).map(|index| {
            let is_out = bits & (1 << index) != 0 && left > 0;
            left -= usize::from(is_out);
            is_out.then_some(at)
        });
        let out = out.collect();
        self.event(Event::Ejected { endpoint, out });
    }

    fn get(&mut self, endpoint: EndpointKey) {
        match self.harness.get(endpoint) {
            Ok(Got::Ready { conn, .. }) => self.oracle.hit(conn, endpoint),
            Ok(Got::Waiting(waiter)) => {
                let entry = (waiter, endpoint, self.harness.now);
                self.oracle.waiting.push(entry);
            }
            Err(error) if self.drained => assert_eq!(error.kind(), ErrorKind::Draining),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Exhausted),
        }
        self.compare();
    }

    fn put(&mut self, index: usize, clean: bool, watched: bool) {
        let in_use = self.oracle.conns.iter().filter(|(_, c)| c.uses > 0);
        let in_use: Vec<ConnKey> = in_use.map(|(key, _)| *key).collect();
        if in_use.is_empty() {
            return;
        }
        let conn = in_use[index % in_use.len()];
        self.oracle.put(self.harness.now, conn, clean);
        let how = match (clean, watched) {
            (true, true) => Return::Clean,
            (true, false) => Return::Unwatched,
            (false, _) => Return::Discard(CloseReason::Failed),
        };
        self.harness.put_as(conn, how);
        self.compare();
    }

    fn stray(&mut self, index: u32, what: u8) {
        let live = self.oracle.conns.keys().find(|key| key.0.index() == index);
        let stale = ConnKey(crate::slot::Key::new(index, 0xFF_FFFF));
        let endpoint = self.endpoints[index as usize % 3];
        let stray = EndpointKey(crate::slot::Key::new(index, 0xFF_FFFF));
        let closing = |key: &&ConnKey| self.oracle.conns[*key].state == State::Closing;
        let conn = live.filter(closing).copied().unwrap_or(stale);
        let event = match what {
            0 => Event::Connected { conn },
            1 => Event::Initialised {
                conn,
                capacity: 1,
                watched: true,
            },
            2 => Event::HealthChecked {
                conn,
                healthy: true,
            },
            3 => Event::Closed { conn: stale },
            4 => Event::Demand {
                endpoint: stray,
                since: Some(Tick::ZERO),
            },
            5 => Event::PermitQueued { endpoint: stray },
            6 => Event::ResolveFailed {
                endpoint,
                error: super::harness::refused(),
            },
            _ => Event::Broken {
                conn,
                reason: CloseReason::Reset,
            },
        };
        // It may answer what is asked for (6): then the true answer is the stray one.
        self.harness.event(event);
        self.compare();
    }

    pub(super) fn apply(&mut self, op: Op) {
        match op {
            Op::Get(i) => self.get(self.endpoints[i]),
            Op::TryGet(i) => {
                let endpoint = self.endpoints[i];
                let got = self.harness.policy.try_get(self.harness.now, endpoint);
                if let Some(conn) = got {
                    self.oracle.hit(conn, endpoint);
                }
                self.harness.pump();
                self.compare();
            }
            Op::Cancel(i) if !self.oracle.waiting.is_empty() => {
                let at = i % self.oracle.waiting.len();
                let (waiter, ..) = self.oracle.waiting.remove(at);
                self.harness.cancel(waiter);
                self.harness.cancel(waiter);
                self.compare();
            }
            Op::Put(i, clean, watched) => self.put(i, clean, watched),
            Op::Answer(i) | Op::Refuse(i) if !self.harness.asked.is_empty() => {
                let at = i % self.harness.asked.len();
                if let Some(action) = self.harness.asked.remove(at) {
                    self.answer(&action, matches!(op, Op::Answer(_)));
                }
            }
            Op::Pass(ms) => self.pass(MS * ms as u32),
            Op::Demand(i, on) => {
                let since = on.then_some(self.harness.now);
                let endpoint = self.endpoints[i];
                self.event(Event::Demand { endpoint, since });
            }
            Op::Renew(i) => self.renew(self.endpoints[i]),
            Op::Break(i) => self.break_one(i),
            Op::Clear(i) => {
                let endpoint = self.endpoints[i];
                let conns = self.oracle.conns.values_mut();
                for known in conns.filter(|c| c.endpoint == endpoint && c.state == State::Ready) {
                    known.unusable = true;
                }
                self.harness
                    .policy
                    .clear_endpoint(self.harness.now, endpoint);
                self.harness.pump();
                self.compare();
            }
            Op::Change(bits, is_fresh) => self.change(bits, is_fresh),
            Op::Eject(i, bits, ms) => self.eject(self.endpoints[i], bits, MS * ms as u32),
            Op::Stray(i, what) => self.stray(i, what),
            Op::Receive(i, address) => self.receive(i, address),
            Op::Drain => self.drain(),
            Op::Cancel(_) | Op::Answer(_) | Op::Refuse(_) => {}
        }
    }

    /// Whoever has a connection asks again within the floor, or is asking.
    fn renew(&mut self, endpoint: EndpointKey) {
        self.event(Event::NamesChanged { endpoint });
        let mut conns = self.oracle.conns.values();
        let has_one =
            conns.any(|c| c.endpoint == endpoint && c.state == State::Ready && !c.unusable);
        if has_one && !self.drained && !self.harness.policy.is_resolving(endpoint) {
            let by = self.harness.now.plus(REFRESH_FLOOR);
            let due = self.harness.policy.poll_timeout();
            assert!(due.is_some_and(|due| due <= by), "it does not ask");
        }
    }

    /// An open connection breaks, or one that is being closed: its end may be on its way by then.
    fn break_one(&mut self, index: usize) {
        let open = self.oracle.conns.iter();
        let open = open.filter(|(_, known)| known.state != State::Opening);
        let open: Vec<ConnKey> = open.map(|(key, _)| *key).collect();
        if let Some(conn) = open.get(index % open.len().max(1)).copied() {
            let ignored = self.harness.policy.ignored_events();
            let reason = CloseReason::Reset;
            self.event(Event::Broken { conn, reason });
            assert_eq!(self.harness.policy.ignored_events(), ignored);
        }
    }

    /// Time passes in the oracle's sight: each deadline is compared at its moment.
    fn pass(&mut self, time: Duration) {
        let end = self.harness.now.plus(time);
        while let Some(next) = self.harness.policy.poll_timeout().filter(|n| *n <= end) {
            let step = next.since(self.harness.now);
            self.harness.pass(step);
            self.compare();
            self.harness.grant_queued();
            self.compare();
        }
        self.harness.now = end;
    }

    fn drain(&mut self) {
        self.drained = true;
        for known in self.oracle.conns.values_mut() {
            known.unusable = true;
        }
        self.event(Event::Drain);
        assert!(self.oracle.waiting.is_empty());
    }

    /// Nothing stays in the hand, as if there were none.
    #[cfg(test)]
    pub(super) fn empty_hand(&mut self) {
        self.harness.policy.empty_hand();
    }

    /// What was done since this was asked last, and the figures.
    #[cfg(test)]
    pub(super) fn told(&mut self) -> String {
        let log = std::mem::take(&mut self.harness.log);
        self.seen = 0;
        let counts = |it: &EndpointKey| self.harness.counts(*it);
        let counts: Vec<_> = self.endpoints.iter().map(counts).collect();
        format!("{log:?} {counts:?}")
    }

    /// What the policy has of everything that is used, and when it is to be asked again.
    #[cfg(test)]
    pub(super) fn state(&mut self) -> String {
        let policy = &mut self.harness.policy;
        let due = policy.poll_timeout();
        let used = policy.endpoints.iter();
        let used = used.map(|(_, it)| (it.last_get, &it.need, &it.flights));
        let used: Vec<_> = used.collect();
        let (conns, waiters) = (&policy.conns, &policy.waiters);
        format!("{due:?} {conns:?} {waiters:?} {used:?}")
    }

    fn answer_all(&mut self) {
        let mut steps = 0;
        while let Some(action) = self.harness.asked.pop_front() {
            self.answer(&action, true);
            steps += 1;
            assert!(steps < 10_000, "it asks without end");
        }
    }

    /// Everything succeeds and comes back: every waiter ends. Then it drains to nothing.
    pub(super) fn finish(&mut self) {
        self.harness.targets = None;
        // The other core ends.
        self.harness.elsewhere = 0;
        let mut rounds = 0;
        while !self.oracle.waiting.is_empty() {
            self.answer_all();
            while self.oracle.conns.values().any(|c| c.uses > 0) {
                self.put(0, true, true);
                self.answer_all();
            }
            self.pass(self.settings.connect_retry_delay_max * 2);
            rounds += 1;
            assert!(rounds < 100, "a waiter does not end");
        }
        self.drain();
        while self.oracle.conns.values().any(|c| c.uses > 0) {
            self.put(0, true, true);
        }
        self.answer_all();
        assert!(self.harness.policy.is_drained());
        assert!(self.oracle.conns.is_empty());
        assert_eq!(self.harness.held, 0);
        assert!(self.harness.open_slots.is_empty());
    }
}
