//! What a stress run found, and the forms in which it is told.

pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod table;

mod charts;
pub(crate) mod figures;

use std::net::SocketAddr;

use crate::measure::Measured;
use crate::stress::preset::Preset;

/// What one preset's run found.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) preset: Preset,
    pub(crate) shards: usize,
    /// Messages, latencies, timeline and every error, the checks after the run included.
    pub(crate) measured: Measured,
    /// Over all endpoints, at rest: after the last message and before the pool is closed.
    pub(crate) connections: Connections,
    pub(crate) addresses: Vec<AddressCount>,
}

/// The pool's account of its connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Connections {
    pub(crate) created: u64,
    pub(crate) reused: u64,
    pub(crate) closed: u64,
    pub(crate) errors: u64,
}

/// Connections of one endpoint to one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddressCount {
    pub(crate) endpoint: String,
    pub(crate) address: SocketAddr,
    /// Opened during the run.
    pub(crate) opened: u64,
    /// Open at rest.
    pub(crate) open: u64,
}

impl Outcome {
    pub(crate) fn failed(&self) -> bool {
        self.measured.errors.count > 0
    }

    /// How far the numbers of open connections to the addresses of one endpoint lie apart; `None`
    /// if no endpoint has several.
    pub(crate) fn spread(&self) -> Option<u64> {
        if self.preset.addresses < 2 {
            return None;
        }
        let of_endpoint = self.addresses.chunk_by(|a, b| a.endpoint == b.endpoint);
        of_endpoint
            .map(|addresses| {
                let open = addresses.iter().map(|address| address.open);
                open.clone().max().unwrap_or(0) - open.min().unwrap_or(0)
            })
            .max()
    }
}

/// Outcomes made up for tests, with every shape of latency and one failed preset.
#[cfg(test)]
pub(crate) mod example {
    use super::*;
    use std::time::{Duration, Instant};

    pub(crate) fn outcomes() -> Vec<Outcome> {
        Preset::ALL
            .iter()
            .filter(|preset| preset.by_default)
            .map(outcome)
            .collect()
    }

    pub(crate) fn outcome(preset: &Preset) -> Outcome {
        let mut random = fastrand::Rng::with_seed(preset.message_bytes as u64);
        let mut measured = Measured::new(Instant::now());
        let began = Instant::now();
        for n in 0..preset.total_messages() {
            let log_normal = (0..8).map(|_| random.f64()).sum::<f64>() - 4.0;
            let took =
                Duration::from_secs_f64(120e-6 * preset.parallel as f64 / 20.0 * log_normal.exp());
            let at = Duration::from_micros(n * 40 + random.u64(0..20_000));
            measured.message_took(began + at, took);
        }
        if preset.name == "constrained_pool" {
            measured.error("no connection became free, getting a <connection>".into());
        }
        let open = (preset.pool_size / preset.addresses) as u64;
        let addresses: Vec<_> = (0..preset.servers * preset.addresses)
            .map(|n| AddressCount {
                endpoint: format!("s{}.stress.test:41234", n / preset.addresses),
                address: SocketAddr::from(([127, 10, 0, n as u8 + 1], 41234)),
                opened: open + n as u64,
                open: open - u64::from(n == 2) + u64::from(n == 3),
            })
            .collect();
        let created = addresses.iter().map(|address| address.opened).sum();
        let reused = preset.total_messages() - created;
        let connections = Connections {
            created,
            reused,
            closed: 0,
            errors: 0,
        };
        Outcome {
            preset: *preset,
            shards: 2,
            measured,
            connections,
            addresses,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_over_the_addresses_of_one_endpoint() {
        let preset = |name| {
            Preset::ALL
                .iter()
                .find(|preset| preset.name == name)
                .unwrap()
        };
        assert_eq!(example::outcome(preset("four_addresses")).spread(), Some(2));
        assert_eq!(example::outcome(preset("burst_traffic")).spread(), None);
    }
}
