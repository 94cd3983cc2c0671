//! A name has several addresses; one that gets the connections of every core melts while the
//! others idle, and one that is dead has the fewest connections of all and would be tried first
//! for ever. The next connection goes to the address that the endpoint's [`Balance`] says, by default
//! where all cores together hold the fewest for its weight, of those that its name's owner prefers;
//! addresses that failed lately come last.
//!
//! States of an address: good → suspect (a connect failed, or was overdue: tried last until a pause
//! has passed, then by one connect at a time) → good (a connection became ready). Beside that:
//! named by the last answer → missing from a fresh one (used if no other works) → gone (missing
//! from two, or from one for long); named again, it is as before.

mod out;
mod pick;
mod slice;

use std::net::SocketAddr;
use std::time::Duration;

pub(crate) use self::pick::Wish;
pub(crate) use self::slice::Slice;
use super::backoff;
use super::event::Busy;
use super::rng::Rng;
use crate::balance::Balance;
use crate::target::Target;
use crate::time::Tick;

/// The first pause of a suspect address; it doubles with each failure.
const SUSPECT_FIRST: Duration = Duration::from_millis(250);
/// Its cap: an address that came back is in use again within two seconds.
const SUSPECT_CAP: Duration = Duration::from_millis(1200);
/// That of a family that lost to the other: to find out costs a waiter the attempt delay, also one
/// that comes alone and seldom, and nothing is lost while the other one works.
const FAMILY_CAP: Duration = Duration::from_secs(60);
/// That after which connections are moved to an address that failed: nobody waits for that, and a
/// backup serves meanwhile.
pub(super) const RETURN_CAP: Duration = Duration::from_secs(30);
/// Fresh answers in a row that lack an address before it is gone.
const ANSWERS_WITHOUT: u32 = 2;
/// Addresses kept of one name: a whole answer of 64, and as many that are missing.
const MAX_KEPT: usize = 128;
/// How much more a weight of 1 is than one of 0, which is "a very small chance" (RFC 2782).
const WEIGHT_UNIT: u64 = 1000;

/// One address of an endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) target: Target,
    /// Connections of all cores, as far as known.
    held: u32,
    /// How busy all cores keep it, where that matters.
    busy: Busy,
    /// When it was dialed last, in turns.
    turn: u64,
    dialing: u32,
    failures: u32,
    /// When it failed last.
    failed_at: Tick,
    suspect_until: Tick,
    /// No connection is moved to it before then.
    return_at: Tick,
    /// Attempts since the last that succeeded.
    returns: u32,
    /// It was tried once because others use it, since it was good last.
    was_trusted: bool,
    /// Its place among those that are as good, and how many those are.
    rank: (u32, u32),
    /// Out for all cores: when it may be probed.
    out: Option<Tick>,
    /// It was out, and nobody here has used a connection there since.
    is_unproved: bool,
    /// Fresh answers in a row that lacked it.
    missing: u32,
    /// When the first of those is enough.
    hold_until: Tick,
}

/// What is known of all addresses of one family together: a host whose way out is broken for IPv6
/// must not find that out address by address (C7).
#[derive(Debug, Default)]
struct Family {
    dialing: u32,
    /// Races in a row that its addresses lost to the other family.
    lost: u32,
    suspect_until: Tick,
}

/// What an address is for the balance of the connections that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Of all connections, beside the shares of the others.
    pub(crate) share: u64,
    /// Connections may be moved to it.
    pub(crate) takes: bool,
    /// Connections may be moved from it.
    pub(crate) gives: bool,
    /// One of a lower priority number is good: all of its connections are to move.
    pub(crate) is_backup: bool,
}

impl Address {
    fn new(target: Target) -> Self {
        Self {
            target,
            held: 0,
            busy: Busy::default(),
            turn: 0,
            dialing: 0,
            failures: 0,
            failed_at: Tick::ZERO,
            suspect_until: Tick::ZERO,
            return_at: Tick::ZERO,
            returns: 0,
            was_trusted: false,
            rank: (0, 1),
            out: None,
            is_unproved: false,
            missing: 0,
            hold_until: Tick::NEVER,
        }
    }

