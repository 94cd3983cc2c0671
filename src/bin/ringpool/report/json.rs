//! The results for programs.

use ringpool::{Error, ErrorKind, Result};
use serde::Serialize;

use super::Outcome;

#[derive(Debug, Serialize)]
struct Entry<'a> {
    preset: &'a str,
    shards: usize,
    messages: u64,
    errors: u64,
    duration_s: f64,
    throughput_per_s: f64,
    latency_us: Latency,
    connections: Connections,
    addresses: Vec<Address<'a>>,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct Connections {
    created: u64,
    reused: u64,
    closed: u64,
    errors: u64,
}

#[derive(Debug, Serialize)]
struct Address<'a> {
    endpoint: &'a str,
    address: String,
    opened: u64,
}

impl<'a> From<&'a Outcome> for Entry<'a> {
    fn from(outcome: &'a Outcome) -> Self {
        let measured = &outcome.measured;
        let latency = |q| rounded(measured.latency_us(q), 1);
        let connections = outcome.connections;
        Self {
            preset: outcome.preset.name,
            shards: outcome.shards,
            messages: measured.messages(),
            errors: measured.errors.count,
            duration_s: rounded(measured.duration.as_secs_f64(), 6),
            throughput_per_s: rounded(measured.throughput_per_s(), 1),
            latency_us: Latency {
                p50: latency(0.5),
                p90: latency(0.9),
                p99: latency(0.99),
                p999: latency(0.999),
                max: latency(1.0),
            },
            connections: Connections {
                created: connections.created,
                reused: connections.reused,
                closed: connections.closed,
                errors: connections.errors,
            },
            addresses: outcome
                .addresses
                .iter()
                .map(|count| Address {
                    endpoint: &count.endpoint,
                    address: count.address.to_string(),
                    opened: count.opened,
                })
                .collect(),
        }
    }
}

/// The outcomes as a JSON list.
pub(crate) fn render(outcomes: &[Outcome]) -> Result<String> {
    let entries: Vec<Entry<'_>> = outcomes.iter().map(Entry::from).collect();
    let mut text = serde_json::to_string_pretty(&entries)
        .map_err(|error| Error::from_source(ErrorKind::Io, error).context("writing JSON"))?;
    text.push('\n');
    Ok(text)
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;
    use serde_json::Value;

    fn keys(value: &Value) -> Vec<&str> {
        value
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect()
    }

    #[test]
    fn the_shape_is_the_one_agreed_on() {
        let outcomes = example::outcomes();
        let list: Value = serde_json::from_str(&render(&outcomes).unwrap()).unwrap();
        let list = list.as_array().unwrap();
        assert_eq!(list.len(), 7);
        for entry in list {
            let mut found = keys(entry);
            found.sort_unstable();
            let mut wanted = [
                "preset",
                "shards",
                "messages",
                "errors",
                "duration_s",
                "throughput_per_s",
                "latency_us",
                "connections",
                "addresses",
            ];
            wanted.sort_unstable();
            assert_eq!(found, wanted);
            for (part, wanted) in [
                (
                    &entry["latency_us"],
                    &["max", "p50", "p90", "p99", "p999"][..],
                ),
                (
                    &entry["connections"],
                    &["closed", "created", "errors", "reused"],
                ),
                (&entry["addresses"][0], &["address", "endpoint", "opened"]),
            ] {
                let mut found = keys(part);
                found.sort_unstable();
                assert_eq!(found, wanted);
            }
        }
        let four = &list[6];
        assert_eq!(four["preset"], "four_addresses");
        assert_eq!(four["messages"], 20_000);
        assert_eq!(four["addresses"][1]["address"], "127.10.0.2:41234");
        assert!(four["throughput_per_s"].as_f64().unwrap() > 0.0);
    }

    #[test]
    fn figures_are_rounded_to_what_they_can_say() {
        assert_eq!(rounded(1.23456, 1), 1.2);
        assert_eq!(rounded(0.000_000_4, 6), 0.0);
    }
}
