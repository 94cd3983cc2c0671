//! Servers that close what was idle for a random time below 10 ms, and clients that come back after
//! a random time below 10 ms: how often does a user get a connection that has died?
//!
//! Which end comes first is decided by what else the machine does, so the figure is no plain count.
//! Beside it one that is: a client that comes back long after its connection has been closed, which
//! a pool could have heard of.
//!
//! Every pool checks what it can: ours hears of the end from the kernel; the others look at the
//! socket when they hand it out or, as pingora-pool, wait for its end in a task. Nobody tries
//! again: an exchange that fails is an error that the user sees.

mod deadpool;
mod hyper;
mod ours;
mod pingora;

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Outcome;
use crate::harness::random::Random;
use crate::harness::{Case, Entry, Figures, Kind, Metric, Role, Settings, Workload, cpu, figures};

const ERRORS: Metric = Metric::time("errors that users see", "per million gets");
const KNOWN: Metric = Metric::count("errors that a pool could know of", "per million gets");
const TIME: Metric = Metric::time("processor time of one", "µs");

pub const WORKLOAD: Workload = Workload {
    name: "stale",
    entries: &[
        Entry {
            name: "ringpool",
            role: Role::Ours,
            run: ours::run,
        },
        Entry {
            name: "deadpool",
            role: Role::Peer,
            run: deadpool::run,
        },
        Entry {
            name: "hyper-util: cache",
            role: Role::Peer,
            run: hyper::run,
        },
        Entry {
            name: "pingora-pool",
            role: Role::Peer,
            run: pingora::run,
        },
    ],
    metrics: &[ERRORS, KNOWN, TIME],
    server: Some(Kind::Fickle),
    cases,
    repetitions: 5,
    traced: |_| 0,
};

fn cases(is_short: bool) -> Vec<Case> {
    let case = |name: &str, connections, count, quiet| Case {
        name: name.into(),
        settings: Settings {
            threads: 1,
            connections,
            bytes: 64,
            count,
            quiet,
            ..Settings::default()
        },
    };
    let count = if is_short { 6400 } else { 19_200 };
    let (idle, later) = (Duration::ZERO, Duration::from_millis(50));
    vec![
        case(
            "closed after 0 to 10 ms of idleness, 64 clients",
            64,
            count,
            idle,
        ),
        case("closed 40 ms before, 1 client", 1, 16, later),
    ]
}

/// What clients found.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    gets: usize,
    errors: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.gets += other.gets;
        self.errors += other.errors;
    }

    /// `began` is the process's time before.
    fn figures(&self, settings: &Settings, began: Duration) -> Figures {
        let taken = cpu::process_time() - began;
        let errors = if settings.quiet.is_zero() {
            ERRORS
        } else {
            KNOWN
        };
        figures([
            (&errors, self.errors as f64 * 1e6 / self.gets as f64),
            (&TIME, taken.as_secs_f64() * 1e6 / self.gets as f64),
        ])
    }
}

/// Calls `exchange` again and again with random pauses; it says whether it went well.
async fn client<E: std::fmt::Display>(
    n: usize,
    settings: Settings,
    mut exchange: impl AsyncFnMut() -> Result<bool, E>,
) -> Outcome<Tally> {
    let mut random = Random::new(n as u64);
    let mut tally = Tally::default();
    for _ in 0..settings.count / settings.connections {
        let pause = Duration::from_micros(u64::from(random.below(10_000)));
        // bounded: it is the client's pause between two requests
        tokio::time::sleep(settings.quiet + pause).await;
        tally.gets += 1;
        let went_well = exchange().await.map_err(|error| error.to_string())?;
        tally.errors += usize::from(!went_well);
    }
    Ok(tally)
}

/// A round trip on a tokio connection.
async fn echo(stream: &mut TcpStream, bytes: usize) -> std::io::Result<()> {
    let mut message = [7; 64];
    let message = &mut message[..bytes.min(64)];
    stream.write_all(message).await?;
    stream.read_exact(message).await.map(drop)
}

/// Whether an idle connection is still as it should be: silent.
fn is_alive(stream: &TcpStream) -> bool {
    let read = stream.try_read(&mut [0]);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Runs peers' clients in a tokio runtime.
fn in_tokio<Fut>(settings: &Settings, work: impl FnOnce() -> Fut) -> Outcome<Figures>
where
    Fut: Future<Output = Outcome<Tally>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let began = cpu::process_time();
    let tally = tokio::task::LocalSet::new().block_on(&runtime, work())?;
    Ok(tally.figures(settings, began))
}

/// Waits for peers' clients.
async fn tally(clients: Vec<tokio::task::JoinHandle<Outcome<Tally>>>) -> Outcome<Tally> {
    let mut sum = Tally::default();
    for client in clients {
        sum.add(client.await??);
    }
    Ok(sum)
}
