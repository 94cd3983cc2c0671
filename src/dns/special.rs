//! Some names must never reach a name server: addresses, `localhost`, and names whose mere query
//! would tell a stranger something (RFC 6761, RFC 7686, RFC 9476).
//!
//! Promise: text that only looks like an address (`127.1`, `0x7f000001`) is told from a name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the last label of a name says, if no server may be asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    /// `localhost` and all below it.
    Loopback,
    /// A domain that does not exist, by decree.
    Reserved(&'static str),
    /// No name ends in a number.
    Number,
}

/// The addresses of `localhost`.
pub(super) const LOOPBACK: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// What is special about `name`, which has no trailing dot.
pub(super) fn special(name: &str) -> Option<Special> {
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.eq_ignore_ascii_case("localhost") {
        return Some(Special::Loopback);
    }
    let mut reserved = ["invalid", "onion", "alt"].into_iter();
    if let Some(domain) = reserved.find(|domain| last.eq_ignore_ascii_case(domain)) {
        return Some(Special::Reserved(domain));
    }
    looks_numeric(last).then_some(Special::Number)
}

/// Whether no server may be asked for `name`.
pub(super) fn is_special(name: &str) -> bool {
    special(name).is_some()
}

/// The address that `host` spells in full; IPv6 also in brackets.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
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
