//! The policy's decisions, as `benches/parts.rs` drives them: a shell that answers at once and does
//! nothing.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::event::{Action, ConnKey, EndpointKey, Event, Return};
use super::{Got, PoolPolicy, Settings};
use crate::config::Config;
use crate::hooks::CloseReason;
use crate::target::Target;
use crate::time::Tick;

const TTL: Duration = Duration::from_secs(1_000_000);

/// A core's policy with one endpoint.
#[derive(Debug)]
pub struct OneEndpoint {
    policy: PoolPolicy,
    endpoint: EndpointKey,
    targets: Rc<[Target]>,
    /// Connections to each of them.
    held: Vec<u32>,
    now: Tick,
    told: u64,
}

impl OneEndpoint {
    /// Its name has so many addresses, and so many connections are idle, 64 at most.
    ///
    /// # Panics
    ///
    /// If the policy does not open them.
    #[must_use]
    pub fn new(addresses: u8, idle: usize) -> Self {
        let now = Tick::from_nanos(1_000_000_000);
        let mut policy = PoolPolicy::new(Settings::from(&Config::default()), 1);
        let endpoint = policy.add_endpoint(now, "db.test:5432".into());
        let all = (1..=addresses).map(|last| SocketAddr::from(([192, 0, 2, last], 5432)));
        let mut one = Self {
            policy,
            endpoint: endpoint.expect("an empty table has room"),
            targets: all.map(Target::new).collect(),
            held: vec![0; usize::from(addresses)],
            now,
            told: 0,
        };
        let held: Vec<_> = (0..idle).map(|_| one.open()).collect();
        for conn in held {
            one.put(conn, Return::Clean);
        }
        one
    }

    /// A get that finds an idle connection, and its clean return. False if none was idle.
    pub fn hit(&mut self) -> bool {
        match self.policy.get_since(self.now, self.endpoint, self.now) {
            Ok(Got::Ready { conn, .. }) => {
                self.put(conn, Return::Clean);
                true
            }
            _ => false,
        }
    }

    /// A connection's whole life where none is idle: a get that waits, permit, dial, `init`, the hand-out,
    /// the end of its use without a release, the close. How many facts that was.
    ///
    /// # Panics
    ///
    /// If the policy does not open one, or one is idle.
    pub fn life(&mut self) -> u64 {
        let before = self.told;
        let conn = self.open();
        self.put(conn, Return::Discard(CloseReason::NotReleased));
        self.told - before
    }

    /// Another core waits for a permit, and waits no more: two facts.
    pub fn demand(&mut self) {
        for since in [Some(self.now), None] {
            let endpoint = self.endpoint;
            self.tell(Event::Demand { endpoint, since });
        }
        self.answer();
    }

    /// The same addresses are resolved again: one fact.
    pub fn resolved(&mut self) {
        let event = self.addresses();
        self.tell(event);
        self.answer();
    }

    fn open(&mut self) -> ConnKey {
        let got = self.policy.get_since(self.now, self.endpoint, self.now);
        assert!(matches!(got, Ok(Got::Waiting(_))), "{got:?}");
        self.answer().expect("the policy opens a connection")
    }

    fn put(&mut self, conn: ConnKey, how: Return) {
        self.policy.put(self.now, conn, how);
        self.answer();
    }

    fn tell(&mut self, event: Event) {
        self.told += 1;
        self.policy.handle_event(self.now, event);
    }

    fn addresses(&self) -> Event {
        Event::Resolved {
            endpoint: self.endpoint,
            targets: self.targets.clone(),
            expires: self.now.plus(TTL),
            is_fresh: true,
        }
    }

    fn count(&mut self, address: Option<SocketAddr>, change: i32) {
        let mut targets = self.targets.iter();
        let place = targets.position(|target| Some(target.address) == address);
        if let Some(held) = place.and_then(|place| self.held.get_mut(place)) {
            *held = held.saturating_add_signed(change);
        }
    }

    /// Everything that is asked for succeeds; who was handed out last.
    fn answer(&mut self) -> Option<ConnKey> {
        let mut granted = None;
        while let Some(action) = self.policy.poll_action() {
            self.now = self.now.plus(Duration::from_nanos(1));
            let event = match action {
                Action::Resolve { .. } => self.addresses(),
                Action::AcquirePermit { endpoint } => Event::PermitGranted {
                    endpoint,
                    held: self.held.as_slice().into(),
                },
                Action::Survey { endpoint } => Event::Surveyed {
                    endpoint,
                    held: self.held.as_slice().into(),
                },
                Action::Dial { conn, address, .. } => {
                    self.count(Some(address), 1);
                    Event::Connected { conn }
                }
                Action::Initialise { conn, .. } => Event::Initialised {
                    conn,
                    capacity: 1,
                    watched: true,
                },
                Action::Close { conn, .. } => {
                    self.count(self.policy.address(conn), -1);
                    Event::Closed { conn }
                }
                Action::Grant { conn, .. } => {
                    granted = Some(conn);
                    continue;
                }
                _ => continue,
            };
            self.tell(event);
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_timed_is_done() {
        let mut one = OneEndpoint::new(4, 0);
        assert!(!one.hit());
        let mut one = OneEndpoint::new(4, 0);
        assert!(one.life() >= 5);
        // The addresses are known from now on.
        assert_eq!(one.life(), 4);
        assert_eq!(
            one.policy.counts(one.endpoint).map(|it| it.created),
            Some(2)
        );
        let mut one = OneEndpoint::new(4, 16);
        (0..100).for_each(|_| assert!(one.hit()));
        one.demand();
        one.resolved();
        assert_eq!(one.policy.ignored_events(), 0);
    }
}
