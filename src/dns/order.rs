//! Of a name's addresses some are near, some far, and some cannot be reached from here at all. This
//! is the order in which they are tried: by preference (RFC 6724), then with the families mixed so
//! that a broken one costs one attempt and not all of them (RFC 8305, section 4).
//!
//! Promise: every destination comes out once; the ones of equal preference keep their order and have
//! one group number, so that a balancer may choose among them; the lower the number the better.
//!
//! Of RFC 6724's rules these decide: 1 (usable), 2 (scope fits), 5 (label fits), 6 (precedence),
//! 8 (smaller scope), and 9 (longest prefix) for IPv6 alone, and only where nobody balances: it
//! would send all of a name's load to one address. Rules 3, 4 and 7 need what a socket does not
//! tell (deprecated addresses, home addresses, tunnels).

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv6Addr};

/// A destination and how much it is preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ranked {
    pub(crate) ip: IpAddr,
    /// The same for those of equal preference; the lowest is the best. That is `Target::group`.
    pub(crate) group: u16,
}

/// A row of the policy table: prefix, its length, precedence, label.
type Row = (Ipv6Addr, u32, u8, u8);

/// The default policy table (RFC 6724, section 2.1), the longest prefixes first.
const TABLE: [Row; 9] = [
    (Ipv6Addr::LOCALHOST, 128, 50, 0),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xFFFF, 0, 0), 96, 35, 4),
    (Ipv6Addr::UNSPECIFIED, 96, 1, 3),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, 5, 5),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, 30, 2),
    (Ipv6Addr::new(0x3FFE, 0, 0, 0, 0, 0, 0, 0), 16, 1, 12),
    (Ipv6Addr::new(0xFEC0, 0, 0, 0, 0, 0, 0, 0), 10, 1, 11),
    (Ipv6Addr::new(0xFC00, 0, 0, 0, 0, 0, 0, 0), 7, 3, 13),
    (Ipv6Addr::UNSPECIFIED, 0, 40, 1),
];

/// Scopes (RFC 4291, section 2.7), the smaller the nearer.
const LINK_LOCAL: u8 = 0x2;
const SITE_LOCAL: u8 = 0x5;
const GLOBAL: u8 = 0xE;

/// What is compared, the least first: unusable, scope does not fit, label does not fit, precedence,
/// scope, length of the common prefix.
type Preference = (bool, bool, bool, Reverse<u8>, u8, Reverse<u32>);

/// Orders `destinations`. `source_of` tells from which address this host would send to one, if it
/// can. With `is_balanced`, addresses are not preferred for being numerically near (rule 9).
pub(crate) fn order(
    destinations: &[IpAddr],
    is_balanced: bool,
    source_of: impl Fn(IpAddr) -> Option<IpAddr>,
) -> Vec<Ranked> {
    let preference = |ip: &IpAddr| preference(*ip, source_of(*ip), is_balanced);
    let mut all: Vec<(Preference, IpAddr)> = destinations
        .iter()
        .map(|ip| (preference(ip), *ip))
        .collect();
    all.sort_by_key(|(preference, _)| *preference);
    let mut ranked: Vec<Ranked> = Vec::with_capacity(all.len());
    let mut group = 0;
    for (at, (preference, ip)) in all.iter().enumerate() {
        if at > 0 && all[at - 1].0 != *preference {
            group += 1;
        }
        ranked.push(Ranked { ip: *ip, group });
    }
    interleave(&ranked)
}

/// One of the best family, one of the other, and so on; what cannot be reached stays last.
fn interleave(ranked: &[Ranked]) -> Vec<Ranked> {
    let Some(first) = ranked.first() else {
        return Vec::new();
    };
    let is_v6 = first.ip.is_ipv6();
    let mut own = ranked.iter().filter(|it| it.ip.is_ipv6() == is_v6);
    let mut other = ranked.iter().filter(|it| it.ip.is_ipv6() != is_v6);
    let mut mixed = Vec::with_capacity(ranked.len());
    while mixed.len() < ranked.len() {
        mixed.extend(own.next());
        mixed.extend(other.next());
    }
    mixed
}

