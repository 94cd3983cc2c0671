//! Take a connection, send a message, receive its echo, give the connection back: as many clients
//! as connections, on one core, with the server on the other.
//!
//! Runtimes that have no pool get the cheapest there is, a stack of the thread's own. Every echo is
//! checked by its first and last byte, and one that fails ends the run: errors are not traded for
//! speed.

mod bare;
mod compio;
mod glommio;
mod line;
mod monoio;
mod ours;
mod tokio;
mod uring;

use std::time::{Duration, Instant};

use crate::harness::{
    Case, Entry, Figures, Kind, Metric, Role, Settings, Workload, alloc, cpu, figures,
};

const TIME: Metric = Metric::time("processor time of one", "µs");
const RATE: Metric = Metric::rate("round trips", "1/s");
const ALLOCATIONS: Metric = Metric::count("allocations of one", "allocations");
const MEMORY: Metric = Metric::count("heap of one connection", "bytes");
/// A pool that throws its connections away does other work than the others: it must be seen.
const OPENED: Metric = Metric::count("connections opened again for one", "connections");

/// Round trips of each client before it is measured: some to warm up, and one more to see what
/// starting the clients allocates.
const WARM: usize = 4;
const ONE: usize = 1;

pub const WORKLOAD: Workload = Workload {
    name: "roundtrip",
    entries: &[
        Entry {
            name: "ringpool",
            role: Role::Ours,
            run: ours::run,
        },
        Entry {
            name: "tokio + deadpool",
            role: Role::Peer,
            run: tokio::run,
        },
        Entry {
            name: "tokio-uring",
            role: Role::Peer,
            run: uring::run,
        },
        Entry {
            name: "monoio",
            role: Role::Peer,
            run: monoio::run,
        },
        Entry {
            name: "compio",
            role: Role::Peer,
            run: compio::run,
        },
        Entry {
            name: "glommio",
            role: Role::Peer,
            run: glommio::run,
        },
        Entry {
            name: "limit: a bare loop",
            role: Role::Limit,
            run: bare::run,
        },
    ],
    metrics: &[TIME, RATE, ALLOCATIONS, MEMORY, OPENED],
    server: Some(Kind::Echo),
    cases,
    repetitions: 5,
    traced: |settings| match settings.connections {
        1 => 250,
        connections => (connections * 2).max(2000),
    },
};

fn cases(is_short: bool) -> Vec<Case> {
    let case = |(connections, bytes): (usize, usize)| {
        // A tenth of a second or so each: medians over turns say more than one long run.
        let count = match bytes {
            65_536 => 2000,
            4096 => 10_000,
            _ if connections == 1 => 5000,
            _ => 20_000,
        };
        let plural = if connections > 1 { "s" } else { "" };
        Case {
            name: format!("{connections} connection{plural}, {bytes} bytes"),
            settings: Settings {
                threads: 1,
                connections,
                bytes,
                count: if is_short { count / 2 } else { count },
                ..Settings::default()
            },
        }
    };
    if is_short {
        return [(1, 64), (64, 64), (64, 65_536)].map(case).into();
    }
    let connections = [1, 8, 64, 512, 2000];
    let messages = [64, 4096, 65_536];
    let all = connections.map(|connections| messages.map(|bytes| (connections, bytes)));
    all.into_iter().flatten().map(case).collect()
}

/// How many round trips each client makes.
fn share(settings: &Settings) -> usize {
    settings.count.div_ceil(settings.connections).max(ONE + 1)
}

/// Round trips of each client in each of its three phases: two short ones, and the one that counts.
fn phases(settings: &Settings) -> [usize; 3] {
    [WARM, ONE, share(settings)]
}

/// What the process used in the phases, each from a call of [`Meter::start`] on.
struct Meter {
    held: i64,
    /// When the last two phases began.
    allocated: [u64; 2],
    cpu: Duration,
    began: Instant,
}

impl Meter {
    /// Before connections are opened.
    fn new() -> Self {
        Self {
            held: alloc::live(),
            allocated: [0; 2],
            cpu: Duration::ZERO,
            began: Instant::now(),
        }
    }

    /// A phase begins.
    fn start(&mut self) {
        self.allocated = [self.allocated[1], alloc::calls()];
        self.cpu = cpu::process_time();
        self.began = Instant::now();
    }

    /// The last phase has ended.
    fn figures(&self, settings: &Settings) -> Figures {
        let taken = self.began.elapsed();
        let cpu = cpu::process_time() - self.cpu;
        let [before, began] = self.allocated;
        // What starting clients costs is in both phases, and falls out of the difference.
        let allocated = (alloc::calls() - began).saturating_sub(began - before);
        let held = alloc::live() - self.held;
        let all = (share(settings) * settings.connections) as f64;
        let more = ((share(settings) - ONE) * settings.connections) as f64;
        figures([
            (&TIME, cpu.as_secs_f64() * 1e6 / all),
            (&RATE, all / taken.as_secs_f64()),
            (&ALLOCATIONS, allocated as f64 / more),
            (&MEMORY, held as f64 / settings.connections as f64),
        ])
    }
}
