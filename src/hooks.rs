//! A service wants to log, count or label its connections; hooks tell it of each one's life.
//!
//! Promise: hooks run on the connection's core with nothing of the pool borrowed, so they may call
//! it; a panic in one is contained and counted.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::endpoint::Endpoint;

/// What a hook is told of a connection.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// The endpoint it belongs to.
    pub endpoint: Endpoint,
    /// The address it is connected to.
    pub address: SocketAddr,
    /// Why it was closed, in `on_connection_closed`.
    pub closed: Option<CloseReason>,
}

/// A function that is told of a connection.
///
/// ```
/// use ringpool::{Config, Hook};
/// let config = Config {
///     on_connection_closed: Some(Hook::new(|info| eprintln!("{info:?}"))),
///     ..Config::default()
/// };
/// # let _ = config;
/// ```
#[derive(Clone)]
pub struct Hook(Arc<dyn Fn(&ConnectionInfo) + Send + Sync>);

impl Hook {
    /// A hook that calls `function`, on the core of the connection.
    pub fn new(function: impl Fn(&ConnectionInfo) + Send + Sync + 'static) -> Self {
        Self(Arc::new(function))
    }

    pub(crate) fn call(&self, info: &ConnectionInfo) {
        (self.0)(info);
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook(..)")
    }
}

/// A function that says whether an idle connection may be handed out. It does no I/O; a check that
/// asks the server is [`Protocol::is_healthy`](crate::Protocol::is_healthy).
#[derive(Clone)]
pub struct HealthCheck(Arc<dyn Fn(&ConnectionInfo) -> bool + Send + Sync>);

impl HealthCheck {
    /// A check that calls `function`, on the core of the connection.
    pub fn new(function: impl Fn(&ConnectionInfo) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(function))
    }

    pub(crate) fn call(&self, info: &ConnectionInfo) -> bool {
        (self.0)(info)
    }
}

impl fmt::Debug for HealthCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HealthCheck(..)")
    }
}

/// Why a connection was closed. Each reason is counted in the statistics.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Idle for `max_idle_time`.
    IdleTime,
    /// Idle, and more than its core had needed lately (`shrink_interval`).
    Surplus,
    /// As old as `max_connection_lifetime` allows.
    Lifetime,
    /// Used `max_connection_uses` times.
    Uses,
    /// The protocol's `is_healthy` said no.
    Unhealthy,
    /// The peer closed it (FIN).
    PeerClosed,
    /// The peer or the network reset it, or the system gave it up.
    Reset,
    /// Bytes came while it was idle and nobody takes such bytes.
    Unsolicited,
    /// The user dropped it without `release`.
    NotReleased,
    /// It was released with bytes unread.
    Unread,
    /// It was released, or dropped, with a write unfinished or cancelled.
    UnfinishedWrite,
    /// An operation on it had failed.
    Failed,
    /// The pool could not watch it for its end, so it could not idle: no buffer to receive into for
    /// `connect_timeout` after its release, or something came for it while it idled unwatched.
    Unwatched,
    /// The user asked for it (`Conn::close`, `clear_endpoint`).
    Requested,
    /// Its permit went to another core that had waited, or, where the process has a limit, to
    /// another endpoint.
    Demand,
    /// Its protocol's `init` failed or took too long.
    InitFailed,
    /// Its descriptor slot was needed for another endpoint.
    Evicted,
    /// Its connect was given up: another address of the name was faster, or was to be tried in its
    /// place. It was never ready.
    ConnectCancelled,
    /// Its address is not one of the name's any more.
    AddressGone,
    /// Its address had more than its share of the connections, and another less; or it made way for a
    /// look whether an address is back.
    Rebalanced,
    /// The pool drains.
    Drained,
    /// It was given to another core, where it lives on: this core let go of it, nothing was closed.
    HandedOver,
}

impl CloseReason {
    /// Every reason, in the order in which statistics list them.
    pub const ALL: [CloseReason; 22] = [
        Self::IdleTime,
        Self::Surplus,
        Self::Lifetime,
        Self::Uses,
        Self::Unhealthy,
        Self::PeerClosed,
        Self::Reset,
        Self::Unsolicited,
        Self::NotReleased,
        Self::Unread,
        Self::UnfinishedWrite,
        Self::Failed,
        Self::Unwatched,
        Self::Requested,
        Self::Demand,
        Self::InitFailed,
        Self::Evicted,
        Self::ConnectCancelled,
        Self::AddressGone,
        Self::Rebalanced,
        Self::Drained,
        Self::HandedOver,
    ];
}
