//! A leak of one descriptor a minute is invisible until a service has run for a week. These are the
//! values that must be the same after a run as before it, taken at rest: no client at work, no
//! connection open.
//!
//! Promise: what is compared is read from the kernel (`/proc/self`), from the servers and from the
//! pool's statistics, each by itself; a value that is not back is named with both figures.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use ringpool::{Error, ErrorKind, Pool, Result, ShardStats, Shards, Stats};

use super::servers::Servers;

/// How much resident memory may grow from the end of the warm-up to the end of the run, in KiB.
///
/// Nothing that the pool or the clients keep grows with time. But the allocator gives pages back
/// only from the ends of its heaps, and which thread's heap held how many of the clients' requests
/// and answers at once (up to 280 kB each, 32 clients a shard) differs from moment to moment; so
/// the highest point goes on rising slowly. A leak of one small allocation (64 bytes) for each
/// action would be over this after a minute.
const MEMORY_MAY_GROW_KIB: u64 = 4 * 1024;

/// How a value is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// It is what it was.
    Same,
    /// It is 0.
    Zero,
    /// It has grown by no more than this.
    Grows(u64),
    /// It is only shown.
    Shown,
}

/// One value, before and after.
#[derive(Debug)]
pub(super) struct Compared {
    pub(super) name: &'static str,
    pub(super) before: u64,
    pub(super) after: u64,
    rule: Rule,
}

impl Compared {
    /// What must hold, in words.
    pub(super) fn must(&self) -> String {
        match self.rule {
            Rule::Same => "the same".into(),
            Rule::Zero => "0".into(),
            Rule::Grows(most) => format!("at most {most} more"),
            Rule::Shown => String::new(),
        }
    }

    pub(super) fn is_back(&self) -> bool {
        match self.rule {
            Rule::Same => self.after == self.before,
            Rule::Zero => self.after == 0,
            Rule::Grows(most) => self.after <= self.before.saturating_add(most),
            Rule::Shown => true,
        }
    }
}

/// What hooks counted.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) created: AtomicU64,
    pub(super) closed: AtomicU64,
}

/// All values at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Values {
    pub(super) descriptors: u64,
    threads: u64,
    memory_kib: u64,
    /// As the servers see them.
    open: u64,
    /// As the pool sees them: idle, in use, connecting, closing.
    connections: u64,
    waiters: u64,
    permits: u64,
    /// Created according to the statistics, and not closed according to them or to the hooks.
    unaccounted: u64,
    shards: ShardSums,
}

#[derive(Debug, Clone, Copy, Default)]
struct ShardSums {
    buffers_free: u64,
    buffers_lent: u64,
    events_ignored: u64,
    panics: u64,
    stale_completions: u64,
    starved: u64,
    overflows: u64,
}

impl Values {
    /// Reads all of them.
    pub(super) fn take(shards: &Shards, servers: &Servers, told: &Told) -> Result<Self> {
        let stats = endpoint_stats(shards, &servers.names)?;
        let sum = |of: fn(&Stats) -> u64| stats.iter().map(of).sum::<u64>();
        let created = sum(|stats| stats.created);
        let ended = [
            sum(|stats| stats.closed),
            told.created.load(Ordering::SeqCst),
            told.closed.load(Ordering::SeqCst),
        ];
        Ok(Self {
            descriptors: open_descriptors()?,
            threads: status("Threads:")?,
            memory_kib: status("VmRSS:")?,
            open: servers.seen.open(),
            connections: sum(|s| s.idle + s.in_use + s.connecting + s.closing),
            waiters: sum(|stats| stats.waiters),
            permits: sum(|stats| stats.permits),
            unaccounted: ended.iter().map(|ended| created.abs_diff(*ended)).sum(),
            shards: shard_sums(shards)?,
        })
    }

    /// Whether nothing is open or under way.
    pub(super) fn at_rest(&self) -> bool {
        let open = self.open + self.connections + self.waiters + self.permits;
        open + self.unaccounted + self.shards.buffers_lent == 0
    }

