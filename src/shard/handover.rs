//! Connections change cores here: the policy says which and for whom, the ring moves the descriptor,
//! the shares move the permit, and the mesh carries what the cores know of it.
//!
//! Promise: a connection is one core's at every moment, and so is its permit: the giver's until the
//! receiver moves the permit under its lock, the receiver's from then on (D32). Every claim ends:
//! taken, returned, recalled, or with the core that made it. A slot into which a descriptor may still
//! come is nobody else's. What was not watched on the way is looked at before anybody gets it.
//!
//! States of a claim at the giver: the descriptor is sent → the parcel is sent → answered or recalled.
//! Of a slot at the receiver: open → taken, or returned by a giver that gave up.

mod ending;
mod look;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::Config;
use crate::error::Error;
use crate::policy::event::{CloseReason, ConnKey, EndpointKey, Event, Received, Return};
use crate::ring::{Address, Ring};
use crate::share::{Claim, EndpointId, Parcel, Post, STALLED, Withdrawn};
use crate::time::Tick;

use super::cells::ConnCell;
use super::core::Core;
use super::deferred::Call;
use super::erased::Packed;
use super::links::Links;
use super::permits::PATIENCE;
use super::tap::What;

/// How long until the next look where the kernel takes no receive, or the ring's is not armed.
const BACK_OFF: Duration = Duration::from_millis(1);

/// What goes with a descriptor.
#[derive(Debug)]
pub(crate) struct Load {
    endpoint: EndpointId,
    /// Where the descriptor went.
    slot: ConnKey,
    what: Received,
    /// What its protocol keeps for it.
    state: Option<Packed>,
}

/// A connection that is about to be looked at.
#[derive(Debug, Clone, Copy)]
struct Unseen {
    conn: ConnKey,
    /// What the kernel must have had before it can be judged.
    queued: u64,
    /// What must have been read then; known once the kernel had that.
    come: Option<u64>,
}

/// What is on its way from and to this core.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    /// `None` if connections stay on this core.
    post: Option<Post<Address, Load>>,
    /// Connections that are being given; bounded by the slots.
    giving: BTreeMap<ConnKey, Giving>,
    /// Connections that nobody has watched until now.
    unseen: Vec<Unseen>,
    /// Those that a turn sees; empty in between.
    seen: Vec<ConnKey>,
}

/// How far a connection is on its way.
#[derive(Debug)]
struct Giving {
    claim: Claim,
    since: Tick,
    /// The descriptor has arrived, and this parcel was sent.
    sent: Option<u64>,
    /// Its protocol keeps something for it, without which it is nothing.
    is_packed: bool,
    /// That, until the parcel is sent.
    state: Option<Packed>,
}

impl Giving {
    /// Whether it can come back before the other core has let go of the parcel.
    fn can_be_recalled(&self) -> bool {
        self.sent.is_some() && !self.is_packed
    }
}

impl Handover {
    /// Connections can come and go, if the kernel can send them.
    pub(super) fn open(ring: &Ring, links: &Links, config: &Config) -> Self {
        let address = ring.address().ok().filter(|_| ring.gives());
        // Each endpoint has one claim on this core at most; what is beyond that, because givers that
        // ended left theirs, goes back.
        let (parcels, sent) = (2 * config.max_endpoints, config.max_connections_per_shard);
        Self {
            post: address.map(|address| links.open_post(address, parcels, sent)),
            ..Self::default()
        }
    }

    /// Whether connections change cores here.
    pub(super) fn is_possible(&self) -> bool {
        self.post.is_some()
    }

    /// From now on so many parcels may wait here.
    #[cfg(feature = "sim")]
    pub(super) fn set_room(&self, parcels: usize) {
        if let Some(post) = &self.post {
            post.set_room(parcels);
        }
    }

    /// How many connections are being given.
    #[cfg(feature = "sim")]
    pub(crate) fn giving(&self) -> usize {
        self.giving.len()
    }

    /// How many connections are about to be looked at.
    #[cfg(feature = "sim")]
    pub(crate) fn unseen(&self) -> usize {
        self.unseen.len()
    }
}

