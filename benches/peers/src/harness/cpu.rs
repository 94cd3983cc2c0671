//! Who runs where, and what it used of its core.
//!
//! Contenders run on the first core, servers on the second: neither steals from the other.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use crate::Outcome;

pub const CONTENDER: usize = 0;
pub const SERVER: usize = 1;

/// Pins the calling thread, and those that it starts from now on.
pub fn pin(core: usize) -> Outcome<()> {
    let mut cores = CpuSet::new();
    cores.set(core % cores_here()?);
    Ok(sched_setaffinity(None, &cores)?)
}

pub fn cores_here() -> Outcome<usize> {
    // Not `available_parallelism`: that one counts what this thread is pinned to.
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online")?;
    let last = online.trim().rsplit(['-', ',']).next().unwrap_or_default();
    Ok(last.parse::<usize>()? + 1)
}

/// Of these numbers of threads, those for which there is a core each.
pub fn fitting<const N: usize>(threads: [usize; N]) -> impl Iterator<Item = usize> {
    let cores = cores_here().unwrap_or(1);
    threads.into_iter().filter(move |threads| *threads <= cores)
}

/// What the calling thread has used. Where nobody waits this is the time that passes on an idle
/// machine; on a busy one it leaves out what others used.
pub fn thread_time() -> Duration {
    time(ClockId::ThreadCPUTime)
}

/// What all threads of the process have used, the kernel's for its rings among them.
pub fn process_time() -> Duration {
    time(ClockId::ProcessCPUTime)
}

fn time(clock: ClockId) -> Duration {
    let spent = clock_gettime(clock);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}

/// As many descriptors as may be: thousands of connections need them.
pub fn raise_descriptors() -> Outcome<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    Ok(setrlimit(Resource::Nofile, limit)?)
}
