//! What happens while clients are at work. A pool that serves well as long as nothing changes has
//! shown little: names get other addresses, addresses die and return.
//!
//! A course plays its part while the clients run ([`Course::play`]); what came of it is looked at
//! afterwards ([`Course::judge`]).

mod address_dies;
mod dns_changes;
mod outage;
mod uneven_cores;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringpool::{Config, Error, ErrorKind, Remote, Result, Shards};

use super::clients::{self, Run};
use super::plan::Plan;
use super::preset::Preset;
use super::samples::Sample;
use super::servers::{Served, Servers};
use crate::measure::Measured;
use crate::progress::{Done, Progress};
use crate::report::{Figure, Mark};

/// Seconds that an answer about a name holds where it is not to change: longer than a run.
const LONG: u32 = 3600;

/// What happens during a preset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    /// Nothing: the clients send their messages.
    Steady,
    /// The name's addresses change.
    DnsChanges,
    /// One address refuses, then answers nobody, then returns.
    AddressDies,
    /// All addresses refuse, then return.
    Outage,
    /// All clients are on one core.
    UnevenCores,
}

impl Course {
    /// The end of a preset's description.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Steady => "",
            Self::DnsChanges => dns_changes::DESCRIPTION,
            Self::AddressDies => address_dies::DESCRIPTION,
            Self::Outage => outage::DESCRIPTION,
            Self::UnevenCores => uneven_cores::DESCRIPTION,
        }
    }

    /// Seconds that an answer about a name holds.
    pub(super) fn ttl(self) -> u32 {
        match self {
            Self::DnsChanges => dns_changes::TTL,
            Self::Outage => outage::TTL,
            _ => LONG,
        }
    }

    /// Which of `addresses` a name has at first.
    pub(crate) fn named_at_first(self, addresses: usize) -> Vec<usize> {
        match self {
            Self::DnsChanges => dns_changes::FIRST.to_vec(),
            _ => (0..addresses).collect(),
        }
    }

    /// Whether servers reset connections. A client then sends its message again.
    pub(super) fn cuts_connections(self) -> bool {
        matches!(self, Self::AddressDies | Self::Outage)
    }

    /// The settings that it needs.
    pub(super) fn configure(self, config: Config) -> Config {
        match self {
            Self::Outage => outage::configure(config),
            _ => config,
        }
    }

    /// Plays it, from the start of the clients to their end.
    pub(super) fn play(self, stage: &Stage<'_>) -> Result<Played> {
        match self {
            Self::Steady => Played::of(stage.start()?, Vec::new()),
            Self::DnsChanges => dns_changes::play(stage),
            Self::AddressDies => address_dies::play(stage),
            Self::Outage => outage::play(stage),
            Self::UnevenCores => uneven_cores::play(stage),
        }
    }

    /// What came of it, at rest.
    pub(super) fn judge(self, preset: &Preset, seen: &Seen<'_>) -> Vec<Figure> {
        match self {
            Self::Steady | Self::UnevenCores => Vec::new(),
            Self::DnsChanges => dns_changes::judge(seen, preset),
            Self::AddressDies => address_dies::judge(seen, preset),
            Self::Outage => outage::judge(seen, preset),
        }
    }
}

/// What came of telling a server what to do.
fn switch(done: io::Result<()>) -> Result<()> {
    done.map_err(|error| Error::from_source(ErrorKind::Io, error).context("switching a server"))
}

/// Where a course is played.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) preset: Preset,
    pub(super) seed: u64,
    pub(super) shards: &'a Shards,
    pub(super) servers: &'a Servers,
    pub(super) started: Instant,
}

impl Stage<'_> {
    /// The endpoint of a preset with one.
    fn served(&self) -> Result<&Served> {
        let mut all = self.servers.endpoints.iter();
        all.next()
            .ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the preset has no server"))
    }

    /// Starts the clients on all shards.
    fn start(&self) -> Result<Clients> {
        self.start_on(self.shards.len())
    }

    /// Starts all clients on the first `busy` shards.
    fn start_on(&self, busy: usize) -> Result<Clients> {
        let plan = Plan::new(self.preset, self.seed, busy);
        let done = Done::new(busy);
        let endpoints = self.servers.endpoints.iter();
        let run = Arc::new(Run {
            plan,
            endpoints: endpoints.map(|served| served.endpoint.clone()).collect(),
            started: self.started,
            done: done.clone(),
            ended: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            failed_gets: AtomicU64::new(0),
            resent: AtomicU64::new(0),
        });
        let preset = &self.preset;
        let progress = Progress::start(preset.name, preset.total_messages(), move || done.total());
        let mut running = Vec::with_capacity(busy);
        for shard in 0..busy {
            let run = run.clone();
            let work = move || clients::run_shard(run, shard);
            running.push(self.shards.run_on(shard, work)?);
        }
        Ok(Clients {
            run,
            running,
            _progress: progress,
        })
    }

    /// Waits until so much time has passed since the start, and marks what comes then.
    fn mark(&self, at: Duration, what: &'static str) -> Mark {
        let left = (self.started + at).saturating_duration_since(Instant::now());
        // bounded: until the time that the mark is for.
        std::thread::sleep(left);
        Mark {
            at: self.started.elapsed(),
            what,
        }
    }
}