/// The giver.
impl Core {
    /// Gives the connection to whoever has waited longest.
    pub(super) fn give(&mut self, conn: ConnKey, endpoint: EndpointKey) {
        match self.cells.get(conn).is_some_and(|it| it.state.is_some()) {
            true => self.pack_later(conn, endpoint),
            false => self.send(conn, endpoint, None),
        }
    }

    /// The same, with what its protocol keeps for it.
    pub(super) fn send(&mut self, conn: ConnKey, endpoint: EndpointKey, state: Option<Packed>) {
        let me = self.links.shard();
        let Some(entry) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        // Whose state is packed is looked at when that is put together again.
        let is_whole = state.is_none();
        // What the ring would not send is claimed for nobody: a claim that fails costs the other core its
        // slot.
        if !self.backend.is_watching(conn.0) {
            // Its receive is about to be armed again: no reason to close it.
            entry.keeps_until = entry.keeps_until.max(self.now.plus(BACK_OFF));
            self.unpack_later(conn, endpoint, state);
            self.stays(conn, None, is_whole);
            return self.look_at_demand_later(endpoint);
        }
        let Some(post) = &self.handover.post else {
            self.unpack_later(conn, endpoint, state);
            return self.not_given(conn, endpoint, is_whole);
        };
        while let Some(claim) = entry.shared.claim(me, self.now) {
            if let Some(address) = post.address(claim.to) {
                let giving = Giving {
                    claim,
                    since: self.now,
                    sent: None,
                    is_packed: !is_whole,
                    state,
                };
                self.handover.giving.insert(conn, giving);
                self.backend.give(conn.0, address, claim.slot);
                // What comes back in this very turn may be for the next one.
                entry.demand = None;
                return self.look_at_demand(endpoint);
            }
            // It leaves, and its request with it.
            entry.shared.unclaim(me, claim);
        }
        self.unpack_later(conn, endpoint, state);
        self.not_given(conn, endpoint, is_whole);
    }

    /// The connection stays. Whoever waits longest now, if it has waited long enough to be worth one,
    /// can be helped by a permit alone. `untouched`: its receive has not been interrupted.
    pub(super) fn not_given(&mut self, conn: ConnKey, endpoint: EndpointKey, untouched: bool) {
        let since = self.worthy_demand(endpoint);
        self.stays(conn, since, untouched);
        if since.is_none() {
            self.look_at_demand_later(endpoint);
        }
    }

    fn stays(&mut self, conn: ConnKey, since: Option<Tick>, untouched: bool) {
        if self.backend.unread(conn.0) > 0 {
            // What came was for nobody, and the next user must not read it (I3).
            let reason = CloseReason::Unsolicited;
            self.tell(Event::Broken { conn, reason });
        }
        let is_shared = self.cells.get(conn).is_some_and(|cell| cell.shared);
        let is_known = is_shared || self.watched_meanwhile(conn) == Return::Clean;
        self.tell(Event::GiveFailed {
            conn,
            since,
            untouched: untouched && is_known,
        });
    }

    /// The descriptor is in the other ring's slot: the parcel follows.
    pub(super) fn descriptor_sent(&mut self, conn: ConnKey) {
        let Some(giving) = self.handover.giving.get_mut(&conn) else {
            return;
        };
        let (claim, mut state) = (giving.claim, giving.state.take());
        let endpoint = self.policy.endpoint_of(conn);
        let entry = endpoint.and_then(|it| self.endpoints.get(it));
        if let (Some(entry), Some(what), Some(post)) =
            (entry, self.policy.leaving(conn), &self.handover.post)
            && !self.policy.is_wanted_back(conn)
        {
            let load = Load {
                endpoint: entry.shared.id(),
                slot: ConnKey(claim.slot),
                what,
                state: state.take(),
            };
            match post.send(claim.to, conn.0, load) {
                Ok(number) => {
                    giving.sent = Some(number);
                    return;
                }
                Err(load) => state = load.state,
            }
        }
        self.give_ended(conn, state, false);
    }

