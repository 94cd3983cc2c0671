//! What a name leads to is more than addresses: SRV records give each its port, and say which
//! come first and how much of the load each takes. A [`Target`] is one place to connect to, with
//! what its name's owner wants of it.

use std::net::SocketAddr;

/// One place to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// Targets of a higher number are used only when all of a lower number fail (RFC 2782).
    pub(crate) priority: u16,
    /// The share of the load among targets of one priority; 0 is the least there is (RFC 2782).
    /// Equal for all where the name's owner said nothing.
    pub(crate) weight: u16,
}

impl Target {
    /// An address like all others of its name.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            priority: 0,
            weight: 1,
        }
    }
}
