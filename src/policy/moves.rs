//! A name that has more addresses than before has connections to the old ones only, and as long as
//! those suffice no new one is opened. With each answer a bounded number of connections is moved:
//! one is opened to where there are too few, then an idle one closes where there are too many.
//! Likewise connections at a backup move to where they belong when that is good again: once its pause
//! is over, which grows with each failure, the first successor finds out.
//!
//! Promise: at most half of the endpoint's connections move per answer, and back from a backup at
//! most half per [`REFRESH_FLOOR`], one at a time; a connection closes only after its successor is
//! ready, or, where no permit is to be had for that, one ahead; what is in use closes at its return,
//! and only if others are left. Counted are this core's own connections: the board brings the
//! successors where all cores have fewest.

use std::net::SocketAddr;

use super::PoolPolicy;
use super::balance::{Place, RETURN_CAP};
use super::bucket::{Bucket, Permit};
use super::conn::{Conn, Stage};
use super::event::{CloseReason, ConnKey, EndpointKey};
use super::rng::Rng;
use super::settings::REFRESH_FLOOR;
use crate::time::Tick;

/// What is left to be moved.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// Successors that are to be opened.
    left: u32,
    /// A connection was closed before its successor is there.
    ahead: bool,
    /// The next one that comes back closes ahead, if its address has too many.
    on_return: bool,
    /// No successor before then.
    pause: Tick,
    /// No new plan before then.
    plan_at: Tick,
    /// The priority that the plan is for: it is void when nothing as good is left.
    aim: u16,
    /// The plan is void for an attempt that is slow; if that is ready after all, one moves.
    is_late: bool,
    /// When connections at a backup are looked at; zero if there are none.
    look_at: Tick,
}

impl Moves {
    /// Openings that it wants.
    pub(crate) fn wanted(&self, now: Tick) -> u32 {
        u32::from(self.left > 0 && now >= self.pause)
    }

    pub(crate) fn pause_until(&mut self, later: Tick) {
        if self.left > 0 {
            self.pause = later;
        }
    }

    /// When the pause ends; zero if there is none.
    pub(crate) fn pause(&self) -> Tick {
        self.pause
    }

    /// When connections at a backup are looked at; zero if there are none.
    pub(crate) fn look_at(&self) -> Tick {
        self.look_at
    }

    /// Ends a pause that is over at `now`.
    pub(crate) fn resume(&mut self, now: Tick) {
        if self.pause <= now {
            self.pause = Tick::ZERO;
        }
    }

    /// Nothing more is moved until the next answer.
    pub(crate) fn give_up(&mut self) {
        *self = Self {
            plan_at: self.plan_at,
            look_at: self.look_at,
            ..Self::default()
        };
    }

    /// A permit is there: nothing need close ahead.
    pub(crate) fn has_permit(&mut self) {
        self.on_return = false;
    }

    #[inline]
    pub(crate) fn may_close_on_return(&self) -> bool {
        self.on_return
    }
}

/// How this core's connections of one endpoint lie over its addresses, in the order of the list.
struct Load {
    places: Vec<Place>,
    own: Vec<u64>,
    /// All connections that count.
    total: u64,
    shares: u64,
}

impl Load {
    /// What the address should have, times `shares`.
    fn fair(&self, at: usize) -> u64 {
        self.total.saturating_mul(self.places[at].share)
    }

    fn has_too_many(&self, at: usize) -> bool {
        let is_over = self.own[at].saturating_mul(self.shares) > self.fair(at);
        self.places[at].gives && (is_over || self.is_at_backup(at))
    }

    fn is_at_backup(&self, at: usize) -> bool {
        self.places[at].is_backup && self.own[at] > 0
    }

    /// Connections that are to move back.
    fn at_backups(&self) -> u64 {
        let all = (0..self.own.len()).filter(|at| self.places[*at].is_backup);
        all.map(|at| self.own[at]).sum()
    }

    /// The connections that the address lacks: whole ones only, or connections would be moved to
    /// and fro.
    fn lacks(&self, at: usize) -> u64 {
        let fair = self.fair(at) / self.shares.max(1);
        match self.places[at].takes {
            true => fair.saturating_sub(self.own[at]),
            false => 0,
        }
    }

    /// Whether a new address gets a connection though nobody lacks a whole one, there being fewer
    /// than addresses: as often as it would have one by chance.
    fn gets_by_chance(&self, at: usize, rng: &mut Rng) -> bool {
        let place = &self.places[at];
        let is_new = place.takes && place.is_new && self.own[at] == 0;
        is_new && self.fair(at) < self.shares && rng.below(self.shares) < self.fair(at)
    }
}

