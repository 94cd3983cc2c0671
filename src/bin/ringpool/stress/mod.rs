//! `ringpool stress`: the pool's main job, with everything it talks to embedded.
//!
//! Promise: a preset passes only if every message came back byte for byte, the pool's account of
//! its connections is the servers', the limit was kept whenever it was looked at, the addresses of
//! a name are evenly used, and nothing is left open afterwards.

pub(crate) mod preset;

mod account;
mod clients;
pub(crate) mod course;
mod message;
mod plan;
pub(crate) mod samples;
mod servers;
mod sockets;

use std::num::NonZeroUsize;
use std::time::Instant;

use ringpool::{Config, Error, ErrorKind, Resolver, Result, Shards};

use self::course::{Seen, Stage};
use self::preset::Preset;
use self::samples::{Limits, Sampler};
use self::servers::Servers;
use crate::args::StressArgs;
use crate::limits;
use crate::measure::Measured;
use crate::output::{self, Output};
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
    let config = preset.course.configure(Config {
        max_connections_per_endpoint: preset.pool_size,
        max_connections_per_shard: preset.servers * preset.pool_size,
        max_connections_total: preset.total_size.unwrap_or(0),
        resolver: Resolver::Servers(vec![servers.name_server()]),
        ..Config::default()
    });
    let mut builder = Shards::builder().config(config);
    if let Some(shards) = args.shards.and_then(|n| NonZeroUsize::new(n.into())) {
        builder = builder.shards(shards);
    }
    let shards = builder.build()?;
    let endpoints = &servers.endpoints;
    let stage = Stage {
        preset,
        seed: args.seed,
        shards: &shards,
        servers: &servers,
        started: Instant::now(),
    };
    let (played, samples) = std::thread::scope(|scope| {
        let limits = Limits {
            each: preset.pool_size,
            all: preset.total_size.unwrap_or(usize::MAX),
        };
        let sampler = Sampler::start(scope, &shards, endpoints, limits, stage.started)?;
        let played = preset.course.play(&stage);
        Ok::<_, Error>((played, sampler.stop()))
    })?;
    let mut played = played?;
    let judged = {
        let seen = Seen {
            played: &played,
            samples: &samples.taken,
            shards: shards.len(),
        };
        preset.course.judge(&preset, &seen)
    };
    played.figures.extend(judged);
    let mut measured = played.measured;
    measured.errors.merge(samples.errors);
    check_total(&preset, &mut measured);

    let stats = account::settle(&shards, endpoints, preset.pool_size, &mut measured.errors)?;
    let count = shards.len();
    shards.shutdown();
    account::close(endpoints, &mut measured.errors);
    let mut outcome = Outcome {
        preset,
        shards: count,
        measured,
        connections: account::connections(&stats),
        addresses: account::addresses(endpoints, &stats),
        samples: samples.taken,
        marks: played.marks,
        figures: played.figures,
    };
    check_balance(&mut outcome);
    check_figures(&mut outcome);
    Ok(outcome)
}

/// Every message must have ended.
fn check_total(preset: &Preset, measured: &mut Measured) {
    let Some(total) = preset.total_messages() else {
        return;
    };
    let missing = total - measured.messages().min(total);
    if missing > measured.errors.count {
        measured.errors.add(format!(
            "the run was given up with {missing} messages missing"
        ));
    }
}

/// What a course measured must be within its bounds.
fn check_figures(outcome: &mut Outcome) {
    for figure in outcome.figures.iter().filter(|figure| !figure.holds()) {
        outcome.measured.errors.add(figure.to_string());
    }
}

/// The addresses of one name must hold about as many connections each.
fn check_balance(outcome: &mut Outcome) {
    let (spread, most) = (outcome.spread(), outcome.most_apart());
    if let Some(spread) = spread.filter(|spread| *spread > most) {
        let text = format!(
            "the numbers of connections to the addresses of one name lie {spread} apart, more \
             than {most}"
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
    for figure in &outcome.figures {
        eprintln!("  {figure}");
    }
    for text in &measured.errors.first {
        eprintln!("  error: {text}");
    }
}
