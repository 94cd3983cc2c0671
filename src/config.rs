//! Limits that are scattered over the code cannot be checked together. Every limit and time of
//! the pool is a field of [`Config`], checked once, when the shards are built.
//!
//! Promise: a bad value is an error that names the field, before anything was started.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::balance::Balance;
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::{HealthCheck, Hook};
use crate::resolver::{MAX_SERVERS, Resolver, ResolverOptions, SystemFiles};

/// The most connections, endpoints or waiters that can be asked for. A ring's descriptor table
/// holds 2²⁰ (`IORING_MAX_FIXED_FILES`); the rest is for the ring's own sockets.
const MAX_COUNT: usize = 1_000_000;
/// The longest time that can be asked for: what is longer is a mistake of units.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The shortest time where none at all makes no sense.
const MOMENT: Duration = Duration::from_nanos(1);

/// Every setting of a pool. Start from [`Config::default`] and change what differs.
///
/// Unless a field says otherwise, a count is 1 to 1 000 000 and a time is above zero and at most
/// a year.
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
    /// Connections that the whole process may hold at any instant, to all endpoints and of all cores
    /// together: 0 to 1 000 000; 0 means without limit. One lock that all endpoints share, taken
    /// when a connection opens and when it has closed. Default 0.
    pub max_connections_total: usize,
    /// Connections that one core may hold, over all endpoints: the size of its descriptor table.
    /// Default 512.
    pub max_connections_per_shard: usize,
    /// Endpoints that one core may know; one without connections and waiters makes room for a new
    /// one. Default 1024.
    pub max_endpoints: usize,
    /// Gets that may wait on one core for one endpoint; one more fails at once. Default 4096.
    pub max_waiters: usize,
    /// Idle connections that each core tries to keep per endpoint it has used, or was told to warm up
    /// ([`EndpointHandle::warm_up`](crate::EndpointHandle::warm_up)), within the limits: 0 to the
    /// smaller of `max_connections_per_endpoint` and `max_connections_per_shard`. Default 0.
    pub min_idle: usize,
    /// Connects of one endpoint that one core has under way at once. Default 16.
    pub max_connecting: usize,
    /// Those of them that go to one address, for each core: so that not all connects meet a server at
    /// once that comes back after an outage. It matters where it is below `max_connecting`. Default 16.
    pub max_connecting_per_address: usize,
    /// Which address of a name the next connection goes to. Default:
    /// [`Balance::LeastConnections`].
    pub balance: Balance,
    /// Endpoints that have a balance of their own: 0 to 1 000 000 of them. Default: none.
    pub balances: BTreeMap<Endpoint, Balance>,
    /// How long a get may take, from the call to the connection. Default 5 s.
    pub get_timeout: Duration,
    /// How long opening one connection may take: TCP, then the protocol's `init`. Default 2 s. A name
    /// with several addresses is not held up for so long: after 250 ms another one is tried beside
    /// it (RFC 8305), with a permit of its own or, at the limit, in its place.
    pub connect_timeout: Duration,
    /// How often opening is tried again when every address has failed: 0 to 1000. Default 3.
    pub connect_retry_count: u32,
    /// The pause before the first retry; it doubles with each, plus or minus a quarter at random.
    /// At most `connect_retry_delay_max`. Default 100 ms.
    pub connect_retry_delay: Duration,
    /// The longest pause between retries. Default 10 s.
    pub connect_retry_delay_max: Duration,
    /// How long a connection may stay idle. Default 60 s: below the 75 s and more after which
    /// servers and middleboxes usually close.
    pub max_idle_time: Duration,
    /// How often each core lets go of idle connections that it has not needed: half of those beyond
    /// the most that were in use at once lately, always keeping `min_idle` and the last one. Zero
    /// never does, and then they stay for `max_idle_time`. Zero to a year. Default 5 s.
    pub shrink_interval: Duration,
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
    /// it is handed out; zero asks each time, but for one that was given back in the same turn of
    /// its core's loop. Default 500 ms.
    pub health_check_after: Duration,
    /// `TCP_NODELAY` on every connection. Default true.
    pub tcp_nodelay: bool,
    /// Idle time before the kernel probes the peer, and the pause between probes (`SO_KEEPALIVE`,
    /// `TCP_KEEPIDLE`, `TCP_KEEPINTVL`; tcp(7)); `None` switches probing off. Whole
    /// seconds, 1 to 32767. Default 15 s.
    pub tcp_keepalive: Option<Duration>,
    /// How long sent bytes may stay unacknowledged before the kernel gives the connection up
    /// (`TCP_USER_TIMEOUT`, tcp(7)); `None` leaves the system's. At least 1 ms, at most
    /// 2³¹ − 1 ms. Default 30 s.
    pub tcp_user_timeout: Option<Duration>,
    /// Entries of each core's submission queue: a power of two from 16 to 4096. Default 256.
    pub ring_entries: u32,
    /// Buffers that the kernel receives into, per core: a power of two from 8 to 32768. While fewer
    /// than a quarter are free, what comes is copied and its buffer goes back at once: many
    /// connections with short answers need no buffer each, and more buffers spare the copies.
    /// Default 256.
    pub recv_buffers: u16,
    /// Bytes of one receive buffer: 512 to 1 MiB. A long answer comes in as many pieces as it fills
    /// buffers, and each piece costs the kernel about as much as a short answer. A page of a buffer
    /// takes memory from when bytes first came to it: a core whose answers are short has one page of
    /// each buffer, one with long answers all of `recv_buffers * recv_buffer_size`, which is
    /// 8 MiB with the defaults. Default 32 KiB.
    pub recv_buffer_size: usize,
    /// Unread bytes one connection may hold before the pool stops receiving for it; an answer that is
    /// longer is received in parts. Looked at when the core submits, after the readers that it woke
    /// have run; what arrives until then comes on top, at most all buffers each time that the core
    /// reads completions. At least one buffer, at most half of all:
    /// `recv_buffers * recv_buffer_size / 2`. Default 64 KiB.
    pub recv_limit: usize,
    /// Unsent bytes one connection may hold before a write waits: 1 to 1 GiB. Default 256 KiB.
    pub send_limit: usize,
    /// How long a shard that ends waits for the kernel to let go of its operations before it
    /// leaks their memory. Default 1 s.
    pub drain_timeout: Duration,
    /// Where addresses of names come from. Default: [`Resolver::System`].
    pub resolver: Resolver,
    /// How far the resolver may go. Default: [`ResolverOptions::default`].
    pub resolver_options: ResolverOptions,
    /// Told of each connection that became ready for its first use.
    pub on_connection_created: Option<Hook>,
    /// Told of each connection that is handed out again.
    pub on_connection_reused: Option<Hook>,
    /// Told of each connection that was ready and has ended.
    pub on_connection_closed: Option<Hook>,
    /// Asked before a connection without protocol that was idle for longer than
    /// `health_check_after` is handed out.
    pub health_check: Option<HealthCheck>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections_per_endpoint: 64,
            max_connections_total: 0,
            max_connections_per_shard: 512,
            max_endpoints: 1024,
            max_waiters: 4096,
            min_idle: 0,
            max_connecting: 16,
            max_connecting_per_address: 16,
            balance: Balance::LeastConnections,
            balances: BTreeMap::new(),
            get_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            connect_retry_count: 3,
            connect_retry_delay: Duration::from_millis(100),
            connect_retry_delay_max: Duration::from_secs(10),
            max_idle_time: Duration::from_secs(60),
            shrink_interval: Duration::from_secs(5),
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
            recv_buffer_size: 32 * 1024,
            recv_limit: 64 * 1024,
            send_limit: 256 * 1024,
            drain_timeout: Duration::from_secs(1),
            resolver: Resolver::System,
            resolver_options: ResolverOptions::default(),
            on_connection_created: None,
            on_connection_reused: None,
            on_connection_closed: None,
            health_check: None,
        }
    }
}