    fn is_suspect(&self, now: Tick) -> bool {
        now < self.suspect_until || (self.failures > 0 && self.dialing > 0)
    }

    /// Connections move to it only after a pause, which grows until an attempt succeeds.
    fn stay_away(&mut self, now: Tick, rng: &mut Rng) {
        self.returns = self.returns.saturating_add(1);
        let pause = backoff::delay(self.returns, SUSPECT_FIRST, RETURN_CAP, rng);
        self.return_at = now.plus(pause);
    }

    /// A connection there became ready, here or on another core.
    fn is_good_again(&mut self) {
        self.failures = 0;
        self.failed_at = Tick::ZERO;
        (self.suspect_until, self.return_at) = (Tick::ZERO, Tick::ZERO);
        self.was_trusted = false;
    }

    fn is_v6(&self) -> bool {
        self.target.address.is_ipv6()
    }

    /// Its share of the load of its class, in parts that mean something beside each other only.
    fn share(&self) -> u64 {
        match self.target.weight {
            0 => 1,
            weight => u64::from(weight) * WEIGHT_UNIT,
        }
    }
}

/// The addresses of an endpoint in the resolver's order; those that are missing come after.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    list: Vec<Address>,
    /// IPv4 and IPv6.
    families: [Family; 2],
    balance: Balance,
    /// Connects so far.
    turns: u64,
    /// The addresses that this core works on.
    pub(super) slice: Slice,
    /// Some were out, and are unproved.
    some_unproved: bool,
}

/// What is known of them.
impl Addresses {
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn position(&self, address: SocketAddr) -> Option<usize> {
        let mut all = self.list.iter();
        all.position(|entry| entry.target.address == address)
    }

    /// Takes over a new answer; the next is asked for at `next`. What is known of addresses that
    /// stay is kept. Only a fresh answer counts against those that it lacks. Returns whether any is
    /// gone now.
    pub(crate) fn replace(
        &mut self,
        now: Tick,
        targets: &[Target],
        next: Tick,
        is_fresh: bool,
    ) -> bool {
        let mut old = std::mem::take(&mut self.list);
        for target in targets {
            let known = |entry: &Address| entry.target.address == target.address;
            let target = self.weighed(*target);
            let entry = match old.iter().position(known) {
                Some(at) => Address {
                    target,
                    missing: 0,
                    hold_until: Tick::NEVER,
                    ..old.remove(at)
                },
                None => Address::new(target),
            };
            self.list.push(entry);
        }
        let named = self.list.len();
        let before = named + old.len();
        for mut entry in old {
            if is_fresh {
                entry.missing += 1;
                // The next answer has as long again to come.
                let hold = next.plus(next.since(now));
                entry.hold_until = entry.hold_until.min(hold);
            }
            if entry.missing < ANSWERS_WITHOUT && self.list.len() < MAX_KEPT.max(named) {
                self.list.push(entry);
            }
        }
        self.rank();
        self.list.len() < before
    }

    fn rank(&mut self) {
        let ranks = slice::ranks(self.list.iter().map(|entry| &entry.target));
        for (entry, rank) in self.list.iter_mut().zip(ranks) {
            entry.rank = rank;
        }
    }

    /// The target with the weight that it has by the balance.
    fn weighed(&self, target: Target) -> Target {
        let weight = match &self.balance {
            Balance::LeastConnections | Balance::PowerOfTwo => target.weight,
            Balance::RoundRobin => 1,
            Balance::Weighted(weights) => weights.get(target.address).unwrap_or(target.weight),
        };
        Target { weight, ..target }
    }

    fn is_suspect(&self, now: Tick, entry: &Address) -> bool {
        let family = &self.families[usize::from(entry.is_v6())];
        let is_probed = family.lost > 0 && family.dialing > 0;
        let is_out = entry.out.is_some();
        is_out || entry.is_suspect(now) || now < family.suspect_until || is_probed
    }

    /// When the next missing address is gone.
    pub(crate) fn next_hold(&self) -> Option<Tick> {
        let holds = self.list.iter().map(|entry| entry.hold_until);
        holds.min().filter(|hold| *hold != Tick::NEVER)
    }

