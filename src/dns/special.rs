//! Some names must never reach a name server: addresses, `localhost`, and names whose mere query
//! would tell a stranger something (RFC 6761, RFC 7686, RFC 9476).
//!
//! Promise: what [`local`] answers is never asked on the network, and text that only looks like an
//! address (`127.1`, `0x7f000001`) is an error, not a name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::hosts::Hosts;
use crate::error::{Error, ErrorKind};

/// What is known of a name without asking.
#[derive(Debug, Clone)]
pub(crate) enum Local {
    /// Its addresses.
    Addresses(Vec<IpAddr>),
    /// There are none.
    Failed(Error),
    /// A server must be asked.
    Ask,
}

/// Looks `host` up without a server. The hosts file goes before all but literal addresses.
pub(crate) fn local(host: &str, hosts: &Hosts) -> Local {
    if let Some(address) = literal(host) {
        return Local::Addresses(vec![address]);
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let listed = hosts.lookup(name);
    if !listed.is_empty() {
        return Local::Addresses(listed.to_vec());
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.eq_ignore_ascii_case("localhost") {
        return Local::Addresses(vec![
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ]);
    }
    for reserved in ["invalid", "onion", "alt"] {
        if last.eq_ignore_ascii_case(reserved) {
            let message = format!("no such name (.{reserved} is never asked of a server)");
            return failed(ErrorKind::Resolve, message, host);
        }
    }
    if looks_numeric(last) {
        let message = "not an address, and no name ends in a number".to_owned();
        return failed(ErrorKind::InvalidInput, message, host);
    }
    Local::Ask
}

fn failed(kind: ErrorKind, message: String, host: &str) -> Local {
    Local::Failed(Error::new(kind, message).context(format!("resolving {host}")))
}

/// The address that `host` spells in full; IPv6 also in brackets.
fn literal(host: &str) -> Option<IpAddr> {
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    if let Some(inside) = bracketed {
        return inside.parse().ok().map(IpAddr::V6);
    }
    host.parse().ok()
}

fn looks_numeric(label: &str) -> bool {
    let hex = label
        .strip_prefix("0x")
        .or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(host: &str) -> String {
        match local(
            host,
            &Hosts::parse(b"192.0.2.9 listed here.localhost a.onion\n"),
        ) {
            Local::Addresses(addresses) => format!("{addresses:?}"),
            Local::Failed(error) => format!("{:?}", error.kind()),
            Local::Ask => "ask".to_owned(),
        }
    }

    #[test]
    fn s12_names_that_are_answered_without_a_server() {
        let table = [
            ("192.0.2.1", "[192.0.2.1]"),
            ("2001:db8::1", "[2001:db8::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("listed", "[192.0.2.9]"),
            ("LISTED.", "[192.0.2.9]"),
            ("localhost", "[127.0.0.1, ::1]"),
            ("Localhost.", "[127.0.0.1, ::1]"),
            ("a.b.localhost", "[127.0.0.1, ::1]"),
            ("here.localhost", "[192.0.2.9]"),
            ("a.invalid", "Resolve"),
            ("b.onion", "Resolve"),
            ("a.onion", "[192.0.2.9]"),
            ("a.alt", "Resolve"),
            ("127.1", "InvalidInput"),
            ("0x7f000001", "InvalidInput"),
            ("2130706433", "InvalidInput"),
            ("192.0.2.256", "InvalidInput"),
            // Brackets are for IPv6; the query refuses such a name.
            ("[192.0.2.1]", "ask"),
            ("example.com", "ask"),
            ("notlocalhost", "ask"),
            ("localhost.example", "ask"),
            ("cluster.local", "ask"),
        ];
        for (host, expected) in table {
            assert_eq!(answer(host), expected, "{host}");
        }
    }

    #[test]
    fn the_error_says_which_name_and_why() {
        let Local::Failed(error) = local("a.onion", &Hosts::default()) else {
            panic!("answered");
        };
        assert_eq!(
            error.to_string(),
            "no such name (.onion is never asked of a server), resolving a.onion"
        );
    }
}
