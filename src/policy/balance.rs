//! A name has several addresses; one that gets the connections of every core melts while the
//! others idle, and one that is dead has the fewest connections of all and would be tried first
//! for ever. The next connection goes to the address where all cores together hold the fewest,
//! and addresses that failed lately come last.
//!
//! States of an address: good → suspect (a connect failed: tried last until a pause has passed,
//! then by one connect at a time) → good (a connection became ready).

use std::net::SocketAddr;
use std::time::Duration;

use super::backoff;
use super::rng::Rng;
use crate::time::Tick;

/// The first pause of a suspect address; it doubles with each failure.
const SUSPECT_FIRST: Duration = Duration::from_millis(250);
/// Its cap: an address that came back is in use again within two seconds.
const SUSPECT_CAP: Duration = Duration::from_millis(1200);

/// One address of an endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) address: SocketAddr,
    /// Connections of all cores, as far as known.
    pub(crate) held: u32,
    dialing: u32,
    failures: u32,
    /// When it failed last.
    failed_at: Tick,
    suspect_until: Tick,
}

impl Address {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            held: 0,
            dialing: 0,
            failures: 0,
            failed_at: Tick::ZERO,
            suspect_until: Tick::ZERO,
        }
    }

    fn is_suspect(&self, now: Tick) -> bool {
        now < self.suspect_until || (self.failures > 0 && self.dialing > 0)
    }

    /// Whether an opening that began at `since` has no use for it: it was tried in vain, by this
    /// opening or by another one meanwhile.
    fn is_spent(&self, tried: &[SocketAddr], since: Tick) -> bool {
        tried.contains(&self.address) || (self.failures > 0 && self.failed_at >= since)
    }
}

/// The addresses of an endpoint in the resolver's order.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    list: Vec<Address>,
}

impl Addresses {
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Takes over a new answer; what is known of addresses that stay is kept.
    pub(crate) fn replace(&mut self, addresses: &[SocketAddr]) {
        let old = std::mem::take(&mut self.list);
        let known = |address: &SocketAddr| old.iter().find(|old| old.address == *address).cloned();
        self.list = addresses
            .iter()
            .map(|address| known(address).unwrap_or_else(|| Address::new(*address)))
            .collect();
    }

    /// Notes what all cores hold, in the order of the list.
    pub(crate) fn note_held(&mut self, held: &[u32]) {
        for (address, held) in self.list.iter_mut().zip(held) {
            address.held = *held;
        }
    }

    /// The best address for an opening that began at `since` and has tried `tried`. What fails for
    /// one opening is not tried by the others beside it: a name with many closed ports would have
    /// each of them dialed by each (S17).
    pub(crate) fn pick(
        &self,
        now: Tick,
        tried: &[SocketAddr],
        since: Tick,
        rng: &mut Rng,
    ) -> Option<SocketAddr> {
        let mut best: Option<(bool, u32)> = None;
        let mut chosen = None;
        let mut ties = 0;
        for entry in &self.list {
            if entry.is_spent(tried, since) {
                continue;
            }
            let rank = (entry.is_suspect(now), entry.held);
            if best.is_none_or(|best| rank < best) {
                best = Some(rank);
                ties = 0;
            }
            if best == Some(rank) {
                ties += 1;
                // Each of n ties ends up chosen with probability 1/n.
                if rng.below(ties) == 0 {
                    chosen = Some(entry.address);
                }
            }
        }
        chosen
    }

    /// Whether [`pick`](Self::pick) would find none.
    pub(crate) fn are_spent(&self, tried: &[SocketAddr], since: Tick) -> bool {
        self.list.iter().all(|entry| entry.is_spent(tried, since))
    }

    fn find(&mut self, address: SocketAddr) -> Option<&mut Address> {
        self.list.iter_mut().find(|entry| entry.address == address)
    }

    /// A connect to `address` starts.
    pub(crate) fn dialing(&mut self, address: SocketAddr) {
        if let Some(entry) = self.find(address) {
            entry.dialing = entry.dialing.saturating_add(1);
            entry.held = entry.held.saturating_add(1);
        }
    }

    /// The connect became a ready connection.
    pub(crate) fn succeeded(&mut self, address: SocketAddr) {
        if let Some(entry) = self.find(address) {
            entry.dialing = entry.dialing.saturating_sub(1);
            entry.failures = 0;
            entry.suspect_until = Tick::ZERO;
        }
    }

    /// The connect failed.
    pub(crate) fn failed(&mut self, now: Tick, address: SocketAddr, rng: &mut Rng) {
        if let Some(entry) = self.find(address) {
            entry.dialing = entry.dialing.saturating_sub(1);
            entry.held = entry.held.saturating_sub(1);
            entry.failures = entry.failures.saturating_add(1);
            entry.failed_at = now;
            let pause = backoff::delay(entry.failures, SUSPECT_FIRST, SUSPECT_CAP, rng);
            entry.suspect_until = now.plus(pause);
        }
    }

    /// The connect failed for want of something on this host. That is no verdict on the address, but
    /// it may be so for all connects to it (a family without an address here, the ports towards it
    /// used up): for a moment the others come first. The pause does not grow.
    pub(crate) fn failed_here(&mut self, now: Tick, address: SocketAddr) {
        if let Some(entry) = self.find(address) {
            entry.dialing = entry.dialing.saturating_sub(1);
            entry.held = entry.held.saturating_sub(1);
            entry.suspect_until = now.plus(SUSPECT_FIRST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 80))
    }

    fn addresses(n: u8) -> Addresses {
        let mut list = Addresses::default();
        list.replace(&(1..=n).map(address).collect::<Vec<_>>());
        list
    }

