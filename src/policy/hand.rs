//! Most gets find the connection that came back last, and find it in the same turn: a task ends one
//! request and begins the next. What the policy does for a return and for the get that follows it then
//! cancels out, all but the counting. So a connection that comes back may stay in the hand: for the
//! policy it is in use as before, and its return is done when anything else is asked of the policy.
//!
//! Promise: nobody can tell. What is ready in the hand is what a get of its endpoint would be given
//! at that moment. Whoever else reaches the policy to change it, or to ask for figures or the next
//! deadline, comes by `deref_mut` and finds the hand empty: every use counted and the return done, as
//! of the moment when it was told. In the hand is only what a get does nothing else with: no waiter,
//! demand or opening wants it, no hook is told of it, and nothing about it is due.
//!
//! States: empty → ready (it came back) ⇄ out (a get has it), and from both → empty.

use std::ops::{Deref, DerefMut};

use super::bucket::Bucket;
use super::conn::{Conn, Stage};
use super::event::{Action, ConnKey, EndpointKey, Return};
use super::settings::Settings;
use super::{Counts, PoolPolicy};
use crate::slot::Key;
use crate::time::Tick;

/// The connection that came back last, if it may stay in the hand.
#[derive(Debug)]
struct Hand {
    /// Whose gets may have it: it came back, and its return is not done.
    ready: Option<EndpointKey>,
    /// What may come back into the hand: a get has it, and nothing else was asked since.
    out: Option<ConnKey>,
    endpoint: EndpointKey,
    conn: ConnKey,
    /// When it came back; at any other moment the hand is of no use.
    at: Tick,
    /// Uses of it since then, which are not counted yet.
    uses: u64,
    /// How many there may be.
    most: u64,
}

impl Hand {
    const EMPTY: Self = Self {
        ready: None,
        out: None,
        endpoint: EndpointKey(Key::new(0, 0)),
        conn: ConnKey(Key::new(0, 0)),
        at: Tick::ZERO,
        uses: 0,
        most: 0,
    };

    #[inline]
    fn is_empty(&self) -> bool {
        self.ready.is_none() && self.uses == 0
    }
}

/// A policy with a hand.
#[derive(Debug)]
pub(crate) struct WithHand {
    hand: Hand,
    policy: PoolPolicy,
}

impl WithHand {
    pub(crate) fn new(policy: PoolPolicy) -> Self {
        let hand = Hand::EMPTY;
        Self { hand, policy }
    }

    /// The connection that a get of the endpoint is to be given, if that is in the hand.
    #[inline]
    pub(crate) fn at_hand(&self, now: Tick, endpoint: EndpointKey) -> Option<ConnKey> {
        let hand = &self.hand;
        (hand.ready == Some(endpoint) && hand.at == now).then_some(hand.conn)
    }

    /// A get is given what is [at hand](Self::at_hand). It was handed out before.
    #[inline]
    pub(crate) fn take_again(&mut self) {
        let hand = &mut self.hand;
        hand.ready = None;
        hand.uses += 1;
        hand.out = (hand.uses < hand.most).then_some(hand.conn);
    }

    /// Whether the connection was taken from the hand and may come back there, if it comes back
    /// clean.
    #[inline]
    pub(crate) fn is_out(&self, now: Tick, conn: ConnKey) -> bool {
        self.hand.out == Some(conn) && self.hand.at == now
    }

    /// What [is out](Self::is_out) comes back clean.
    #[inline]
    pub(crate) fn put_again(&mut self) {
        self.hand.ready = Some(self.hand.endpoint);
        self.hand.out = None;
    }

    /// One use of the connection ends.
    #[inline]
    pub(crate) fn put(&mut self, now: Tick, conn: ConnKey, how: Return) {
        self.empty_hand();
        let stays = match how {
            Return::Clean => self.policy.uses_in_hand(now, conn),
            _ => None,
        };
        match stays {
            Some((endpoint, most)) => {
                self.hand = Hand {
                    ready: Some(endpoint),
                    out: None,
                    endpoint,
                    conn,
                    at: now,
                    uses: 0,
                    most,
                };
            }
            None => self.policy.put(now, conn, how),
        }
    }

    /// Nothing is in the hand from now on: all that was put off is done.
    #[inline]
    pub(crate) fn empty_hand(&mut self) {
        if !self.hand.is_empty() {
            self.lay_down();
        }
    }

    #[inline(never)]
    fn lay_down(&mut self) {
        let hand = std::mem::replace(&mut self.hand, Hand::EMPTY);
        if hand.uses > 0 {
            self.policy.count_uses(&hand);
        }
        if hand.ready.is_some() {
            self.policy.put(hand.at, hand.conn, Return::Clean);
        }
    }

    /// The next thing to do. What is in the hand leaves nothing to do.
    #[inline]
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.policy.poll_action()
    }

    /// Whether the endpoint has connections that nobody here wants.
    pub(crate) fn has_to_spare(&mut self, now: Tick, endpoint: EndpointKey) -> bool {
        self.empty_hand();
        self.policy.has_to_spare(now, endpoint)
    }

    /// The figures of the endpoint on this core.
    pub(crate) fn counts(&mut self, endpoint: EndpointKey) -> Option<&Counts> {
        self.empty_hand();
        self.policy.counts(endpoint)
    }
}

