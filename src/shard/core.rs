//! One core's pool: the policy decides, the ring moves bytes, the shares tell of the other cores.
//! This file is the loop between them: completions become events, events go to the policy, its
//! actions come out and are done. When it runs is [`turn`](super::turn)'s.
//!
//! Promise: no user code runs in here (it is deferred until nothing is borrowed), and one turn does
//! a bounded amount of work.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::config::Config;
use crate::dns::Avoided;
use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;
use crate::policy::event::{CloseReason, ConnKey, EndpointKey, Event, Return, WaiterKey};
use crate::policy::{Got, PoolPolicy, Settings, WithHand};
use crate::ring::{Ring, Signal, SocketOptions};
use crate::slot::{Key, KeyMap};
use crate::time::Tick;

use super::cells::Cells;
use super::deferred::{Call, Deferred};
use super::endpoints::Endpoints;
use super::handover::Handover;
use super::io::OwnedWrite;
use super::links::Links;
use super::own_port::LocalPorts;
use super::resolve::Lookups;
use super::routes::Routes;
use super::sources::SourceView;
use super::tap::{Tap, What};
use super::waiters::Waiters;
use super::{Checkout, Gotten};

/// Rounds of events and actions in one turn; what is left waits for the next.
const MAX_ROUNDS: usize = 64;
/// How old the turn's time may be for a wait that begins.
const MOMENT: Duration = Duration::from_millis(1);

/// Everything of one core, behind the shard's one borrow.
pub(crate) struct Core {
    pub(crate) host: Host,
    pub(crate) config: Arc<Config>,
    pub(crate) options: SocketOptions,
    pub(crate) policy: WithHand,
    pub(crate) backend: Ring,
    pub(crate) links: Links,
    pub(crate) handover: Handover,
    pub(crate) endpoints: Endpoints,
    pub(crate) cells: Cells,
    pub(crate) waiters: Waiters,
    pub(crate) lookups: Lookups,
    pub(crate) names: SourceView,
    /// Ports that questions do not come from.
    pub(crate) avoided: Avoided,
    pub(crate) routes: Routes,
    pub(crate) local_ports: LocalPorts,
    pub(crate) owned: KeyMap<ConnKey, OwnedWrite>,
    pub(crate) deferred: Deferred,
    pub(crate) tap: Tap,
    /// The moment at which this turn, or the first command after it, began.
    pub(crate) now: Tick,
    /// The driver has run since `now` was read.
    pub(super) stale: bool,
    /// Deadlines of reads, writes and stages, lazily: one entry per connection at most.
    pub(super) timers: BinaryHeap<Reverse<(Tick, Key)>>,
    /// Until when nothing is found late, because the thread had stood still.
    pub(super) grace: Option<Tick>,
    /// Completions were taken in before the turn that comes next.
    pub(super) came: bool,
    /// Until when the deadlines were looked at.
    pub(super) seen_to: Tick,
    /// A turn was taken that is not settled yet.
    pub(super) unsettled: bool,
    /// Until when the driver sleeps unless woken; earlier if something was armed since.
    pub(crate) asleep_until: Tick,
    /// Why the shard can do no more, if so.
    pub(crate) dead: Option<Error>,
    /// Those who waited then were woken.
    pub(super) told_dead: bool,
    pub(crate) draining: bool,
    pub(crate) ended: bool,
    /// Who waits for the last connection to end.
    pub(crate) drained: Vec<Waker>,
    /// Who waits for connections that are opened ahead of their use.
    pub(crate) warming: Vec<Waker>,
    /// Wakes the driver by hand.
    pub(crate) signal: Rc<Signal>,
}

impl Core {
    pub(crate) fn new(
        config: Arc<Config>,
        host: Host,
        backend: Ring,
        links: Links,
        seed: u64,
    ) -> Self {
        let handover = Handover::open(&backend, &links, &config);
        let settings = Settings {
            hand_over: handover.is_possible(),
            core: links.shard().index() as u32,
            ..Settings::from(&*config)
        };
        Self {
            options: SocketOptions::from(&*config),
            policy: WithHand::new(PoolPolicy::new(settings, seed)),
            names: links.names.view(),
            avoided: Avoided::new(&host.reserved_ports(), &config.resolver_options.avoid_ports),
            links,
            handover,
            endpoints: Endpoints::default(),
            cells: Cells::default(),
            waiters: Waiters::default(),
            lookups: Lookups::new(seed, host.slept()),
            routes: Routes::default(),
            local_ports: LocalPorts::new(&host.local_ports()),
            owned: KeyMap::default(),
            deferred: Deferred::default(),
            tap: Tap::default(),
            now: host.now(),
            stale: false,
            timers: BinaryHeap::new(),
            grace: None,
            came: false,
            seen_to: Tick::NEVER,
            unsettled: false,
            asleep_until: Tick::NEVER,
            dead: None,
            told_dead: false,
            draining: false,
            ended: false,
            drained: Vec::new(),
            warming: Vec::new(),
            host,
            signal: backend.signal(),
            backend,
            config,
        }
    }

