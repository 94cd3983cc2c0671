//! A name may lead to its addresses directly, or by records that also say which port, in which
//! order and how much: SRV (RFC 2782) and HTTPS (RFC 9460). [`Via`] is which of them an endpoint
//! asks for.
//!
//! Promise: a service is `_service._protocol.name`, over TCP; neither it nor an HTTPS host is an
//! address or brings a port of its own.

use super::EndpointFault;
use super::host::Host;

/// Which records lead from an endpoint's name to its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Via {
    /// A and AAAA; the port is the endpoint's own.
    Address,
    /// SRV, then A and AAAA of their targets; the ports are theirs.
    Srv,
    /// HTTPS, then A and AAAA of their targets, or of the name itself if there are none.
    Https,
}

impl Via {
    /// What stands before the name in the text of an endpoint.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Address => "",
            Self::Srv => "srv:",
            Self::Https => "https:",
        }
    }

    /// The port of an endpoint whose text has none.
    pub(super) fn port(self) -> u16 {
        match self {
            Self::Address | Self::Srv => 0,
            Self::Https => 443,
        }
    }
}

/// Takes `srv:` or `https:` off the front of `text`. Before a port (digits, or nothing yet) that
/// is a host of this name.
pub(super) fn split(text: &str) -> Option<(Via, &str)> {
    for via in [Via::Srv, Via::Https] {
        let at = via.prefix().len();
        if let (Some(front), Some(name)) = (text.get(..at), text.get(at..))
            && front.eq_ignore_ascii_case(via.prefix())
        {
            let is_port = name.bytes().all(|byte| byte.is_ascii_digit());
            return (!is_port).then_some((via, name));
        }
    }
    None
}

/// Reads a name that is not an address.
pub(super) fn name(text: &str) -> Result<Host, EndpointFault> {
    let host = match text.starts_with('[') {
        true => return Err(EndpointFault::NoName),
        false => Host::name_or_v4(text).map_err(|fault| match fault {
            EndpointFault::Colon { at } if text[at + 1..].contains(':') => EndpointFault::NoName,
            EndpointFault::Colon { at } => EndpointFault::OwnPort { at },
            other => other,
        })?,
    };
    match host.ip() {
        Some(_) => Err(EndpointFault::NoName),
        None => Ok(host),
    }
}

/// Reads `_service._protocol.name`.
pub(super) fn service(text: &str) -> Result<Host, EndpointFault> {
    let host = name(text)?;
    let mut labels = host.as_str().splitn(3, '.');
    for index in 0..2 {
        if !labels.next().is_some_and(is_service_label) {
            return Err(EndpointFault::ServiceLabel { index });
        }
    }
    if labels.next().is_none() {
        return Err(EndpointFault::ServiceName);
    }
    let protocol = host.as_str().split('.').nth(1);
    match protocol {
        Some("_udp" | "_sctp" | "_dccp") => Err(EndpointFault::NotTcp),
        // Other words than `_tcp` are in use: Consul has the service's tag here.
        _ => Ok(host),
    }
}

/// One underscore, then letters, digits and hyphens, no hyphen at either end (RFC 6335 5.1). Its
/// limit of 15 is not held: names longer than that are in use.
fn is_service_label(label: &str) -> bool {
    label.strip_prefix('_').is_some_and(|word| {
        !word.is_empty() && !word.starts_with('-') && !word.ends_with('-') && !word.contains('_')
    })
}