/// What the policy has of anything that is not in the hand.
impl Deref for WithHand {
    type Target = PoolPolicy;

    #[inline]
    fn deref(&self) -> &PoolPolicy {
        &self.policy
    }
}

impl DerefMut for WithHand {
    #[inline]
    fn deref_mut(&mut self) -> &mut PoolPolicy {
        self.empty_hand();
        &mut self.policy
    }
}

impl PoolPolicy {
    /// How often the connection, which comes back clean, may be used again without being put down,
    /// and by whose gets; `None` if somebody could tell.
    #[inline]
    fn uses_in_hand(&self, now: Tick, key: ConnKey) -> Option<(EndpointKey, u64)> {
        let is_quiet = self.is_quiet && self.slot_queue.is_empty() && self.total_demand.is_none();
        let conn = self.conns.get(key.0).filter(|_| is_quiet)?;
        let bucket = self.endpoints.get(conn.endpoint.0)?;
        let most = self.settings.uses_left(conn);
        let may = most > 0
            && conn.may_stay_in_hand(now)
            && bucket.would_give_again(conn)
            && !self.draining;
        may.then_some((conn.endpoint, most))
    }

    /// Gets and returns that cancelled out but for this.
    fn count_uses(&mut self, hand: &Hand) {
        if let Some(conn) = self.conns.get_mut(hand.conn.0)
            && let Some(bucket) = self.endpoints.get_mut(hand.endpoint.0)
        {
            conn.total_uses += hand.uses;
            (conn.idle_since, conn.taken_at) = (hand.at, hand.at);
            bucket.last_get = hand.at;
            bucket.counts.gets += hand.uses;
            bucket.counts.reused += hand.uses;
            bucket.need.used(bucket.counts.in_use);
        }
    }
}

#[cfg(any(test, fuzzing, feature = "sim"))]
impl WithHand {
    /// Asserts that every figure agrees, and that what is in the hand may be there.
    pub(crate) fn check(&self) {
        self.policy.check();
        let hand = &self.hand;
        if hand.is_empty() {
            return;
        }
        let uses = self.policy.uses_in_hand(hand.at, hand.conn);
        assert_eq!(uses, Some((hand.endpoint, hand.most)), "in the hand");
        assert!(hand.uses <= hand.most, "uses in the hand");
        let bucket = self.policy.endpoints.get(hand.endpoint.0);
        let is_waited_for = bucket.is_none_or(|it| !it.waiting.is_empty() || it.demand.is_some());
        assert!(!is_waited_for, "somebody waits for what is in the hand");
    }

    /// The figures of the endpoint, whatever is in the hand.
    pub(crate) fn figures(&self, endpoint: EndpointKey) -> Option<Counts> {
        let mut counts = *self.policy.counts(endpoint)?;
        let hand = &self.hand;
        if !hand.is_empty() && hand.endpoint == endpoint {
            let is_ready = u32::from(hand.ready.is_some());
            counts.gets += hand.uses;
            counts.reused += hand.uses;
            counts.in_use -= is_ready;
            counts.idle += is_ready;
        }
        Some(counts)
    }

    /// The connection as the policy has it.
    #[cfg(feature = "sim")]
    pub(crate) fn seen(&self, conn: ConnKey) -> Option<super::check::Seen> {
        let seen = self.policy.seen(conn)?;
        let is_ready = self.hand.ready.is_some() && self.hand.conn == conn;
        Some(if is_ready { seen.put_down() } else { seen })
    }
}

impl Settings {
    /// Whether a get of what came back at the same moment changes nothing but figures.
    pub(super) fn are_uses_quiet(&self) -> bool {
        !self.tells_reuse && self.min_idle == 0 && !self.max_idle_time.is_zero()
    }

    /// Uses of the connection that do not end its life.
    #[inline]
    fn uses_left(&self, conn: &Conn) -> u64 {
        match self.max_connection_uses {
            0 => u64::MAX,
            most => most.saturating_sub(conn.total_uses.saturating_add(1)),
        }
    }
}

impl Conn {
    /// Whether its return at `now` is one of many: the first one is told.
    #[inline]
    fn may_stay_in_hand(&self, now: Tick) -> bool {
        self.stage == Stage::Ready
            && (self.uses, self.capacity) == (1, 1)
            && self.total_uses > 1
            && self.condemned.is_none()
            && now < self.deadline
    }
}

impl Bucket {
    /// Whether the connection, which comes back now, would idle, and be the next get's: no address is
    /// less busy, nobody waits, and how long it was used is of no interest.
    #[inline]
    fn would_give_again(&self, conn: &Conn) -> bool {
        !self.wants_what_is_free()
            && self.partial.is_empty()
            && !self.flights.is_timed
            && (self.flights.is_single() || self.flights.uses(conn.spot) == 1)
    }
}
