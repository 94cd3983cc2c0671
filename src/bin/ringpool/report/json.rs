//! The results for programs.

use ringpool::{Error, ErrorKind, Result};
use serde::Serialize;

use super::figures::rounded;
use super::{Figure, Mark, Outcome};

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
    samples: Vec<Counts<'a>>,
    marks: Vec<Event<'a>>,
    figures: Vec<Found<'a>>,
}

#[derive(Debug, Serialize)]
struct Event<'a> {
    at_s: f64,
    what: &'a str,
}

#[derive(Debug, Serialize)]
struct Found<'a> {
    name: &'a str,
    value: f64,
    at_most: Option<f64>,
}

/// Connections at one moment.
#[derive(Debug, Serialize)]
struct Counts<'a> {
    at_s: f64,
    addresses: &'a [u32],
    cores: &'a [u32],
    waiters: u64,
    connects: u64,
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
    handed_over: u64,
    errors: u64,
}

#[derive(Debug, Serialize)]
struct Address<'a> {
    endpoint: &'a str,
    address: String,
    opened: u64,
    open: u64,
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
                handed_over: connections.handed_over,
                errors: connections.errors,
            },
            addresses: outcome
                .addresses
                .iter()
                .map(|count| Address {
                    endpoint: &count.endpoint,
                    address: count.address.to_string(),
                    opened: count.opened,
                    open: count.open,
                })
                .collect(),
            samples: outcome
                .samples
                .iter()
                .map(|sample| Counts {
                    at_s: rounded(sample.at.as_secs_f64(), 3),
                    addresses: &sample.addresses,
                    cores: &sample.cores,
                    waiters: sample.waiters,
                    connects: sample.connects,
                })
                .collect(),
            marks: outcome.marks.iter().map(Event::from).collect(),
            figures: outcome.figures.iter().map(Found::from).collect(),
        }
    }
}

impl<'a> From<&'a Mark> for Event<'a> {
    fn from(mark: &'a Mark) -> Self {
        Self {
            at_s: rounded(mark.at.as_secs_f64(), 3),
            what: mark.what,
        }
    }
}

impl<'a> From<&'a Figure> for Found<'a> {
    fn from(figure: &'a Figure) -> Self {
        Self {
            name: figure.name,
            value: rounded(figure.value, 6),
            at_most: figure.at_most,
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
        assert_eq!(list.len(), 12);
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
                "samples",
                "marks",
                "figures",
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
                    &["closed", "created", "errors", "handed_over", "reused"],
                ),
                (
                    &entry["addresses"][0],
                    &["address", "endpoint", "open", "opened"],
                ),
                (
                    &entry["samples"][0],
                    &["addresses", "at_s", "connects", "cores", "waiters"],
                ),
                (&entry["marks"][0], &["at_s", "what"]),
                (&entry["figures"][0], &["at_most", "name", "value"]),
            ] {
                let mut found = keys(part);
                found.sort_unstable();
                assert_eq!(found, wanted);
            }
        }
        let figure = |at_most| serde_json::json!({"name": "done_after_s", "value": 0.25, "at_most": at_most});
        assert_eq!(list[0]["figures"][1], figure(2.5));
        let four = &list[6];
        assert_eq!(four["preset"], "four_addresses");
        assert_eq!(four["messages"], 20_000);
        assert_eq!(four["addresses"][1]["address"], "127.10.0.2:41234");
        assert_eq!(
            four["samples"][3]["addresses"],
            serde_json::json!([3, 3, 3, 3])
        );
        assert_eq!(four["samples"][3]["cores"], serde_json::json!([6, 6]));
        assert!(four["throughput_per_s"].as_f64().unwrap() > 0.0);
    }
}