    /// The kernel did not deliver.
    pub(super) fn descriptor_not_sent(&mut self, conn: ConnKey, error: Error) {
        self.tap.record(self.now, || What::NotSent { conn, error });
        let Some(giving) = self.handover.giving.remove(&conn) else {
            return;
        };
        let Some(endpoint) = self.policy.endpoint_of(conn) else {
            return;
        };
        if let Some(entry) = self.endpoints.get_mut(endpoint) {
            entry.keeps_until = self.now.plus(PATIENCE);
            entry.shared.unclaim(self.links.shard(), giving.claim);
        }
        self.unpack_later(conn, endpoint, giving.state);
        self.not_given(conn, endpoint, false);
    }

    /// The receiver has answered, if not too late.
    fn parcel_answered(&mut self, conn: ConnKey, number: u64, returned: Option<Packed>) {
        let giving = self.handover.giving.get(&conn);
        if giving.is_some_and(|giving| giving.sent == Some(number)) {
            self.give_ended(conn, returned, false);
        }
    }

    /// The connection is wanted back, without waiting for an answer.
    pub(super) fn recall(&mut self, conn: ConnKey) {
        let giving = self.handover.giving.get(&conn);
        if giving.is_some_and(Giving::can_be_recalled) {
            self.give_ended(conn, None, true);
        }
    }

    /// Whose the permit is when the claim has ended says whose the connection is. One that the other core
    /// did not take is not sent again at once: it would come back as fast as it went.
    fn give_ended(&mut self, conn: ConnKey, returned: Option<Packed>, recalled: bool) {
        let me = self.links.shard();
        let Some(giving) = self.handover.giving.remove(&conn) else {
            return;
        };
        let Some(endpoint) = self.policy.endpoint_of(conn) else {
            return;
        };
        let is_wanted = recalled || self.policy.is_wanted_back(conn);
        let Some(entry) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        let is_kept = match recalled {
            true => entry.shared.recall(me, giving.claim),
            false => entry.shared.unclaim(me, giving.claim),
        };
        if !is_kept {
            self.tell(Event::Given { conn });
            return self.demand_was_met(endpoint);
        }
        if !is_wanted {
            entry.keeps_until = self.now.plus(PATIENCE);
        }
        self.backend.keep(conn.0);
        self.unpack_later(conn, endpoint, returned);
        match is_wanted {
            true => {
                self.stays(conn, None, false);
                self.demand_was_met(endpoint);
            }
            false => self.not_given(conn, endpoint, false),
        }
    }

    /// When a connection is taken back that waits for a receiver that stands still, because somebody
    /// here wants one.
    pub(super) fn recall_at(&self) -> Option<Tick> {
        let giving = self.handover.giving.iter();
        let wanted = giving.filter(|(conn, giving)| self.wants_back(**conn, giving));
        wanted.map(|(_, giving)| giving.since.plus(STALLED)).min()
    }

    /// Whether somebody on this core waits for one like it.
    fn wants_back(&self, conn: ConnKey, giving: &Giving) -> bool {
        let endpoint = self.policy.endpoint_of(conn);
        let oldest = endpoint.and_then(|it| self.policy.oldest_wait(it));
        giving.can_be_recalled() && oldest.is_some()
    }

    /// Takes back what was due.
    pub(super) fn recall_late(&mut self) {
        if self.recall_at().is_none_or(|at| at > self.now) {
            return;
        }
        let giving = self.handover.giving.iter();
        let late = giving.filter(|(conn, giving)| {
            let is_late = self.now >= giving.since.plus(STALLED);
            is_late && self.wants_back(**conn, giving)
        });
        let late: Vec<ConnKey> = late.map(|(conn, _)| *conn).collect();
        for conn in late {
            self.recall(conn);
        }
    }
}

