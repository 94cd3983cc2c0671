//! One host has many spellings: case, a trailing dot, international and mapped characters, and the
//! number forms of IPv4 that some resolvers still take (`127.1`, `0x7f000001`). A filter that reads
//! a spelling one way and a connect that reads it another way is a hole.
//!
//! Promise: a [`Host`] is either an IP address in the form the standard library prints, or a name
//! of letters, digits, hyphens and underscores in lower case that cannot be read as a number.
//!
//! A dot at the end of a name is no spelling: it says that the name is whole, and that no search
//! list may be tried (`search` in resolv.conf(5)). It is kept, beside the name and not in it.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::EndpointFault;

/// RFC 1035 2.3.4, less the length byte.
const MAX_LABEL: usize = 63;
/// RFC 1035 2.3.4: 255 on the wire, less the root label and the first length byte.
const MAX_NAME: usize = 253;
/// Names that end so are never asked of a server (RFC 6761, RFC 7686, RFC 9476), so never with a
/// search list either.
const NEVER_SEARCHED: [&str; 4] = ["localhost", "invalid", "onion", "alt"];

/// The host of an endpoint in its canonical form.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Host {
    text: Arc<str>,
    ip: Option<(IpAddr, u32)>,
    is_absolute: bool,
}

impl Host {
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// The address and its zone (0 for none), if the host is one.
    pub(super) fn ip(&self) -> Option<(IpAddr, u32)> {
        self.ip
    }

    /// Whether it is a name that ended with a dot, and the dot makes a difference.
    pub(super) fn is_absolute(&self) -> bool {
        self.is_absolute
    }

    /// The host of an IP address. IPv4 in IPv6's clothes becomes IPv4; a zone has a meaning on
    /// link-local addresses alone.
    pub(super) fn address(ip: IpAddr, zone: u32) -> Self {
        let ip = ip.to_canonical();
        let zone = match ip {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => zone,
            _ => 0,
        };
        let text = match zone {
            0 => ip.to_string(),
            _ => format!("{ip}%{zone}"),
        };
        Self {
            text: text.into(),
            ip: Some((ip, zone)),
            is_absolute: false,
        }
    }

    /// Reads `text` as an IPv6 address without brackets, perhaps with a zone.
    pub(super) fn v6(text: &str) -> Result<Self, EndpointFault> {
        let (address, zone) = match text.split_once('%') {
            None => (text, None),
            Some((address, zone)) => (address, Some(zone)),
        };
        let ip: Ipv6Addr = address.parse().map_err(|_| EndpointFault::NotIpv6)?;
        let number = match zone {
            None => 0,
            Some(zone) if ip.is_unicast_link_local() => {
                zone_number(zone).ok_or(EndpointFault::Zone)?
            }
            Some(_) => return Err(EndpointFault::Zone),
        };
        Ok(Self::address(ip.into(), number))
    }

    /// Reads `text` as an IPv4 address or a name.
    pub(super) fn name_or_v4(text: &str) -> Result<Self, EndpointFault> {
        check_bytes(text)?;
        if let Some(at) = text.find(':') {
            return Err(EndpointFault::Colon { at });
        }
        if let Ok(v4) = text.parse::<Ipv4Addr>() {
            return Ok(Self::address(v4.into(), 0));
        }
        let mapped = to_ascii(text)?;
        let (name, has_dot) = match mapped.strip_suffix('.') {
            Some(name) => (name, true),
            None => (&*mapped, false),
        };
        check_name(name)?;
        let last = name.rsplit('.').next().unwrap_or(name);
        Ok(Self {
            text: name.into(),
            ip: None,
            is_absolute: has_dot && !NEVER_SEARCHED.contains(&last),
        })
    }
}

/// The number of an interface: decimal, from 1, without leading zeros.
fn zone_number(zone: &str) -> Option<u32> {
    let plain = zone.bytes().all(|byte| byte.is_ascii_digit()) && !zone.starts_with('0');
    zone.parse().ok().filter(|_| plain)
}

/// Splits `[inner]rest`; `text` starts with the bracket.
pub(super) fn split_brackets(text: &str) -> Result<(&str, &str), EndpointFault> {
    text[1..].split_once(']').ok_or(EndpointFault::OpenBracket)
}

/// Refuses every ASCII byte that neither a name nor an address has.
fn check_bytes(text: &str) -> Result<(), EndpointFault> {
    let allowed = |byte: u8| !byte.is_ascii() || is_name_byte(byte) || matches!(byte, b'.' | b':');
    match text.bytes().enumerate().find(|&(_, byte)| !allowed(byte)) {
        Some((at, byte)) => Err(EndpointFault::HostByte { at, byte }),
        None => Ok(()),
    }
}

/// Letters, digits and hyphens (RFC 1123 2.1), and the underscore of service names (RFC 2782).
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// Lower case; international labels as A-labels (UTS 46, nontransitional). Lengths, hyphens and
/// ASCII are checked afterwards, on what comes out.
fn to_ascii(text: &str) -> Result<Cow<'_, str>, EndpointFault> {
    let (ascii, hyphens) = (AsciiDenyList::EMPTY, Hyphens::Allow);
    Uts46::new()
        .to_ascii(text.as_bytes(), ascii, hyphens, DnsLength::Ignore)
        .map_err(|_| EndpointFault::International)
}

/// Checks a mapped name without its trailing dot.
fn check_name(name: &str) -> Result<(), EndpointFault> {
    if name.is_empty() {
        return Err(EndpointFault::EmptyHost);
    }
    for (index, label) in name.split('.').enumerate() {
        check_label(index, label)?;
    }
    if name.len() > MAX_NAME {
        return Err(EndpointFault::NameLength { len: name.len() });
    }
    if name.rsplit('.').next().is_some_and(is_number) {
        return Err(EndpointFault::Number);
    }
    Ok(())
}

/// Hyphens in the third and fourth place are let through: names in use have them.
fn check_label(index: usize, label: &str) -> Result<(), EndpointFault> {
    let len = label.len();
    if len == 0 {
        return Err(EndpointFault::EmptyLabel { index });
    }
    if len > MAX_LABEL {
        return Err(EndpointFault::LabelLength { index, len });
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(EndpointFault::Hyphen { index });
    }
    if !label.bytes().all(is_name_byte) {
        return Err(EndpointFault::International);
    }
    Ok(())
}

/// What some resolver reads as a number: digits, or `0x` and hexadecimal digits (perhaps none).
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x") {
        Some(hex) => hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}
