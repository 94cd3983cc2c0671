//! `ringpool load`: one request, again and again, to a server that the user already has.
//!
//! Promise: it stops by itself, after `--seconds` and at most the time limits of one more request;
//! it fails at once if the first request fails, so that a wrong address is not waited for.
//!
//! **Stale connections.** A server may close an idle connection (nginx does after 1000 requests)
//! just when the next request is on its way. No byte of an answer comes then, and the request is
//! sent again on another connection. This is counted and told; it is not an error.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringpool::{CloseReason, Config, EndpointHandle, Error, Pool, Result, Shards, Stats};

use crate::args::LoadArgs;
use crate::limits;
use crate::measure::Measured;
use crate::output;
use crate::progress::Progress;
use crate::report::figures::{count, micros};

/// The longest answer that is read.
const MAX_ANSWER: usize = 1024 * 1024;
/// Errors of one task after which it stops.
const GIVE_UP: u64 = 3;
/// How often one request is sent again because its connection was stale.
const MAX_RESENT: u64 = 3;
/// How long a get, a write or the next bytes of an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was measured, on one shard or on all.
#[derive(Debug)]
struct Load {
    measured: Measured,
    resent: u64,
}

/// Loads the server and tells how it went. Says whether every answer came.
pub(crate) fn run(args: &LoadArgs) -> Result<bool> {
    let connections = usize::from(args.connections);
    limits::allow_descriptors(connections)?;
    let config = Config {
        max_connections_per_endpoint: connections,
        max_connections_per_shard: connections,
        get_timeout: PATIENCE,
        read_timeout: PATIENCE,
        write_timeout: PATIENCE,
        ..Config::default()
    };
    let mut builder = Shards::builder().config(config);
    if let Some(shards) = args.shards.and_then(|n| NonZeroUsize::new(n.into())) {
        builder = builder.shards(shards);
    }
    let shards = builder.build()?;
    let args = Arc::new(args.clone());

    let first = args.clone();
    shards
        .run_on(0, move || async move { try_once(&first).await })?
        .wait()??;
    let load = run_shards(&args, &shards)?;
    let asked = args.clone();
    let stats = shards
        .run_on(0, move || async move {
            Pool::local()?.stats(asked.endpoint.clone())
        })?
        .wait()??;
    let on = shards.len();
    shards.shutdown();
    output::print(&describe(&args, on, &load, &stats))?;
    Ok(load.measured.errors.count == 0)
}

async fn try_once(args: &LoadArgs) -> Result<()> {
    let handle = Pool::local()?.endpoint(args.endpoint.clone())?;
    let (answered, _) = request(&handle, args).await;
    answered.map_err(|error| error.context("trying the first request"))
}

fn run_shards(args: &Arc<LoadArgs>, shards: &Shards) -> Result<Load> {
    let started = Instant::now();
    let seconds = u64::from(args.seconds);
    let label = args.endpoint.to_string();
    let progress = Progress::start(&label, Some(seconds), move || started.elapsed().as_secs());
    let mut running = Vec::with_capacity(shards.len());
    for shard in 0..shards.len() {
        let args = args.clone();
        let all = usize::from(args.connections);
        let tasks = all / shards.len() + usize::from(shard < all % shards.len());
        running.push(shards.run_on(shard, move || run_shard(args, tasks, started))?);
    }
    let mut load = Load {
        measured: Measured::new(started),
        resent: 0,
    };
    for shard in running {
        let of_shard = shard.wait()??;
        load.measured.merge(of_shard.measured);
        load.resent += of_shard.resent;
    }
    drop(progress);
    Ok(load)
}

async fn run_shard(args: Arc<LoadArgs>, tasks: usize, started: Instant) -> Result<Load> {
    let handle = Pool::local()?.endpoint(args.endpoint.clone())?;
    let load = Rc::new(RefCell::new(Load {
        measured: Measured::new(started),
        resent: 0,
    }));
    let end = started + Duration::from_secs(u64::from(args.seconds));
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let (args, handle, load) = (args.clone(), handle.clone(), load.clone());
            ringpool::spawn(async move { repeat(&handle, &args, end, &load).await })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    Ok(load.replace(Load {
        measured: Measured::new(started),
        resent: 0,
    }))
}