/// The clients at work.
struct Clients {
    run: Arc<Run>,
    running: Vec<Remote<Result<Measured>>>,
    _progress: Progress,
}

/// What a course measured.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) measured: Measured,
    pub(super) marks: Vec<Mark>,
    pub(super) figures: Vec<Figure>,
    /// Gets that failed.
    pub(super) failed_gets: u64,
    /// Messages that were sent again, because their connection ended.
    pub(super) resent: u64,
}

impl Played {
    /// Waits for the clients to have sent all their messages.
    fn of(clients: Clients, marks: Vec<Mark>) -> Result<Self> {
        let run = clients.run;
        let mut measured = Measured::new(run.started);
        for shard in clients.running {
            measured.merge(shard.wait()??);
        }
        Ok(Self {
            measured,
            marks,
            figures: Vec::new(),
            failed_gets: run.failed_gets.load(Ordering::Relaxed),
            resent: run.resent.load(Ordering::Relaxed),
        })
    }

    /// Adds what was measured later.
    fn add(&mut self, later: Self) {
        self.measured.merge(later.measured);
        self.marks.extend(later.marks);
        self.figures.extend(later.figures);
        self.failed_gets += later.failed_gets;
        self.resent += later.resent;
    }

    /// Lets the clients end with the messages that they are at.
    fn ended(clients: Clients, marks: Vec<Mark>) -> Result<Self> {
        clients.run.ended.store(true, Ordering::Relaxed);
        Self::of(clients, marks)
    }
}

/// What there is to be looked at, at rest.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) played: &'a Played,
    pub(super) samples: &'a [Sample],
    pub(super) shards: usize,
}

impl Seen<'_> {
    /// When the mark was.
    fn at(&self, mark: usize) -> Duration {
        let mark = self.played.marks.get(mark);
        mark.map_or(Duration::ZERO, |mark| mark.at)
    }

    /// The last sample before the mark.
    fn last_before(&self, mark: usize) -> Option<&Sample> {
        let end = self.at(mark);
        self.samples.iter().rfind(|sample| sample.at < end)
    }

    /// How long after mark `mark` the samples were as `wanted`, and stayed so until the next mark;
    /// the whole time between the two if they never were.
    fn settled_after(&self, mark: usize, wanted: impl Fn(&Sample) -> bool) -> Duration {
        let (from, to) = (self.at(mark), self.at(mark + 1));
        let between = |sample: &&Sample| (from..to).contains(&sample.at);
        let mut settled = None;
        for sample in self.samples.iter().filter(between) {
            settled = match wanted(sample) {
                true => settled.or(Some(sample.at)),
                false => None,
            };
        }
        settled.unwrap_or(to).saturating_sub(from)
    }
}

/// Whether the named addresses differ by `most` connections at most and all have some, and the others
/// have none.
fn is_even(counts: &[u32], named: &[usize], most: usize) -> bool {
    let (mut low, mut high) = (u32::MAX, 0);
    for (number, &count) in counts.iter().enumerate() {
        if named.contains(&number) {
            (low, high) = (low.min(count), high.max(count));
        } else if count > 0 {
            return false;
        }
    }
    low > 0 && high.saturating_sub(low) as usize <= most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_is_what_the_named_ones_have_alone() {
        assert!(is_even(&[0, 5, 6, 7], &[1, 2, 3], 2));
        assert!(!is_even(&[0, 5, 6, 8], &[1, 2, 3], 2));
        assert!(!is_even(&[1, 5, 6, 7], &[1, 2, 3], 2));
        assert!(!is_even(&[0, 0, 2, 2], &[1, 2, 3], 2));
    }

    #[test]
    fn settled_is_what_stays_until_the_next_mark() {
        let at = Duration::from_secs;
        let played = Played {
            measured: Measured::new(Instant::now()),
            marks: [10, 20, 30]
                .map(|s| Mark {
                    at: at(s),
                    what: "",
                })
                .to_vec(),
            figures: Vec::new(),
            failed_gets: 0,
            resent: 0,
        };
        let sample = |(s, count)| Sample {
            at: at(s),
            addresses: vec![count],
            ..Sample::default()
        };
        let counts = [(9, 1), (11, 1), (12, 0), (14, 1), (19, 1), (21, 1), (29, 0)];
        let samples: Vec<_> = counts.into_iter().map(sample).collect();
        let seen = Seen {
            played: &played,
            samples: &samples,
            shards: 1,
        };
        let is_one = |sample: &Sample| sample.addresses == [1];
        assert_eq!(seen.settled_after(0, is_one), at(4));
        assert_eq!(seen.settled_after(1, is_one), at(10), "it never was");
        assert_eq!(seen.last_before(1).map(|sample| sample.at), Some(at(19)));
    }
}
