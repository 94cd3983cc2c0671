//! `ringpool stress`: the pool's main job, with everything it talks to embedded.
//!
//! Promise: a preset passes only if every message came back byte for byte, the pool's account of
//! its connections is the servers', the limit was kept, the addresses of a name are evenly used,
//! and nothing is left open afterwards.

pub(crate) mod preset;

mod account;
mod clients;
mod message;
mod plan;
mod servers;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use ringpool::{Config, Error, ErrorKind, Resolver, Result, Shards};

use self::clients::Run;
use self::plan::Plan;
use self::preset::Preset;
use self::servers::Servers;
use crate::args::StressArgs;
use crate::limits;
use crate::measure::Measured;
use crate::output::{self, Output};
use crate::progress::{Done, Progress};
use crate::report::{self, Outcome, figures};

/// Runs the presets and reports on them. Says whether all of them passed.
pub(crate) fn run(args: &StressArgs) -> Result<bool> {
    let presets = args.chosen();
    let open = |argument, path: &Option<_>| {
        path.as_deref()
            .map(|path| Output::open(argument, path))
            .transpose()
    };
    let (json, html) = (open("--json", &args.json)?, open("--html", &args.html)?);
    let most = presets
        .iter()
        .map(|preset| preset.servers * preset.pool_size)
        .max();
    limits::allow_descriptors(most.unwrap_or(0))?;

    let mut outcomes = Vec::with_capacity(presets.len());
    for preset in presets {
        let outcome = run_preset(preset, args)
            .map_err(|error| error.context(format!("running the preset {}", preset.name)))?;
        tell(&outcome);
        outcomes.push(outcome);
    }
    output::print(&report::table::render(&outcomes))?;
    if let Some(mut json) = json {
        json.write(&report::json::render(&outcomes)?)?;
    }
    if let Some(mut html) = html {
        html.write(&report::html::render(&outcomes, args.seed)?)?;
    }
    Ok(!outcomes.iter().any(Outcome::failed))
}

fn run_preset(preset: Preset, args: &StressArgs) -> Result<Outcome> {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let servers = Servers::start(&preset, cores).map_err(|error| {
        Error::from_source(ErrorKind::Io, error).context("starting the embedded servers")
    })?;
    let config = Config {
        max_connections_per_endpoint: preset.pool_size,
        max_connections_per_shard: preset.servers * preset.pool_size,
        resolver: Resolver::Servers(vec![servers.name_server()]),
        ..Config::default()
    };
    let mut builder = Shards::builder().config(config);
    if let Some(shards) = args.shards.and_then(|n| NonZeroUsize::new(n.into())) {
        builder = builder.shards(shards);
    }
    let shards = builder.build()?;
    let mut measured = run_clients(preset, args.seed, &shards, &servers)?;

    let missing = preset.total_messages() - measured.messages().min(preset.total_messages());
    if missing > measured.errors.count {
        measured.errors.add(format!(
            "the run was given up with {missing} messages missing"
        ));
    }
    let endpoints = &servers.endpoints;
    let stats = account::settle(&shards, endpoints, preset.pool_size, &mut measured.errors)?;
    let count = shards.len();
    shards.shutdown();
    account::close(endpoints, &mut measured.errors);
    let (connections, addresses) = (
        account::connections(&stats),
        account::addresses(endpoints, &stats),
    );
    let mut outcome = Outcome {
        preset,
        shards: count,
        measured,
        connections,
        addresses,
    };
    check_balance(&mut outcome);
    Ok(outcome)
}

fn run_clients(preset: Preset, seed: u64, shards: &Shards, servers: &Servers) -> Result<Measured> {
    let done = Done::new(shards.len());
    let run = Arc::new(Run {
        plan: Plan::new(preset, seed, shards.len()),
        endpoints: servers
            .endpoints
            .iter()
            .map(|served| served.endpoint.clone())
            .collect(),
        started: Instant::now(),
        done: done.clone(),
        failures: AtomicU64::new(0),
    });
    let progress = Progress::start(preset.name, preset.total_messages(), move || done.total());
    let mut running = Vec::with_capacity(shards.len());
    for shard in 0..shards.len() {
        let run = run.clone();
        running.push(shards.run_on(shard, move || clients::run_shard(run, shard))?);
    }
    let mut measured = Measured::new(run.started);
    for shard in running {
        measured.merge(shard.wait()??);
    }
    drop(progress);
    Ok(measured)
}

/// The addresses of one name must hold about as many connections each.
fn check_balance(outcome: &mut Outcome) {
    let (spread, most) = (outcome.spread(), outcome.shards as u64);
    if let Some(spread) = spread.filter(|spread| *spread > most) {
        let text = format!(
            "the numbers of connections to the addresses of one name lie {spread} apart, more \
             than {most}, the number of shards"
        );
        outcome.measured.errors.add(text);
    }
}

/// One line about a preset, and its first errors.
fn tell(outcome: &Outcome) {
    let measured = &outcome.measured;
    eprintln!(
        "{}: {} messages in {:.2} s, {}/s, {} errors",
        outcome.preset.name,
        measured.messages(),
        measured.duration.as_secs_f64(),
        figures::short(measured.throughput_per_s()),
        measured.errors.count
    );
    for text in &measured.errors.first {
        eprintln!("  error: {text}");
    }
}