/// The receiver.
impl Core {
    /// Other cores may put a connection into the slot.
    pub(super) fn expect(&mut self, conn: ConnKey, endpoint: EndpointKey) {
        let me = self.links.shard();
        if !self.backend.expect(conn.0) {
            self.tell(Event::Closed { conn });
            return;
        }
        let entry = self.endpoints.get(endpoint);
        if !entry.is_some_and(|entry| entry.shared.expect(me, conn.0)) {
            // The request waits for the process's permit alone, or its grant is on its way.
            self.policy.expects_in_vain(conn);
            self.backend.forgo(conn.0);
        }
    }

    /// They may no more. If one is on its way, its parcel or its giver's end tells when the slot can
    /// be closed.
    pub(super) fn unexpect(&mut self, conn: ConnKey, endpoint: EndpointKey) {
        let me = self.links.shard();
        let entry = self.endpoints.get(endpoint);
        match entry.map_or(Withdrawn::Spent, |entry| entry.shared.unexpect(me)) {
            Withdrawn::Unused => self.backend.forgo(conn.0),
            Withdrawn::Spent => self.backend.unexpect(conn.0),
            Withdrawn::Claimed => self.policy.slot_is_claimed(conn),
        }
    }

    /// What other cores sent, and what they answered.
    pub(super) fn hear_mesh(&mut self) {
        while let Some(post) = &self.handover.post
            && let Some(answer) = post.answer()
        {
            let returned = answer.returned.and_then(|load| load.state);
            self.parcel_answered(ConnKey(answer.conn), answer.number, returned);
        }
        while let Some(post) = &self.handover.post
            && let Some(parcel) = post.receive()
        {
            // A core that can do no more would take it to its end.
            let left = match self.dead {
                None => self.take(parcel),
                Some(_) => Some(parcel),
            };
            if let Some(parcel) = left {
                // What is in it may be the user's to drop, if its giver has ended.
                self.deferred.calls.push_back(Call::Drop(Box::new(parcel)));
            }
        }
    }

    /// Takes the connection, or returns the parcel that goes back.
    fn take(&mut self, parcel: Parcel<Load>) -> Option<Parcel<Load>> {
        let me = self.links.shard();
        let load = parcel.content()?;
        let (conn, what) = (load.slot, load.what);
        let Some(endpoint) = self.endpoints.by_id.get(&load.endpoint).copied() else {
            return Some(parcel);
        };
        let is_here = self.policy.endpoint_of(conn) == Some(endpoint);
        if !is_here || !self.policy.takes(conn, &what) {
            // The giver ends its claim when the parcel is back; that closes the slot.
            return Some(parcel);
        }
        let Some(entry) = self.endpoints.get_mut(endpoint) else {
            return Some(parcel);
        };
        if !entry.shared.transfer(parcel.from(), me, conn.0) {
            self.backend.unexpect(conn.0);
            return Some(parcel);
        }
        entry.queued = None;
        let state = parcel.take().and_then(|load| load.state);
        let adopted = self.backend.adopt(conn.0);
        debug_assert!(adopted, "the slot expects until it is closed here");
        let cell = ConnCell::received(conn, endpoint, what.address);
        if let Some(old) = self.cells.insert(cell) {
            // As in `dial`: the slot was free.
            self.deferred.calls.push_back(Call::Ended {
                protocol: None,
                cell: old,
            });
        }
        self.board_opened(endpoint, what.address);
        self.unpack_later(conn, endpoint, state);
        self.tell(Event::Received { conn, what });
        None
    }

    /// A slot that expected is closed: what a core that has ended left there is, too.
    pub(super) fn expected_slot_closed(&self, conn: ConnKey) {
        let endpoint = self.policy.endpoint_of(conn);
        if let Some(entry) = endpoint.and_then(|it| self.endpoints.get(it)) {
            entry.shared.slot_closed(self.links.shard(), conn.0);
        }
    }

    /// A giver has given up, or gone: the slot closes, with what may have come.
    pub(super) fn close_returned_slot(&mut self, endpoint: EndpointKey) {
        let me = self.links.shard();
        let entry = self.endpoints.get(endpoint);
        if let Some(slot) = entry.and_then(|entry| entry.shared.take_returned(me)) {
            self.backend.unexpect(slot);
        }
    }
}
