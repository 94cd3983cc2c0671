//! Where a name's addresses come from differs between a service, its tests and a cluster with a
//! directory of its own. [`Resolver`] says which of them a pool uses; nothing is looked up behind
//! its back.
//!
//! Promise: what is not named here is not read: [`Resolver::System`] alone looks at the system's
//! files, the host's name and the environment.

mod options;
mod prefix;

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::target::Target;

pub use options::{Families, ResolverOptions};
pub use prefix::IpPrefix;

/// The most addresses of one name that are kept.
pub(crate) const MAX_ADDRESSES: usize = 64;
/// The most name servers; glibc stops at three.
pub(crate) const MAX_SERVERS: usize = 8;

/// Where addresses of names come from.
///
/// Whatever it is, addresses are themselves, `localhost` is this host (RFC 6761), and `.invalid`,
/// `.onion` (RFC 7686) and `.alt` (RFC 9476) do not exist.
#[non_exhaustive]
#[derive(Debug, Clone, Default)]
pub enum Resolver {
    /// The system's files ([`SystemFiles::default`]), as glibc reads them: `LOCALDOMAIN` and
    /// `RES_OPTIONS` of the environment count, unless the process runs with more rights than its
    /// user (`AT_SECURE`, getauxval(3)), and the search list defaults to the host's own domain.
    /// Files that change are read again within about 5 s of a name being asked for.
    #[default]
    System,
    /// As `System`, with other files, and without the environment and the host's name.
    Files(SystemFiles),
    /// These name servers alone, 1 to 8 of them: no hosts file, no search list.
    Servers(Vec<SocketAddr>),
    /// These names alone.
    Table(NameTable),
    /// The user's own code.
    Custom(Arc<dyn Resolve>),
}

/// The files that say what names mean.
///
/// ```
/// use ringpool::{Config, Resolver, SystemFiles};
/// let files = SystemFiles { hosts: "/run/app/hosts".into(), ..SystemFiles::default() };
/// assert_eq!(files.nsswitch, std::path::Path::new("/etc/nsswitch.conf"));
/// let config = Config { resolver: Resolver::Files(files), ..Config::default() };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemFiles {
    /// Name servers, search list and options (resolv.conf(5)). Absolute.
    /// Default `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Names with their addresses (hosts(5)). Absolute. Default `/etc/hosts`.
    pub hosts: PathBuf,
    /// Its line `hosts:` says which of the two is asked first (nsswitch.conf(5)). Absolute.
    /// Default `/etc/nsswitch.conf`.
    pub nsswitch: PathBuf,
}

impl Default for SystemFiles {
    fn default() -> Self {
        Self {
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            nsswitch: "/etc/nsswitch.conf".into(),
        }
    }
}

/// Names and their addresses, fixed when the pool is made.
///
/// ```
/// use std::net::IpAddr;
/// use ringpool::{Config, NameTable, Resolver};
/// let names = NameTable::new()
///     .with("db.test", ["192.0.2.1".parse::<IpAddr>()?, "2001:db8::1".parse()?])?
///     .with("Cache.test.", ["192.0.2.2".parse()?])?;
/// assert_eq!(names.get("DB.test").len(), 2);
/// let config = Config { resolver: Resolver::Table(names), ..Config::default() };
/// # assert!(config.validate().is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameTable {
    /// By the canonical name. Shared: a table is cloned with its configuration.
    names: Arc<BTreeMap<Box<str>, Vec<IpAddr>>>,
}

impl NameTable {
    /// A table without names.
    pub fn new() -> Self {
        Self::default()
    }

    /// The table with `addresses` added to those of `name`, in this order, each once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if `name` is no name ([`Endpoint::new`]) or is an address, or
    /// if it would have more than 64 addresses.
    pub fn with(mut self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Result<Self> {
        let refused = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        let endpoint = Endpoint::new(name, 1)?;
        if endpoint.socket_addr().is_some() {
            return refused(format!("{} is an address, not a name", endpoint.host()));
        }
        let listed = Arc::make_mut(&mut self.names)
            .entry(endpoint.host().into())
            .or_default();
        for address in addresses {
            if !listed.contains(&address) {
                listed.push(address);
            }
            if listed.len() > MAX_ADDRESSES {
                let host = endpoint.host();
                return refused(format!("{host} has more than {MAX_ADDRESSES} addresses"));
            }
        }
        Ok(self)
    }

    /// The addresses of `name`; none if it is not in the table.
    pub fn get(&self, name: &str) -> &[IpAddr] {
        let Ok(endpoint) = Endpoint::new(name, 1) else {
            return &[];
        };
        self.names.get(endpoint.host()).map_or(&[], Vec::as_slice)
    }

    /// Every canonical name with its addresses.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[IpAddr])> {
        let names = self.names.iter();
        names.map(|(name, addresses)| (&**name, addresses.as_slice()))
    }
}

