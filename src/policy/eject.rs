//! What one core learns of an address all cores should know, and one that is out must be found to
//! be back by somebody, also where nobody opens connections. This file tells the others, hears of
//! them, and opens the connection that finds out.
//!
//! Promise: an address that is out for all is dialed here last of all, or by a probe that this core
//! was chosen for; a probe is one opening more, which waiters may use and which makes way for them
//! like any other; it stands in no queue: at the limit one connection of this core closes for it, and
//! it has that one's permit. A core's last connection does so only where all together hold several.
//!
//! States of an address that is out: waits for its moment → asked for (is this core the one?) →
//! aimed at → dialed → back, or out as before.

use std::net::SocketAddr;
use std::time::Duration;

use super::PoolPolicy;
use super::bucket::{Bucket, Permit};
use super::conn::Conn;
use super::event::{Action, Busy, CloseReason, ConnKey, EndpointKey, Verdict};
use super::settings::PROBE_EVERY;
use crate::time::Tick;

/// A connection that ends so soon after it was ready, without a use, was ended by its server's state.
const EARLY: Duration = Duration::from_secs(1);
/// Of so many connections a probe is worth one: of those that all cores hold where they are of use, also
/// if its core has no other.
const WORTH_ONE: u32 = 8;
/// Cores that wait for the same moment ask one after the other.
const APART: Duration = Duration::from_millis(50);

/// How far an endpoint is with its addresses that are out.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    /// When one of them may be probed; zero if none is out, or nobody would use it.
    at: Tick,
    /// Those that this core is to probe.
    aims: Vec<Aim>,
    /// No permit is to be had for them: a request that only a probe wants is no demand to others.
    is_held_back: bool,
    /// The next connection that comes back closes for them.
    on_return: bool,
    /// One has closed for them.
    is_ahead: bool,
    /// One has ended: its address may be due again.
    has_ended: bool,
}

#[derive(Debug)]
struct Aim {
    address: SocketAddr,
    /// When the next one is chosen for it: what waits until then waits no longer.
    until: Tick,
    /// The opening that dials it.
    race: Option<u64>,
}

impl Probes {
    /// Openings that it wants, those under way included.
    pub(crate) fn wanted(&self) -> u32 {
        match self.is_held_back {
            true => self.under_way(),
            false => self.aims.len() as u32,
        }
    }

    /// Those of them that are under way.
    pub(crate) fn under_way(&self) -> u32 {
        self.aims.iter().filter(|aim| aim.race.is_some()).count() as u32
    }

    /// When the next may begin; zero if there is none.
    pub(crate) fn at(&self) -> Tick {
        self.at
    }

    #[inline]
    pub(crate) fn may_close_on_return(&self) -> bool {
        self.on_return
    }

    /// The opening `number` is for the next address that waits for one, if any; what waiters asked for
    /// (`is_waited_for`), or the balance while probes are held back, only if a connection has closed for
    /// the probe. Of the addresses that wait, that which was dialed longest ago (`turn`).
    pub(crate) fn begin(
        &mut self,
        number: u64,
        is_waited_for: bool,
        turn: impl Fn(SocketAddr) -> u64,
    ) {
        let may = self.is_ahead || !is_waited_for && !self.is_held_back;
        let aims = self.aims.iter_mut();
        let waiting = aims.filter(|aim| may && aim.race.is_none());
        if let Some(aim) = waiting.min_by_key(|aim| turn(aim.address)) {
            aim.race = Some(number);
            self.go_on();
        }
    }

    /// There is no permit, or no slot, for what no waiter needs: until the next choice.
    pub(crate) fn hold_back(&mut self) {
        self.is_held_back = true;
    }

    /// Nothing has been closed for those that wait, and nothing keeps them back.
    fn go_on(&mut self) {
        (self.is_held_back, self.on_return, self.is_ahead) = (false, false, false);
    }

    /// What closed for the balance, or for a probe, is closed.
    pub(crate) fn has_room(&mut self) {
        self.is_held_back &= !self.is_ahead;
    }

    /// What the opening is to dial.
    pub(crate) fn aim(&self, number: u64) -> Option<SocketAddr> {
        let aim = self.aims.iter().find(|aim| aim.race == Some(number));
        aim.map(|aim| aim.address)
    }

