//! How far the resolver may go: with old answers, with questions ahead of time, and with addresses
//! that a name server may not lead to.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::{require, within};
use crate::error::Result;

use super::IpPrefix;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// RFC 8767 5: one to three days.
const STALE_MOST: Duration = Duration::from_secs(3 * 24 * 60 * 60);
const MAX_PREFIXES: usize = 1024;
const MAX_RANGES: usize = 64;
/// Fewer source ports than this would be guessed too easily (RFC 5452 9.2).
const PORTS_LEAST: usize = 16_384;
/// Random source ports start here.
pub(crate) const FIRST_PORT: u16 = 1024;

/// Which of the two families of addresses a name may lead to.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Families {
    /// IPv6 and IPv4, in the order of RFC 6724.
    #[default]
    Both,
    /// IPv4 alone: AAAA records are not asked for.
    V4,
    /// IPv6 alone: A records are not asked for.
    V6,
}

impl Families {
    /// Whether `address` is of them.
    pub(crate) fn contain(self, address: IpAddr) -> bool {
        match self {
            Self::Both => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// What the resolver may do. Start from [`ResolverOptions::default`] and change what differs.
///
/// ```
/// use ringpool::{Config, ResolverOptions};
/// let config = Config {
///     resolver_options: ResolverOptions {
///         deny: vec!["127.0.0.0/8".parse()?, "::1".parse()?, "169.254.0.0/16".parse()?],
///         ..ResolverOptions::default()
///     },
///     ..Config::default()
/// };
/// assert!(config.validate().is_ok());
/// # Ok::<(), ringpool::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverOptions {
    /// How long after its end an answer may still be used when no server gives a new one
    /// (RFC 8767): 0 (never) to 3 days. Default 1 day.
    pub stale_max: Duration,
    /// Names in use are asked for again in the last tenth of their answer's time, so that no get
    /// has to wait for that. Default true.
    pub prefetch: bool,
    /// Which families of addresses are asked for, and used of what the hosts file, a table or a
    /// record's hints say. Literal addresses, and those of the user's own resolver, are not
    /// affected. Default both.
    pub families: Families,
    /// Letters of questions change their case at random, and an answer must repeat that: harder to
    /// forge, but not all servers do it (draft-vixie-dnsext-dns0x20). Default false.
    pub randomize_case: bool,
    /// Addresses that an answer of a name server may not lead to, at most 1024 blocks: they are
    /// left out, and a name that has no others fails. Against names of strangers that lead into
    /// one's own network (DNS rebinding). Literal addresses and the hosts file are not affected.
    /// Unspecified, broadcast and multicast addresses are left out in any case. Default none.
    pub deny: Vec<IpPrefix>,
    /// Local ports that questions are never sent from, at most 64 ranges, which leave at least
    /// 16 384 of 1024 to 65535. Those of the system (`ip_local_reserved_ports`) are left out in
    /// any case. Default none.
    pub avoid_ports: Vec<RangeInclusive<u16>>,
}

impl Default for ResolverOptions {
    fn default() -> Self {
        Self {
            stale_max: DAY,
            prefetch: true,
            families: Families::Both,
            randomize_case: false,
            deny: Vec::new(),
            avoid_ports: Vec::new(),
        }
    }
}

impl ResolverOptions {
    /// Whether an answer may lead to `address`.
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        !self.deny.iter().any(|prefix| prefix.contains(address))
    }

    /// Whether a question may be sent from `port`.
    pub(crate) fn allows_port(&self, port: u16) -> bool {
        port >= FIRST_PORT && !self.avoid_ports.iter().any(|range| range.contains(&port))
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let stale = Duration::ZERO..=STALE_MOST;
        within("resolver_options.stale_max", self.stale_max, stale)?;
        let count = 0..=MAX_PREFIXES;
        within("resolver_options.deny.len()", self.deny.len(), count)?;
        let ranges = &self.avoid_ports;
        let count = 0..=MAX_RANGES;
        within("resolver_options.avoid_ports.len()", ranges.len(), count)?;
        let left = (FIRST_PORT..=u16::MAX).filter(|port| self.allows_port(*port));
        let fits = ranges.iter().all(|range| !range.is_empty()) && left.count() >= PORTS_LEAST;
        require(fits, "resolver_options.avoid_ports", ranges, || {
            format!("ranges that are not empty and leave {PORTS_LEAST} of {FIRST_PORT} to 65535")
        })
    }
}
