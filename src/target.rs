//! What a name leads to is more than addresses: SRV records give each its port, and say which
//! come first and how much of the load each takes. A [`Target`] is one place to connect to, with
//! what its name's owner wants of it.

use std::net::SocketAddr;

/// One place to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// Targets of a higher number are used only when all of a lower number fail (RFC 2782). 0 for
    /// the addresses of a plain name.
    pub(crate) priority: u16,
    /// How well this host can reach it beside the others of its priority and place (RFC 6724): the
    /// lowest is the best.
    pub(crate) group: u16,
    /// The share of the load among targets of one priority and group; 0 is the least there is (RFC 2782).
    /// Equal for all where the name's owner said nothing.
    pub(crate) weight: u16,
}

impl Target {
    /// An address like all others of its name.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            priority: 0,
            group: 0,
            weight: 1,
        }
    }

    /// The least is the best.
    pub(crate) fn preference(&self) -> (u16, u16) {
        (self.priority, self.group)
    }
}
