//! Which address the next attempt goes to. What must not be chosen while something better is there
//! is ordered strictly; among those that are equally good the endpoint's balance decides.

use std::cmp::Ordering;
use std::net::SocketAddr;

use super::{Address, Addresses};
use crate::balance::Balance;
use crate::policy::flight::Cost;
use crate::policy::rng::Rng;
use crate::target::Target;
use crate::time::Tick;

/// How good an address is for the next attempt, before any balance: the least is the best. Suspect,
/// missing; then the priority, which goes before what is a guess: whether it is of the family that is
/// not wanted, and how well this host can reach it; and whether it is beside this core's slice.
type Class = (bool, bool, u16, bool, u16, bool);

/// What an attempt wants of its address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    /// What its race has tried.
    pub(crate) tried: &'a [SocketAddr],
    /// When its race began.
    pub(crate) since: Tick,
    /// The address that is so slow that its whole family may be.
    pub(crate) beside: Option<SocketAddr>,
    /// How many attempts may be under way to one address, this one included.
    pub(crate) room: u32,
}

impl Wish<'_> {
    /// What a race that begins now wants.
    pub(crate) fn first(now: Tick, room: u32) -> Self {
        Self {
            tried: &[],
            since: now,
            beside: None,
            room,
        }
    }

    /// Whether `entry` is of no use for it: tried in vain by this race, or by another meanwhile.
    /// What fails for one is not tried by the others beside it: a name with many closed ports would
    /// have each of them dialed by each (S17).
    fn rejects(&self, entry: &Address) -> bool {
        let failed = entry.failures > 0 && entry.failed_at >= self.since;
        failed || self.tried.contains(&entry.target.address)
    }

    /// Whether `entry` could be taken now.
    fn takes(&self, entry: &Address) -> bool {
        !self.rejects(entry) && entry.dialing < self.room
    }
}

impl Address {
    /// Whether it would have fewer connections for its share than `other`, had it the next one.
    fn compare_held(&self, other: &Self) -> Ordering {
        let mine = (u64::from(self.held) + 1).saturating_mul(other.share());
        let theirs = (u64::from(other.held) + 1).saturating_mul(self.share());
        mine.cmp(&theirs)
    }

    /// How much the users of all cores want of it; who will use what is being dialed counts.
    fn cost(&self) -> Cost {
        let uses = self.busy.uses.saturating_add(self.dialing);
        Cost::timed(uses, self.busy.latency, self.share())
    }
}

impl Addresses {
    /// The best address for an attempt.
    pub(crate) fn pick(&self, now: Tick, wish: &Wish<'_>, rng: &mut Rng) -> Option<SocketAddr> {
        let open = self.list.iter().filter(|entry| wish.takes(entry));
        let class = |entry: &Address| self.class(now, wish, entry);
        let chosen = match self.balance {
            Balance::LeastConnections | Balance::Weighted(_) => least(open, rng, |one, other| {
                let order = class(one).cmp(&class(other));
                order.then_with(|| one.compare_held(other))
            }),
            Balance::RoundRobin => least(open, rng, |one, other| {
                let order = class(one).cmp(&class(other));
                order.then(one.turn.cmp(&other.turn))
            }),
            Balance::PowerOfTwo => {
                let best = open.clone().map(class).min()?;
                less_busy_of_two(open.filter(|entry| class(entry) == best), rng)
            }
        };
        chosen.map(|entry| entry.target.address)
    }

    fn class(&self, now: Tick, wish: &Wish<'_>, entry: &Address) -> Class {
        let slow = wish.beside.map(|slow| slow.is_ipv6());
        let is_like_slow = slow == Some(entry.is_v6());
        let (is_suspect, is_missing) = (self.is_suspect(now, entry), entry.missing > 0);
        let Target {
            priority, group, ..
        } = entry.target;
        let is_beside = self.slice.lacks(entry.rank.0, entry.rank.1);
        (
            is_suspect,
            is_missing,
            priority,
            is_like_slow,
            group,
            is_beside,
        )
    }

    /// Whether [`pick`](Self::pick) would find none for now, because so many attempts are under way
    /// to those that are left.
    pub(crate) fn are_busy(&self, wish: &Wish<'_>) -> bool {
        let left = || self.list.iter().filter(|entry| !wish.rejects(entry));
        left().next().is_some() && !left().any(|entry| wish.takes(entry))
    }

    /// Whether [`pick`](Self::pick) would find none, now or later.
    pub(crate) fn are_spent(&self, wish: &Wish<'_>) -> bool {
        self.list.iter().all(|entry| wish.rejects(entry))
    }
}

/// One of the least, each of them as likely as the others.
fn least<'a>(
    entries: impl Iterator<Item = &'a Address>,
    rng: &mut Rng,
    compare: impl Fn(&Address, &Address) -> Ordering,
) -> Option<&'a Address> {
    let mut chosen: Option<&Address> = None;
    let mut ties = 0;
    for entry in entries {
        ties = match chosen.map_or(Ordering::Less, |chosen| compare(entry, chosen)) {
            Ordering::Less => 1,
            Ordering::Equal => ties + 1,
            Ordering::Greater => continue,
        };
        // Each of n ties ends up chosen with probability 1/n.
        if rng.below(ties) == 0 {
            chosen = Some(entry);
        }
    }
    chosen
}

/// Two are drawn, so that cores that know the same do not all run to the same one.
fn less_busy_of_two<'a>(
    entries: impl Iterator<Item = &'a Address> + Clone,
    rng: &mut Rng,
) -> Option<&'a Address> {
    let count = entries.clone().count() as u64;
    let first = rng.below(count);
    let mut second = rng.below(count.saturating_sub(1));
    second += u64::from(second >= first);
    let at = |at: u64| entries.clone().nth(at as usize);
    let first = at(first)?;
    let second = at(second).unwrap_or(first);
    match second.cost().compare(&first.cost()) {
        Ordering::Less => Some(second),
        Ordering::Equal | Ordering::Greater => Some(first),
    }
}

#[cfg(test)]
mod tests;
