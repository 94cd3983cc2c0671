//! Which of a name's addresses gets the next connection is the service's to say: equal servers want
//! equal shares, others want shares by size, or by how fast they answer. [`Balance`] says it.
//!
//! Promise: a balance chooses among addresses that are equally good otherwise: those that failed
//! lately, and those that the name's owner keeps in reserve, come after the others whatever it says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::within;
use crate::error::Result;

/// The most addresses that weights can be given for.
const MAX_WEIGHTS: usize = 1024;

/// How connections are spread over the addresses of an endpoint.
///
/// Set for all endpoints by [`Config::balance`](crate::Config::balance), and for single ones by
/// [`Config::balances`](crate::Config::balances), so that all cores agree. A get takes a free
/// connection of its own core, if there is one, and among the newest few of them one to the address
/// that is least busy; a new connection goes where the balance says.
///
/// ```
/// use ringpool::{Balance, Config, Endpoint, Weights};
/// let config = Config {
///     balance: Balance::PowerOfTwo,
///     balances: [(
///         Endpoint::new("db.example.com", 5432)?,
///         Balance::Weighted(Weights::from([
///             ("192.0.2.1:5432".parse()?, 3),
///             ("192.0.2.2:5432".parse()?, 1),
///         ])),
///     )]
///     .into(),
///     ..Config::default()
/// };
/// assert!(config.validate().is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Balance {
    /// Where all cores together hold the fewest connections for the address's weight, which is the
    /// same for all but those of SRV records. Ties go by chance.
    #[default]
    LeastConnections,
    /// Of two addresses drawn by chance, the one that is less busy: users on all cores, times how
    /// long they keep a connection (the longest lately; it wears off over 10 s). For servers of
    /// different or changing speed, with [`Exclusive`](crate::Access::Exclusive) connections; of
    /// shared ones only the users count.
    PowerOfTwo,
    /// Each address in turn, whatever it holds and weighs. Each core has turns of its own, in an
    /// order of its own.
    RoundRobin,
    /// As [`LeastConnections`](Balance::LeastConnections), with 1 to 1024 weights of your own.
    Weighted(Weights),
}

/// Shares of the load, by address: one of weight 3 gets three times the connections of one of
/// weight 1, and one of weight 0 next to none. An address that is not among them keeps the weight
/// of its SRV record, or 1. There may be 1 to 1024 of them; another number is an error of
/// [`Config::validate`](crate::Config::validate).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weights(Arc<BTreeMap<SocketAddr, u16>>);

impl Weights {
    /// The weight given to `address`.
    pub fn get(&self, address: SocketAddr) -> Option<u16> {
        self.0.get(&address).copied()
    }
}

impl<const N: usize> From<[(SocketAddr, u16); N]> for Weights {
    fn from(weights: [(SocketAddr, u16); N]) -> Self {
        weights.into_iter().collect()
    }
}

impl FromIterator<(SocketAddr, u16)> for Weights {
    fn from_iter<I: IntoIterator<Item = (SocketAddr, u16)>>(weights: I) -> Self {
        Self(Arc::new(weights.into_iter().collect()))
    }
}

impl Balance {
    /// An error names `field`.
    pub(crate) fn validate(&self, field: &'static str) -> Result<()> {
        match self {
            Self::Weighted(weights) => within(field, weights.0.len(), 1..=MAX_WEIGHTS),
            Self::LeastConnections | Self::PowerOfTwo | Self::RoundRobin => Ok(()),
        }
    }
}
