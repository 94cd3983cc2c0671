//! A name that has more addresses than before has connections to the old ones only, and as long as
//! those suffice no new one is opened. With each answer a bounded number of connections is moved:
//! one is opened to where there are too few, then an idle one closes where there are too many.
//! Likewise connections at a backup move to where they belong when that is good again: once its pause
//! is over, which grows with each failure, the first successor finds out.
//!
//! Promise: at most half of the endpoint's connections move per [`REFRESH_FLOOR`], one at a time, for an
//! answer in at most [`LOOKS_MORE`] looks more; a connection closes only after its successor is
//! ready, or, where no permit is to be had for that, one ahead; what is in use closes at its return.
//! Counted are the connections of all cores (see [`spread`](super::spread)), and the board brings the
//! successors where all have fewest.

use std::net::SocketAddr;
use std::time::Duration;

use super::PoolPolicy;
use super::balance::RETURN_CAP;
use super::bucket::{Bucket, Permit};
use super::conn::{Conn, Stage};
use super::event::{Action, CloseReason, ConnKey, EndpointKey};
use super::settings::REFRESH_FLOOR;
use super::spread::Spread;
use crate::time::Tick;

/// How often it is looked at how connections lie after an address failed, or came back: each time
/// at most half of them move.
const LOOKS: u32 = 6;
/// How often after an answer, as long as there is something to move.
const LOOKS_MORE: u32 = 3;
/// How soon that is done first when an address came back, and once more by chance: not all cores
/// look at the same moment, each that comes later sees what was moved.
const SOON: Duration = Duration::from_millis(50);

impl PoolPolicy {
    fn spread(&self, now: Tick, endpoint: EndpointKey) -> Option<Spread> {
        let bucket = self.endpoints.get(endpoint.0)?;
        let places = bucket.addresses.places(now);
        let mut own = vec![0; places.len()];
        let mut held = bucket.addresses.held();
        let conns = self.conns.iter().map(|(_, conn)| conn);
        for conn in conns.filter(|conn| conn.endpoint == endpoint && conn.exists()) {
            let Some(at) = bucket.addresses.position(conn.address) else {
                continue;
            };
            match conn.stage {
                Stage::Leaving => {}
                // It goes, and counts until it has gone.
                Stage::Closing(_) => held[at] = held[at].saturating_sub(1),
                _ if conn.condemned.is_some() => held[at] = held[at].saturating_sub(1),
                _ => own[at] += u64::from(places[at].gives),
            }
        }
        Some(Spread::new(places, own, &held))
    }

    /// Where other cores hold some, as last noted.
    fn held_elsewhere(&self, endpoint: EndpointKey) -> Option<Vec<bool>> {
        let bucket = self.endpoints.get(endpoint.0)?;
        let mut held = bucket.addresses.held();
        let conns = self.conns.iter().map(|(_, conn)| conn);
        for conn in conns.filter(|conn| conn.endpoint == endpoint && conn.exists()) {
            if let Some(at) = bucket.addresses.position(conn.address) {
                held[at] = held[at].saturating_sub(1);
            }
        }
        Some(held.iter().map(|held| *held > 0).collect())
    }

