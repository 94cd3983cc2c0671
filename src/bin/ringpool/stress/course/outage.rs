//! Every server is gone for three seconds, with two thousand gets that wait, and comes back.
//!
//! Promise of the pool: it tries no more often than its settings say, before and after; every get
//! is served once there is somebody to serve it; every permit is back.

use std::time::{Duration, Instant};

use ringpool::{Config, Result};

use super::{Played, Seen, Stage, switch};
use crate::report::{Figure, Mark};
use crate::stress::preset::Preset;
use crate::stress::samples::Sample;
use crate::stress::servers::tally::Counts;

pub(super) const DESCRIPTION: &str = ", while all servers are gone for 3 s";
const START: Duration = Duration::from_secs(1);
const GONE: Duration = Duration::from_secs(3);
/// How long clients go on afterwards: until the name was asked for again when no address was suspect
/// any more, which is when the pool looks at its balance.
const AFTER: Duration = Duration::from_secs(4);
pub(super) const TTL: u32 = 2;
/// Gets wait for longer than the servers are gone.
const GET_TIMEOUT: Duration = Duration::from_secs(10);
/// The pauses between rounds of connects; the pool takes a quarter more or less.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Rounds of connects that fit into a second, at the shortest pauses: 75, 150, 300, 375 ms.
const ROUNDS: usize = 5;
/// Connects of one core that are under way at once.
const CONNECTING: usize = 16;
/// A second, for connects.
const SECOND: Duration = Duration::from_secs(1);
/// How long after the servers' return a connection may take: the longest pause and a quarter, and
/// time to connect.
const BACK_AFTER_S: f64 = 1.0;

pub(super) fn configure(config: Config) -> Config {
    Config {
        get_timeout: GET_TIMEOUT,
        connect_retry_count: 1000,
        connect_retry_delay: FIRST_PAUSE,
        connect_retry_delay_max: LONGEST_PAUSE,
        max_connecting: CONNECTING,
        ..config
    }
}

pub(super) fn play(stage: &Stage<'_>) -> Result<Played> {
    let served = stage.served()?;
    let clients = stage.start()?;
    let mut marks = vec![stage.mark(START, "all are gone")];
    for gate in &served.gates {
        switch(gate.refuse())?;
    }
    marks.push(stage.mark(START + GONE, "all are back"));
    let used = |counts: &Counts| counts.used.iter().sum::<u64>();
    let before = used(&served.tally.counts());
    for gate in &served.gates {
        switch(gate.serve())?;
    }
    let deadline = Instant::now() + AFTER;
    served
        .tally
        .wait_for(deadline, |counts| used(counts) > before);
    marks.push(Mark {
        at: stage.started.elapsed(),
        what: "in use again",
    });
    marks.push(stage.mark(START + GONE + AFTER, "end"));
    Played::ended(clients, marks)
}

pub(super) fn judge(seen: &Seen<'_>, preset: &Preset) -> Vec<Figure> {
    let (gone, back, again) = (seen.at(0), seen.at(1), seen.at(2));
    let outage = seen
        .samples
        .iter()
        .filter(|it| (gone..back).contains(&it.at));
    let waiters = outage.map(|sample| sample.waiters).max().unwrap_or(0);
    let clients = preset.clients() as f64;
    vec![
        Figure::at_most("failed_gets", seen.played.failed_gets as f64, 0.0),
        Figure::at_most("clients_that_did_not_wait", clients - waiters as f64, 0.0),
        Figure::at_most(
            "connects_in_one_second",
            most_connects(seen.samples) as f64,
            allowed_connects(preset, seen.shards) as f64,
        ),
        Figure::at_most(
            "in_use_again_after_s",
            again.saturating_sub(back).as_secs_f64(),
            BACK_AFTER_S,
        ),
        Figure::told("messages_sent_again", seen.played.resent as f64),
    ]
}

/// The most connects between two samples that are a second apart, or a little less.
fn most_connects(samples: &[Sample]) -> u64 {
    let mut most = 0;
    let mut first = 0;
    for last in samples {
        while samples[first].at + SECOND < last.at {
            first += 1;
        }
        most = most.max(last.connects.saturating_sub(samples[first].connects));
    }
    most
}

/// Connects that the settings allow in a second, by the pool's own account: in each round of each
/// core, as many as may be under way at once; and those that succeed.
fn allowed_connects(preset: &Preset, shards: usize) -> usize {
    shards * ROUNDS * CONNECTING + preset.pool_size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_second_begins_at_any_sample() {
        let sample = |(ms, connects)| Sample {
            at: Duration::from_millis(ms),
            connects,
            ..Sample::default()
        };
        let samples = [(0, 10), (600, 20), (900, 70), (1500, 90), (2600, 95)].map(sample);
        assert_eq!(most_connects(&samples), 70);
        assert_eq!(most_connects(&[]), 0);
    }
}