    // -- facts ---------------------------------------------------------------------------------

    /// Events in, actions out, until both are empty or the turn's bound is reached.
    pub(crate) fn pump(&mut self) {
        for _ in 0..MAX_ROUNDS {
            let mut moved = false;
            while self.backend.has_events()
                && let Some(event) = self.backend.poll_event()
            {
                self.arrive(event);
                moved = true;
            }
            while let Some(action) = self.policy.poll_action() {
                self.tap.record(self.now, || What::Action(action.clone()));
                self.perform(action);
                moved = true;
            }
            if !moved {
                return;
            }
        }
        self.signal.wake();
    }

    /// Tells the policy a fact.
    pub(crate) fn tell(&mut self, event: Event) {
        self.tap.record(self.now, || What::Event(event.clone()));
        let endpoint = match event {
            Event::Resolved { endpoint, .. }
            | Event::ResolveFailed { endpoint, .. }
            | Event::NamesChanged { endpoint }
            | Event::PermitGranted { endpoint, .. }
            | Event::PermitQueued { endpoint }
            | Event::Busy { endpoint, .. }
            | Event::Surveyed { endpoint, .. }
            | Event::StillQueued { endpoint }
            | Event::Ejected { endpoint, .. }
            | Event::Probe { endpoint, .. }
            | Event::Demand { endpoint, .. }
            | Event::DemandRenewed { endpoint, .. } => Some(endpoint),
            Event::Connected { conn }
            | Event::ConnectFailed { conn, .. }
            | Event::Initialised { conn, .. }
            | Event::InitFailed { conn, .. }
            | Event::Broken { conn, .. }
            | Event::HealthChecked { conn, .. }
            | Event::Given { conn }
            | Event::GiveFailed { conn, .. }
            | Event::Received { conn, .. }
            | Event::Closed { conn } => self.policy.endpoint_of(conn),
            Event::TotalDemand { .. } | Event::TotalDemandRenewed { .. } | Event::Drain => None,
        };
        #[cfg(feature = "sim")]
        self.cover(&event, endpoint);
        self.policy.handle_event(self.now, event);
        if let Some(endpoint) = endpoint {
            #[cfg(feature = "sim")]
            self.count_parked(endpoint);
            self.endpoints.touch(endpoint);
        }
    }

    // -- commands ------------------------------------------------------------------------------

    /// Reads the clock if this is the first command since the driver ran, and has it run again
    /// after the tasks that are ready now: a clock per command would cost more than a hit. What
    /// begins to wait reads it again.
    #[inline]
    pub(crate) fn refresh(&mut self) {
        if self.stale {
            self.stale = false;
            self.now = self.host.now();
            self.signal.ask();
        }
    }

    #[inline]
    pub(crate) fn get(&mut self, endpoint: EndpointKey, begun: Option<Tick>) -> Result<Gotten> {
        self.refresh();
        let mut is_all = true;
        if self.backend.has_completions() | self.backend.holds_back() {
            is_all = self.take_in(endpoint);
            // This may have told of the ring's end; nobody would serve a wait that begins now.
            self.alive()?;
        }
        loop {
            // What was taken in may have had the clock read, after a standstill (P13).
            let since = begun.unwrap_or(self.now);
            let got = self.policy.get_since(self.now, endpoint, since)?;
            self.endpoints.touch(endpoint);
            match got {
                Got::Ready { conn, reused } => {
                    self.tap.record(self.now, || What::Get {
                        endpoint,
                        hit: Some(conn),
                        waiter: None,
                    });
                    if let Some(checkout) = self.hold(conn, is_all) {
                        self.do_the_rest();
                        return Ok(Gotten::Ready { checkout, reused });
                    }
                    // So may the close of one that could not be held; and bring more.
                    is_all = self.take_in(endpoint);
                    self.alive()?;
                }
                Got::Waiting(waiter) => {
                    let since = match begun {
                        None => self.wait_from_now(waiter),
                        Some(since) => since,
                    };
                    self.tap.record(self.now, || What::Get {
                        endpoint,
                        hit: None,
                        waiter: Some(waiter),
                    });
                    self.waiters.insert(waiter, endpoint);
                    self.pump();
                    self.wake_if_due_earlier();
                    return Ok(Gotten::Waiting { waiter, since });
                }
            }
        }
    }

    /// Whoever waits can pay for a look at the clock: the process may have stood still since it was
    /// read, for longer than a get may take (P13). Returns the moment from which the wait counts.
    fn wait_from_now(&mut self, waiter: WaiterKey) -> Tick {
        let now = self.host.now();
        if now.since(self.now) > MOMENT {
            self.now = now;
            self.policy.wait_from(now, waiter);
        }
        self.now
    }