impl PoolPolicy {
    fn load(&self, now: Tick, endpoint: EndpointKey) -> Option<Load> {
        let bucket = self.endpoints.get(endpoint.0)?;
        let places = bucket.addresses.places(now);
        let mut own = vec![0; places.len()];
        let conns = self.conns.iter().map(|(_, conn)| conn);
        let conns = conns.filter(|conn| conn.endpoint == endpoint && conn.condemned.is_none());
        for conn in conns.filter(|conn| !matches!(conn.stage, Stage::Closing(_))) {
            if let Some(at) = bucket.addresses.position(conn.address)
                && places[at].gives
            {
                own[at] += 1;
            }
        }
        Some(Load {
            total: own.iter().sum(),
            shares: places.iter().map(|place| place.share).sum(),
            places,
            own,
        })
    }

    /// A new answer came: what is to be moved because of it.
    pub(super) fn plan_moves(&mut self, now: Tick, endpoint: EndpointKey) {
        self.plan(now, endpoint, true);
        self.watch_backups(now, endpoint, now);
    }

    fn plan(&mut self, now: Tick, endpoint: EndpointKey, is_answer: bool) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        if bucket.addresses.len() < 2 || bucket.counts.live() == 0 || now < bucket.moves.plan_at {
            return;
        }
        bucket.moves.plan_at = now.plus(REFRESH_FLOOR);
        let Some(load) = self.load(now, endpoint) else {
            return;
        };
        let most = load.total.div_ceil(2);
        let lacking: u64 = match is_answer {
            true => (0..load.own.len())
                .map(|at| load.lacks(at) + u64::from(load.gets_by_chance(at, &mut self.rng)))
                .sum(),
            false => 0,
        };
        let wanted = lacking.max(load.at_backups());
        let left = u32::try_from(wanted.min(most)).unwrap_or(u32::MAX);
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        bucket.moves.left = left;
        bucket.moves.aim = bucket.addresses.first_priority(now).unwrap_or(u16::MAX);
        if left == 0 {
            bucket.moves.give_up();
        }
        self.make_room_to_move(now, endpoint);
    }

    /// No permit is to be had for the next successor: one connection closes ahead of it, now
    /// or when it comes back.
    pub(super) fn make_room_to_move(&mut self, now: Tick, endpoint: EndpointKey) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        if bucket.moves.left == 0 || bucket.moves.ahead || bucket.permit != Permit::Queued {
            return;
        }
        let is_only_one = bucket.counts.live() < 2;
        if is_only_one
            && self
                .load(now, endpoint)
                .is_some_and(|it| it.at_backups() > 0)
        {
            // The last connection is not given for a guess, and others' permits come when they come.
            self.give_up_moves(endpoint);
            self.watch_backups(now, endpoint, now.plus(RETURN_CAP));
            return;
        }
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        bucket.moves.on_return = true;
        if let Some(key) = self.idle_one_too_many(now, endpoint) {
            self.close_ahead(endpoint, key);
        }
    }

    fn give_up_moves(&mut self, endpoint: EndpointKey) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.moves.give_up();
        }
    }

    /// Whether the connection, which nobody uses now, is one to be closed ahead.
    pub(super) fn is_to_close_ahead(&self, now: Tick, endpoint: EndpointKey, key: ConnKey) -> bool {
        let Some(bucket) = self.endpoints.get(endpoint.0) else {
            return false;
        };
        let Some(conn) = self.conns.get(key.0) else {
            return false;
        };
        let at = bucket.addresses.position(conn.address);
        let load = self.load(now, endpoint);
        let has_too_many = at.zip(load).is_some_and(|(at, load)| load.has_too_many(at));
        has_too_many && bucket.counts.live() > 1
    }

    pub(super) fn close_ahead(&mut self, endpoint: EndpointKey, key: ConnKey) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.moves.on_return = false;
            bucket.moves.ahead = true;
            self.close(key, CloseReason::Rebalanced);
        }
    }

    /// A connection to `address` became ready: one that has too many beside it goes.
    pub(super) fn moved(&mut self, now: Tick, endpoint: EndpointKey, address: SocketAddr) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        let is_late_one = bucket.moves.is_late && bucket.addresses.is_before_others(address);
        if bucket.moves.left == 0 && !is_late_one {
            return;
        }
        bucket.moves.is_late = false;
        bucket.moves.left = bucket.moves.left.saturating_sub(1);
        let at = bucket.addresses.position(address);
        let load = self.load(now, endpoint);
        let was_in_vain = at
            .zip(load)
            .is_some_and(|(at, load)| match load.at_backups() {
                0 => load.has_too_many(at),
                _ => load.is_at_backup(at),
            });
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        if !std::mem::take(&mut bucket.moves.ahead) {
            match self.idle_one_too_many(now, endpoint) {
                Some(idle) => self.close(idle, CloseReason::Rebalanced),
                None => self.condemn_at_backup(now, endpoint),
            }
        }
        self.give_up_lost_aim(now, endpoint);
        let bucket = self.endpoints.get_mut(endpoint.0);
        if let Some(bucket) = bucket
            && (bucket.moves.left == 0 || was_in_vain)
        {
            // What this core lacks others have in plenty: the rest would go the same way.
            bucket.moves.give_up();
        }
        self.make_room_to_move(now, endpoint);
        self.settle(now, endpoint);
    }

    /// The successor of a connection at a backup is ready, and all of those are in use: one of them
    /// takes no more users.
    fn condemn_at_backup(&mut self, now: Tick, endpoint: EndpointKey) {
        let Some(bucket) = self.endpoints.get(endpoint.0) else {
            return;
        };
        let Some(load) = self.load(now, endpoint) else {
            return;
        };
        let busy = self.conns.iter().find(|(_, conn)| {
            let is_busy = conn.stage == Stage::Ready && conn.uses > 0 && conn.condemned.is_none();
            let at = bucket.addresses.position(conn.address);
            conn.endpoint == endpoint && is_busy && at.is_some_and(|at| load.is_at_backup(at))
        });
        if let Some((key, _)) = busy {
            self.condemn(ConnKey(key), CloseReason::Rebalanced);
        }
    }

    /// Whether the connection, which was to close for the balance at the end of its last use, is of
    /// use after all: what it was to make way for may have failed meanwhile.
    pub(super) fn is_reprieved(&mut self, now: Tick, endpoint: EndpointKey, key: ConnKey) -> bool {
        if let Some(conn) = self.conns.get_mut(key.0) {
            conn.condemned = None;
        }
        let goes = self.is_to_close_ahead(now, endpoint, key);
        if let Some(conn) = self.conns.get_mut(key.0)
            && goes
        {
            conn.condemned = Some(CloseReason::Rebalanced);
        }
        !goes
    }

    /// An attempt failed: what was to be moved there stays where it is.
    pub(super) fn give_up_lost_aim(&mut self, now: Tick, endpoint: EndpointKey) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0)
            && bucket.moves.left > 0
        {
            let first = bucket.addresses.first_priority(now);
            if first.is_none_or(|first| first > bucket.moves.aim) {
                bucket.moves.give_up();
            }
        }
    }

    /// An attempt is slow. No other is made beside it for the sake of what was to be moved there;
    /// if it comes, it is the successor that it was to be: else each look would add one.
    pub(super) fn doubt_aim(&mut self, now: Tick, endpoint: EndpointKey) {
        let had_plan = |bucket: &Bucket| bucket.moves.left > 0;
        let had = self.endpoints.get(endpoint.0).is_some_and(had_plan);
        self.give_up_lost_aim(now, endpoint);
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.moves.is_late |= had && !had_plan(bucket);
        }
    }

    /// If connections are at a backup, they are looked at when what comes before it may be good, not
    /// before `earliest`.
    pub(super) fn watch_backups(&mut self, now: Tick, endpoint: EndpointKey, earliest: Tick) {
        let Some(bucket) = self.endpoints.get(endpoint.0) else {
            return;
        };
        let mut look_at = Tick::ZERO;
        if bucket.addresses.have_backups() {
            let conns = self.conns.iter().map(|(_, conn)| conn);
            let ready = conns.filter(|conn| {
                let is_ready = matches!(conn.stage, Stage::Ready | Stage::Checking);
                conn.endpoint == endpoint && is_ready && conn.condemned.is_none()
            });
            let last = ready.filter_map(|conn| bucket.addresses.priority(conn.address));
            let next = last
                .max()
                .and_then(|last| bucket.addresses.next_before(last));
            let soon = earliest.max(now).max(bucket.moves.plan_at);
            look_at = next.map_or(Tick::ZERO, |next| next.max(soon));
        }
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        if bucket.moves.look_at != look_at {
            bucket.moves.look_at = look_at;
            self.arm(endpoint);
        }
    }

    /// The endpoint's moment may be that at which connections move back from a backup.
    pub(super) fn look_at_backups(&mut self, now: Tick, endpoint: EndpointKey) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        if bucket.moves.look_at == Tick::ZERO || bucket.moves.look_at > now {
            return;
        }
        if bucket.moves.left == 0 {
            self.plan(now, endpoint, false);
        }
        self.watch_backups(now, endpoint, now.plus(REFRESH_FLOOR));
    }

    /// The longest idle connection to an address that has more than its share, those at a backup
    /// before the others, if it is not the only one that is left.
    fn idle_one_too_many(&self, now: Tick, endpoint: EndpointKey) -> Option<ConnKey> {
        let bucket = self.endpoints.get(endpoint.0)?;
        if bucket.counts.live() < 2 {
            return None;
        }
        let load = self.load(now, endpoint)?;
        let conns = self.conns.iter().filter(|(_, conn)| {
            let is_idle = conn.stage == Stage::Ready && conn.uses == 0;
            let at = bucket.addresses.position(conn.address);
            let is_one = conn.endpoint == endpoint && is_idle;
            is_one && at.is_some_and(|at| load.has_too_many(at))
        });
        let is_at_home = |conn: &Conn| {
            let at = bucket.addresses.position(conn.address);
            at.is_none_or(|at| !load.is_at_backup(at))
        };
        let oldest = conns.min_by_key(|(key, conn)| (is_at_home(conn), conn.idle_since, *key));
        oldest.map(|(key, _)| ConnKey(key))
    }
}
