//! More shards than cores: what a get and its release cost on each, and what a shard takes on the
//! heap. Beside it one pool of a peer that as many threads share.

mod ours;

use crate::Outcome;
use crate::checkout;
use crate::harness::race::TIME;
use crate::harness::{Case, Entry, Figures, Kind, Metric, Role, Settings, Workload};

const MEMORY: Metric = Metric::count("heap of one shard and its endpoint", "bytes");

pub const WORKLOAD: Workload = Workload {
    name: "scale",
    entries: &[
        Entry {
            name: "ringpool",
            role: Role::Ours,
            run: ours::run,
        },
        Entry {
            name: "deadpool, shared",
            role: Role::Peer,
            run: deadpool,
        },
    ],
    metrics: &[TIME, MEMORY],
    server: Some(Kind::Echo),
    cases,
    repetitions: 5,
    traced: |_| 0,
};

fn cases(is_short: bool) -> Vec<Case> {
    let case = |threads: usize| Case {
        name: format!("{threads} shard{}", if threads > 1 { "s" } else { "" }),
        settings: Settings {
            threads,
            // One for each thread and some to spare, so that nobody waits.
            connections: 128,
            bytes: 64,
            count: if is_short {
                10_000
            } else {
                (400_000 / threads).min(100_000)
            },
            ..Settings::default()
        },
    };
    if is_short {
        return [1, 8].map(case).into();
    }
    [1, 2, 4, 8, 16, 32, 64].map(case).into()
}

fn deadpool(settings: &Settings) -> Outcome<Figures> {
    checkout::deadpool(settings)
}
