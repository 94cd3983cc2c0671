//! `ringpool resolve`: what the pool would connect to for a name, and where it knows that from.
//!
//! Promise: it asks what a get would ask, by the same code, and prints the addresses in the order
//! in which a get would try them; when it fails it says what was being done, from the cause
//! outwards, and the exit status is 1.

use std::fmt::{self, Write as _};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use ringpool::{
    Config, Error, Place, Pool, Resolved, Resolver, ResolverOptions, Result, Shards, Source,
};
use serde::Serialize;

use crate::args::ResolveArgs;
use crate::args::asked::Asked;
use crate::output;
use crate::report::figures::micros;

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    name: String,
    #[serde(rename = "type")]
    kind: Option<&'static str>,
    addresses: Vec<Address>,
    /// `None`: it holds for as long as the process runs, or there is none.
    ttl_s: Option<u64>,
    source: Option<Whence>,
    time_us: f64,
    error: Option<Failure>,
}

#[derive(Debug, Serialize)]
struct Address {
    ip: String,
    /// `None`: neither the user nor a record named one.
    port: Option<u16>,
    priority: u16,
    weight: u16,
}

/// Where the addresses come from.
#[derive(Debug, Serialize)]
struct Whence {
    kind: &'static str,
    /// The name server that said so.
    server: Option<String>,
    #[serde(skip)]
    words: String,
}

#[derive(Debug, Serialize)]
struct Failure {
    kind: String,
    /// The cause, then what was being done, each step outside the one before.
    text: String,
    /// The steps alone.
    steps: Vec<String>,
}

/// A [`Resolved`] that may leave its core.
#[derive(Debug)]
struct Found {
    places: Vec<Place>,
    ttl: Duration,
    source: Source,
}

/// Resolves the name and prints what came of it. Says whether there are addresses.
pub(crate) fn run(args: &ResolveArgs, asked: &Asked) -> Result<bool> {
    let (result, elapsed) = resolve(args, asked)?;
    let report = Report::new(args, asked, &result, elapsed);
    if args.json {
        let json = serde_json::to_string_pretty(&report);
        output::print(&json.expect("text, numbers and lists are JSON"))?;
    } else if result.is_ok() {
        output::print(&report.text())?;
    }
    match result {
        Ok(_) => Ok(true),
        Err(error) => {
            eprintln!("ringpool: {error}");
            Ok(false)
        }
    }
}

/// Resolves on a shard of its own. The outer error is that of the shard.
fn resolve(args: &ResolveArgs, asked: &Asked) -> Result<(Result<Found>, Duration)> {
    let resolver = match args.servers.is_empty() {
        true => Resolver::System,
        false => Resolver::Servers(args.servers.clone()),
    };
    let config = Config {
        resolver,
        resolver_options: ResolverOptions {
            families: asked.families,
            ..ResolverOptions::default()
        },
        ..Config::default()
    };
    let shards = Shards::builder()
        .shards(NonZeroUsize::MIN)
        .pin(false)
        .config(config)
        .build()?;
    let endpoint = asked.endpoint.clone();
    let resolving = shards.run_on(0, move || async move {
        let handle = Pool::local()?.endpoint(endpoint)?;
        let began = Instant::now();
        let resolved = handle.resolve().await;
        let elapsed = began.elapsed();
        Ok::<_, Error>((resolved.map(|resolved| Found::new(&resolved)), elapsed))
    })?;
    let found = resolving.wait()??;
    shards.shutdown();
    Ok(found)
}

impl Found {
    fn new(resolved: &Resolved) -> Self {
        Self {
            places: resolved.places().collect(),
            ttl: resolved.ttl(),
            source: resolved.source(),
        }
    }
}

impl Whence {
    fn new(source: Source) -> Self {
        let (kind, server) = match source {
            Source::Literal => ("literal", None),
            Source::Hosts => ("hosts", None),
            Source::Special => ("special", None),
            Source::Table => ("table", None),
            Source::Custom => ("custom", None),
            Source::Cache => ("cache", None),
            Source::Server(server) => ("server", Some(server)),
            Source::Stale(server) => ("stale", Some(server)),
            _ => ("other", None),
        };
        Self {
            kind,
            server: server.map(|server| server.to_string()),
            words: words(source),
        }
    }
}

fn words(source: Source) -> String {
    match source {
        Source::Literal => "the name itself".into(),
        Source::Hosts => "the hosts file".into(),
        Source::Special => "what the name means everywhere".into(),
        Source::Cache => "the cache".into(),
        Source::Server(server) => server.to_string(),
        Source::Stale(server) => format!("the cache, out of date ({server})"),
        other => format!("{other:?}"),
    }
}

