//! 10 000 connections that nobody uses: what each costs on the heap, how often the process wakes
//! for them, and what it costs to notice that 1000 of them have ended.
//!
//! The heap is counted with the pool's fixed part and without what the kernel keeps. Each pool
//! notices in the way that it has; who only looks when asked is asked every 100 ms.

mod hyper;
mod ours;
mod pingora;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::harness::{
    Case, Entry, Figures, Kind, Metric, Role, Settings, Workload, alloc, cpu, figures,
};
use crate::serve::{END_SOME, SOME};

const MEMORY: Metric = Metric::count("heap of one connection", "bytes");
/// What else happens on the machine may add some.
const WAKES: Metric = Metric::time("wake-ups while idle", "1/s");
const NOTICE: Metric = Metric::time("processor time to notice one end", "µs");

const LOOK: Duration = Duration::from_millis(100);
/// Ends that are not noticed by then fail the run.
const DEADLINE: Duration = Duration::from_secs(20);

pub const WORKLOAD: Workload = Workload {
    name: "idle",
    entries: &[
        Entry {
            name: "ringpool",
            role: Role::Ours,
            run: ours::run,
        },
        Entry {
            name: "pingora-pool",
            role: Role::Peer,
            run: pingora::run,
        },
        Entry {
            name: "hyper-util: cache",
            role: Role::Peer,
            run: hyper::run,
        },
    ],
    metrics: &[MEMORY, WAKES, NOTICE],
    server: Some(Kind::Echo),
    cases,
    repetitions: 5,
    traced: |_| 0,
};

fn cases(is_short: bool) -> Vec<Case> {
    let connections = if is_short { 2000 } else { 10_000 };
    vec![Case {
        name: format!("{connections} connections, {SOME} of them end"),
        settings: Settings {
            threads: 1,
            connections,
            bytes: 64,
            count: 1,
            quiet: Duration::from_secs(if is_short { 1 } else { 2 }),
            ..Settings::default()
        },
    }]
}

/// What an idle process does by itself, and what it does when connections end. `left` says how many
/// connections the pool believes in.
async fn watch(
    settings: &Settings,
    held: i64,
    mut left: impl FnMut() -> usize,
) -> Outcome<Figures> {
    let memory = (alloc::live() - held) as f64 / settings.connections as f64;
    let before = wake_ups()?;
    // bounded: it is the time that is watched
    tokio::time::sleep(settings.quiet).await;
    let woken = wake_ups()?.saturating_sub(before);
    let began = (Instant::now(), cpu::process_time());
    end_some(settings.server()?)?;
    while left() > settings.connections - SOME {
        if began.0.elapsed() > DEADLINE {
            return Err("ends were not noticed".into());
        }
        // bounded: by the deadline
        tokio::time::sleep(LOOK).await;
    }
    let taken = cpu::process_time() - began.1;
    Ok(figures([
        (&MEMORY, memory),
        (&WAKES, woken as f64 / settings.quiet.as_secs_f64()),
        (&NOTICE, taken.as_secs_f64() * 1e6 / SOME as f64),
    ]))
}

/// Tells the server to end some, and hears that it does.
fn end_some(server: SocketAddr) -> Outcome<()> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(END_SOME)?;
    let mut echo = [0; END_SOME.len()];
    Ok(stream.read_exact(&mut echo)?)
}

/// How often threads of the process went to sleep so far: each time something had woken them.
fn wake_ups() -> Outcome<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let status = std::fs::read_to_string(task?.path().join("status"))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += line.ok_or("no count of switches")?.trim().parse::<u64>()?;
    }
    Ok(sum)
}