/// A resolver of the user's own: a directory service, a file of another format.
///
/// It is asked on the core that needs the name, once per name at a time; what it answers is kept
/// for its TTL and shared by all cores. It is given as long as a get may take and dropped then. Its
/// errors are failures to ask: they are kept for a moment, and where an older answer is known, that
/// serves. A name that does not exist is an [`Answered`] without places.
///
/// ```
/// use std::{future::Future, pin::Pin, sync::Arc, time::Duration};
/// use ringpool::{Answered, Config, Resolve, Resolver, Result};
///
/// #[derive(Debug)]
/// struct Shards;
///
/// impl Resolve for Shards {
///     fn resolve<'a>(
///         &'a self,
///         host: &'a str,
///     ) -> Pin<Box<dyn Future<Output = Result<Answered>> + 'a>> {
///         Box::pin(async move {
///             match host {
///                 "shard-1.db" => Ok(Answered::new(Duration::from_secs(60))
///                     .with_address([192, 0, 2, 1].into())
///                     .with_target(([192, 0, 2, 2], 5433).into(), 1, 10)),
///                 _ => Ok(Answered::new(Duration::from_secs(5))),
///             }
///         })
///     }
/// }
///
/// let config = Config { resolver: Resolver::Custom(Arc::new(Shards)), ..Config::default() };
/// assert!(config.validate().is_ok());
/// ```
pub trait Resolve: Debug + Send + Sync {
    /// Finds what `host` means. `host` is canonical: lower case, A-labels, no trailing dot; it is
    /// no address and none of the names that are answered without asking ([`Resolver`]).
    fn resolve<'a>(&'a self, host: &'a str)
    -> Pin<Box<dyn Future<Output = Result<Answered>> + 'a>>;
}

/// What a [`Resolve`] found: places to connect to, and how long that is true.
#[derive(Clone, PartialEq, Eq)]
pub struct Answered {
    places: Vec<Place>,
    ttl: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    ip: IpAddr,
    /// `None` is the endpoint's own.
    port: Option<u16>,
    priority: u16,
    weight: u16,
}

impl Answered {
    /// An answer without any place yet, true for `ttl`, which is cut to a day. One that stays
    /// without places means that the name exists and leads nowhere.
    pub fn new(ttl: Duration) -> Self {
        Self {
            places: Vec::new(),
            ttl,
        }
    }

    /// The answer with an address like all others, at the endpoint's own port.
    #[must_use]
    pub fn with_address(self, ip: IpAddr) -> Self {
        self.with_place(Place {
            ip,
            port: None,
            priority: 0,
            weight: 1,
        })
    }

    /// The answer with a place that has a port, a priority and a weight of its own, as in an SRV
    /// record (RFC 2782): a higher priority number is used only when all of a lower one fail, and
    /// among equals the load is shared by weight.
    #[must_use]
    pub fn with_target(self, address: SocketAddr, priority: u16, weight: u16) -> Self {
        self.with_place(Place {
            ip: address.ip(),
            port: Some(address.port()),
            priority,
            weight,
        })
    }

    /// At most 64 places; more are passed over.
    fn with_place(mut self, place: Place) -> Self {
        if self.places.len() < MAX_ADDRESSES && !self.places.contains(&place) {
            self.places.push(place);
        }
        self
    }

    /// How long the answer is true.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Whether it leads nowhere.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The places, for an endpoint of `port`.
    pub(crate) fn targets(&self, port: u16) -> impl Iterator<Item = Target> {
        self.places.iter().map(move |place| Target {
            priority: place.priority,
            weight: place.weight,
            ..Target::new(SocketAddr::new(place.ip, place.port.unwrap_or(port)))
        })
    }
}

impl Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answered")
            .field("places", &self.places)
            .field("ttl", &self.ttl)
            .finish()
    }
}

#[cfg(test)]
mod tests;
