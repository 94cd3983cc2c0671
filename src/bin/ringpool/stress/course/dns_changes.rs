//! A name gets more addresses, then has others and fewer.
//!
//! Promise of the pool: within two refreshes of the name the connections are where it leads, evenly,
//! and no message fails on the way.

use std::time::Duration;

use ringpool::Result;

use super::{Played, Seen, Stage, is_even};
use crate::report::Figure;
use crate::stress::preset::Preset;
use crate::stress::samples::Sample;

pub(super) const DESCRIPTION: &str = ", while the name goes from 4 addresses to 8 and to 3";
/// Longer than the second that the pool lets pass between two questions at least: of a shorter one,
/// what one core hears may be what another one heard a second ago.
pub(super) const TTL: u32 = 2;
/// The addresses that the name has, one after the other, by their numbers.
pub(super) const FIRST: &[usize] = &[0, 1, 2, 3];
const MORE: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7];
const FEWER: &[usize] = &[1, 4, 6];

/// How long the name leads to the same addresses.
const STAY: Duration = Duration::from_millis(5500);
/// Two refreshes, and time for the last connection to move.
const SETTLED: f64 = 2.0 * TTL as f64 + 1.0;

pub(super) fn play(stage: &Stage<'_>) -> Result<Played> {
    let start = Duration::from_secs(1);
    let clients = stage.start()?;
    let mut marks = vec![stage.mark(start, "8 addresses")];
    stage.servers.name(stage.served()?, MORE)?;
    marks.push(stage.mark(start + STAY, "3 addresses"));
    stage.servers.name(stage.served()?, FEWER)?;
    marks.push(stage.mark(start + STAY * 2, "end"));
    Played::ended(clients, marks)
}

pub(super) fn judge(seen: &Seen<'_>, preset: &Preset) -> Vec<Figure> {
    let settled = |mark, named: &[usize]| {
        let most = preset.most_apart(named.len(), seen.shards);
        let even = |sample: &Sample| is_even(&sample.addresses, named, most);
        seen.settled_after(mark, even).as_secs_f64()
    };
    let last = seen.last_before(1).map(|sample| &*sample.addresses);
    let counts = last.unwrap_or_default();
    let spread = counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0);
    let unused = counts.iter().filter(|count| **count == 0).count();
    vec![
        Figure::at_most("balanced_with_8_after_s", settled(0, MORE), SETTLED),
        Figure::told("spread_with_8", f64::from(spread)),
        Figure::told("unused_addresses_with_8", unused as f64),
        Figure::at_most("balanced_with_3_after_s", settled(1, FEWER), SETTLED),
    ]
}