fn preference(to: IpAddr, from: Option<IpAddr>, is_balanced: bool) -> Preference {
    let (precedence, label) = policy(to);
    let common = match (to, from) {
        (IpAddr::V6(to), Some(IpAddr::V6(from))) if !is_balanced => common_prefix(to, from),
        _ => 0,
    };
    (
        from.is_none(),
        from.is_none_or(|from| scope(from) != scope(to)),
        from.is_none_or(|from| policy(from).1 != label),
        Reverse(precedence),
        scope(to),
        Reverse(common),
    )
}

/// Precedence and label.
fn policy(ip: IpAddr) -> (u8, u8) {
    let bits = mapped(ip).to_bits();
    let fits = |row: &&Row| {
        let rest = 128 - row.1;
        bits.checked_shr(rest) == row.0.to_bits().checked_shr(rest)
    };
    // The last row fits everything.
    let row = TABLE.iter().find(fits).unwrap_or(&TABLE[TABLE.len() - 1]);
    (row.2, row.3)
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// Scope (RFC 6724, sections 3.1 and 3.2).
fn scope(ip: IpAddr) -> u8 {
    match ip.to_canonical() {
        IpAddr::V4(v4) if v4.is_loopback() || v4.is_link_local() => LINK_LOCAL,
        IpAddr::V4(_) => GLOBAL,
        IpAddr::V6(v6) if v6.is_multicast() => v6.octets()[1] & 0xF,
        IpAddr::V6(v6) if v6.is_loopback() || v6.is_unicast_link_local() => LINK_LOCAL,
        IpAddr::V6(v6) if v6.segments()[0] & 0xFFC0 == 0xFEC0 => SITE_LOCAL,
        IpAddr::V6(_) => GLOBAL,
    }
}

/// Bits that are the same from the front, at most the 64 of a subnet (RFC 6724, section 2.2).
fn common_prefix(a: Ipv6Addr, b: Ipv6Addr) -> u32 {
    (a.to_bits() ^ b.to_bits()).leading_zeros().min(64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Orders destinations, each with the source that the example names for it.
    fn ordered(pairs: &[(&str, &str)], is_balanced: bool) -> Vec<Ranked> {
        let all: Vec<IpAddr> = pairs.iter().map(|pair| ip(pair.0)).collect();
        let source = |to: IpAddr| {
            let pair = pairs.iter().find(|pair| ip(pair.0) == to)?;
            pair.1.parse().ok()
        };
        order(&all, is_balanced, source)
    }

    /// Either way round, the first of the two comes first.
    fn prefers(better: (&str, &str), worse: (&str, &str)) {
        for pairs in [[better, worse], [worse, better]] {
            let found = ordered(&pairs, false);
            assert_eq!(found[0].ip, ip(better.0), "{better:?} before {worse:?}");
            assert_eq!((found[0].group, found[1].group), (0, 1));
        }
    }

    /// RFC 6724, section 10.2. The sources are those that section 5 chooses of the candidates.
    #[test]
    fn c7_the_examples_of_rfc_6724_come_out_as_written() {
        // Prefer matching scope.
        prefers(
            ("2001:db8:1::1", "2001:db8:1::2"),
            ("198.51.100.121", "169.254.13.78"),
        );
        prefers(
            ("198.51.100.121", "198.51.100.117"),
            ("2001:db8:1::1", "fe80::1"),
        );
        // Prefer higher precedence.
        prefers(("2001:db8:1::1", "2001:db8:1::2"), ("10.1.2.3", "10.1.2.4"));
        // Prefer smaller scope.
        prefers(("fe80::1", "fe80::2"), ("2001:db8:1::1", "2001:db8:1::2"));
        // Prefer matching label.
        prefers(
            ("2002:c633:6401::1", "2002:c633:6401::2"),
            ("2001:db8:1::1", "2002:c633:6401::2"),
        );
        // Prefer higher precedence.
        prefers(
            ("2001:db8:1::1", "2001:db8:1::2"),
            ("2002:c633:6401::1", "2002:c633:6401::2"),
        );
        // Longest matching prefix: 2001:db8:3ffe::1 has 34 bits with its source, the other 33.
        let near = ("2001:db8:3ffe::1", "2001:db8:1f44::2");
        prefers(near, ("2001:db8::1", "2001:db8:8000::2"));
    }

    #[test]
    fn what_cannot_be_reached_comes_last_in_a_group_of_its_own() {
        let found = ordered(&[("2001:db8::1", "none"), ("192.0.2.1", "192.0.2.9")], true);
        assert_eq!(
            found[0],
            Ranked {
                ip: ip("192.0.2.1"),
                group: 0
            }
        );
        assert_eq!(
            found[1],
            Ranked {
                ip: ip("2001:db8::1"),
                group: 1
            }
        );
        prefers(("127.0.0.1", "127.0.0.1"), ("::1", "none"));
    }

    #[test]
    fn addresses_of_one_kind_are_one_group_and_keep_their_order() {
        let source = "2001:db8::9";
        let all = [
            ("2001:db8::3", source),
            ("2001:db8:ffff::1", source),
            ("2001:db8::2", source),
        ];
        let found = ordered(&all, true);
        assert!(found.iter().all(|it| it.group == 0));
        let order: Vec<_> = found.iter().map(|it| it.ip).collect();
        assert_eq!(order, all.map(|(to, _)| ip(to)));
        // Where nobody balances, the far one is second to the near ones.
        let found = ordered(&all, false);
        assert_eq!((found[2].ip, found[2].group), (ip("2001:db8:ffff::1"), 1));
    }

    #[test]
    fn ipv4_is_never_sorted_by_prefix() {
        let source = "192.0.2.200";
        let found = ordered(&[("198.51.100.1", source), ("192.0.2.201", source)], false);
        assert!(found.iter().all(|it| it.group == 0));
        assert_eq!(found[0].ip, ip("198.51.100.1"));
    }

    #[test]
    fn families_alternate_and_groups_stay_with_their_addresses() {
        let (six, four) = ("2001:db8::9", "192.0.2.9");
        let found = ordered(
            &[
                ("192.0.2.1", four),
                ("192.0.2.2", four),
                ("2001:db8::1", six),
                ("2001:db8::2", six),
                ("2001:db8::3", six),
            ],
            true,
        );
        let texts: Vec<_> = found
            .iter()
            .map(|it| (it.ip.to_string(), it.group))
            .collect();
        let expected = [
            ("2001:db8::1", 0),
            ("192.0.2.1", 1),
            ("2001:db8::2", 0),
            ("192.0.2.2", 1),
            ("2001:db8::3", 0),
        ];
        assert_eq!(
            texts,
            expected.map(|(text, group)| (text.to_owned(), group))
        );
    }

    #[test]
    fn the_policy_table_is_that_of_the_rfc() {
        let rows = [
            ("::1", 50, 0),
            ("2001:db8::1", 40, 1),
            ("192.0.2.1", 35, 4),
            ("::ffff:192.0.2.1", 35, 4),
            ("2002:c000:201::1", 30, 2),
            ("2001::1", 5, 5),
            ("fd00::1", 3, 13),
            ("::192.0.2.1", 1, 3),
            ("fec0::1", 1, 11),
            ("3ffe::1", 1, 12),
        ];
        for (text, precedence, label) in rows {
            assert_eq!(policy(ip(text)), (precedence, label), "{text}");
        }
    }

    #[test]
    fn scopes_are_those_of_the_rfc() {
        let scopes = [
            ("127.0.0.1", 2),
            ("169.254.1.1", 2),
            ("10.0.0.1", 14),
            ("::ffff:169.254.1.1", 2),
            ("::1", 2),
            ("fe80::1", 2),
            ("fec0::1", 5),
            ("fd00::1", 14),
            ("ff05::1", 5),
            ("2001:db8::1", 14),
        ];
        for (text, expected) in scopes {
            assert_eq!(scope(ip(text)), expected, "{text}");
        }
    }

    #[test]
    fn nothing_and_very_much_are_ordered_too() {
        assert!(order(&[], true, |_| None).is_empty());
        let many: Vec<IpAddr> = (0..=255)
            .map(|last| IpAddr::from([192, 0, 2, last]))
            .collect();
        let found = order(&many, true, Some);
        assert_eq!(found.len(), 256);
    }
}
