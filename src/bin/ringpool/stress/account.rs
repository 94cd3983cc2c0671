//! Two accounts of the same connections must agree: the pool's statistics and what the servers saw.
//!
//! **At rest**, after the last message, nothing is under way: no get, no connect, no close. What the
//! pool says it holds, by address, is then what the servers have open, and what it says it opened
//! is what they accepted (a connect that failed for the pool may still have been accepted, and one
//! that a server reset may not have been). Both sides may have a few events left to read at first, so the comparison is repeated until they
//! agree, and only a disagreement that lasts for [`PATIENCE`] is an error.

use std::time::{Duration, Instant};

use ringpool::{CloseReason, Pool, Result, Shards, Stats};

use super::servers::Served;
use super::servers::tally::{Counts, PATIENCE};
use crate::measure::Errors;
use crate::report::{AddressCount, Connections};

/// How long to wait for news before the pool is asked again.
const AGAIN: Duration = Duration::from_millis(10);

/// Waits until the pool is at rest and agrees with the servers; a lasting disagreement is added to
/// `errors`. Returns the statistics of each endpoint.
pub(crate) fn settle(
    shards: &Shards,
    endpoints: &[Served],
    limit: usize,
    errors: &mut Errors,
) -> Result<Vec<Stats>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stats = stats(shards, endpoints)?;
        let disagreement = endpoints.iter().zip(&stats).find_map(|(served, stats)| {
            let seen = served.tally.counts();
            disagreement(served, stats, &seen, limit).map(|text| (served, seen, text))
        });
        let Some((served, seen, text)) = disagreement else {
            return Ok(stats);
        };
        let now = Instant::now();
        if now >= deadline {
            errors.add(format!("{text}, of {} at rest", served.endpoint));
            return Ok(stats);
        }
        let changed =
            |counts: &Counts| counts.open != seen.open || counts.accepted != seen.accepted;
        served.tally.wait_for(deadline.min(now + AGAIN), changed);
    }
}

/// The pool's statistics of each endpoint, all shards together.
pub(super) fn stats(shards: &Shards, endpoints: &[Served]) -> Result<Vec<Stats>> {
    let names: Vec<String> = endpoints
        .iter()
        .map(|served| served.endpoint.clone())
        .collect();
    // Where there is one shard that is busier than others, it is the first.
    let asked = shards.run_on(shards.len() - 1, move || async move {
        let pool = Pool::local()?;
        names.iter().map(|name| pool.stats(name)).collect()
    })?;
    asked.wait()?
}

/// How the pool's account differs from the servers', or from what must be at rest.
fn disagreement(served: &Served, stats: &Stats, seen: &Counts, limit: usize) -> Option<String> {
    let under_way = stats.in_use + stats.connecting + stats.closing + stats.waiters;
    if under_way > 0 {
        return Some(format!(
            "{} connections in use, {} connecting, {} closing, and {} gets waiting",
            stats.in_use, stats.connecting, stats.closing, stats.waiters
        ));
    }
    // A server that dies resets connections that it has not accepted yet.
    let cut = [
        CloseReason::Reset,
        CloseReason::PeerClosed,
        CloseReason::Failed,
    ];
    let cut: u64 = cut.iter().map(|reason| stats.closed_by(*reason)).sum();
    for (number, address) in served.addresses.iter().enumerate() {
        let of_pool = stats
            .addresses
            .iter()
            .find(|count| count.address == *address);
        let (opened, open) = of_pool.map_or((0, 0), |count| (count.opened, count.open));
        let (accepted, seen_open) = (seen.accepted[number], seen.open[number]);
        if open != seen_open {
            return Some(format!(
                "the pool has {open} open, the server {seen_open}, to {address}"
            ));
        }
        if !(opened.saturating_sub(cut)..=opened + stats.errors).contains(&accepted) {
            return Some(format!(
                "the pool opened {opened}, the server accepted {accepted}, to {address}"
            ));
        }
    }
    if let Some(strange) = stats
        .addresses
        .iter()
        .find(|c| !served.addresses.contains(&c.address))
    {
        return Some(format!(
            "connections to {}, which is not an address",
            strange.address
        ));
    }
    let open: u64 = seen.open.iter().sum();
    if stats.permits != open {
        return Some(format!("{} permits for {open} connections", stats.permits));
    }
    (open > limit as u64).then(|| format!("{open} connections open, more than {limit}"))
}

/// Adds an error for each endpoint with connections that are still open, though the pool was shut
/// down, and what else the servers found wrong during the run.
pub(crate) fn close(endpoints: &[Served], errors: &mut Errors) {
    let deadline = Instant::now() + PATIENCE;
    for served in endpoints {
        let closed = |counts: &Counts| counts.open.iter().all(|open| *open == 0);
        if !served.tally.wait_for(deadline, closed) {
            let open: u64 = served.tally.counts().open.iter().sum();
            let endpoint = &served.endpoint;
            errors.add(format!(
                "{open} connections to {endpoint} outlived the pool"
            ));
        }
        errors.merge(served.tally.counts().faults);
    }
}

/// The sums over all endpoints.
pub(crate) fn connections(stats: &[Stats]) -> Connections {
    let sum = |of: fn(&Stats) -> u64| stats.iter().map(of).sum();
    Connections {
        created: sum(|stats| stats.created),
        reused: sum(|stats| stats.reused),
        closed: sum(|stats| stats.closed),
        handed_over: sum(|stats| stats.handed_over),
        errors: sum(|stats| stats.errors),
    }
}

/// Connects that ended, well or not.
pub(super) fn connects(stats: &Stats) -> u64 {
    let opened: u64 = stats.addresses.iter().map(|count| count.opened).sum();
    opened + stats.errors + stats.connects_cancelled
}

/// Every address of every endpoint with what the pool opened there.
pub(crate) fn addresses(endpoints: &[Served], stats: &[Stats]) -> Vec<AddressCount> {
    let mut counts = Vec::new();
    for (served, stats) in endpoints.iter().zip(stats) {
        for (number, address) in served.addresses.iter().enumerate() {
            let of_pool = stats
                .addresses
                .iter()
                .find(|count| count.address == *address);
            counts.push(AddressCount {
                endpoint: served.endpoint.clone(),
                address: *address,
                is_named: served.is_named(number),
                opened: of_pool.map_or(0, |count| count.opened),
                open: of_pool.map_or(0, |count| count.open),
            });
        }
    }
    counts
}