    /// The opening has found out, or is gone.
    pub(crate) fn end(&mut self, number: u64) {
        let before = self.aims.len();
        self.aims.retain(|aim| aim.race != Some(number));
        self.has_ended |= self.aims.len() < before;
        if !self.waits() {
            self.go_on();
        }
    }

    fn is_under_way(&self, address: SocketAddr) -> bool {
        let mut aims = self.aims.iter();
        aims.any(|aim| aim.address == address && aim.race.is_some())
    }

    pub(super) fn waits(&self) -> bool {
        self.aims.iter().any(|aim| aim.race.is_none())
    }
}

/// What this core learns.
impl PoolPolicy {
    /// Tells the other cores, where there is more than one address to choose from.
    pub(super) fn report(&mut self, endpoint: EndpointKey, address: SocketAddr, verdict: Verdict) {
        let bucket = self.endpoints.get(endpoint.0);
        if self.draining || bucket.is_none_or(|bucket| bucket.addresses.len() < 2) {
            return;
        }
        let chance = self.rng.next();
        self.actions.push_back(Action::Report {
            endpoint,
            address,
            verdict,
            chance,
        });
    }

    /// A connection became ready.
    pub(super) fn report_ready(&mut self, endpoint: EndpointKey, address: SocketAddr) {
        let bucket = self.endpoints.get(endpoint.0);
        if bucket.is_some_and(|bucket| bucket.addresses.is_out(address)) {
            self.report(endpoint, address, Verdict::Back);
        }
    }

    /// A connection broke, which nobody holds. If it was used, or idled for long, that is no fault of
    /// its address.
    pub(super) fn report_death(&mut self, now: Tick, key: ConnKey, reason: CloseReason) {
        let Some(conn) = self.conns.get(key.0) else {
            return;
        };
        let by_peer = matches!(reason, CloseReason::PeerClosed | CloseReason::Reset);
        if by_peer && conn.is_young(now) {
            let (endpoint, address) = (conn.endpoint, conn.address);
            self.report(endpoint, address, Verdict::DiedEarly);
        }
    }

    /// The first use of a connection ended well.
    pub(super) fn report_use(&mut self, endpoint: EndpointKey, address: SocketAddr) {
        let bucket = self.endpoints.get_mut(endpoint.0);
        if bucket.is_some_and(|bucket| bucket.addresses.is_proved(address)) {
            self.report(endpoint, address, Verdict::Works);
        }
    }
}

impl Bucket {
    /// Openings beside those of probes.
    pub(super) fn openings_for_waiters(&self) -> u32 {
        self.openings().saturating_sub(self.probes.under_way())
    }

    /// Whether waiters need more openings than there are beside those of probes.
    pub(super) fn is_short(&self) -> bool {
        self.needed_by_waiters() > self.openings_for_waiters()
    }
}

impl Conn {
    fn is_young(&self, now: Tick) -> bool {
        let is_untouched = self.total_uses == 0 && self.condemned.is_none();
        is_untouched && now.since(self.idle_since) <= EARLY
    }
}

/// What it hears, and does about it.
impl PoolPolicy {
    /// How busy all cores keep the addresses.
    pub(super) fn busy_told(&mut self, endpoint: EndpointKey, busy: &[Busy]) -> Option<()> {
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        bucket.addresses.note_busy(busy);
        Some(())
    }

    /// Which addresses are out for all cores, and when each may be probed.
    pub(super) fn ejected(
        &mut self,
        now: Tick,
        endpoint: EndpointKey,
        out: &[Option<Tick>],
    ) -> Option<()> {
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        let is_back = bucket.addresses.note_out(out);
        let Bucket {
            addresses, probes, ..
        } = bucket;
        let is_due = |aim: &Aim| {
            let is_same = addresses.probe_at(aim.address) == Some(aim.until);
            aim.race.is_some() || is_same
        };
        probes.aims.retain(is_due);
        if !probes.waits() {
            probes.go_on();
        }
        probes.at = Tick::ZERO;
        self.watch_ejected(now, endpoint);
        self.arm(endpoint);
        if is_back {
            self.even_out_soon(now, endpoint);
        }
        self.give_up_lost_aim(now, endpoint);
        self.watch_backups(now, endpoint, now);
        self.settle(now, endpoint);
        Some(())
    }

