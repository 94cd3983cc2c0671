//! What a stress run found, and the forms in which it is told.

pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod table;

mod charts;
pub(crate) mod figures;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::measure::Measured;
use crate::stress::preset::Preset;
use crate::stress::samples::Sample;

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
    /// Connections while it ran, by address in the order of `addresses`, and by core.
    pub(crate) samples: Vec<Sample>,
    /// What happened meanwhile.
    pub(crate) marks: Vec<Mark>,
    /// What came of it.
    pub(crate) figures: Vec<Figure>,
}

/// Something that happened while a preset ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Since the beginning of the run.
    pub(crate) at: Duration,
    pub(crate) what: &'static str,
}

/// Something that a preset measures beside its messages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figure {
    /// With its unit, if it is not a count.
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    /// More is an error.
    pub(crate) at_most: Option<f64>,
}

impl Figure {
    /// A figure that may be anything.
    pub(crate) fn told(name: &'static str, value: f64) -> Self {
        Self {
            name,
            value,
            at_most: None,
        }
    }

    pub(crate) fn at_most(name: &'static str, value: f64, most: f64) -> Self {
        Self {
            at_most: Some(most),
            ..Self::told(name, value)
        }
    }

    /// Whether it is within its bound.
    pub(crate) fn holds(&self) -> bool {
        self.at_most.is_none_or(|most| self.value <= most)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounded = |value| figures::rounded(value, 3);
        write!(f, "{}: {}", self.name, rounded(self.value))?;
        match self.at_most {
            Some(most) if self.holds() => write!(f, " (at most {})", rounded(most)),
            Some(most) => write!(f, ", more than {}", rounded(most)),
            None => Ok(()),
        }
    }
}

/// The pool's account of its connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Connections {
    pub(crate) created: u64,
    pub(crate) reused: u64,
    pub(crate) closed: u64,
    /// Given by one core to another.
    pub(crate) handed_over: u64,
    pub(crate) errors: u64,
}

/// Connections of one endpoint to one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddressCount {
    pub(crate) endpoint: String,
    pub(crate) address: SocketAddr,
    /// The name has it, at rest.
    pub(crate) is_named: bool,
    /// Opened during the run.
    pub(crate) opened: u64,
    /// Open at rest.
    pub(crate) open: u64,
}

impl Outcome {
    pub(crate) fn failed(&self) -> bool {
        self.measured.errors.count > 0
    }

    /// How far they may lie apart.
    pub(crate) fn most_apart(&self) -> u64 {
        let named = self.addresses.iter().filter(|it| it.is_named).count();
        let named = named / self.preset.servers.max(1);
        self.preset.most_apart(named, self.shards) as u64
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
                let named = addresses.iter().filter(|address| address.is_named);
                let open = named.map(|address| address.open);
                open.clone().max().unwrap_or(0) - open.min().unwrap_or(0)
            })
            .max()
    }
}

/// Outcomes made up for tests, with every shape of latency and one failed preset.
#[cfg(test)]
pub(crate) mod example {
    use super::*;
    use std::time::Instant;

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
        let messages = preset.total_messages().unwrap_or(5000);
        for n in 0..messages {
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
                is_named: true,
                opened: open + n as u64,
                open: open - u64::from(n == 2) + u64::from(n == 3),
            })
            .collect();
        let created = addresses.iter().map(|address| address.opened).sum();
        let reused = messages - created;
        let connections = Connections {
            created,
            reused,
            closed: 0,
            handed_over: 0,
            errors: 0,
        };
        let held = |step: u32| {
            let of_address = addresses.iter().map(|count| count.open as u32);
            let of_address: Vec<u32> = of_address.map(|open| open.min(step)).collect();
            let sum: u32 = of_address.iter().sum();
            Sample {
                at: Duration::from_millis(50 * u64::from(step)),
                cores: vec![sum / 2, sum.div_ceil(2)],
                addresses: of_address,
                ..Sample::default()
            }
        };
        let samples = (0..10).map(held).collect();
        Outcome {
            preset: *preset,
            shards: 2,
            measured,
            connections,
            addresses,
            samples,
            marks: vec![Mark {
                at: Duration::from_millis(200),
                what: "something happens",
            }],
            figures: vec![
                Figure::told("things_done", 17.0),
                Figure::at_most("done_after_s", 0.25, 2.5),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_holds_within_its_bound_and_says_so() {
        let table = [
            (Figure::told("things", 17.0), true, "things: 17"),
            (
                Figure::at_most("waited_s", 0.25, 0.5),
                true,
                "waited_s: 0.25 (at most 0.5)",
            ),
            (
                Figure::at_most("waited_s", 0.75, 0.5),
                false,
                "waited_s: 0.75, more than 0.5",
            ),
        ];
        for (figure, holds, text) in table {
            assert_eq!((figure.holds(), figure.to_string().as_str()), (holds, text));
        }
    }

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