    pub(super) fn compare(before: &Self, after: &Self) -> Vec<Compared> {
        let row = |name, rule, of: fn(&Self) -> u64| Compared {
            name,
            before: of(before),
            after: of(after),
            rule,
        };
        vec![
            row("descriptors of the process", Rule::Same, |v| v.descriptors),
            row("threads", Rule::Same, |v| v.threads),
            row("connections, to the servers", Rule::Zero, |v| v.open),
            row("connections, to the pool", Rule::Zero, |v| v.connections),
            row("waiters", Rule::Zero, |v| v.waiters),
            row("permits", Rule::Zero, |v| v.permits),
            row("created and not closed", Rule::Zero, |v| v.unaccounted),
            row("buffers free", Rule::Same, |v| v.shards.buffers_free),
            row("buffers lent", Rule::Zero, |v| v.shards.buffers_lent),
            row("events ignored", Rule::Zero, |v| v.shards.events_ignored),
            row("panics inside", Rule::Zero, |v| v.shards.panics),
            row("memory, KiB", Rule::Grows(MEMORY_MAY_GROW_KIB), |v| {
                v.memory_kib
            }),
            row("stale completions", Rule::Shown, |v| {
                v.shards.stale_completions
            }),
            row("receives starved", Rule::Shown, |v| v.shards.starved),
            row("overflows", Rule::Shown, |v| v.shards.overflows),
        ]
    }
}

/// The statistics of each endpoint, all shards together.
pub(super) fn endpoint_stats(shards: &Shards, names: &[String]) -> Result<Vec<Stats>> {
    let names = names.to_vec();
    let asked = shards.run_on(0, move || async move {
        let pool = Pool::local()?;
        names.iter().map(|name| pool.stats(&**name)).collect()
    })?;
    asked.wait()?
}

fn shard_sums(shards: &Shards) -> Result<ShardSums> {
    let mut sums = ShardSums::default();
    for shard in 0..shards.len() {
        let asked = shards.run_on(shard, || async {
            Pool::local().map(|pool| pool.shard_stats())
        })?;
        let stats: ShardStats = asked.wait()??;
        sums.buffers_free += stats.buffers_free;
        sums.buffers_lent += stats.buffers_lent;
        sums.events_ignored += stats.events_ignored;
        sums.panics += stats.panics;
        sums.stale_completions += stats.stale_completions;
        sums.starved += stats.receives_starved;
        sums.overflows += stats.overflows;
    }
    Ok(sums)
}

/// How many descriptors this process has open.
pub(super) fn open_descriptors() -> Result<u64> {
    let entries = fs::read_dir("/proc/self/fd").map_err(|error| unread("fd", error))?;
    // The one that lists them is among them, each time.
    Ok(entries.count() as u64)
}

/// A figure of `/proc/self/status` (proc_pid_status(5)).
fn status(field: &str) -> Result<u64> {
    let status =
        fs::read_to_string("/proc/self/status").map_err(|error| unread("status", error))?;
    let mut lines = status.lines();
    let found = lines.find_map(|line| line.strip_prefix(field));
    let figure = found.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    figure.ok_or_else(|| {
        let text = format!("/proc/self/status has no figure {field}");
        Error::new(ErrorKind::Unavailable, text)
    })
}

fn unread(file: &str, error: std::io::Error) -> Error {
    Error::from_source(ErrorKind::Io, error).context(format!("reading /proc/self/{file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_seen_and_memory_is_read() {
        assert!(status("VmRSS:").unwrap() > 100);
        assert!(status("Threads:").unwrap() >= 1);
        assert!(status("NoSuch:").is_err());
        assert!(open_descriptors().unwrap() > 3);
    }

    #[test]
    fn a_value_that_is_not_back_is_named() {
        let before = Values {
            descriptors: 20,
            memory_kib: 10_000,
            ..Values::default()
        };
        let judge = |after: Values| {
            let rows = Values::compare(&before, &after).into_iter();
            rows.filter(|row| !row.is_back())
                .map(|row| row.name)
                .collect::<Vec<_>>()
        };
        assert!(judge(before).is_empty());
        let mut after = before;
        after.shards.stale_completions = 5;
        after.memory_kib += MEMORY_MAY_GROW_KIB;
        assert!(judge(after).is_empty());
        after.descriptors += 1;
        after.permits = 1;
        after.shards.buffers_free = 1;
        after.memory_kib += 1;
        assert_eq!(
            judge(after),
            [
                "descriptors of the process",
                "permits",
                "buffers free",
                "memory, KiB"
            ]
        );
    }
}
