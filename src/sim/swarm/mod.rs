//! The pool's own trial: random worlds, one for each seed, with cores that drain and die, servers
//! that misbehave, a kernel that answers late, and clients that give up anywhere.
//!
//! Promise: the seed decides everything. Invariants I1 to I20 (`docs/faults.md`) are checked after
//! every step; in the end nothing goes wrong any more, and then every client must be served, the
//! balance must be reached, and everything must be given back. `ringpool simulate` runs it.
//!
//! ```
//! let outcome = ringpool::sim::swarm::run(7, &[], false);
//! assert_eq!(outcome.failure, None);
//! ```

mod client;
mod coverage;
mod judge;
mod plan;
mod responder;
mod run;
mod truth;

use std::collections::BTreeMap;
use std::time::Duration;

pub use self::coverage::{EXPECTED, Meeting};
pub use crate::machine::Fault;

/// What a schedule came to.
#[non_exhaustive]
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The rule that was broken first, and by what it was seen; `None` if all held.
    pub failure: Option<String>,
    /// Steps taken: polls of tasks, completions, packets, timers.
    pub steps: u64,
    /// Virtual time that passed.
    pub time: Duration,
    /// Answers that clients got.
    pub answers: u64,
    /// How often each fault happened.
    pub fired: BTreeMap<Fault, u64>,
    /// The faults that could happen.
    pub faults: Vec<Fault>,
    /// How often which state of the policy met which event.
    pub met: BTreeMap<Meeting, u64>,
    /// What happened, line by line, if it was asked for.
    pub trace: Vec<String>,
}

/// Runs the schedule of `seed`, without the faults in `without`; with `trace` it is written down.
pub fn run(seed: u64, without: &[Fault], trace: bool) -> Outcome {
    run::run(seed, without, trace)
}

/// Takes faults out of a failing schedule one by one, as long as it still fails, and returns those
/// that it can do without: what is left is a smallest set.
pub fn shrink(seed: u64) -> Vec<Fault> {
    let mut without = Vec::new();
    loop {
        let left = run(seed, &without, false).faults;
        let needless = left.into_iter().find(|fault| {
            let mut fewer = without.clone();
            fewer.push(*fault);
            run(seed, &fewer, false).failure.is_some()
        });
        match needless {
            Some(fault) => without.push(fault),
            None => return without,
        }
    }
}

/// What the schedules themselves panic with.
#[derive(Debug, Clone, Copy)]
struct Injected;

/// Keeps panics that belong to a schedule off the standard error; all others are told as before.
pub fn hide_injected_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<Injected>().is_none() {
            before(info);
        }
    }));
}
