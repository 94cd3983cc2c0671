//! Taking a connection that is idle and giving it back, over and over.
//!
//! Ours are connections to a server, watched by the kernel while they are idle. The peers' are
//! numbers, without a socket and without a check: that is less work than they have in a service.
//! With two threads, each on a core of its own, peers share one pool as their users share it.
//!
//! Not here: the partitioned pool of AWS's smithy client (aws-smithy-http-client 1.5, `pool`). What
//! is public of it sends an HTTP request; nothing takes a connection out and gives it back.

mod blocking;
mod ours;
mod pingora;
mod shared;
mod slots;

pub use shared::deadpool;

use crate::harness::race::{ALLOCATIONS, TIME};
use crate::harness::{Case, Entry, Kind, Role, Settings, Workload, cpu};

const COUNT: usize = 300_000;
/// Idle ones in each pool.
const CONNECTIONS: usize = 16;

pub const WORKLOAD: Workload = Workload {
    name: "checkout",
    entries: &[
        Entry {
            name: "ringpool",
            role: Role::Ours,
            run: ours::run,
        },
        Entry {
            name: "deadpool",
            role: Role::Peer,
            run: shared::deadpool,
        },
        Entry {
            name: "bb8",
            role: Role::Peer,
            run: shared::bb8,
        },
        Entry {
            name: "mobc",
            role: Role::Peer,
            run: shared::mobc,
        },
        Entry {
            name: "hyper-util: cache",
            role: Role::Peer,
            run: shared::hyper,
        },
        Entry {
            name: "r2d2",
            role: Role::Peer,
            run: blocking::run,
        },
        Entry {
            name: "pingora-pool",
            role: Role::Peer,
            run: pingora::run,
        },
        Entry {
            name: "limit: a stack of the thread",
            role: Role::Limit,
            run: slots::run,
        },
    ],
    metrics: &[TIME, ALLOCATIONS],
    server: Some(Kind::Echo),
    cases,
    repetitions: 7,
    traced: |settings| match settings.threads {
        1 => 20_000,
        // Two that wait for each other do so more often under strace.
        _ => 0,
    },
};

fn cases(is_short: bool) -> Vec<Case> {
    let case = |threads: usize| Case {
        name: format!(
            "get and release, {threads} thread{}",
            if threads > 1 { "s" } else { "" }
        ),
        settings: Settings {
            threads,
            connections: CONNECTIONS,
            bytes: 64,
            count: if is_short { COUNT / 3 } else { COUNT },
            ..Settings::default()
        },
    };
    cpu::fitting([1, 2]).map(case).collect()
}
