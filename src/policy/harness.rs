//! The shell's part, played by hand: [`Harness`] holds what the policy asked for until the test
//! answers it, keeps the permits, and checks the policy after every step.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::event::{
    Action, Busy, CloseReason, ConnKey, EndpointKey, Event, Received, Return, WaiterKey,
};
use super::{Counts, Got, PoolPolicy, Settings, WithHand};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::target::Target;
use crate::time::Tick;

/// A policy and the shell around it.
#[derive(Debug)]
pub(crate) struct Harness {
    pub(crate) policy: WithHand,
    pub(crate) now: Tick,
    /// Asked for and not answered yet.
    pub(crate) asked: VecDeque<Action>,
    /// Every action, in order, since it was last taken.
    pub(crate) log: Vec<Action>,
    /// Permits that exist, over all endpoints.
    pub(crate) limit: usize,
    pub(crate) held: usize,
    pub(crate) queued: VecDeque<EndpointKey>,
    /// Those that gave a permit back just now.
    returned: Vec<EndpointKey>,
    /// Whose request was granted, in their order.
    pub(crate) grants: Vec<EndpointKey>,
    /// Slots that other cores may put connections into.
    pub(crate) open_slots: Vec<(EndpointKey, ConnKey)>,
    /// Permits that other cores hold.
    pub(crate) elsewhere: usize,
    /// Addresses that every name has: 127.0.0.1 and those after it, unless `targets` says more.
    pub(crate) addresses: u8,
    pub(crate) targets: Option<Vec<Target>>,
    /// What other cores hold of each.
    pub(crate) others: Vec<u32>,
    /// How long answers are good, and whether they count for removal.
    pub(crate) ttl: Duration,
    pub(crate) is_fresh: bool,
    /// What `Initialised` says.
    pub(crate) capacity: u32,
    /// Answers and deadlines so far.
    steps: u32,
}

/// Settings with small numbers, for tests.
pub(crate) fn settings() -> Settings {
    Settings {
        max_connections: 8,
        hand_over: false,
        shrink_interval: Duration::ZERO,
        ..Settings::from(&Config::default())
    }
}

pub(crate) fn refused() -> Error {
    Error::from_errno(ErrorKind::Connect, 111)
}

pub(crate) const MS: Duration = Duration::from_millis(1);

