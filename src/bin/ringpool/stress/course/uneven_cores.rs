//! All clients are on one core, and the connections that the limit allows are idle on the others.
//!
//! Measured is how much faster the core is with the whole limit to itself, and how many connections
//! were opened at worst, those included that the others had opened before.
//! Both are done in turn and compared in pairs, so that what else the machine does meets both; the
//! median counts. On a machine that does much else a median of few pairs may be off by a half: where it
//! is too much, more pairs are added, up to five times as many.

use std::time::{Duration, Instant};

use ringpool::{CloseReason, Conn, Error, ErrorKind, Pool, Result};

use super::{Played, Stage};
use crate::measure::Measured;
use crate::report::{Figure, Mark};
use crate::stress::account;
use crate::stress::servers::tally::{Counts, PATIENCE};

pub(super) const DESCRIPTION: &str = ", all of them on one core, in turn with the limit to itself and with all connections elsewhere";
/// Pairs, at least.
const ROUNDS: usize = 7;
/// How much faster the core may be with the limit to itself: it has nine tenths of that without.
const SLOWER: f64 = 1.0 / 0.9;
/// How long the clients are at work, each time.
const WORK: Duration = Duration::from_millis(400);
/// How long the other cores have done nothing when the clients begin: until 100 ms after a get, a
/// core keeps its last connections for itself.
const REST: Duration = Duration::from_millis(150);
/// The core with the clients.
const BUSY: usize = 0;

/// What the clients found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// No connection anywhere.
    Nowhere,
    /// As many as the limit allows, idle on the other cores.
    Elsewhere,
}

pub(super) fn play(stage: &Stage<'_>) -> Result<Played> {
    let mut played = Played {
        measured: Measured::new(stage.started),
        marks: Vec::new(),
        figures: Vec::new(),
        failed_gets: 0,
        resent: 0,
    };
    let (mut ratios, mut most) = (Vec::new(), 0_u64);
    let is_too_much = |ratios: &[f64]| median(ratios.to_vec()) > SLOWER;
    while ratios.len() < ROUNDS || is_too_much(&ratios) && ratios.len() < 5 * ROUNDS {
        let alone = work(stage, Held::Nowhere, &mut played)?;
        let before = created(stage)?;
        let shared = work(stage, Held::Elsewhere, &mut played)?;
        most = most.max(created(stage)? - before);
        ratios.push(alone / shared.max(1.0));
    }
    let (name, slower) = ("times_faster_with_the_limit_to_itself", median(ratios));
    let opened = most as f64 / stage.preset.pool_size as f64;
    played.figures = vec![
        match stage.shards.len() {
            // There is no elsewhere: it is compared with itself.
            1 => Figure::told(name, slower),
            _ => Figure::at_most(name, slower, SLOWER),
        },
        Figure::at_most("connections_opened_for_each_allowed", opened, 1.0),
        Figure::told(
            "connections_closed_on_demand",
            closed_on_demand(stage)? as f64,
        ),
    ];
    Ok(played)
}

/// Lets the clients work for a while, and returns how many messages they sent in a second.
fn work(stage: &Stage<'_>, held: Held, played: &mut Played) -> Result<f64> {
    clear(stage)?;
    if held == Held::Elsewhere {
        fill(stage)?;
        // bounded: until the other cores are in use no more.
        std::thread::sleep(REST);
    }
    let began = stage.started.elapsed();
    let clients = stage.start_on(1)?;
    // bounded: this is the time that is measured.
    std::thread::sleep(WORK);
    let what = match held {
        Held::Nowhere => "the limit to itself",
        Held::Elsewhere => "all connections elsewhere",
    };
    let ended = Played::ended(clients, vec![Mark { at: began, what }])?;
    let took = stage.started.elapsed().saturating_sub(began).as_secs_f64();
    let messages = ended.measured.messages();
    played.add(ended);
    Ok(messages as f64 / took.max(f64::MIN_POSITIVE))
}

/// Closes every connection.
fn clear(stage: &Stage<'_>) -> Result<()> {
    let served = stage.served()?;
    let clearing = (0..stage.shards.len()).map(|shard| {
        let name = served.endpoint.clone();
        let clear = async move || Pool::local()?.clear_endpoint(&*name);
        stage.shards.run_on(shard, clear)
    });
    let clearing: Vec<_> = clearing.collect::<Result<_>>()?;
    clearing.into_iter().try_for_each(|core| core.wait()?)?;
    let is_clear = |counts: &Counts| counts.open.iter().all(|open| *open == 0);
    match served.tally.wait_for(Instant::now() + PATIENCE, is_clear) {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::Protocol,
            "connections stay open that were to be closed",
        )),
    }
}

/// Lets the other cores open as many connections as the limit allows, and give them back.
fn fill(stage: &Stage<'_>) -> Result<()> {
    let served = stage.served()?;
    let others = stage.shards.len() - 1;
    let limit = stage.preset.pool_size;
    let filling = (0..others).map(|other| {
        let count = limit / others + usize::from(other < limit % others);
        let name = served.endpoint.clone();
        let hold = async move || {
            let endpoint = Pool::local()?.endpoint(&*name)?;
            let mut held = Vec::with_capacity(count);
            for _ in 0..count {
                held.push(endpoint.get().await?);
            }
            held.into_iter().for_each(Conn::release);
            Ok::<_, Error>(())
        };
        stage.shards.run_on(BUSY + 1 + other, hold)
    });
    let filling: Vec<_> = filling.collect::<Result<_>>()?;
    filling.into_iter().try_for_each(|core| core.wait()?)
}

/// Connections that became ready so far.
fn created(stage: &Stage<'_>) -> Result<u64> {
    let stats = account::stats(stage.shards, &stage.servers.endpoints)?;
    Ok(stats.iter().map(|stats| stats.created).sum())
}

/// Connections that were closed for another core's waiter, and not given to it.
fn closed_on_demand(stage: &Stage<'_>) -> Result<u64> {
    let stats = account::stats(stage.shards, &stage.servers.endpoints)?;
    let closed = stats.iter().map(|it| it.closed_by(CloseReason::Demand));
    Ok(closed.sum())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 9.0]), 3.0);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