    /// Forgets those that were missing for too long; returns whether there were any.
    pub(crate) fn drop_held(&mut self, now: Tick) -> bool {
        let before = self.list.len();
        self.list.retain(|entry| entry.hold_until > now);
        self.rank();
        self.list.len() < before
    }

    /// Notes what all cores hold, in the order of the last answer.
    pub(crate) fn note_held(&mut self, held: &[u32]) {
        for (address, held) in self.list.iter_mut().zip(held) {
            address.held = *held;
        }
    }

    /// Notes how busy all cores keep them, in the order of the last answer.
    pub(crate) fn note_busy(&mut self, busy: &[Busy]) {
        for (address, busy) in self.list.iter_mut().zip(busy) {
            address.busy = *busy;
        }
    }

    /// The address's share of the load, beside those of the others; 1 if it is gone.
    pub(crate) fn share(&self, address: SocketAddr) -> u64 {
        self.position(address).map_or(1, |at| self.list[at].share())
    }

    /// How connections are spread from now on; before there are any addresses.
    pub(crate) fn set_balance(&mut self, balance: Balance) {
        self.balance = balance;
    }

    /// Those at the places in the list that `wanted` says.
    pub(crate) fn those(&self, wanted: impl Fn(usize) -> bool) -> Vec<SocketAddr> {
        let all = self.list.iter().enumerate().filter(|it| wanted(it.0));
        all.map(|it| it.1.target.address).collect()
    }

    /// What all cores hold, as last noted, in the order of the list.
    pub(crate) fn held(&self) -> Vec<u32> {
        self.list.iter().map(|entry| entry.held).collect()
    }

    /// What each is for the balance of the connections that exist, in the order of the list.
    pub(crate) fn places(&self, now: Tick) -> Vec<Place> {
        let good = self.list.iter().filter(|entry| self.is_good(now, entry));
        let best = good.map(|entry| entry.target.preference()).min();
        let first = self.first_priority(now);
        let place = |entry: &Address| {
            let is_preferred = Some(entry.target.preference()) == best;
            let is_good = is_preferred && self.is_good(now, entry);
            let is_beside = self.slice.lacks(entry.rank.0, entry.rank.1);
            let is_backup = first.is_some_and(|first| entry.target.priority > first);
            Place {
                share: if is_good { entry.share() } else { 0 },
                takes: is_good && entry.missing == 0 && !is_beside,
                // A server that is full refuses one more, and those that it has are good.
                gives: is_good || is_backup || entry.missing > 0,
                is_backup,
            }
        };
        self.list.iter().map(place).collect()
    }

    /// Whether connections may be moved to it.
    fn is_good(&self, now: Tick, entry: &Address) -> bool {
        now >= entry.return_at && !self.is_suspect(now, entry)
    }

    /// The priority to which connections may be moved: the best that has a good address.
    pub(crate) fn first_priority(&self, now: Tick) -> Option<u16> {
        let all = self.list.iter();
        let good = all.filter(|entry| entry.missing == 0 && self.is_good(now, entry));
        good.map(|entry| entry.target.priority).min()
    }

    /// When it was dialed last, in connects.
    pub(crate) fn turn(&self, address: SocketAddr) -> u64 {
        self.position(address).map_or(0, |at| self.list[at].turn)
    }

    /// Whether some are used only if others fail.
    pub(crate) fn have_backups(&self) -> bool {
        let mut all = self.list.iter().map(|entry| entry.target.priority);
        let first = all.next();
        all.any(|priority| Some(priority) != first)
    }

    /// Whether some that are used only if others fail come after it.
    pub(crate) fn is_before_others(&self, address: SocketAddr) -> bool {
        let priority = self.priority(address);
        let mut all = self.list.iter().map(|entry| entry.target.priority);
        priority.is_some_and(|priority| all.any(|other| other > priority))
    }

    /// The priority of an address.
    pub(crate) fn priority(&self, address: SocketAddr) -> Option<u16> {
        let entry = &self.list[self.position(address)?];
        Some(entry.target.priority)
    }