impl Failure {
    fn new(error: &Error) -> Self {
        Self {
            kind: format!("{:?}", error.kind()),
            text: error.to_string(),
            steps: error.steps().map(ToOwned::to_owned).collect(),
        }
    }
}

impl Report {
    fn new(args: &ResolveArgs, asked: &Asked, result: &Result<Found>, elapsed: Duration) -> Self {
        let found = result.as_ref().ok();
        let address = |at: &Place| Address {
            ip: at.address.ip().to_string(),
            port: asked.has_port.then_some(at.address.port()),
            priority: at.priority,
            weight: at.weight,
        };
        Self {
            name: args.name.clone(),
            kind: args.kind.map(|kind| kind.name()),
            addresses: found
                .map(|found| found.places.iter().map(address).collect())
                .unwrap_or_default(),
            ttl_s: found
                .filter(|found| found.ttl < Duration::MAX)
                .map(|found| found.ttl.as_millis().div_ceil(1000) as u64),
            source: found.map(|found| Whence::new(found.source)),
            time_us: elapsed.as_nanos() as f64 / 1000.0,
            error: result.as_ref().err().map(Failure::new),
        }
    }

    /// The addresses, for people.
    fn text(&self) -> String {
        let mut text = format!("{}: ", self.name);
        let count = self.addresses.len();
        let plural = if count == 1 { "" } else { "es" };
        put(&mut text, format_args!("{count} address{plural}"));
        if let Some(source) = &self.source {
            put(&mut text, format_args!(", from {}", source.words));
        }
        match self.ttl_s {
            Some(ttl) => put(&mut text, format_args!(", for {ttl} s")),
            None => put(&mut text, format_args!(", for good")),
        }
        put(&mut text, format_args!(", in {}\n", micros(self.time_us)));
        // Where all are alike, nobody said anything of priority and weight.
        let alike = |at: &Address| (at.priority, at.weight) == (0, 1);
        let all_alike = self.addresses.iter().all(alike);
        for address in &self.addresses {
            let ip = match (address.port, address.ip.contains(':')) {
                (None, _) => address.ip.clone(),
                (Some(port), true) => format!("[{}]:{port}", address.ip),
                (Some(port), false) => format!("{}:{port}", address.ip),
            };
            let (priority, weight) = (address.priority, address.weight);
            match all_alike {
                true => put(&mut text, format_args!("  {ip}\n")),
                false => put(
                    &mut text,
                    format_args!("  {ip:<47} priority {priority:<5} weight {weight}\n"),
                ),
            }
        }
        text
    }
}

fn put(text: &mut String, part: fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _never_fails = text.write_fmt(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(addresses: Vec<Address>, ttl_s: Option<u64>, source: Source) -> Report {
        Report {
            name: "db.test".into(),
            kind: None,
            addresses,
            ttl_s,
            source: Some(Whence::new(source)),
            time_us: 1234.5,
            error: None,
        }
    }

    fn address(ip: &str, port: Option<u16>, priority: u16, weight: u16) -> Address {
        let ip = ip.into();
        Address {
            ip,
            port,
            priority,
            weight,
        }
    }

    #[test]
    fn addresses_stand_in_their_order_with_what_is_worth_saying() {
        let plain = vec![
            address("192.0.2.1", None, 0, 1),
            address("2001:db8::1", Some(80), 0, 1),
        ];
        let server = "127.0.0.1:53".parse().unwrap();
        assert_eq!(
            report(plain, Some(60), Source::Server(server)).text(),
            "db.test: 2 addresses, from 127.0.0.1:53, for 60 s, in 1.23 ms\n  192.0.2.1\n  \
             [2001:db8::1]:80\n"
        );
        let service = vec![address("192.0.2.1", Some(6379), 10, 60)];
        let text = report(service, None, Source::Hosts).text();
        let first = "db.test: 1 address, from the hosts file, for good, in 1.23 ms\n";
        assert!(text.starts_with(first), "{text}");
        assert!(text.contains("  192.0.2.1:6379  "), "{text}");
        assert!(text.ends_with("  priority 10    weight 60\n"), "{text}");
    }

    #[test]
    fn a_source_is_named_with_its_server() {
        let json = |source| serde_json::to_value(Whence::new(source)).unwrap();
        let server = "[::1]:53".parse().unwrap();
        let stale = serde_json::json!({"kind": "stale", "server": "[::1]:53"});
        assert_eq!(json(Source::Stale(server)), stale);
        let hosts = serde_json::json!({"kind": "hosts", "server": null});
        assert_eq!(json(Source::Hosts), hosts);
    }
}