/// Sends the request until `end`.
async fn repeat(handle: &EndpointHandle, args: &LoadArgs, end: Instant, load: &RefCell<Load>) {
    let mut errors = 0;
    while errors < GIVE_UP {
        let began = Instant::now();
        if began >= end {
            return;
        }
        let (answered, resent) = request(handle, args).await;
        let mut load = load.borrow_mut();
        load.resent += resent;
        match answered {
            Ok(()) => load.measured.message(began),
            Err(error) => {
                errors += 1;
                load.measured.error(error.to_string());
            }
        }
    }
}

/// One request and its answer, and how often it was sent again.
async fn request(handle: &EndpointHandle, args: &LoadArgs) -> (Result<()>, u64) {
    let mut resent = 0;
    loop {
        match exchange(handle, args).await {
            Ok(Exchange::Answered) => return (Ok(()), resent),
            Ok(Exchange::Stale(error)) if resent >= MAX_RESENT => return (Err(error), resent),
            Ok(Exchange::Stale(_)) => resent += 1,
            Err(error) => return (Err(error), resent),
        }
    }
}

enum Exchange {
    Answered,
    /// The connection had been idle and ended before any byte of the answer.
    Stale(Error),
}

async fn exchange(handle: &EndpointHandle, args: &LoadArgs) -> Result<Exchange> {
    let conn = handle.get().await?;
    let answered = async {
        conn.write_all(&args.send.0).await?;
        conn.read_until(&args.until.0, MAX_ANSWER).await
    };
    match answered.await {
        Ok(_) => {
            conn.release();
            Ok(Exchange::Answered)
        }
        Err(error) if error.is_closed() && conn.is_reused() => {
            // The bytes of an unfinished answer are still there to be read.
            match conn.read_chunk().await {
                Ok(Some(_)) => Err(error),
                _ => Ok(Exchange::Stale(error)),
            }
        }
        Err(error) => Err(error),
    }
}

fn describe(args: &LoadArgs, shards: usize, load: &Load, stats: &Stats) -> String {
    let measured = &load.measured;
    let mut text = format!(
        "{}: {} requests in {:.2} s, {} at once on {shards} shards\n",
        args.endpoint,
        count(measured.messages()),
        measured.duration.as_secs_f64(),
        args.connections
    );
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _never_fails = writeln!(text, "  {name:<12} {value}");
    };
    let throughput = count(measured.throughput_per_s().round() as u64);
    line("throughput", format!("{throughput} requests/s"));
    let quantiles = [
        ("p50", 0.5),
        ("p90", 0.9),
        ("p99", 0.99),
        ("p99.9", 0.999),
        ("max", 1.0),
    ];
    let latency = quantiles.map(|(name, q)| format!("{name} {}", micros(measured.latency_us(q))));
    line("latency", latency.join(", "));
    let Stats {
        created,
        reused,
        closed,
        errors,
        ..
    } = stats;
    let figures = [created, reused, closed, errors].map(|n| count(*n));
    let [created, reused, closed, errors] = figures;
    line(
        "connections",
        format!("{created} created, {reused} reused, {closed} closed, {errors} failed to open"),
    );
    for address in &stats.addresses {
        let opened = count(address.opened);
        line(
            "address",
            format!(
                "{}: {opened} opened, {} open",
                address.address, address.open
            ),
        );
    }
    if load.resent > 0 {
        let resent = count(load.resent);
        line(
            "sent again",
            format!("{resent} requests, on connections the server had closed"),
        );
    }
    let unread = stats.closed_by(CloseReason::Unread) + stats.closed_by(CloseReason::Unsolicited);
    if unread > 0 {
        let unread = count(unread);
        line(
            "unread",
            format!("{unread} connections had bytes after --until and were closed"),
        );
    }
    line("errors", count(measured.errors.count));
    for error in &measured.errors.first {
        line("", error.clone());
    }
    text
}
