//! Name servers die, are slow, or do not understand EDNS, and a lookup that finds that out should
//! not be alone with it. [`Health`] is what the lookups of one core have learned of their servers.
//!
//! Promise: it says in which order to ask and how long to wait, never whom not to ask at all; it
//! holds no more servers than the last configuration has; what was learned of a failing server is
//! forgotten after [`FORGET`], and that one needs plain questions after [`PLAIN`].
//!
//! A server fails when it is silent, out of reach or says that it cannot answer. Then it is asked
//! last, so it may never be asked again and its return not noticed. So now and then a copy of a
//! question goes to it that nobody waits for ([`Lookup::probe`](super::Lookup::probe)).

use std::net::SocketAddr;
use std::time::Duration;

use super::conf::ResolverConfig;
use crate::time::Tick;

/// A server gets at least so long before the next is asked as well.
const MIN_WAIT: Duration = Duration::from_millis(333);
/// How long for a server that never answered.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// A connection takes two round trips, and the kernel repeats its first packet after 1 s.
const MIN_TCP_WAIT: Duration = Duration::from_millis(1500);
/// How long a server that did not understand EDNS is asked without.
const PLAIN: Duration = Duration::from_secs(15 * 60);
/// How long a failing server is left alone before a copy of a question goes to it.
const PROBE_AFTER: Duration = Duration::from_secs(5);
/// Of a hundred lookups that may send a copy, so many do.
const PROBE_PERCENT: u64 = 10;
/// A server is only taken for failing as long as there is news of it.
const FORGET: Duration = Duration::from_secs(5 * 60);

/// What the lookups of one core have learned of their servers.
#[derive(Debug, Default)]
pub(crate) struct Health {
    servers: Vec<Learned>,
}

#[derive(Debug)]
struct Learned {
    address: SocketAddr,
    /// Round trips over UDP, smoothed.
    rtt: Option<Duration>,
    plain_until: Tick,
    failing: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    last: Tick,
    probe: Tick,
}

impl Health {
    /// Nothing is known.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The servers of `config` in the order in which a lookup asks them: as configured, from the
    /// `seed`th on if they rotate, those that fail at the moment last.
    pub(super) fn order(&self, now: Tick, config: &ResolverConfig, seed: u64) -> Vec<SocketAddr> {
        let mut servers = config.servers.clone();
        if config.rotate && !servers.is_empty() {
            let first = seed % servers.len() as u64;
            servers.rotate_left(first as usize);
        }
        servers.sort_by_key(|&server| self.is_failing(now, server));
        servers
    }

    /// A server that fails and that a copy of a live question should go to, for its answer to be
    /// thrown away; at most one in [`PROBE_AFTER`], and by chance, as `seed` says.
    pub(super) fn probe(
        &mut self,
        now: Tick,
        config: &ResolverConfig,
        seed: u64,
    ) -> Option<SocketAddr> {
        if seed % 100 >= PROBE_PERCENT {
            return None;
        }
        let known = self.servers.iter_mut();
        let mut known = known.filter(|it| config.servers.contains(&it.address));
        let due = known.find(|it| it.is_failing(now) && it.probe_due(now))?;
        if let Some(failing) = &mut due.failing {
            failing.probe = now.plus(PROBE_AFTER);
        }
        Some(due.address)
    }

    /// Whether `server` is asked without EDNS.
    pub(super) fn is_plain(&self, now: Tick, server: SocketAddr) -> bool {
        self.get(server).is_some_and(|it| now < it.plain_until)
    }

    /// How long `server` is waited for before the next is asked as well, in the `round`th round.
    pub(super) fn wait(
        &self,
        server: SocketAddr,
        is_tcp: bool,
        round: u32,
        most: Duration,
    ) -> Duration {
        let rtt = self.get(server).and_then(|it| it.rtt);
        let wait = rtt.map_or(FIRST_WAIT, |rtt| (rtt * 3 / 2).max(MIN_WAIT));
        let wait = if is_tcp { wait.max(MIN_TCP_WAIT) } else { wait };
        wait.saturating_mul(1 << round.min(8)).min(most)
    }

    /// `server` answered, over UDP after `rtt`.
    pub(super) fn answered(
        &mut self,
        config: &[SocketAddr],
        server: SocketAddr,
        rtt: Option<Duration>,
    ) {
        let learned = self.learn(config, server);
        learned.failing = None;
        if let Some(rtt) = rtt {
            learned.rtt = Some(learned.rtt.map_or(rtt, |known| (known * 7 + rtt) / 8));
        }
    }

    /// `server` was silent, out of reach, or said that it cannot answer.
    pub(super) fn failed(&mut self, now: Tick, config: &[SocketAddr], server: SocketAddr) {
        let learned = self.learn(config, server);
        let probe = match &learned.failing {
            Some(failing) if failing.probe > now => failing.probe,
            _ => now.plus(PROBE_AFTER),
        };
        learned.failing = Some(Failing { last: now, probe });
    }

    /// `server` answers what is asked without EDNS, and only that.
    pub(super) fn needs_plain(&mut self, now: Tick, config: &[SocketAddr], server: SocketAddr) {
        self.learn(config, server).plain_until = now.plus(PLAIN);
    }

    fn is_failing(&self, now: Tick, server: SocketAddr) -> bool {
        self.get(server).is_some_and(|it| it.is_failing(now))
    }

    fn get(&self, server: SocketAddr) -> Option<&Learned> {
        self.servers.iter().find(|it| it.address == server)
    }

    /// The entry of `server`; with a new one, servers that are not configured are forgotten.
    fn learn(&mut self, config: &[SocketAddr], server: SocketAddr) -> &mut Learned {
        let at = self.servers.iter().position(|it| it.address == server);
        let at = at.unwrap_or_else(|| {
            self.servers.retain(|it| config.contains(&it.address));
            self.servers.push(Learned {
                address: server,
                rtt: None,
                plain_until: Tick::ZERO,
                failing: None,
            });
            self.servers.len() - 1
        });
        &mut self.servers[at]
    }
}

impl Learned {
    fn is_failing(&self, now: Tick) -> bool {
        let failing = self.failing.as_ref();
        failing.is_some_and(|failing| now < failing.last.plus(FORGET))
    }

    fn probe_due(&self, now: Tick) -> bool {
        let failing = self.failing.as_ref();
        failing.is_some_and(|failing| now >= failing.probe)
    }
}

#[cfg(test)]
mod tests;
