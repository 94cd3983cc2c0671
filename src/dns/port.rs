//! A question over UDP that always comes from a port which an attacker can guess is protected by
//! its id alone, 16 bits. So each comes from a port drawn anew (RFC 5452 §9.2), but never from one
//! that somebody else was promised.
//!
//! Promise: what is drawn is from 1024 to 65535, not avoided, and each port that may be used is as
//! likely as any other; [`TRIES`] different ones at most, in a bounded number of draws. With none
//! left the kernel chooses: a question is never given up for want of a port.

use std::ops::RangeInclusive;

use crate::policy::Rng;

/// Ports that one question may try.
pub(crate) const TRIES: usize = 10;
/// Below are those of the system (RFC 6335 §6).
const FIRST: u16 = 1024;
/// Draws for one question. With more than half of all ports avoided it may find fewer than
/// [`TRIES`].
const DRAWS: usize = 64;

/// Ports that questions must not come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Avoided(Vec<RangeInclusive<u16>>);

impl Avoided {
    /// Those that the system keeps for others, in the words of `ip_local_reserved_ports` (ip(7):
    /// `8080,9148-9160`), and `also`. What cannot be read is left out.
    pub(crate) fn new(reserved: &str, also: &[RangeInclusive<u16>]) -> Self {
        let ranges = reserved.trim().split(',').filter_map(range);
        Self(ranges.chain(also.iter().cloned()).collect())
    }

    fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
}

/// The ports that a question tries, in order. `seed` must be unpredictable, and another for each
/// question: who sees a port must not learn the next.
pub(crate) fn draw(seed: u64, avoided: &Avoided) -> Vec<u16> {
    let mut rng = Rng::new(seed);
    let mut ports = Vec::with_capacity(TRIES);
    let count = u64::from(u16::MAX - FIRST) + 1;
    for _ in 0..DRAWS {
        let port = FIRST + rng.below(count) as u16;
        if !avoided.contains(port) && !ports.contains(&port) {
            ports.push(port);
        }
        if ports.len() == TRIES {
            break;
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn d38_ten_different_ports_are_drawn_none_of_the_systems() {
        for seed in 0..1_000 {
            let ports = draw(seed, &Avoided::default());
            let different: BTreeSet<u16> = ports.iter().copied().collect();
            assert_eq!((ports.len(), different.len()), (TRIES, TRIES));
            assert!(ports.iter().all(|port| *port >= 1024));
        }
    }

    #[test]
    fn d38_s1_every_port_is_drawn_and_none_much_more_often() {
        let mut first = vec![0; 64];
        let mut seen = BTreeSet::new();
        for seed in 0..64_512 {
            let ports = draw(seed, &Avoided::default());
            first[usize::from((ports[0] - 1024) / 1008)] += 1;
            seen.extend(ports);
        }
        // 1 008 are expected in each; eight standard deviations.
        assert!(first.iter().all(|count| (760..1260).contains(count)));
        assert!(seen.len() > 64_000, "{}", seen.len());
        assert!(seen.contains(&1024) && seen.contains(&u16::MAX));
    }

    #[test]
    fn d38_ports_kept_for_others_are_left_out() {
        let reserved = "1024-32767,40000, 41000-60999\n";
        let avoided = Avoided::new(reserved, &[32_768..=39_999, 61_000..=65_535]);
        let mut drawn = BTreeSet::new();
        for seed in 0..1_000 {
            drawn.extend(draw(seed, &avoided));
        }
        assert!(!drawn.is_empty());
        assert!(drawn.iter().all(|port| (40_001..=40_999).contains(port)));
    }

    #[test]
    fn d38_with_every_port_avoided_the_kernel_chooses() {
        let all = Avoided::new("", &[0..=u16::MAX]);
        assert!(draw(7, &all).is_empty());
    }

    #[test]
    fn d38_what_cannot_be_read_reserves_nothing() {
        for text in ["", "\n", "x", "1-", "-1", "70000", "9-3", "1-2-3"] {
            let avoided = Avoided::new(text, &[]);
            assert!(!avoided.contains(1), "{text:?}");
            assert_eq!(draw(1, &avoided).len(), TRIES, "{text:?}");
        }
        // The rest counts.
        assert!(Avoided::new("nonsense,8080", &[]).contains(8080));
    }
}
