//! The words in which names are asked for and answered, without packets: a [`Question`], and the
//! [`Answer`] that it ends with.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::resolver::Answered;

/// The type of record asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    A,
    Aaaa,
    Srv,
    Https,
}

impl Kind {
    /// All of them, in the order of their numbers here.
    pub(crate) const ALL: [Kind; 4] = [Kind::A, Kind::Aaaa, Kind::Srv, Kind::Https];
}

/// One name and one type of record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Question {
    /// Canonical and absolute: lower case, A-labels, without the trailing dot.
    pub(crate) name: Arc<str>,
    pub(crate) kind: Kind,
}

/// Records of one type at one name; at least one, at most 64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Records {
    Addresses(Arc<[IpAddr]>),
    Services(Arc<[Service]>),
    Bindings(Arc<[Binding]>),
    /// What the user's own resolver said, whatever the kind asked for.
    Given(Arc<Answered>),
}

/// An SRV record (RFC 2782). Its port is not 0; a target is a valid host name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    pub(crate) port: u16,
    /// `None` is the root: the service is decidedly not available.
    pub(crate) target: Option<Box<str>>,
}

/// An HTTPS record (RFC 9460) whose mandatory keys are all known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binding {
    /// 0 is AliasMode.
    pub(crate) priority: u16,
    /// `None` is the root: in ServiceMode the owner itself, in AliasMode not available.
    pub(crate) target: Option<Box<str>>,
    pub(crate) port: Option<u16>,
    pub(crate) alpn: Vec<Box<str>>,
    pub(crate) no_default_alpn: bool,
    pub(crate) hints: Vec<IpAddr>,
}

/// How a question ended.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// There are records; the TTL is the least on the way to them, not clamped.
    Found {
        records: Records,
        ttl: Duration,
        server: SocketAddr,
    },
    /// The name exists and has none of this type. Without a TTL, it must not be kept.
    NoData {
        ttl: Option<Duration>,
        server: SocketAddr,
    },
    /// There is no such name, of any type (RFC 8020). Without a TTL, it must not be kept.
    NxDomain {
        ttl: Option<Duration>,
        server: SocketAddr,
    },
    /// Nobody gave an answer. Says nothing about the name.
    Failed(Error),
}