    pub(crate) fn try_get(&mut self, endpoint: EndpointKey) -> Option<Checkout> {
        self.refresh();
        let mut is_all = true;
        if self.backend.has_completions() | self.backend.holds_back() {
            is_all = self.take_in(endpoint);
            self.alive().ok()?;
        }
        loop {
            let conn = self.policy.try_get(self.now, endpoint)?;
            self.endpoints.touch(endpoint);
            if let Some(checkout) = self.hold(conn, is_all) {
                self.do_the_rest();
                return Some(checkout);
            }
            is_all = self.take_in(endpoint);
            self.alive().ok()?;
        }
    }

    /// What a hit has the pool do besides, such as to tell a hook, needs no turn of the driver.
    #[inline]
    fn do_the_rest(&mut self) {
        if self.policy.has_work() {
            self.pump();
        }
    }

    /// Makes the caller a holder of `conn`, unless the pool has lost its watch over it while it
    /// was idle (D37: what is not watched is not handed out); then it is looked at, or closed, instead.
    #[inline]
    fn hold(&mut self, conn: ConnKey, is_all: bool) -> Option<Checkout> {
        let watched = self.watched(conn, is_all);
        if let Some(cell) = self.cells.get_mut(conn)
            && (cell.shared || watched == Return::Clean)
        {
            cell.hold();
            return Some(cell.checkout());
        }
        self.end_unheld(conn, watched);
        None
    }

    #[cold]
    fn end_unheld(&mut self, conn: ConnKey, watched: Return) {
        // Unless it has no cell any more.
        let how = match watched {
            Return::Clean => Return::Discard(CloseReason::Unwatched),
            how => how,
        };
        self.policy.not_taken(self.now, conn, how);
        self.pump();
    }

    #[inline]
    pub(crate) fn put(&mut self, conn: ConnKey, how: Return) {
        self.refresh();
        let Some(cell) = self.cells.get_mut(conn) else {
            return;
        };
        cell.let_go(&mut self.deferred);
        let endpoint = cell.endpoint;
        if cell.shared
            && cell.is_idle()
            && !cell.reads_for_itself()
            && (!cell.front.is_empty() || self.backend.unread(conn.0) > 0)
        {
            // What came for its users and none of them read is offered to its protocol now.
            self.deferred.calls.push_back(Call::IdleBytes { conn });
        }
        self.endpoints.touch(endpoint);
        self.renew_demand(endpoint);
        self.tap.record(self.now, || What::Put { conn, how });
        self.policy.put(self.now, conn, how);
        if self.policy.has_work() {
            self.pump();
        }
    }

    /// A waiter went away, perhaps after it was served.
    pub(crate) fn cancel(&mut self, waiter: WaiterKey) {
        if self.backend.forked() {
            return;
        }
        self.refresh();
        self.tap.record(self.now, || What::Cancel { waiter });
        if let Some(endpoint) = self.waiters.endpoint(waiter) {
            self.endpoints.touch(endpoint);
        }
        match self.waiters.remove(waiter, &mut self.deferred.stale) {
            Some(Some(Ok((conn, _)))) => self.put_untaken(conn),
            Some(Some(Err(_))) | None => {}
            Some(None) => {
                self.policy.cancel(self.now, waiter);
                self.pump();
            }
        }
    }

    /// Nobody took the connection that a waiter was given; meanwhile bytes may have come for it, or
    /// its end.
    fn put_untaken(&mut self, conn: ConnKey) {
        let how = match self.cells.get(conn) {
            Some(cell) if !cell.shared => self.judge(conn),
            _ => Return::Clean,
        };
        if self.is_alive() {
            self.put(conn, how);
        }
    }

    /// Whether the shard works and has read the clock since its driver ran.
    #[inline]
    pub(crate) fn is_up_to_date(&self) -> bool {
        !self.stale && self.is_alive()
    }

    /// Whether the shard still works.
    #[inline]
    pub(crate) fn is_alive(&self) -> bool {
        self.dead.is_none() && !self.backend.forked()
    }

    /// Whether the shard still works; if not, why.
    #[inline]
    pub(crate) fn alive(&self) -> Result<()> {
        match self.is_alive() {
            true => Ok(()),
            false => Err(self.why_dead()),
        }
    }

    #[cold]
    fn why_dead(&self) -> Error {
        let dead = self.dead.clone().filter(|_| !self.backend.forked());
        dead.unwrap_or_else(in_child)
    }
}

fn in_child() -> Error {
    let text = "this process is a fork of the one that made the pool, and may not use its ring";
    Error::new(ErrorKind::NotOnShard, text)
}