impl Config {
    /// Checks every field.
    ///
    /// ```
    /// let config = ringpool::Config { max_connections_per_endpoint: 0, ..Default::default() };
    /// assert_eq!(
    ///     config.validate().unwrap_err().to_string(),
    ///     "max_connections_per_endpoint is 0, must be 1 to 1000000"
    /// );
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`], naming the first field that is out of its range, its value
    /// and the range.
    pub fn validate(&self) -> Result<()> {
        self.validate_counts()?;
        self.validate_balances()?;
        self.validate_times()?;
        self.validate_sockets()?;
        self.validate_ring()?;
        self.validate_resolver()
    }

    fn validate_counts(&self) -> Result<()> {
        within(
            "max_connections_per_endpoint",
            self.max_connections_per_endpoint,
            1..=MAX_COUNT,
        )?;
        within(
            "max_connections_total",
            self.max_connections_total,
            0..=MAX_COUNT,
        )?;
        within(
            "max_connections_per_shard",
            self.max_connections_per_shard,
            1..=MAX_COUNT,
        )?;
        within("max_endpoints", self.max_endpoints, 1..=MAX_COUNT)?;
        within("max_waiters", self.max_waiters, 1..=MAX_COUNT)?;
        let most = self.max_connections_per_endpoint;
        require(self.min_idle <= most, "min_idle", self.min_idle, || {
            format!("0 to max_connections_per_endpoint ({most})")
        })?;
        let most = self.max_connections_per_shard;
        require(self.min_idle <= most, "min_idle", self.min_idle, || {
            format!("0 to max_connections_per_shard ({most})")
        })?;
        within("max_connecting", self.max_connecting, 1..=MAX_COUNT)?;
        let most = self.max_connecting_per_address;
        within("max_connecting_per_address", most, 1..=MAX_COUNT)?;
        within("connect_retry_count", self.connect_retry_count, 0..=1000)
    }

    fn validate_balances(&self) -> Result<()> {
        self.balance.validate("balance.weights")?;
        within("balances.len()", self.balances.len(), 0..=MAX_COUNT)?;
        let mut all = self.balances.values();
        all.try_for_each(|balance| balance.validate("balances.weights"))
    }

    fn validate_times(&self) -> Result<()> {
        let time = |name, value| within(name, value, MOMENT..=YEAR);
        time("get_timeout", self.get_timeout)?;
        time("connect_timeout", self.connect_timeout)?;
        time("connect_retry_delay_max", self.connect_retry_delay_max)?;
        let (delay, most) = (self.connect_retry_delay, self.connect_retry_delay_max);
        let fits = (MOMENT..=most).contains(&delay);
        require(fits, "connect_retry_delay", delay, || {
            format!("{MOMENT:?} to connect_retry_delay_max ({most:?})")
        })?;
        time("max_idle_time", self.max_idle_time)?;
        time("max_connection_lifetime", self.max_connection_lifetime)?;
        time("read_timeout", self.read_timeout)?;
        time("write_timeout", self.write_timeout)?;
        let or_none = |name, value| within(name, value, Duration::ZERO..=YEAR);
        or_none("shrink_interval", self.shrink_interval)?;
        or_none("health_check_after", self.health_check_after)?;
        time("drain_timeout", self.drain_timeout)
    }

    fn validate_sockets(&self) -> Result<()> {
        if let Some(idle) = self.tcp_keepalive {
            // The kernel's MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL.
            let fits = idle.subsec_nanos() == 0 && (1..=32_767).contains(&idle.as_secs());
            require(fits, "tcp_keepalive", idle, || {
                "whole seconds, 1s to 32767s".into()
            })?;
        }
        if let Some(limit) = self.tcp_user_timeout {
            // An `int` of milliseconds (tcp(7)); 0 would mean the system's.
            let most = Duration::from_millis(i32::MAX as u64);
            within("tcp_user_timeout", limit, Duration::from_millis(1)..=most)?;
        }
        Ok(())
    }

    fn validate_ring(&self) -> Result<()> {
        power_of_two("ring_entries", self.ring_entries, 16..=4096)?;
        power_of_two("recv_buffers", u32::from(self.recv_buffers), 8..=32_768)?;
        within("recv_buffer_size", self.recv_buffer_size, 512..=1 << 20)?;
        let (least, value) = (self.recv_buffer_size, self.recv_limit);
        let most = usize::from(self.recv_buffers) * self.recv_buffer_size / 2;
        require((least..=most).contains(&value), "recv_limit", value, || {
            format!("recv_buffer_size ({least}) to recv_buffers * recv_buffer_size / 2 ({most})")
        })?;
        within("send_limit", self.send_limit, 1..=1 << 30)
    }
}

impl Config {
    /// The balance of `endpoint`.
    pub(crate) fn balance_of(&self, endpoint: &Endpoint) -> &Balance {
        self.balances.get(endpoint).unwrap_or(&self.balance)
    }

    fn validate_resolver(&self) -> Result<()> {
        match &self.resolver {
            Resolver::Servers(servers) => {
                let fits = (1..=MAX_SERVERS).contains(&servers.len())
                    && servers.iter().all(|server| server.port() != 0);
                require(fits, "resolver", servers, || {
                    format!("1 to {MAX_SERVERS} name servers with a port that is not 0")
                })?;
            }
            Resolver::Files(files) => absolute_paths(files)?,
            Resolver::System | Resolver::Table(_) | Resolver::Custom(_) => {}
        }
        self.resolver_options.validate()
    }
}

/// A relative path would mean another file when the process changes its folder.
fn absolute_paths(files: &SystemFiles) -> Result<()> {
    let named = [
        ("resolver.resolv_conf", &files.resolv_conf),
        ("resolver.hosts", &files.hosts),
        ("resolver.nsswitch", &files.nsswitch),
    ];
    named.into_iter().try_for_each(|(field, path)| {
        require(path.is_absolute(), field, path, || {
            "an absolute path".into()
        })
    })
}

pub(crate) fn within<T: Debug + PartialOrd>(
    field: &'static str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<()> {
    require(range.contains(&value), field, value, || {
        format!("{:?} to {:?}", range.start(), range.end())
    })
}

fn power_of_two(field: &'static str, value: u32, range: RangeInclusive<u32>) -> Result<()> {
    let fits = value.is_power_of_two() && range.contains(&value);
    require(fits, field, value, || {
        format!("a power of two, {} to {}", range.start(), range.end())
    })
}

pub(crate) fn require(
    fits: bool,
    field: &'static str,
    value: impl Debug,
    range: impl FnOnce() -> String,
) -> Result<()> {
    if fits {
        return Ok(());
    }
    let message = format!("{field} is {value:?}, must be {}", range());
    Err(Error::new(ErrorKind::InvalidConfig, message))
}

#[cfg(test)]
mod tests;
