//! What `ringpool resolve` is asked for: a bare name, an endpoint, a name and the records to begin
//! with.

use std::net::{IpAddr, SocketAddr};

use clap::ValueEnum;
use ringpool::{Endpoint, EndpointError, EndpointFault, Families};

/// Stands for no port.
const NO_PORT: u16 = 1;
const DNS_PORT: u16 = 53;

/// The records to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecordType {
    #[value(name = "A")]
    A,
    #[value(name = "AAAA")]
    Aaaa,
    #[value(name = "SRV")]
    Srv,
    #[value(name = "HTTPS")]
    Https,
}

impl RecordType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Srv => "SRV",
            Self::Https => "HTTPS",
        }
    }
}

/// What is to be resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) endpoint: Endpoint,
    /// Whether somebody names the port: the user, or records.
    pub(crate) has_port: bool,
    /// The families of addresses that are wanted.
    pub(crate) families: Families,
}

/// Reads `NAME` with `--type`.
///
/// # Errors
///
/// What is wrong with them, in words that name the argument.
pub(crate) fn read(name: &str, kind: Option<RecordType>) -> Result<Asked, String> {
    let asked = match kind {
        None | Some(RecordType::A | RecordType::Aaaa) => host(name),
        Some(RecordType::Srv) => Endpoint::srv(unprefixed(name, "srv:")).map(with_port),
        Some(RecordType::Https) => Endpoint::https(unprefixed(name, "https:")).map(with_port),
    };
    let asked = asked.map_err(|error| error.to_string())?;
    let families = match kind {
        Some(RecordType::A) => Families::V4,
        Some(RecordType::Aaaa) => Families::V6,
        _ => Families::Both,
    };
    Ok(Asked { families, ..asked })
}

fn with_port(endpoint: Endpoint) -> Asked {
    Asked {
        endpoint,
        has_port: true,
        families: Families::Both,
    }
}

/// An endpoint, or a host alone.
fn host(name: &str) -> Result<Asked, EndpointError> {
    let refused = match name.parse().map(with_port) {
        Ok(asked) => return Ok(asked),
        Err(refused) => refused,
    };
    // No port is asked for, and none is shown.
    match Endpoint::new(name, NO_PORT) {
        Ok(endpoint) => Ok(Asked {
            has_port: false,
            ..with_port(endpoint)
        }),
        Err(error) if *refused.fault() == EndpointFault::MissingPort => Err(error),
        Err(_) => Err(refused),
    }
}

/// `name` without the form of an endpoint in front.
fn unprefixed<'a>(name: &'a str, prefix: &str) -> &'a str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// Reads a name server: an IP address, perhaps with a port.
pub(crate) fn server(text: &str) -> Result<SocketAddr, String> {
    let alone = || {
        text.parse::<IpAddr>()
            .map(|ip| SocketAddr::new(ip, DNS_PORT))
    };
    match text.parse().or_else(|_| alone()) {
        Ok(address) if address.port() == 0 => Err("the port is 0".into()),
        Ok(address) => Ok(address),
        Err(_) => Err("expected an IP address, perhaps with a port: 127.0.0.1:53, [::1]:53".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The endpoint, then what is said of port and family.
    fn shown(name: &str, kind: Option<RecordType>) -> String {
        match read(name, kind) {
            Ok(asked) => {
                let port = if asked.has_port { "" } else { " (no port)" };
                format!("{}{port} {:?}", asked.endpoint, asked.families)
            }
            Err(error) => error,
        }
    }

    #[test]
    fn a_name_may_stand_alone_or_be_an_endpoint() {
        let table = [
            ("db.test", None, "db.test:1 (no port) Both"),
            ("db.test.", None, "db.test.:1 (no port) Both"),
            ("db.test:5432", None, "db.test:5432 Both"),
            ("::1", None, "[::1]:1 (no port) Both"),
            ("fe80::1%2", None, "[fe80::1%2]:1 (no port) Both"),
            ("[::1]:80", None, "[::1]:80 Both"),
            ("srv:_a._tcp.b", None, "srv:_a._tcp.b Both"),
            ("https:b.test", None, "https:b.test Both"),
            ("db.test", Some(RecordType::A), "db.test:1 (no port) V4"),
            ("db.test:1", Some(RecordType::Aaaa), "db.test:1 V6"),
            ("_a._tcp.b", Some(RecordType::Srv), "srv:_a._tcp.b Both"),
            ("srv:_a._tcp.b", Some(RecordType::Srv), "srv:_a._tcp.b Both"),
            ("b.test", Some(RecordType::Https), "https:b.test Both"),
        ];
        for (name, kind, expected) in table {
            assert_eq!(shown(name, kind), expected, "{name} {kind:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_of_what_was_given() {
        let table = [
            ("a b", None, "byte 1 (0x20) is not allowed in a host name"),
            (
                "a b:80",
                None,
                "byte 1 (0x20) is not allowed in a host name",
            ),
            ("a:0", None, "the port at byte 2 must be 1 to 65535"),
            ("127.1", None, "the host ends in a number"),
            ("", None, "the host is empty"),
            (
                "b.test",
                Some(RecordType::Srv),
                "label 0 of the service name",
            ),
            (
                "127.0.0.1",
                Some(RecordType::Https),
                "the host is an IP address",
            ),
        ];
        for (name, kind, expected) in table {
            let error = shown(name, kind);
            assert!(error.contains(expected), "{name}: {error}");
        }
    }

    #[test]
    fn a_name_server_is_an_address() {
        assert_eq!(server("::1").unwrap(), "[::1]:53".parse().unwrap());
        assert_eq!(
            server("127.0.0.1:5300").unwrap(),
            "127.0.0.1:5300".parse().unwrap()
        );
        assert!(server("127.0.0.1:0").is_err());
        assert!(server("dns.test").is_err());
    }
}
