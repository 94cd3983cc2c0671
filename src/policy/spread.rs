//! Each core decides alone which of its connections are to move, and the balance is that of all:
//! a core with one connection of a hundred can neither see in what it holds itself that an address
//! has too many, nor must all of them see it and go. So a core goes by what all hold, and moves its
//! part of what is too much.
//!
//! Promise: all cores together move, on average, what is too much and no more; a core that holds
//! all there is moves exactly that. What is even within whole connections rests.

use super::balance::Place;
use super::rng::Rng;

/// Parts of a connection: what a core is to move is not a whole number.
const PARTS: u128 = 1 << 32;

/// How the connections of one endpoint lie over its addresses, in the order of the list.
#[derive(Debug)]
pub(crate) struct Spread {
    places: Vec<Place>,
    /// This core's.
    own: Vec<u64>,
    /// Those of all cores, as far as known.
    held: Vec<u64>,
    /// All that count.
    total: u64,
    shares: u64,
}

impl Spread {
    pub(crate) fn new(places: Vec<Place>, own: Vec<u64>, held: &[u32]) -> Self {
        let known = held.iter().copied().map(u64::from);
        let pairs = places.iter().zip(&own).zip(known);
        let held: Vec<u64> = pairs
            .map(|((place, own), held)| if place.gives { held.max(*own) } else { 0 })
            .collect();
        Self {
            total: held.iter().sum(),
            shares: places.iter().map(|place| place.share).sum(),
            places,
            own,
            held,
        }
    }

    /// This core's connections that count.
    pub(crate) fn own(&self) -> u64 {
        self.own.iter().sum()
    }

    /// What the address should have, times `shares`.
    fn fair(&self, at: usize) -> u64 {
        self.total.saturating_mul(self.places[at].share)
    }

    /// Where some have whole connections too many, theirs move before those that are too many by a
    /// part.
    pub(crate) fn has_too_many(&self, at: usize) -> bool {
        let is_over = self.held[at].saturating_mul(self.shares) > self.fair(at);
        let is_next = self.excess(at) > 0 || self.all_excess() == 0;
        self.places[at].gives && (is_over && is_next || self.is_at_backup(at))
    }

    /// Whether some of this core's connections are where too many are.
    pub(crate) fn has_own_too_many(&self) -> bool {
        (0..self.own.len()).any(|at| self.has_own_there(at))
    }

    /// Whether too many are there, and some of them this core's.
    pub(crate) fn has_own_there(&self, at: usize) -> bool {
        self.own[at] > 0 && self.has_too_many(at)
    }

    /// The connections that the address has too many: whole ones only. One that is suspect neither
    /// counts nor gives.
    fn excess(&self, at: usize) -> u64 {
        let place = &self.places[at];
        let fair = self.fair(at).div_ceil(self.shares.max(1));
        match place.gives && place.share > 0 {
            true => self.held[at].saturating_sub(fair),
            false => 0,
        }
    }

    fn all_excess(&self) -> u64 {
        (0..self.held.len()).map(|at| self.excess(at)).sum()
    }

    pub(crate) fn is_at_backup(&self, at: usize) -> bool {
        self.places[at].is_backup && self.own[at] > 0
    }

    /// Connections of this core that are to move back.
    pub(crate) fn at_backups(&self) -> u64 {
        let all = (0..self.own.len()).filter(|at| self.places[*at].is_backup);
        all.map(|at| self.own[at]).sum()
    }

    /// The connections that the address lacks: whole ones only, or connections would be moved to
    /// and fro. Where the load decides (`by_load`), an address lacks some only if nobody can know its
    /// load.
    fn lacks(&self, at: usize, by_load: bool) -> u64 {
        let fair = self.fair(at) / self.shares.max(1);
        match self.places[at].takes && !(by_load && self.held[at] > 0) {
            true => fair.saturating_sub(self.held[at]),
            false => 0,
        }
    }

    /// How many connections this core is to move, beside those at a backup.
    pub(crate) fn to_move(&self, by_load: bool, rng: &mut Rng) -> u64 {
        let lacking: u64 = (0..self.held.len()).map(|at| self.lacks(at, by_load)).sum();
        // Eight too many at one address may be one or none at each of the others.
        let excess = if by_load { 0 } else { self.all_excess() };
        self.part_of(lacking.max(excess.min(self.all_room())), rng)
    }

