//! One of four addresses refuses, then answers nobody, then returns.
//!
//! Promise of the pool: no get fails while another address lives, an address that returns is in use
//! again within two seconds, and soon after that has as many connections as the others.
//!
//! Connections live as long as they can, so nobody opens any for the clients' sake: the pool must find
//! out by itself that the address is back.

use std::time::{Duration, Instant};

use ringpool::Result;

use super::{Played, Seen, Stage, is_even, switch};
use crate::report::{Figure, Mark};
use crate::stress::preset::Preset;
use crate::stress::samples::Sample;
use crate::stress::servers::tally::Counts;

pub(super) const DESCRIPTION: &str =
    ", while one address refuses, then answers nobody, then returns";
/// The number of the address.
const DYING: usize = 1;
/// How long each part takes.
const PART: Duration = Duration::from_millis(1500);
/// How long after its return the address may stay unused.
const IN_USE: Duration = Duration::from_secs(2);
/// How long after that the connections may lie unevenly: cores move their part by chance, and look
/// six times, a second apart.
const BALANCED: Duration = Duration::from_secs(6);
/// What the last mark says; it is set when the address is in use again, or is given up.
const AGAIN: &str = "in use again";

pub(super) fn play(stage: &Stage<'_>) -> Result<Played> {
    let served = stage.served()?;
    let gate = &served.gates[DYING];
    let clients = stage.start()?;
    let mut marks = vec![stage.mark(PART, "it refuses")];
    switch(gate.refuse())?;
    marks.push(stage.mark(PART * 2, "it is silent"));
    switch(gate.fall_silent())?;
    marks.push(stage.mark(PART * 3, "it returns"));
    let used = served.tally.counts().used[DYING];
    switch(gate.serve())?;
    let is_used = |counts: &Counts| counts.used[DYING] > used;
    served.tally.wait_for(Instant::now() + PART * 2, is_used);
    marks.push(Mark {
        at: stage.started.elapsed(),
        what: AGAIN,
    });
    let end = stage.started.elapsed() + BALANCED + Duration::from_millis(500);
    marks.push(stage.mark(end, "end"));
    Played::ended(clients, marks)
}

pub(super) fn judge(seen: &Seen<'_>, preset: &Preset) -> Vec<Figure> {
    let (played, returned, again) = (seen.played, seen.at(2), seen.at(3));
    let unused = again.saturating_sub(returned).as_secs_f64();
    let all: Vec<usize> = (0..preset.addresses).collect();
    let most = preset.most_apart(all.len(), seen.shards);
    let even = |sample: &Sample| is_even(&sample.addresses, &all, most);
    let uneven = seen.settled_after(3, even).as_secs_f64();
    vec![
        Figure::at_most("failed_gets", played.failed_gets as f64, 0.0),
        Figure::at_most("in_use_again_after_s", unused, IN_USE.as_secs_f64()),
        Figure::at_most("balanced_again_after_s", uneven, BALANCED.as_secs_f64()),
        Figure::told("messages_sent_again", played.resent as f64),
    ]
}
