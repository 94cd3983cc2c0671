//! Endpoint texts come from configuration files and from users; a refusal must say which byte, and
//! must not carry that byte raw into a log.
//!
//! Promise: every text in an error is escaped when printed, and no longer than [`EXCERPT`]
//! characters.

/// How many characters of a refused text an error keeps.
const EXCERPT: usize = 96;

/// A text that is not an [`Endpoint`](crate::Endpoint), and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("endpoint {text:?}: {fault}")]
pub struct EndpointError {
    text: String,
    fault: EndpointFault,
}

impl EndpointError {
    pub(super) fn new(text: &str, fault: EndpointFault) -> Self {
        let text = excerpt(text);
        Self { text, fault }
    }

    /// The text that was given, or its start if it is long.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is wrong with it.
    pub fn fault(&self) -> &EndpointFault {
        &self.fault
    }
}

/// What is wrong with the text of an endpoint. Bytes are counted from 0, in the text given.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointFault {
    /// There is nothing where the host should be.
    #[error("the host is empty")]
    EmptyHost,
    /// A byte that no host name has: a control byte, a space, `/`, `@` and the like.
    #[error("byte {at} (0x{byte:02x}) is not allowed in a host name")]
    HostByte {
        /// Where the byte stands.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// A byte other than a digit in the port.
    #[error("byte {at} (0x{byte:02x}) is not allowed in a port")]
    PortByte {
        /// Where the byte stands.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// No port follows the host.
    #[error("the port is missing, expected host:port")]
    MissingPort,
    /// The port, which starts at byte `at`, is 0, above 65535, or has a zero in front.
    #[error("the port at byte {at} must be 1 to 65535 without leading zeros")]
    PortRange {
        /// Where the port starts.
        at: usize,
    },
    /// The port that was given as a number is 0.
    #[error("port is 0, must be 1 to 65535")]
    PortZero,
    /// A colon inside the host.
    #[error(
        "byte {at} is a colon inside the host; an IPv6 address stands in brackets, as in [::1]:80"
    )]
    Colon {
        /// Where the first colon stands.
        at: usize,
    },
    /// The opening bracket of an IPv6 address has no closing one.
    #[error("byte 0 opens a bracket that is never closed")]
    OpenBracket,
    /// Something other than a port follows the closing bracket.
    #[error("byte {at} follows the closing bracket and does not start a port")]
    AfterBracket {
        /// Where it stands.
        at: usize,
    },
    /// What stands in brackets, or has colons, is not an IPv6 address.
    #[error("the host is not an IPv6 address")]
    NotIpv6,
    /// A zone that is not the number of an interface, or is on an address that has none.
    #[error(
        "the zone must be the number of an interface, on a link-local address, as in [fe80::1%2]:80"
    )]
    Zone,
    /// The last label is a number, yet the host is no IPv4 address: `127.1`, `0x7f000001`.
    #[error(
        "the host ends in a number but is not an IPv4 address of four decimal numbers without \
         leading zeros"
    )]
    Number,
    /// Two dots in a row, or a dot at the start.
    #[error("label {index} of the host name is empty")]
    EmptyLabel {
        /// Which label, from 0.
        index: usize,
    },
    /// A label longer than 63 bytes.
    #[error("label {index} of the host name has {len} bytes, must be 1 to 63")]
    LabelLength {
        /// Which label, from 0.
        index: usize,
        /// Its length, as an A-label.
        len: usize,
    },
    /// A label that starts or ends with a hyphen.
    #[error("label {index} of the host name starts or ends with a hyphen")]
    Hyphen {
        /// Which label, from 0.
        index: usize,
    },
    /// A name longer than 253 bytes.
    #[error("the host name has {len} bytes, must be 1 to 253")]
    NameLength {
        /// Its length, as A-labels.
        len: usize,
    },
    /// A service is not named `_service._protocol.name`.
    #[error(
        "label {index} of the service name must be an underscore, then letters, digits and inner \
         hyphens, as in _redis._tcp.example.com"
    )]
    ServiceLabel {
        /// Which label, from 0: 0 or 1.
        index: usize,
    },
    /// No name follows the two labels of a service.
    #[error("no name follows the service and its protocol, as in _redis._tcp.example.com")]
    ServiceName,
    /// A service of another protocol than TCP: `_udp`, `_sctp`, `_dccp`.
    #[error("the service is one over another protocol than TCP")]
    NotTcp,
    /// An IP address where records are to be looked up at a name.
    #[error("the host is an IP address, and SRV and HTTPS records are looked up at names")]
    NoName,
    /// A port after a name whose records say which port.
    #[error("byte {at} starts a port, and here the records of the name say which port")]
    OwnPort {
        /// Where the colon stands.
        at: usize,
    },
    /// The name is not valid by UTS 46 (international names), or maps to forbidden characters.
    #[error("the host is not a valid international name (UTS 46)")]
    International,
}

impl EndpointFault {
    /// The same, found in what follows the first `by` bytes of the text.
    pub(super) fn moved(self, by: usize) -> Self {
        match self {
            Self::HostByte { at, byte } => Self::HostByte { at: at + by, byte },
            Self::Colon { at } => Self::Colon { at: at + by },
            Self::OwnPort { at } => Self::OwnPort { at: at + by },
            other => other,
        }
    }
}

/// The start of `text`, so that a refused megabyte does not become a log line.
fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
