//! A storm of connects: 64 under way at a time, all kept until the last one stands, with the five
//! options that ours sets: no delay, keepalive, its idle time and interval, and a limit for
//! unacknowledged bytes.

mod chain;
mod ours;
mod peers;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use crate::Outcome;
use crate::harness::{
    Case, Entry, Figures, Kind, Metric, Role, Settings, Workload, alloc, cpu, figures,
};

const TIME: Metric = Metric::time("processor time of one", "µs");
const RATE: Metric = Metric::rate("connects", "1/s");
const ALLOCATIONS: Metric = Metric::count("allocations of one", "allocations");

/// Under way at a time.
const AT_ONCE: usize = 64;
const KEEPALIVE: Duration = Duration::from_secs(15);
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

pub const WORKLOAD: Workload = Workload {
    name: "connect",
    entries: &[
        Entry {
            name: "ringpool",
            role: Role::Ours,
            run: ours::run,
        },
        Entry {
            name: "tokio",
            role: Role::Peer,
            run: peers::tokio,
        },
        Entry {
            name: "monoio",
            role: Role::Peer,
            run: peers::monoio,
        },
        Entry {
            name: "glommio",
            role: Role::Peer,
            run: peers::glommio,
        },
        Entry {
            name: "limit: a bare chain",
            role: Role::Limit,
            run: chain::run,
        },
    ],
    metrics: &[TIME, RATE, ALLOCATIONS],
    server: Some(Kind::Echo),
    cases,
    repetitions: 5,
    traced: |_| 512,
};

fn cases(is_short: bool) -> Vec<Case> {
    let count = if is_short { 1000 } else { 10_000 };
    vec![Case {
        name: format!("{count} connections, {AT_ONCE} at a time, 5 options"),
        settings: Settings {
            threads: 1,
            connections: AT_ONCE,
            bytes: 64,
            count,
            ..Settings::default()
        },
    }]
}

/// The options, by system calls.
fn set_options(socket: impl AsFd) -> Outcome<()> {
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(&socket, KEEPALIVE)?;
    let limit = u32::try_from(UNACKNOWLEDGED.as_millis())?;
    Ok(sockopt::set_tcp_user_timeout(&socket, limit)?)
}

/// What the process used from one moment on.
struct Meter {
    allocated: u64,
    cpu: Duration,
    began: Instant,
}

impl Meter {
    fn start() -> Self {
        Self {
            allocated: alloc::calls(),
            cpu: cpu::process_time(),
            began: Instant::now(),
        }
    }

    fn figures(&self, settings: &Settings) -> Figures {
        let taken = self.began.elapsed();
        let cpu = cpu::process_time() - self.cpu;
        let allocated = alloc::calls() - self.allocated;
        let all = settings.count as f64;
        figures([
            (&TIME, cpu.as_secs_f64() * 1e6 / all),
            (&RATE, all / taken.as_secs_f64()),
            (&ALLOCATIONS, allocated as f64 / all),
        ])
    }
}

/// How many connects the `n`th of so many at a time makes.
fn share(settings: &Settings, n: usize) -> usize {
    let (each, more) = (settings.count / AT_ONCE, settings.count % AT_ONCE);
    each + usize::from(n < more)
}
