//! Endpoint texts come in many spellings; a pool keyed by spelling would hold two sets of
//! connections for one server, or mix two servers. [`Endpoint`] is the one canonical form.
//!
//! Promise: two endpoints are equal if and only if they mean the same host, port and partition;
//! the host is what DNS, logs and later TLS see, and holds no byte that could break out of any of
//! them. A text that is accepted, displayed and read again gives the same endpoint.

mod error;
mod host;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};

pub use self::error::{EndpointError, EndpointFault};
use self::host::Host;

/// A label that keeps connections apart: those of one partition are never handed out in another.
///
/// The pool compares it and gives it no meaning. Use the name of a tenant or a hash, not a secret:
/// the `Debug` form shows it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(Arc<str>);

impl Partition {
    /// The label itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Partition {
    fn from(label: &str) -> Self {
        Self(label.into())
    }
}

impl From<String> for Partition {
    fn from(label: String) -> Self {
        Self(label.into())
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partition({:?})", self.as_str())
    }
}

/// Whom to connect to: a host, a port, and the partition whose connections these are.
///
/// The text form is `host:port`, an IPv6 address in brackets.
/// A name is kept in lower case, without its trailing dot, international names as A-labels.
/// An IP address is accepted in its usual form alone, and is never equal to a name.
///
/// ```
/// use ringpool::Endpoint;
/// let endpoint: Endpoint = "BÜCHER.example.:443".parse()?;
/// assert_eq!(endpoint.to_string(), "xn--bcher-kva.example:443");
/// assert_eq!(endpoint, Endpoint::new("xn--bcher-kva.example", 443)?);
/// assert_ne!(endpoint, endpoint.with_partition("tenant-a"));
///
/// let error = "a b:80".parse::<Endpoint>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#"endpoint "a b:80": byte 1 (0x20) is not allowed in a host name"#
/// );
/// # Ok::<(), ringpool::EndpointError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    host: Host,
    port: u16,
    partition: Option<Partition>,
}

impl Endpoint {
    /// The endpoint of a host (a name or an IP address, an IPv6 address with or without brackets)
    /// and a port.
    ///
    /// # Errors
    ///
    /// [`EndpointError`], saying what is wrong with which byte.
    pub fn new(host: &str, port: u16) -> Result<Self, EndpointError> {
        let endpoint = match port {
            0 => Err(EndpointFault::PortZero),
            _ => read_host(host).map(|host| Self::from_parts(host, port)),
        };
        endpoint.map_err(|fault| EndpointError::new(host, fault))
    }

    /// The same host and port in a partition of their own.
    #[must_use]
    pub fn with_partition(&self, partition: impl Into<Partition>) -> Self {
        Self {
            partition: Some(partition.into()),
            ..self.clone()
        }
    }

    /// The canonical name, or the IP address (IPv6 without brackets).
    pub fn host(&self) -> &str {
        self.host.as_str()
    }

    /// The port; never 0 if the endpoint was made from a text.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The partition, if it is not the common one.
    pub fn partition(&self) -> Option<&Partition> {
        self.partition.as_ref()
    }

    /// The address to connect to, if the host is an IP address; `None` if it is a name.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.host.ip().map(|(ip, zone)| match ip {
            IpAddr::V4(_) => SocketAddr::new(ip, self.port),
            IpAddr::V6(v6) => SocketAddr::V6(SocketAddrV6::new(v6, self.port, 0, zone)),
        })
    }

    fn from_parts(host: Host, port: u16) -> Self {
        Self {
            host,
            port,
            partition: None,
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        read(text).map_err(|fault| EndpointError::new(text, fault))
    }
}

/// Reads `host:port` or `[v6]:port`.
fn read(text: &str) -> Result<Endpoint, EndpointFault> {
    if text.starts_with('[') {
        let (address, rest) = host::split_brackets(text)?;
        let host = Host::v6(address)?;
        let at = text.len() - rest.len();
        if !rest.is_empty() && !rest.starts_with(':') {
            return Err(EndpointFault::AfterBracket { at });
        }
        return Ok(Endpoint::from_parts(host, read_port(text, at + 1)?));
    }
    let end = text.rfind(':').unwrap_or(text.len());
    let host = Host::name_or_v4(&text[..end])?;
    Ok(Endpoint::from_parts(host, read_port(text, end + 1)?))
}

/// Reads a host that stands alone: there, colons cannot be mistaken.
fn read_host(text: &str) -> Result<Host, EndpointFault> {
    if text.starts_with('[') {
        let (address, rest) = host::split_brackets(text)?;
        let at = text.len() - rest.len();
        return match rest {
            "" => Host::v6(address),
            _ => Err(EndpointFault::AfterBracket { at }),
        };
    }
    match text.contains(':') {
        true => Host::v6(text),
        false => Host::name_or_v4(text),
    }
}

/// The port that stands in `text` from byte `at` to the end.
fn read_port(text: &str, at: usize) -> Result<u16, EndpointFault> {
    let digits = text.get(at..).unwrap_or_default();
    if digits.is_empty() {
        return Err(EndpointFault::MissingPort);
    }
    let mut bytes = digits.bytes().zip(at..);
    if let Some((byte, at)) = bytes.find(|(byte, _)| !byte.is_ascii_digit()) {
        return Err(EndpointFault::PortByte { at, byte });
    }
    match digits.parse() {
        Ok(port) if !digits.starts_with('0') => Ok(port),
        _ => Err(EndpointFault::PortRange { at }),
    }
}

impl TryFrom<&str> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: &str) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl TryFrom<&String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: &String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl TryFrom<(&str, u16)> for Endpoint {
    type Error = EndpointError;

    fn try_from((host, port): (&str, u16)) -> Result<Self, EndpointError> {
        Self::new(host, port)
    }
}

/// A port 0 is kept as it is: there is no text to complain about, and connecting to it fails.
/// The flow label, and a zone where it has no meaning, are left out.
impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        let zone = match address {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(v6) => v6.scope_id(),
        };
        Self::from_parts(Host::address(address.ip(), zone), address.port())
    }
}

impl From<&Endpoint> for Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        endpoint.clone()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.ip() {
            Some((IpAddr::V6(_), _)) => write!(f, "[{}]:{}", self.host(), self.port),
            _ => write!(f, "{}:{}", self.host(), self.port),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.partition {
            None => write!(f, "Endpoint({self})"),
            Some(partition) => write!(f, "Endpoint({self}, {partition:?})"),
        }
    }
}

impl From<EndpointError> for Error {
    fn from(error: EndpointError) -> Self {
        Error::from_source(ErrorKind::InvalidInput, error)
    }
}

/// Lets a function that takes `TryInto<Endpoint>` and returns [`Error`] take an [`Endpoint`] too.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
