//! A name with very many addresses, used by very many cores: if every core worked on all of them,
//! cores × addresses would be known, probed and kept apart, and each address would have users on
//! each core. A core works on a slice of the addresses instead, always the same one.
//!
//! Promise: the same addresses give the same slice, in whatever order they are named; slices of all
//! cores together cover the addresses about evenly, however many cores there are; a slice is
//! [`NARROWEST`] wide, or as wide as the core has connections: who has more to do works on more.
//! With as many addresses as that or fewer, the slice is all of them.

use crate::target::Target;

/// How many addresses a core works on that has little to do. Fewer would make a core depend on few
/// servers (Finagle's aperture has the same).
pub(super) const NARROWEST: u32 = 12;

/// Which slice of the addresses is this core's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slice {
    /// Where it begins, as a part of 2^32.
    start: u32,
    width: u32,
}

impl Default for Slice {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Slice {
    /// That of the core with this number. Multiples of the golden ratio lie about evenly on a circle,
    /// however many there are: no core need know how many cores there are.
    pub(crate) fn new(core: u32) -> Self {
        Self {
            start: core.wrapping_mul(0x9E37_79B9),
            width: NARROWEST,
        }
    }

    /// The core has, or is opening, so many connections.
    pub(crate) fn widen(&mut self, connections: u32) {
        self.width = connections.max(NARROWEST);
    }

    /// Whether the address that is the `rank`-th of `of` is beside it.
    pub(super) fn lacks(self, rank: u32, of: u32) -> bool {
        let start = (u64::from(self.start) * u64::from(of)) >> 32;
        let behind = u64::from(rank) + u64::from(of) - start;
        behind % u64::from(of.max(1)) >= u64::from(self.width)
    }
}

/// The place of each target among those that are as good, and how many those are: by address, because
/// answers come in any order. Where some have more weight than others there are no slices: the one with
/// the most would be beside those of most cores.
pub(super) fn ranks<'a>(targets: impl Iterator<Item = &'a Target>) -> Vec<(u32, u32)> {
    let mut sorted: Vec<_> = targets
        .enumerate()
        .map(|(at, target)| (target.preference(), target.address, target.weight, at))
        .collect();
    sorted.sort_unstable();
    let mut ranks = vec![(0, 1); sorted.len()];
    for alike in sorted.chunk_by(|one, other| one.0 == other.0) {
        if alike.iter().any(|it| it.2 != alike[0].2) {
            continue;
        }
        for (rank, (.., at)) in alike.iter().enumerate() {
            ranks[*at] = (rank as u32, alike.len() as u32);
        }
    }
    ranks
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn covered(cores: u32, addresses: u32, width: u32) -> Vec<u32> {
        let mut counts = vec![0; addresses as usize];
        for core in 0..cores {
            let mut slice = Slice::new(core);
            slice.widen(width);
            for rank in (0..addresses).filter(|rank| !slice.lacks(*rank, addresses)) {
                counts[rank as usize] += 1;
            }
        }
        counts
    }

    #[test]
    fn a_slice_is_as_wide_as_it_is_to_be() {
        for (addresses, width, wide) in [(4, 1, 4), (12, 1, 12), (100, 1, 12), (100, 30, 30)] {
            let counts = covered(1, addresses, width);
            assert_eq!(counts.iter().sum::<u32>(), wide);
        }
        assert!(!Slice::new(3).lacks(0, 1));
    }

    #[test]
    fn slices_of_any_number_of_cores_cover_the_addresses_about_evenly() {
        for cores in [8, 16, 64, 128] {
            let counts = covered(cores, 64, 0);
            let (least, most) = (counts.iter().min(), counts.iter().max());
            let (least, most) = (*least.unwrap(), *most.unwrap());
            assert!(least >= 1, "{cores} cores leave an address out");
            assert!(most <= 2 * least + 2, "{cores} cores: {least} to {most}");
        }
    }

    #[test]
    fn the_order_of_an_answer_changes_no_rank() {
        let target = |last: u8, priority| Target {
            priority,
            ..Target::new(SocketAddr::from(([127, 0, 0, last], 80)))
        };
        let one = [target(1, 0), target(2, 0), target(3, 1)];
        let other = [target(3, 1), target(2, 0), target(1, 0)];
        assert_eq!(ranks(one.iter()), [(0, 2), (1, 2), (0, 1)]);
        assert_eq!(ranks(other.iter()), [(0, 1), (1, 2), (0, 2)]);
        let second = |target: Target| Target { group: 1, ..target };
        let families = [target(1, 0), second(target(2, 0)), target(3, 0)];
        assert_eq!(ranks(families.iter()), [(0, 2), (0, 1), (1, 2)]);
        let heavy = |target: Target| Target {
            weight: 9,
            ..target
        };
        let weights = [target(1, 0), heavy(target(2, 0))];
        assert_eq!(ranks(weights.iter()), [(0, 1); 2]);
    }
}