    /// A new answer came: what is to be moved because of it.
    pub(super) fn plan_moves(&mut self, now: Tick, endpoint: EndpointKey) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.moves.looks = bucket.moves.looks.max(LOOKS_MORE);
        }
        self.plan(now, endpoint, true);
        self.watch_backups(now, endpoint, now);
    }

    /// What is to be moved is looked at with what all cores hold; without that, what is at backups.
    fn plan(&mut self, now: Tick, endpoint: EndpointKey, for_balance: bool) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        if bucket.counts.live() == 0 {
            bucket.moves.give_up();
        }
        if bucket.addresses.len() < 2 || bucket.counts.live() == 0 || now < bucket.moves.plan_at {
            return;
        }
        bucket.moves.plan_at = now.plus(REFRESH_FLOOR);
        if for_balance {
            self.actions.push_back(Action::Survey { endpoint });
        } else {
            self.move_back(now, endpoint, 0);
        }
    }

    /// The answer to [`Action::Survey`].
    pub(super) fn surveyed(
        &mut self,
        now: Tick,
        endpoint: EndpointKey,
        held: &[u32],
    ) -> Option<()> {
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        bucket.addresses.note_held(held);
        let by_load = bucket.flights.is_timed;
        let elsewhere = self.held_elsewhere(endpoint)?;
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        bucket.addresses.trust(&elsewhere);
        let spread = self.spread(now, endpoint)?;
        let is_crowded = spread.has_own_too_many();
        let wanted = spread.to_move(by_load, &mut self.rng);
        self.move_back(now, endpoint, wanted);
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        if bucket.moves.left == 0 {
            // Nothing was moved: what changes may be looked at at once.
            bucket.moves.plan_at = now;
        }
        if is_crowded && bucket.moves.looks > 0 && !bucket.addresses.have_backups() {
            // Each core has moved its part, rounded by chance: the rest is seen in the next look.
            bucket.moves.even_by(now.plus(REFRESH_FLOOR));
            self.arm(endpoint);
        }
        self.settle(now, endpoint);
        Some(())
    }

    /// So many are to be moved, and those at backups in any case.
    fn move_back(&mut self, now: Tick, endpoint: EndpointKey, wanted: u64) {
        let Some(spread) = self.spread(now, endpoint) else {
            return;
        };
        let most = spread.own().div_ceil(2);
        let wanted = wanted.max(spread.at_backups()).min(most);
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        bucket.moves.left = u32::try_from(wanted).unwrap_or(u32::MAX);
        bucket.moves.aim = bucket.addresses.first_priority(now).unwrap_or(u16::MAX);
        // The permit of what closed ahead may have gone to another core.
        bucket.moves.ahead = false;
        if bucket.moves.left == 0 {
            bucket.moves.give_up();
        }
        self.make_room_to_move(now, endpoint);
    }

    /// The permit of what closed ahead may have gone to another core, while this one's request waits:
    /// the plan goes on without it.
    pub(super) fn still_queued(&mut self, now: Tick, endpoint: EndpointKey) -> Option<()> {
        let bucket = self.endpoints.get_mut(endpoint.0)?;
        if bucket.permit != Permit::Queued {
            // The grant, or the end of the request, was on its way already.
            return Some(());
        }
        bucket.moves.is_succeeded_elsewhere();
        self.make_room_to_move(now, endpoint);
        self.settle(now, endpoint);
        Some(())
    }

    /// What all cores hold is known anew: others may have moved what was too much.
    pub(super) fn doubt_moves(&mut self, now: Tick, endpoint: EndpointKey) {
        let may_doubt = |bucket: &Bucket| {
            let has_plan = bucket.moves.left > 0 && !bucket.moves.ahead;
            has_plan && !bucket.addresses.have_backups()
        };
        if !self.endpoints.get(endpoint.0).is_some_and(may_doubt) {
            return;
        }
        let spread = self.spread(now, endpoint);
        if spread.is_some_and(|spread| !spread.has_own_too_many()) {
            self.give_up_moves(endpoint);
        }
    }

    /// Another core's connection serves in place of the opening that was queued: if one had closed
    /// ahead of that, this is its successor.
    pub(super) fn received_ahead(&mut self, endpoint: EndpointKey) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0)
            && std::mem::take(&mut bucket.moves.ahead)
        {
            bucket.moves.left = bucket.moves.left.saturating_sub(1);
        }
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
        let Some(spread) = self.spread(now, endpoint) else {
            return;
        };
        if is_only_one && spread.at_backups() > 0 {
            // The last connection is not given for a guess, and others' permits come when they come.
            self.give_up_moves(endpoint);
            self.watch_backups(now, endpoint, now.plus(RETURN_CAP));
            return;
        }
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        bucket.moves.crowded = bucket.addresses.those(|at| spread.has_own_there(at));
        if let Some(key) = self.idle_one_too_many(now, endpoint) {
            self.close_ahead(endpoint, key);
        }
    }

    fn give_up_moves(&mut self, endpoint: EndpointKey) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.moves.give_up();
        }
    }

    /// A connection came back while some are to close ahead of their successors: whether it is one.
    pub(super) fn closes_on_return(
        &mut self,
        now: Tick,
        endpoint: EndpointKey,
        key: ConnKey,
    ) -> bool {
        let (Some(bucket), Some(conn)) = (self.endpoints.get(endpoint.0), self.conns.get(key.0))
        else {
            return false;
        };
        let address = conn.address;
        if !bucket.moves.crowded.contains(&address) {
            return false;
        }
        let closes = self.is_to_close_ahead(now, endpoint, key);
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0)
            && !closes
        {
            // Looked at once: not all that come back pay for it.
            bucket.moves.is_not_crowded(address);
        }
        closes
    }

    /// Whether the connection, which nobody uses now, is one to be closed ahead.
    fn is_to_close_ahead(&self, now: Tick, endpoint: EndpointKey, key: ConnKey) -> bool {
        let Some(bucket) = self.endpoints.get(endpoint.0) else {
            return false;
        };
        let Some(conn) = self.conns.get(key.0) else {
            return false;
        };
        let at = bucket.addresses.position(conn.address);
        let spread = self.spread(now, endpoint);
        at.zip(spread)
            .is_some_and(|(at, spread)| spread.has_too_many(at) && bucket.may_close_one(&spread))
    }

    pub(super) fn close_ahead(&mut self, endpoint: EndpointKey, key: ConnKey) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.moves.crowded.clear();
            (bucket.moves.ahead, bucket.moves.has_gone) = (true, false);
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
        let spread = self.spread(now, endpoint);
        let was_in_vain =
            at.zip(spread.as_ref())
                .is_some_and(|(at, spread)| match spread.at_backups() {
                    0 => spread.has_too_many(at),
                    _ => spread.is_at_backup(at),
                });
        let is_done = spread.is_some_and(|it| it.at_backups() == 0 && !it.has_own_too_many());
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
            && (bucket.moves.left == 0 || was_in_vain || is_done)
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
        let Some(spread) = self.spread(now, endpoint) else {
            return;
        };
        let busy = self.conns.iter().find(|(_, conn)| {
            let is_busy = conn.stage == Stage::Ready && conn.uses > 0 && conn.condemned.is_none();
            let at = bucket.addresses.position(conn.address);
            conn.endpoint == endpoint && is_busy && at.is_some_and(|at| spread.is_at_backup(at))
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

    /// An address failed, or is good again: those that were good meanwhile got the connections of all.
    /// That is looked at a few times, and not for ever: what one core lacks others may have. Where some
    /// are in reserve, all that moves is looked after by [`watch_backups`](Self::watch_backups).
    pub(super) fn even_out_later(&mut self, now: Tick, endpoint: EndpointKey) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        if bucket.addresses.len() < 2 || bucket.addresses.have_backups() {
            return;
        }
        bucket.moves.looks = LOOKS;
        bucket.moves.even_by(now.plus(REFRESH_FLOOR));
        self.arm(endpoint);
    }

    /// An address is good again: there is something to be moved at once.
    pub(super) fn even_out_soon(&mut self, now: Tick, endpoint: EndpointKey) {
        self.even_out_later(now, endpoint);
        let soon = now.plus(self.rng.part_of(SOON)).plus(SOON);
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0)
            && bucket.moves.even_at > Tick::ZERO
        {
            bucket.moves.even_by(soon);
            self.arm(endpoint);
        }
    }

    /// The endpoint's moment may be that at which its connections are evened out.
    pub(super) fn look_at_balance(&mut self, now: Tick, endpoint: EndpointKey) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        if bucket.moves.even_at == Tick::ZERO || bucket.moves.even_at > now {
            return;
        }
        if bucket.moves.plan_at > now {
            bucket.moves.even_at = bucket.moves.plan_at;
            return;
        }
        bucket.moves.looks = bucket.moves.looks.saturating_sub(1);
        self.plan(now, endpoint, true);
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        // A core whose only connection is elsewhere just now may have another by then.
        let has_more = bucket.moves.looks > 0 && bucket.is_used();
        let soon = has_more.then(|| now.plus(REFRESH_FLOOR));
        // Who failed is looked at when it may be good again, as long as there are connections.
        let next = bucket
            .addresses
            .next_return(now)
            .filter(|_| bucket.is_used());
        let next = next.map(|next| next.max(now.plus(REFRESH_FLOOR)));
        bucket.moves.even_at = soon.into_iter().chain(next).min().unwrap_or(Tick::ZERO);
    }

    /// The longest idle connection to an address that has more than its share, those at a backup
    /// before the others, if it is not the only one that is left.
    fn idle_one_too_many(&self, now: Tick, endpoint: EndpointKey) -> Option<ConnKey> {
        let bucket = self.endpoints.get(endpoint.0)?;
        let spread = self.spread(now, endpoint)?;
        if !bucket.may_close_one(&spread) {
            return None;
        }
        let conns = self.conns.iter().filter(|(_, conn)| {
            let is_idle = conn.stage == Stage::Ready && conn.uses == 0;
            let at = bucket.addresses.position(conn.address);
            let is_one = conn.endpoint == endpoint && is_idle;
            is_one && at.is_some_and(|at| spread.has_too_many(at))
        });
        let is_at_home = |conn: &Conn| {
            let at = bucket.addresses.position(conn.address);
            at.is_none_or(|at| !spread.is_at_backup(at))
        };
        let oldest = conns.min_by_key(|(key, conn)| (is_at_home(conn), conn.idle_since, *key));
        oldest.map(|(key, _)| ConnKey(key))
    }
}

impl Bucket {
    /// Whether a connection may close for the balance: not the last one for a guess whether what comes
    /// before a backup is good. Where the limit has no permit for its successor, the last one may,
    /// for another: a core that holds one connection would else never move it.
    fn may_close_one(&self, spread: &Spread) -> bool {
        let has_no_permit = self.permit == Permit::Queued || self.moves.may_close_on_return();
        let may_be_last = spread.at_backups() == 0 && has_no_permit;
        self.counts.live() > 1 || may_be_last
    }
}