    /// How many more may be moved before those that take them have too many: of very many addresses,
    /// those of this core's slice may have enough.
    fn all_room(&self) -> u64 {
        let room = |at: usize| {
            let fair = self.fair(at).div_ceil(self.shares.max(1));
            match self.places[at].takes {
                true => fair.saturating_sub(self.held[at]),
                false => 0,
            }
        };
        (0..self.held.len()).map(room).sum()
    }

    /// This core's part of the `wanted` moves of all, by what it holds of each address with too many.
    fn part_of(&self, wanted: u64, rng: &mut Rng) -> u64 {
        let surplus = |at: usize| match self.has_too_many(at) {
            true if self.excess(at) > 0 => self.excess(at),
            true => self.held[at].saturating_sub(self.fair(at) / self.shares.max(1)),
            false => 0,
        };
        let all: u64 = (0..self.held.len()).map(surplus).sum();
        let part = |at: usize| {
            let own = u128::from(self.own[at]) * u128::from(surplus(at));
            let of = u128::from(self.held[at]) * u128::from(all);
            own * u128::from(wanted) * PARTS / of.max(1)
        };
        // Each division has lost less than a part.
        let parts: u128 = (0..self.held.len()).map(part).sum();
        let parts = parts + self.held.len() as u128;
        let rest = (parts % PARTS) as u64;
        let one_more = rng.below(PARTS as u64) < rest && rest > self.held.len() as u64;
        u64::try_from(parts / PARTS).unwrap_or(u64::MAX) + u64::from(one_more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses of equal shares, where this core holds `own` of `held`.
    fn spread(own: &[u64], held: &[u32]) -> Spread {
        let place = Place {
            share: 1000,
            takes: true,
            gives: true,
            is_backup: false,
        };
        Spread::new(vec![place; own.len()], own.to_vec(), held)
    }

    /// What a core is to move, drawn often.
    fn drawn(spread: &Spread) -> Vec<u64> {
        let mut rng = Rng::new(7);
        (0..1000).map(|_| spread.to_move(false, &mut rng)).collect()
    }

    #[test]
    fn d25_a_core_that_holds_all_moves_exactly_what_is_too_much() {
        for (own, moves) in [
            ([8, 0, 0, 0], 6),
            ([3, 3, 0, 0], 2),
            ([2, 2, 1, 0], 1),
            ([2, 1, 1, 1], 0),
            ([1, 0, 0, 0], 0),
            ([5, 4, 3, 0], 3),
        ] {
            let held = own.map(|own| own as u32);
            assert_eq!(drawn(&spread(&own, &held)), [moves; 1000], "{own:?}");
        }
    }

    #[test]
    fn d25_cores_with_one_connection_each_move_half_of_them_to_as_many_new_addresses() {
        let held = [8, 8, 8, 8, 0, 0, 0, 0];
        let moves = drawn(&spread(&[0, 1, 0, 0, 0, 0, 0, 0], &held));
        assert!(moves.iter().all(|it| *it < 2));
        let moved: u64 = moves.iter().sum();
        assert!((450..550).contains(&moved), "{moved} of 1000");
    }

    #[test]
    fn d25_what_is_even_over_all_cores_rests_though_it_is_not_on_this_one() {
        assert_eq!(drawn(&spread(&[6, 0, 0], &[8, 8, 8])), [0; 1000]);
        assert_eq!(drawn(&spread(&[0, 0, 1], &[9, 8, 8])), [0; 1000]);
    }

    #[test]
    fn d25_only_those_move_that_are_where_too_many_are() {
        let moves = drawn(&spread(&[0, 0, 9], &[30, 10, 10]));
        assert_eq!(moves, [0; 1000]);
    }

    #[test]
    fn where_the_load_decides_only_an_address_without_any_gets_some() {
        let mut rng = Rng::new(7);
        let uneven = spread(&[12, 4], &[12, 4]);
        assert_eq!(uneven.to_move(true, &mut rng), 0);
        let new = spread(&[8, 8, 0], &[8, 8, 0]);
        assert_eq!(new.to_move(true, &mut rng), 5);
    }
}
