//! `resolv.conf` says whom to ask, and is often half wrong. [`ResolverConfig`] is what remains of
//! it when every value is brought into its range.
//!
//! Promise: no content makes it fail or panic; there is always at least one server and at least
//! one attempt; a line that makes no sense is passed over.
//!
//! Used: `nameserver`, `options timeout`, `options attempts`. Kept for later: `search`, `domain`,
//! `options ndots`. Everything else is ignored.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use resolv_conf::{Config, ScopedIp};

const MAX_LEN: usize = 1024 * 1024;
const MAX_SERVERS: usize = 8;
const MAX_SEARCH: usize = 32;
const MAX_NDOTS: u32 = 15;
const DNS_PORT: u16 = 53;

/// Whom to ask, how long and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolverConfig {
    /// At least one.
    pub(crate) servers: Vec<SocketAddr>,
    /// The longest time to wait for one server before the next is asked as well.
    pub(crate) timeout: Duration,
    /// How often each server is asked, at most.
    pub(crate) attempts: u32,
    /// Not used: names are looked up as given.
    pub(crate) search: Vec<String>,
    /// Not used.
    pub(crate) ndots: u32,
}

impl Default for ResolverConfig {
    fn default() -> Self {
        Self::parse(b"")
    }
}

impl ResolverConfig {
    /// Reads the content of a `resolv.conf`.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let bytes = &bytes[..bytes.len().min(MAX_LEN)];
        let (parsed, _errors) = Config::parse_with_errors(bytes);
        let mut servers: Vec<SocketAddr> = Vec::new();
        for server in parsed.nameservers.iter().filter_map(server_address) {
            if servers.len() < MAX_SERVERS && !servers.contains(&server) {
                servers.push(server);
            }
        }
        if servers.is_empty() {
            servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT)));
        }
        Self {
            servers,
            timeout: Duration::from_secs(u64::from(parsed.timeout.clamp(1, 30))),
            attempts: parsed.attempts.clamp(1, 3),
            search: parsed
                .get_last_search_or_domain()
                .take(MAX_SEARCH)
                .cloned()
                .collect(),
            ndots: parsed.ndots.min(MAX_NDOTS),
        }
    }
}

/// A zone given by its number is kept; what a zone's name stands for is not known here, and an
/// address without its zone leads nowhere.
fn server_address(server: &ScopedIp) -> Option<SocketAddr> {
    match server {
        ScopedIp::V4(address) => Some(SocketAddr::from((*address, DNS_PORT))),
        ScopedIp::V6(address, None) => Some(SocketAddr::from((IpAddr::V6(*address), DNS_PORT))),
        ScopedIp::V6(address, Some(zone)) => {
            let zone = zone.parse().ok()?;
            Some(SocketAddrV6::new(*address, DNS_PORT, 0, zone).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn servers(text: &str) -> Vec<String> {
        let config = ResolverConfig::parse(text.as_bytes());
        config.servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn servers_keep_their_order_and_their_zone() {
        let text = "nameserver 192.0.2.1\r\nnameserver 2001:db8::1\n; no\nnameserver fe80::1%3\n\
                    nameserver fe80::2%eth0\nnameserver 192.0.2.1\n";
        assert_eq!(
            servers(text),
            ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%3]:53"]
        );
    }

    #[test]
    fn without_a_usable_server_the_local_one_is_asked() {
        for text in ["", "nameserver\nnameserver nonsense\n", "search a.test"] {
            assert_eq!(servers(text), ["127.0.0.1:53"]);
        }
    }

    #[test]
    fn every_value_is_brought_into_its_range() {
        let config = ResolverConfig::parse(b"options timeout:0 attempts:0 ndots:99\n");
        assert_eq!((config.timeout.as_secs(), config.attempts), (1, 1));
        assert_eq!(config.ndots, 15);
        let config = ResolverConfig::parse(b"options timeout:4000000000 attempts:50\n");
        assert_eq!((config.timeout.as_secs(), config.attempts), (30, 3));
        let many: String = (0..20)
            .map(|n| format!("nameserver 192.0.2.{n}\n"))
            .collect();
        assert_eq!(servers(&many).len(), 8);
    }

    #[test]
    fn d30_a_broken_file_keeps_its_good_lines() {
        let text = b"nameserver 192.0.2.1\n\0\0\nnameserver \xff\noptions bad:x timeout:x\n\
                     nameserver 192.0.2.2\n";
        assert_eq!(ResolverConfig::parse(text).servers.len(), 2);
        assert_eq!(
            ResolverConfig::parse(&vec![b'x'; 2 * MAX_LEN])
                .servers
                .len(),
            1
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(!ResolverConfig::parse(&bytes).servers.is_empty());
        }

        #[test]
        fn no_words_make_it_panic(text in "(nameserver|options|search|timeout:|%|:|[0-9]| |\n){0,40}") {
            prop_assert!(!ResolverConfig::parse(text.as_bytes()).servers.is_empty());
        }
    }
}
