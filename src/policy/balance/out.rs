//! Addresses that are out for all cores: what this core knows of them.
//!
//! Promise: one that is out is dialed after all others, gets no connections by moving them, and is as
//! good as one that never failed as soon as some core has a connection there.

use std::net::SocketAddr;

use super::Addresses;
use crate::time::Tick;

/// Those that are out for all cores.
impl Addresses {
    /// Notes which are, in the order of the last answer. Returns whether one came back.
    pub(crate) fn note_out(&mut self, out: &[Option<Tick>]) -> bool {
        let mut is_back = false;
        for (entry, out) in self.list.iter_mut().zip(out) {
            let was_out = std::mem::replace(&mut entry.out, *out).is_some();
            entry.is_unproved |= out.is_some();
            self.some_unproved |= out.is_some();
            if was_out && out.is_none() {
                entry.is_good_again();
                is_back = true;
            }
        }
        is_back
    }

    pub(crate) fn is_out(&self, address: SocketAddr) -> bool {
        self.probe_at(address).is_some()
    }

    /// When it may be probed, if it is out.
    pub(crate) fn probe_at(&self, address: SocketAddr) -> Option<Tick> {
        self.list[self.position(address)?].out
    }

    /// Whether it is out and worth a probe, and one attempt more may be under way to it.
    pub(crate) fn may_probe(&self, address: SocketAddr, room: u32) -> bool {
        let has_room = |at: usize| self.list[at].dialing < room;
        let is_worth_it = self.to_probe().any(|it| it.0 == address);
        is_worth_it && self.position(address).is_some_and(has_room)
    }

    /// Those that are worth a probe, and when each may have one: what is in reserve behind an address
    /// that has not failed is left alone.
    fn to_probe(&self) -> impl Iterator<Item = (SocketAddr, Tick)> {
        let all = || self.list.iter().filter(|it| it.missing == 0);
        let good = all().filter(|it| it.out.is_none() && it.failures == 0);
        let first = good.map(|it| it.target.priority).min().unwrap_or(u16::MAX);
        let all = all().filter(move |it| it.target.priority <= first);
        all.filter_map(|it| Some((it.target.address, it.out?)))
    }

    /// When the next of those that `wanted` says may be probed.
    pub(crate) fn next_probe(&self, wanted: impl Fn(SocketAddr) -> bool) -> Option<Tick> {
        let all = self.to_probe().filter(|it| wanted(it.0));
        all.map(|it| it.1).min()
    }

    /// That which may be probed now, for the longest time, of those that `wanted` says.
    pub(crate) fn due_probe(
        &self,
        now: Tick,
        wanted: impl Fn(SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let due = self.to_probe().filter(|it| it.1 <= now && wanted(it.0));
        due.min_by_key(|it| it.1).map(|it| it.0)
    }

    /// What all cores hold where it is of use.
    pub(crate) fn held_by_good(&self) -> u32 {
        let good = self.list.iter().filter(|it| it.out.is_none());
        good.map(|it| it.held).sum()
    }

    /// Whether a use that ended well is news of an address that was out.
    #[inline]
    pub(crate) fn is_proved(&mut self, address: SocketAddr) -> bool {
        if !self.some_unproved {
            return false;
        }
        let Some(entry) = self.find(address).filter(|entry| entry.out.is_none()) else {
            return false;
        };
        let was_unproved = std::mem::take(&mut entry.is_unproved);
        self.some_unproved = self.list.iter().any(|entry| entry.is_unproved);
        was_unproved
    }

    /// Whether `slow` lost to `winner` for a fault of its own: not that of its family or priority, and not
    /// for one packet that was lost.
    pub(crate) fn is_beaten(&self, slow: SocketAddr, winner: SocketAddr) -> bool {
        let has_lost_before = |at: usize| self.list[at].failures > 1;
        let is_like = self.priority(slow) == self.priority(winner);
        let is_its_own = is_like && slow.is_ipv6() == winner.is_ipv6();
        slow != winner && is_its_own && self.position(slow).is_some_and(has_lost_before)
    }

    /// What failed for this core and not for those others that hold connections there (`elsewhere`)
    /// takes connections again at once: not twice, for it may be this host, or this core, that cannot
    /// reach it, and others may dial it in vain. Backups have rules of their own.
    pub(crate) fn trust(&mut self, elsewhere: &[bool]) {
        if self.have_backups() {
            return;
        }
        for (entry, is_used) in self.list.iter_mut().zip(elsewhere) {
            let has_failed = entry.return_at > Tick::ZERO && entry.out.is_none();
            if *is_used && has_failed && !entry.was_trusted {
                entry.return_at = Tick::ZERO;
                entry.was_trusted = true;
            }
        }
    }

    /// When the next that failed here, and is not out for all, may get connections again; none that
    /// may have them already.
    pub(crate) fn next_return(&self, now: Tick) -> Option<Tick> {
        let all = self.list.iter();
        let known = all.filter(|it| it.out.is_none() && it.missing == 0);
        let next = known.map(|it| {
            let family = &self.families[usize::from(it.is_v6())];
            it.return_at.max(it.suspect_until).max(family.suspect_until)
        });
        next.filter(|at| *at > now).min()
    }
}
