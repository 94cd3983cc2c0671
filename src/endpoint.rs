//! Endpoint texts come in many spellings; a pool keyed by spelling would hold two sets of
//! connections for one server, or mix two servers. [`Endpoint`] is the one canonical form.
//!
//! Promise: two endpoints are equal if and only if they mean the same host, port and partition, and
//! lead there the same way (by addresses, by SRV or by HTTPS records); the host is what DNS, logs
//! and later TLS see, and holds no byte that could break out of any of them. A text that is
//! accepted, displayed and read again gives the same endpoint.

mod error;
mod host;
#[cfg(test)]
mod tests;
mod via;

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};

pub use self::error::{EndpointError, EndpointFault};
use self::host::Host;
pub(crate) use self::via::Via;

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
/// | text | made by | where it leads |
/// | --- | --- | --- |
/// | `host:port` | [`Endpoint::new`] | to the addresses of the host; an IPv6 address in brackets |
/// | `srv:_redis._tcp.example.com` | [`Endpoint::srv`] | where the SRV records say, ports too |
/// | `https:example.com` | [`Endpoint::https`] | where the HTTPS records say, else to its addresses, port 443 |
///
/// `srv:` or `https:` before digits alone is a host of that name and its port, as in `srv:80`.
///
/// A name is kept in lower case, international names as A-labels.
/// An IP address is accepted in its usual form alone, and is never equal to a name.
/// Endpoints of different rows of the table are never equal.
///
/// A dot at the end makes a name absolute: it is looked up as it is, while one without a dot goes
/// through the search list of `resolv.conf`, if there is one. As both may lead to different
/// servers, `db.example.:5432` and `db.example:5432` are different endpoints; the host of both is
/// `db.example`. Names that are never asked of a server (`localhost`, and what ends in
/// `.localhost`, `.invalid`, `.onion` or `.alt`) lose the dot.
///
/// ```
/// use ringpool::Endpoint;
/// let endpoint: Endpoint = "BÜCHER.example:443".parse()?;
/// assert_eq!(endpoint.to_string(), "xn--bcher-kva.example:443");
/// assert_eq!(endpoint, Endpoint::new("xn--bcher-kva.example", 443)?);
/// assert_ne!(endpoint, endpoint.with_partition("tenant-a"));
/// assert_ne!(endpoint, Endpoint::new("xn--bcher-kva.example.", 443)?);
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
    via: Via,
    host: Host,
    /// 0 for a service, 443 for HTTPS: the canonical value, so that equality is that of the host.
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

    /// A service that its SRV records describe: where it runs, at which ports, in which order and
    /// with which share of the load (RFC 2782).
    ///
    /// ```
    /// use ringpool::Endpoint;
    /// let redis = Endpoint::srv("_redis._tcp.Example.com")?;
    /// assert_eq!(redis.to_string(), "srv:_redis._tcp.example.com");
    /// assert_eq!(redis, "srv:_redis._tcp.example.com".parse()?);
    ///
    /// let error = Endpoint::srv("redis.example.com").unwrap_err();
    /// assert!(error.to_string().contains("label 0 of the service name must be an underscore"));
    /// # Ok::<(), ringpool::EndpointError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`EndpointError`]: the name does not begin with two labels as in `_redis._tcp`, is one over
    /// another protocol than TCP, has a port, or is no name.
    pub fn srv(name: &str) -> Result<Self, EndpointError> {
        let host = via::service(name).map_err(|fault| EndpointError::new(name, fault))?;
        Ok(Self::from_name(Via::Srv, host))
    }

    /// A host that its HTTPS records describe: where it is served, at which ports, with which
    /// protocols (RFC 9460). Without such records it is its addresses, at port 443.
    ///
    /// ```
    /// use ringpool::Endpoint;
    /// let web = Endpoint::https("Example.com")?;
    /// assert_eq!(web.to_string(), "https:example.com");
    /// assert_ne!(web, Endpoint::new("example.com", 443)?);
    /// # Ok::<(), ringpool::EndpointError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`EndpointError`]: it is an IP address, has a port, or is no name.
    pub fn https(host: &str) -> Result<Self, EndpointError> {
        let name = via::name(host).map_err(|fault| EndpointError::new(host, fault))?;
        Ok(Self::from_name(Via::Https, name))
    }

    /// The same host and port in a partition of their own.
    #[must_use]
    pub fn with_partition(&self, partition: impl Into<Partition>) -> Self {
        Self {
            partition: Some(partition.into()),
            ..self.clone()
        }
    }

    /// The canonical name without a dot at its end, or the IP address (IPv6 without brackets).
    /// For a service it is the whole name, `_redis._tcp.example.com`.
    pub fn host(&self) -> &str {
        self.host.as_str()
    }

    /// The port, never 0 if the endpoint was made from `host:port`. Of a service 0, as each of its
    /// records has its own; of an HTTPS host 443, which its records may replace.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the name ended with a dot: it is looked up as it is then, without a search list.
    /// False for an IP address, and for a name that is never asked of a server.
    pub fn is_absolute(&self) -> bool {
        self.host.is_absolute()
    }

    /// Which records lead to the addresses.
    pub(crate) fn via(&self) -> Via {
        self.via
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
            via: Via::Address,
            host,
            port,
            partition: None,
        }
    }

    fn from_name(via: Via, host: Host) -> Self {
        Self {
            via,
            ..Self::from_parts(host, via.port())
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        read(text).map_err(|fault| EndpointError::new(text, fault))
    }
}

/// Reads `srv:name`, `https:name`, `host:port` or `[v6]:port`.
fn read(text: &str) -> Result<Endpoint, EndpointFault> {
    if let Some((via, name)) = via::split(text) {
        let host = match via {
            Via::Srv => via::service(name),
            _ => via::name(name),
        };
        let at = text.len() - name.len();
        let host = host.map_err(|fault| fault.moved(at))?;
        return Ok(Endpoint::from_name(via, host));
    }
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
        if let Some((IpAddr::V6(_), _)) = self.host.ip() {
            return write!(f, "[{}]:{}", self.host(), self.port);
        }
        let dot = if self.is_absolute() { "." } else { "" };
        match self.via {
            Via::Address => write!(f, "{}{dot}:{}", self.host(), self.port),
            Via::Srv | Via::Https => write!(f, "{}{}{dot}", self.via.prefix(), self.host()),
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