    /// The moment of an address may have come while it was probed.
    pub(super) fn watch_ended(&mut self, now: Tick, endpoint: EndpointKey) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0)
            && std::mem::take(&mut bucket.probes.has_ended)
        {
            bucket.probes.at = Tick::ZERO;
            self.watch_ejected(now, endpoint);
        }
    }

    /// If an address is out, asks at its moment whether this core is to probe it.
    pub(super) fn watch_ejected(&mut self, now: Tick, endpoint: EndpointKey) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        let next = bucket
            .addresses
            .next_probe(|address| !bucket.probes.is_under_way(address));
        let is_planned = bucket.probes.at > Tick::ZERO;
        if let Some(next) = next.filter(|_| !is_planned && bucket.is_used()) {
            bucket.probes.at = next.max(now).plus(self.rng.part_of(APART));
            self.arm(endpoint);
        }
    }

    /// The endpoint's moment may be that of a probe.
    pub(super) fn look_at_ejected(&mut self, now: Tick, endpoint: EndpointKey) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        if bucket.probes.at == Tick::ZERO || bucket.probes.at > now {
            return;
        }
        bucket.probes.at = Tick::ZERO;
        if !bucket.is_used() {
            return;
        }
        if bucket.counts.live() == 0 {
            // It has none to make way for a probe; who has is chosen instead.
            bucket.probes.at = now.plus(PROBE_EVERY);
            return;
        }
        // One after the other: what is due beside it other cores may find out.
        let due = bucket
            .addresses
            .due_probe(now, |address| !bucket.probes.is_under_way(address));
        let Some(address) = due else {
            self.watch_ejected(now, endpoint);
            return;
        };
        let chance = self.rng.next();
        self.actions.push_back(Action::Probe {
            endpoint,
            address,
            chance,
        });
    }

    /// Of all cores, this one is to find out whether `address` is back.
    pub(super) fn chosen_to_probe(
        &mut self,
        now: Tick,
        endpoint: EndpointKey,
        address: SocketAddr,
        held: &[u32],
    ) -> Option<()> {
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        bucket.addresses.note_held(held);
        let until = bucket.addresses.probe_at(address)?;
        if bucket.probes.is_under_way(address) {
            return None;
        }
        bucket.probes.aims.retain(|aim| aim.address != address);
        bucket.probes.aims.push(Aim {
            address,
            until,
            race: None,
        });
        // What has closed for another is still to be used.
        (bucket.probes.is_held_back, bucket.probes.on_return) = (false, false);
        // Waiters may have queued for a permit long ago.
        self.make_room_to_probe(endpoint);
        self.settle(now, endpoint);
        Some(())
    }

    /// What has closed for a probe is closed: whether the probe takes its place, with its permit.
    pub(super) fn takes_place(&self, now: Tick, endpoint: EndpointKey) -> bool {
        let bucket = self.endpoints.get(endpoint.0);
        bucket.is_some_and(|bucket| {
            let is_next = bucket.probes.is_ahead && bucket.probes.waits();
            let has_room = bucket.attempts() < self.settings.max_connecting;
            // Its slot is due to who waits for one.
            let may_dial = !bucket.in_backoff(now) && self.slot_queue.is_empty();
            is_next && has_room && may_dial && !self.draining
        })
    }

    /// No permit is to be had for a probe: one connection closes for it, now or when it comes back.
    pub(super) fn make_room_to_probe(&mut self, endpoint: EndpointKey) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        if !bucket.probes.waits() || bucket.permit != Permit::Queued {
            return;
        }
        bucket.probes.is_held_back = true;
        let most = (bucket.counts.live() / WORTH_ONE).max(1);
        if bucket.probes.is_ahead || bucket.probes.under_way() >= most {
            return;
        }
        bucket.probes.on_return = true;
        if let Some(oldest) = bucket.idle.last() {
            self.close_for_probe(endpoint, ConnKey(oldest));
        }
    }

    /// Whether the connection, which nobody uses now, closed for a probe.
    pub(super) fn close_for_probe(&mut self, endpoint: EndpointKey, key: ConnKey) -> bool {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return false;
        };
        let held = bucket.addresses.held_by_good();
        let may_be_last = bucket.probes.is_held_back && held >= WORTH_ONE;
        if (bucket.counts.live() < 2 && !may_be_last) || !bucket.probes.waits() {
            return false;
        }
        (bucket.probes.on_return, bucket.probes.is_ahead) = (false, true);
        self.close(key, CloseReason::Rebalanced);
        true
    }
}