    #[test]
    fn the_address_with_the_fewest_connections_of_all_cores_is_picked() {
        let mut list = addresses(3);
        let mut rng = Rng::new(1);
        list.note_held(&[3, 1, 2]);
        assert_eq!(
            list.pick(Tick::ZERO, &[], Tick::NEVER, &mut rng),
            Some(address(2))
        );
        assert_eq!(
            list.pick(Tick::ZERO, &[address(2)], Tick::NEVER, &mut rng),
            Some(address(3))
        );
        let all = [address(1), address(2), address(3)];
        assert_eq!(list.pick(Tick::ZERO, &all, Tick::NEVER, &mut rng), None);
    }

    #[test]
    fn ties_are_spread_over_all_of_them() {
        let list = addresses(4);
        let mut rng = Rng::new(1);
        let mut seen = [0; 5];
        for _ in 0..400 {
            if let Some(SocketAddr::V4(v4)) = list.pick(Tick::ZERO, &[], Tick::NEVER, &mut rng) {
                seen[v4.ip().octets()[3] as usize] += 1;
            }
        }
        assert!(seen[1..].iter().all(|&n| n > 50), "{seen:?}");
    }

    #[test]
    fn c1_c10_c15_a_suspect_address_comes_last_and_is_probed_by_one_connect_at_a_time() {
        let mut list = addresses(2);
        let mut rng = Rng::new(1);
        list.note_held(&[0, 9]);
        list.dialing(address(1));
        list.failed(Tick::ZERO, address(1), &mut rng);
        assert_eq!(
            list.pick(Tick::ZERO, &[], Tick::NEVER, &mut rng),
            Some(address(2))
        );
        let later = Tick::ZERO.plus(SUSPECT_CAP * 2);
        assert_eq!(
            list.pick(later, &[], Tick::NEVER, &mut rng),
            Some(address(1))
        );
        list.dialing(address(1));
        assert_eq!(
            list.pick(later, &[], Tick::NEVER, &mut rng),
            Some(address(2))
        );
        list.succeeded(address(1));
        assert_eq!(
            list.pick(later, &[], Tick::NEVER, &mut rng),
            Some(address(1))
        );
    }

    #[test]
    fn what_failed_for_another_opening_meanwhile_is_not_tried_again_until_it_is_good() {
        let mut list = addresses(2);
        let mut rng = Rng::new(1);
        let began = Tick::ZERO.plus(Duration::from_millis(5));
        let before = Tick::ZERO.plus(Duration::from_millis(4));
        list.failed(before, address(1), &mut rng);
        list.failed(began, address(2), &mut rng);
        assert_eq!(list.pick(began, &[], began, &mut rng), Some(address(1)));
        assert!(list.are_spent(&[address(1)], began));
        list.succeeded(address(2));
        assert_eq!(list.pick(began, &[], began, &mut rng), Some(address(2)));
        assert!(!list.are_spent(&[address(1)], began));
    }

    #[test]
    fn a_new_answer_keeps_what_is_known_of_the_addresses_that_stay() {
        let mut list = addresses(2);
        let mut rng = Rng::new(1);
        list.dialing(address(2));
        list.failed(Tick::ZERO, address(2), &mut rng);
        list.replace(&[address(2), address(7)]);
        assert_eq!(
            list.pick(Tick::ZERO, &[], Tick::NEVER, &mut rng),
            Some(address(7))
        );
    }

    #[test]
    fn an_address_that_never_failed_is_not_suspect_while_it_is_dialed() {
        let mut list = addresses(2);
        let mut rng = Rng::new(1);
        list.note_held(&[0, 9]);
        list.dialing(address(1));
        assert_eq!(
            list.pick(Tick::ZERO, &[], Tick::NEVER, &mut rng),
            Some(address(1))
        );
    }

    #[test]
    fn a_connect_counts_as_a_connection_until_it_fails() {
        let mut list = addresses(2);
        let mut rng = Rng::new(1);
        list.note_held(&[1, 2]);
        list.dialing(address(1));
        list.dialing(address(1));
        assert_eq!(
            list.pick(Tick::ZERO, &[], Tick::NEVER, &mut rng),
            Some(address(2))
        );
        list.failed(Tick::ZERO, address(1), &mut rng);
        list.failed(Tick::ZERO, address(1), &mut rng);
        let later = Tick::ZERO.plus(SUSPECT_CAP * 2);
        assert_eq!(
            list.pick(later, &[], Tick::NEVER, &mut rng),
            Some(address(1))
        );
    }

    #[test]
    fn a_connect_that_succeeded_is_no_probe_any_more() {
        let mut list = addresses(2);
        let mut rng = Rng::new(1);
        list.note_held(&[0, 9]);
        list.dialing(address(1));
        list.succeeded(address(1));
        list.dialing(address(1));
        list.failed(Tick::ZERO, address(1), &mut rng);
        let later = Tick::ZERO.plus(SUSPECT_CAP * 2);
        assert_eq!(
            list.pick(later, &[], Tick::NEVER, &mut rng),
            Some(address(1))
        );
    }

    #[test]
    fn the_pause_of_a_suspect_address_is_over_at_its_end() {
        let mut list = addresses(2);
        let mut rng = Rng::new(1);
        list.note_held(&[0, 9]);
        list.failed(Tick::ZERO, address(1), &mut rng);
        let end = list.list[0].suspect_until;
        assert_eq!(list.pick(end, &[], Tick::NEVER, &mut rng), Some(address(1)));
    }
}