impl Harness {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            policy: WithHand::new(PoolPolicy::new(settings, 1)),
            now: Tick::from_nanos(1_000_000_000),
            asked: VecDeque::new(),
            log: Vec::new(),
            limit: 64,
            held: 0,
            queued: VecDeque::new(),
            returned: Vec::new(),
            grants: Vec::new(),
            open_slots: Vec::new(),
            elsewhere: 0,
            addresses: 1,
            targets: None,
            others: Vec::new(),
            ttl: Duration::from_secs(30),
            is_fresh: true,
            capacity: 1,
            steps: 0,
        }
    }

    pub(crate) fn endpoint(&mut self, label: &str) -> EndpointKey {
        self.policy.add_endpoint(self.now, label.into()).unwrap()
    }

    /// Takes the actions over and does those that need no answer.
    pub(crate) fn pump(&mut self) {
        self.policy.check();
        while let Some(action) = self.policy.poll_action() {
            self.log.push(action.clone());
            match &action {
                Action::ReturnPermit { endpoint } => {
                    self.held = self.held.checked_sub(1).unwrap();
                    self.returned.push(*endpoint);
                }
                Action::WithdrawPermit { endpoint } => self.queued.retain(|q| q != endpoint),
                Action::Grant { .. }
                | Action::Fail { .. }
                | Action::Notify { .. }
                | Action::Report { .. }
                | Action::MakeWay => {}
                Action::Survey { endpoint } => {
                    let (endpoint, held) = (*endpoint, self.held_by_address(*endpoint));
                    let surveyed = Event::Surveyed { endpoint, held };
                    self.policy.handle_event(self.now, surveyed);
                }
                Action::Expect { conn, endpoint } => {
                    assert!(self.queued.contains(endpoint), "expects without a request");
                    self.open_slots.push((*endpoint, *conn));
                }
                Action::Unexpect { conn, .. } => {
                    self.open_slots.retain(|(_, slot)| slot != conn);
                    self.asked.push_back(action);
                }
                _ => self.asked.push_back(action),
            }
        }
        assert!(self.held + self.elsewhere <= self.limit);
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.policy.handle_event(self.now, event);
        self.pump();
    }

    pub(crate) fn get(&mut self, endpoint: EndpointKey) -> Result<Got> {
        let got = match self.policy.at_hand(self.now, endpoint) {
            Some(conn) => {
                self.policy.take_again();
                Ok(Got::Ready { conn, reused: true })
            }
            None => self.policy.get(self.now, endpoint),
        };
        self.pump();
        got
    }

    /// Whether a get of the endpoint would find its connection in the hand.
    #[cfg(test)]
    pub(crate) fn is_at_hand(&self, endpoint: EndpointKey) -> bool {
        self.policy.at_hand(self.now, endpoint).is_some()
    }

    /// A get that has to wait.
    pub(crate) fn wait(&mut self, endpoint: EndpointKey) -> WaiterKey {
        match self.get(endpoint).unwrap() {
            Got::Waiting(waiter) => waiter,
            Got::Ready { .. } => panic!("it did not wait"),
        }
    }

    /// A get that is served at once.
    pub(crate) fn hit(&mut self, endpoint: EndpointKey) -> ConnKey {
        match self.get(endpoint).unwrap() {
            Got::Ready { conn, .. } => conn,
            Got::Waiting(_) => panic!("it had to wait"),
        }
    }

    /// A get that is served after all that it asked for was done.
    pub(crate) fn open(&mut self, endpoint: EndpointKey) -> ConnKey {
        let waiter = self.wait(endpoint);
        self.answer_all();
        self.granted(waiter).unwrap()
    }

    pub(crate) fn put(&mut self, conn: ConnKey) {
        self.put_as(conn, Return::Clean);
    }

    pub(crate) fn put_as(&mut self, conn: ConnKey, how: Return) {
        match how {
            Return::Clean if self.policy.is_out(self.now, conn) => self.policy.put_again(),
            _ => self.policy.put(self.now, conn, how),
        }
        self.pump();
    }

    pub(crate) fn cancel(&mut self, waiter: WaiterKey) {
        self.policy.cancel(self.now, waiter);
        self.pump();
    }

    /// Time passes; every deadline on the way is handled at its moment.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while let Some(next) = self.policy.poll_timeout().filter(|next| *next <= end) {
            self.step();
            self.now = self.now.max(next);
            self.policy.handle_timeout(self.now);
            self.pump();
        }
        self.now = end;
    }

    /// A policy that asks without end fails its test; it does not hang it.
    fn step(&mut self) {
        self.steps += 1;
        assert!(self.steps < 10_000, "it asks without end");
    }

    /// The good answer to the action.
    pub(crate) fn answer(&mut self, action: &Action) {
        self.step();
        let event = match *action {
            Action::Resolve { endpoint } => self.resolved(endpoint),
            Action::AcquirePermit { endpoint } if self.is_permit_free() => self.grant(endpoint),
            Action::AcquirePermit { endpoint } => {
                self.queued.push_back(endpoint);
                Event::PermitQueued { endpoint }
            }
            Action::Probe {
                endpoint, address, ..
            } => Event::Probe {
                endpoint,
                address,
                held: self.held_by_address(endpoint),
            },
            Action::Dial { conn, .. } => Event::Connected { conn },
            Action::Initialise { conn, .. } => Event::Initialised {
                conn,
                capacity: self.capacity,
                watched: true,
            },
            Action::CheckHealth { conn, .. } | Action::Look { conn, .. } => Event::HealthChecked {
                conn,
                healthy: true,
            },
            Action::Close { conn, .. } | Action::Unexpect { conn, .. } => Event::Closed { conn },
            Action::Give { conn, .. } => {
                (self.held, self.elsewhere) = (self.held - 1, self.elsewhere + 1);
                Event::Given { conn }
            }
            _ => return,
        };
        self.event(event);
        self.grant_queued();
    }

    /// The answer to a question for addresses.
    pub(crate) fn resolved(&self, endpoint: EndpointKey) -> Event {
        Event::Resolved {
            endpoint,
            targets: self.list(),
            expires: self.now.plus(self.ttl),
            is_fresh: self.is_fresh,
        }
    }

    /// The bad answer to the action, where there is one.
    pub(crate) fn refuse(&mut self, action: &Action) {
        self.step();
        let event = match *action {
            Action::Resolve { endpoint } => Event::ResolveFailed {
                endpoint,
                error: Error::new(ErrorKind::Resolve, "no such name"),
            },
            Action::Dial { conn, .. } => Event::ConnectFailed {
                conn,
                error: refused(),
            },
            Action::Initialise { conn, .. } => Event::InitFailed {
                conn,
                error: Error::new(ErrorKind::Protocol, "bad greeting"),
            },
            Action::CheckHealth { conn, .. } | Action::Look { conn, .. } => Event::HealthChecked {
                conn,
                healthy: false,
            },
            Action::Give { conn, .. } => Event::GiveFailed {
                conn,
                since: None,
                untouched: false,
            },
            _ => return self.answer(action),
        };
        self.event(event);
        self.grant_queued();
    }

    /// Free permits go to the endpoints that queue for one.
    pub(crate) fn grant_queued(&mut self) {
        while self.is_permit_free()
            && let Some(endpoint) = self.queued.pop_front()
        {
            let event = self.grant(endpoint);
            self.event(event);
        }
        for endpoint in std::mem::take(&mut self.returned) {
            if self.queued.contains(&endpoint) {
                self.event(Event::StillQueued { endpoint });
            }
        }
    }

    fn grant(&mut self, endpoint: EndpointKey) -> Event {
        self.held += 1;
        self.grants.push(endpoint);
        self.tell_busy(endpoint);
        let held = self.held_by_address(endpoint);
        Event::PermitGranted { endpoint, held }
    }

    fn is_permit_free(&self) -> bool {
        self.held + self.elsewhere < self.limit
    }

    /// Another core's connection comes into the slot, with its permit, if it is taken.
    pub(crate) fn receive(&mut self, slot: (EndpointKey, ConnKey), what: Received) -> bool {
        if !self.policy.takes(slot.1, &what) {
            self.open_slots.retain(|open| *open != slot);
            self.asked.push_back(Action::Unexpect {
                conn: slot.1,
                endpoint: slot.0,
            });
            return false;
        }
        self.open_slots.retain(|open| *open != slot);
        self.queued.retain(|queued| *queued != slot.0);
        (self.held, self.elsewhere) = (self.held + 1, self.elsewhere - 1);
        let conn = slot.1;
        self.event(Event::Received { conn, what });
        true
    }

    /// Everything that is asked for succeeds.
    pub(crate) fn answer_all(&mut self) {
        self.grant_queued();
        while let Some(action) = self.asked.pop_front() {
            self.answer(&action);
        }
    }

    /// Answers well until something is to be dialed; every dial is refused.
    pub(crate) fn refuse_dials(&mut self) {
        while let Some(action) = self.asked.pop_front() {
            match action {
                Action::Dial { .. } => self.refuse(&action),
                _ => self.answer(&action),
            }
        }
    }

    /// The next action that was asked for, and everything before it answered well.
    pub(crate) fn answer_until(&mut self, stop: impl Fn(&Action) -> bool) -> Option<Action> {
        while let Some(action) = self.asked.pop_front() {
            if stop(&action) {
                return Some(action);
            }
            self.answer(&action);
        }
        None
    }

    /// What all cores hold at each target.
    fn held_by_address(&self, endpoint: EndpointKey) -> Box<[u32]> {
        let own = |target: &Target| self.policy.held_of(endpoint, target.address);
        let others = self.others.iter().copied().chain(std::iter::repeat(0));
        let list = self.list();
        let all = list.iter().map(own).zip(others);
        all.map(|(own, others)| own + others).collect()
    }

    /// How busy this core keeps each target, if the endpoint's balance wants to know.
    fn tell_busy(&mut self, endpoint: EndpointKey) {
        let Some(all) = self.policy.busy(self.now, endpoint) else {
            return;
        };
        let all: Vec<_> = all.collect();
        let busy = |target: &Target| {
            let known = all.iter().find(|known| known.0 == target.address);
            known.map_or(Busy::default(), |known| known.1)
        };
        let busy = self.list().iter().map(busy).collect();
        self.event(Event::Busy { endpoint, busy });
    }

    pub(crate) fn list(&self) -> Rc<[Target]> {
        if let Some(targets) = &self.targets {
            return targets.clone().into();
        }
        let address = |last| std::net::SocketAddr::from(([127, 0, 0, last], 80));
        (1..=self.addresses)
            .map(|last| Target::new(address(last)))
            .collect()
    }

    /// What waiters were granted since the log was last taken.
    pub(crate) fn granted_conns(&mut self) -> Vec<ConnKey> {
        let granted = |action: Action| match action {
            Action::Grant { conn, .. } => Some(conn),
            _ => None,
        };
        let log = std::mem::take(&mut self.log);
        log.into_iter().filter_map(granted).collect()
    }

    pub(crate) fn counts(&self, endpoint: EndpointKey) -> Counts {
        self.policy.figures(endpoint).unwrap()
    }

    /// What the waiter was granted.
    pub(crate) fn granted(&self, of: WaiterKey) -> Option<ConnKey> {
        self.log.iter().find_map(|action| match action {
            Action::Grant { waiter, conn, .. } if *waiter == of => Some(*conn),
            _ => None,
        })
    }

    /// The error that the waiter got.
    pub(crate) fn failure(&self, of: WaiterKey) -> Option<Error> {
        self.log.iter().find_map(|action| match action {
            Action::Fail { waiter, error } if *waiter == of => Some(error.clone()),
            _ => None,
        })
    }

    /// Why the connection was to be closed.
    pub(crate) fn close_reason(&self, of: ConnKey) -> Option<CloseReason> {
        self.log.iter().find_map(|action| match action {
            Action::Close { conn, reason } if *conn == of => Some(*reason),
            _ => None,
        })
    }

    /// How many actions in the log fit.
    pub(crate) fn logged(&self, fits: impl Fn(&Action) -> bool) -> usize {
        self.log.iter().filter(|action| fits(action)).count()
    }
}
