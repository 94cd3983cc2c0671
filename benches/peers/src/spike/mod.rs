//! HikariCP's spike: a pool with 5 connections, and all at once 50 who want one for 2 ms, when
//! opening one takes 150 ms. A pool that opens one for each waiter opens 45 that nobody needs.
//!
//! Opening takes its time in each pool's own way of preparing a connection, not in the network.

mod ours;
mod peers;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::harness::{Case, Entry, Figures, Kind, Metric, Role, Settings, Workload, figures};

/// They depend on who is faster than whom: no plain count.
const OPENED: Metric = Metric::time("connections opened for the spike", "connections");
const LONGEST: Metric = Metric::time("longest wait", "ms");
const MEAN: Metric = Metric::time("mean wait", "ms");

const PREPARE: Duration = Duration::from_millis(150);
const USE: Duration = Duration::from_millis(2);
/// Open before the spike.
const MINIMUM: usize = 5;

pub const WORKLOAD: Workload = Workload {
    name: "spike",
    entries: &[
        Entry {
            name: "ringpool",
            role: Role::Ours,
            run: ours::run,
        },
        Entry {
            name: "deadpool",
            role: Role::Peer,
            run: peers::deadpool,
        },
        Entry {
            name: "bb8",
            role: Role::Peer,
            run: peers::bb8,
        },
    ],
    metrics: &[OPENED, LONGEST, MEAN],
    server: Some(Kind::Echo),
    cases,
    repetitions: 7,
    traced: |_| 0,
};

fn cases(_is_short: bool) -> Vec<Case> {
    vec![Case {
        name: "50 at once, 150 ms to open, 2 ms of use, 5 open".into(),
        settings: Settings {
            threads: 1,
            connections: 50,
            bytes: 64,
            count: 50,
            ..Settings::default()
        },
    }]
}

/// How many connections the process began to prepare.
static PREPARED: AtomicUsize = AtomicUsize::new(0);

async fn prepare() {
    PREPARED.fetch_add(1, Relaxed);
    // bounded: it is the time that opening takes
    tokio::time::sleep(PREPARE).await;
}

/// One that waits for a connection and uses it; returns how long it waited.
async fn wait<C, E>(get: impl Future<Output = Result<C, E>>) -> Result<(C, Duration), E> {
    let began = Instant::now();
    let conn = get.await?;
    let waited = began.elapsed();
    // bounded: it is the use of the connection
    tokio::time::sleep(USE).await;
    Ok((conn, waited))
}

/// `before` is how many were prepared before the spike.
fn spike_figures(before: usize, waits: &[Duration]) -> Figures {
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    let longest = waits.iter().max().copied().unwrap_or_default();
    let sum: Duration = waits.iter().sum();
    figures([
        (&OPENED, (PREPARED.load(Relaxed) - before) as f64),
        (&LONGEST, ms(longest)),
        (&MEAN, ms(sum) / waits.len() as f64),
    ])
}
