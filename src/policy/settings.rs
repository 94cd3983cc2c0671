//! The policy's share of [`Config`]: the limits and times that its decisions depend on.

use std::time::Duration;

use crate::config::Config;

/// How long an attempt has before another address is tried beside it: the Connection Attempt Delay
/// of RFC 8305, section 8 (draft-ietf-happy-happyeyeballs-v3 has the same).
pub(crate) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Attempts under way together began at least so long one after the other, whatever failed
/// meanwhile (RFC 8305, section 5: "MUST NOT be less than 10 milliseconds").
pub(crate) const ATTEMPT_FLOOR: Duration = Duration::from_millis(10);
/// A name is asked for again for its own sake no more often (RFC 8767, section 4, and RFC 9520 want
/// servers to be spared; a TTL may be 0).
pub(crate) const REFRESH_FLOOR: Duration = Duration::from_secs(1);

/// The shortest time between two probes of an address that is out, and the time that one has: an
/// address that came back is in use again within two seconds.
pub(crate) const PROBE_EVERY: Duration = Duration::from_millis(1500);

/// Idle connections that a core which is in use keeps: cores that serve their waiters by their own
/// returns would rob each other of the last ones for ever.
pub(crate) const LOW_WATER: usize = 2;
/// How long after its last get a core is in use.
pub(crate) const IN_USE: Duration = Duration::from_millis(100);

/// Limits and times; each has the meaning of the field of [`Config`] with its name.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Connections over all endpoints: the size of the descriptor table.
    pub(crate) max_connections: usize,
    pub(crate) max_endpoints: usize,
    /// Per endpoint.
    pub(crate) max_waiters: usize,
    pub(crate) min_idle: usize,
    pub(crate) max_connecting: usize,
    pub(crate) max_connecting_per_address: usize,
    pub(crate) get_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) connect_retry_count: u32,
    pub(crate) connect_retry_delay: Duration,
    pub(crate) connect_retry_delay_max: Duration,
    pub(crate) max_idle_time: Duration,
    pub(crate) shrink_interval: Duration,
    pub(crate) max_connection_lifetime: Duration,
    /// 0 means without limit.
    pub(crate) max_connection_uses: u64,
    pub(crate) health_check_after: Duration,
    /// Whether connections are asked for their health, but for those of endpoints that said
    /// otherwise ([`PoolPolicy::skip_health_checks`](super::PoolPolicy::skip_health_checks)).
    pub(crate) health_check: bool,
    /// Whether connections can change their core.
    pub(crate) hand_over: bool,
    /// Whether there are hooks to tell.
    pub(crate) notify: bool,
    /// Whether one of them is told of each use after the first.
    pub(crate) tells_reuse: bool,
    /// The number of the core, for its slice of the addresses.
    pub(crate) core: u32,
}

impl Settings {
    /// How many attempts may be under way to one address.
    pub(super) fn room(&self) -> u32 {
        u32::try_from(self.max_connecting_per_address).unwrap_or(u32::MAX)
    }
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Self {
            max_connections: config.max_connections_per_shard,
            max_endpoints: config.max_endpoints,
            max_waiters: config.max_waiters,
            min_idle: config.min_idle,
            max_connecting: config.max_connecting,
            max_connecting_per_address: config.max_connecting_per_address,
            get_timeout: config.get_timeout,
            connect_timeout: config.connect_timeout,
            connect_retry_count: config.connect_retry_count,
            connect_retry_delay: config.connect_retry_delay,
            connect_retry_delay_max: config.connect_retry_delay_max,
            max_idle_time: config.max_idle_time,
            shrink_interval: config.shrink_interval,
            max_connection_lifetime: config.max_connection_lifetime,
            max_connection_uses: config.max_connection_uses,
            health_check_after: config.health_check_after,
            health_check: true,
            hand_over: true,
            core: 0,
            notify: config.on_connection_created.is_some()
                || config.on_connection_reused.is_some()
                || config.on_connection_closed.is_some(),
            tells_reuse: config.on_connection_reused.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::Hook;

    #[test]
    fn any_one_hook_is_enough_to_be_told() {
        let told = |change: fn(&mut Config, Hook)| {
            let mut config = Config::default();
            change(&mut config, Hook::new(|_| {}));
            Settings::from(&config).notify
        };
        assert!(!told(|_, _| {}));
        assert!(told(|c, hook| c.on_connection_created = Some(hook)));
        assert!(told(|c, hook| c.on_connection_reused = Some(hook)));
        assert!(told(|c, hook| c.on_connection_closed = Some(hook)));
    }
}