    /// When the first address that comes before `priority` may be good, unless one is dialed then.
    pub(crate) fn next_before(&self, priority: u16) -> Option<Tick> {
        let all = self.list.iter();
        let before = all.filter(|it| it.missing == 0 && it.target.priority < priority);
        let at = |it: &Address| {
            let family = &self.families[usize::from(it.is_v6())];
            let own = it.return_at.max(it.suspect_until);
            own.max(family.suspect_until)
        };
        before.map(at).min()
    }
}

/// Attempts.
impl Addresses {
    fn find(&mut self, address: SocketAddr) -> Option<&mut Address> {
        let mut all = self.list.iter_mut();
        all.find(|entry| entry.target.address == address)
    }

    /// A connect to `address` starts.
    pub(crate) fn dialing(&mut self, address: SocketAddr) {
        let family = self.family(address);
        family.dialing = family.dialing.saturating_add(1);
        self.turns += 1;
        let turn = self.turns;
        if let Some(entry) = self.find(address) {
            entry.turn = turn;
            entry.dialing = entry.dialing.saturating_add(1);
            entry.held = entry.held.saturating_add(1);
        }
    }

    /// The connect became a ready connection. Returns whether some had failed before.
    pub(crate) fn succeeded(&mut self, address: SocketAddr) -> bool {
        let family = self.family(address);
        *family = Family {
            dialing: family.dialing.saturating_sub(1),
            ..Family::default()
        };
        if let Some(entry) = self.find(address) {
            entry.dialing = entry.dialing.saturating_sub(1);
            let had_failed = entry.failures > 0;
            entry.is_good_again();
            entry.returns = 0;
            return had_failed;
        }
        false
    }

    /// The connect failed.
    pub(crate) fn failed(&mut self, now: Tick, address: SocketAddr, rng: &mut Rng) {
        self.gave_up(address);
        self.overdue(now, address, rng);
        if let Some(entry) = self.find(address) {
            entry.failed_at = now;
        }
    }

    /// The connect takes so long that another is tried beside it. That is no failure yet, but whoever
    /// comes next should not wait for it too.
    pub(crate) fn overdue(&mut self, now: Tick, address: SocketAddr, rng: &mut Rng) {
        if let Some(entry) = self.find(address) {
            entry.failures = entry.failures.saturating_add(1);
            let pause = backoff::delay(entry.failures, SUSPECT_FIRST, SUSPECT_CAP, rng);
            entry.suspect_until = now.plus(pause);
            entry.stay_away(now, rng);
        }
    }

    /// A connect to `slow` was overdue, and one to `winner` became ready first. If they are of two
    /// families, the other one comes first for a while. A backup that wins says nothing of families:
    /// all that comes before it is in doubt.
    pub(crate) fn outrun(
        &mut self,
        now: Tick,
        slow: SocketAddr,
        winner: SocketAddr,
        rng: &mut Rng,
    ) {
        let is_like = self.priority(slow) == self.priority(winner);
        if is_like && slow.is_ipv6() != winner.is_ipv6() {
            let family = self.family(slow);
            family.lost = family.lost.saturating_add(1);
            let pause = backoff::delay(family.lost, SUSPECT_FIRST, FAMILY_CAP, rng);
            family.suspect_until = now.plus(pause);
        }
    }

    fn family(&mut self, address: SocketAddr) -> &mut Family {
        &mut self.families[usize::from(address.is_ipv6())]
    }

    /// The connect was given up, which says nothing about the address.
    pub(crate) fn gave_up(&mut self, address: SocketAddr) {
        let family = self.family(address);
        family.dialing = family.dialing.saturating_sub(1);
        if let Some(entry) = self.find(address) {
            entry.dialing = entry.dialing.saturating_sub(1);
            entry.held = entry.held.saturating_sub(1);
        }
    }

    /// The connect failed for want of something on this host. That is no verdict on the address, but
    /// it may be so for all connects to it (a family without an address here, the ports towards it
    /// used up): for a moment the others come first. Of the pauses, that before connections move there
    /// grows.
    pub(crate) fn failed_here(&mut self, now: Tick, address: SocketAddr, rng: &mut Rng) {
        self.gave_up(address);
        if let Some(entry) = self.find(address) {
            entry.suspect_until = now.plus(SUSPECT_FIRST);
            entry.stay_away(now, rng);
        }
    }
}

#[cfg(test)]
mod tests;
