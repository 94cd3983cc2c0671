//! Figures at rest do not show what happened on the way there. While a preset runs, connections are
//! counted again and again: at the servers by address, in the pool by core.
//!
//! Promise: the counts at the servers are the kernel's, which knows neither our pool nor our
//! servers; a run of any length keeps at most [`MOST`] samples.
//!
//! **The limit** holds at every instant, so also between two reads of the kernel's table: sockets
//! that are in both of them existed at that instant, all at once, and more of those than the limit
//! are an error. Sockets that came or went meanwhile are not counted, so that the error is never a
//! matter of chance. Both ends are looked at: what is established at the servers, and what the
//! pool has, which includes what it still connects.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use ringpool::{Error, ErrorKind, Result, Shards, Stats};

use super::account;
use super::servers::{STRANGER, Served};
use super::sockets::{Socket, Table};
use crate::measure::Errors;

/// The pause between samples, once a run lasts for a second.
const EVERY: Duration = Duration::from_millis(50);
/// The first pauses: a part of the time so far, and not less than this.
const PART: u32 = 20;
const LEAST: Duration = Duration::from_millis(2);
/// Samples that are kept; an even number.
const MOST: usize = 600;

/// The counts at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Since the beginning of the run.
    pub(crate) at: Duration,
    /// Connections that are established at the servers, by address, in the order of the endpoints.
    pub(crate) addresses: Vec<u32>,
    /// Connections that the pool opens, has or closes, by the core that has them.
    pub(crate) cores: Vec<u32>,
    /// Connects so far, those that failed included.
    pub(crate) connects: u64,
    /// Gets that wait.
    pub(crate) waiters: u64,
}

/// What was counted in a run.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    /// The earliest first.
    pub(crate) taken: Vec<Sample>,
    pub(crate) errors: Errors,
}

impl Samples {
    /// Adds a sample. Of too many, every second one is dropped. Says whether that happened.
    fn add(&mut self, sample: Sample) -> bool {
        self.taken.push(sample);
        let is_full = self.taken.len() > MOST;
        if is_full {
            let mut number = 0;
            self.taken.retain(|_| {
                number += 1;
                number % 2 == 1
            });
        }
        is_full
    }
}

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// To each endpoint.
    pub(crate) each: usize,
    /// To all of them.
    pub(crate) all: usize,
}

/// A thread that counts.
#[derive(Debug)]
pub(crate) struct Sampler<'scope> {
    stop: mpsc::Sender<()>,
    thread: ScopedJoinHandle<'scope, Samples>,
}

impl<'scope> Sampler<'scope> {
    /// Begins to count what `shards` have to do with `endpoints`, to which there may be as many
    /// connections as `limits` says.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the kernel does not show its table.
    pub(crate) fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        shards: &'env Shards,
        endpoints: &'env [Served],
        limits: Limits,
        started: Instant,
    ) -> Result<Self> {
        let unavailable = |error| Error::from_source(ErrorKind::Unavailable, error);
        let table = Table::open().map_err(|error| {
            unavailable(error).context("opening the kernel's table of sockets (sock_diag(7))")
        })?;
        let mut counter = Counter::new(table, endpoints, limits);
        counter.count().map_err(|error| {
            unavailable(error).context("reading the kernel's table of sockets (sock_diag(7))")
        })?;
        let (stop, stopped) = mpsc::channel();
        let follow = move || follow(counter, shards, endpoints, started, &stopped);
        let thread = std::thread::Builder::new()
            .name("stress-samples".into())
            .spawn_scoped(scope, follow)
            .map_err(|error| unavailable(error).context("starting a thread that counts"))?;
        Ok(Self { stop, thread })
    }

    /// Takes the last sample and ends.
    pub(crate) fn stop(self) -> Samples {
        drop(self.stop);
        match self.thread.join() {
            Ok(samples) => samples,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn follow(
    mut counter: Counter,
    shards: &Shards,
    endpoints: &[Served],
    started: Instant,
    stopped: &mpsc::Receiver<()>,
) -> Samples {
    let mut samples = Samples::default();
    let mut every = EVERY;
    loop {
        let pause = (started.elapsed() / PART).clamp(LEAST, every);
        let is_last = stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout);
        match take(&mut counter, shards, endpoints, started) {
            Ok(sample) => {
                if samples.add(sample) {
                    every *= 2;
                }
            }
            Err(error) => samples.errors.add(format!("{error}, counting connections")),
        }
        if is_last {
            samples.errors.merge(counter.errors);
            return samples;
        }
    }
}

fn take(
    counter: &mut Counter,
    shards: &Shards,
    endpoints: &[Served],
    started: Instant,
) -> Result<Sample> {
    let at = started.elapsed();
    let addresses = counter
        .count()
        .map_err(|error| Error::from_source(ErrorKind::Io, error))?;
    let stats = account::stats(shards, endpoints)?;
    Ok(Sample {
        at,
        addresses,
        cores: of_cores(&stats, shards.len()),
        connects: stats.iter().map(account::connects).sum(),
        waiters: stats.iter().map(|stats| stats.waiters).sum(),
    })
}

fn of_cores(stats: &[Stats], shards: usize) -> Vec<u32> {
    let mut counts = vec![0; shards];
    for core in stats.iter().flat_map(|stats| &stats.cores) {
        if let Some(count) = counts.get_mut(core.shard) {
            let held = core.idle + core.in_use + core.connecting + core.closing;
            *count += u32::try_from(held).unwrap_or(u32::MAX);
        }
    }
    counts
}

/// What the kernel says of the endpoints' addresses.
struct Counter {
    table: Table,
    /// The places of the addresses, and the endpoint of each.
    places: HashMap<SocketAddr, (usize, usize)>,
    names: Vec<String>,
    limits: Limits,
    errors: Errors,
}

/// One end of a connection of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Server,
    Pool,
}

impl Counter {
    fn new(table: Table, endpoints: &[Served], limits: Limits) -> Self {
        let addresses = endpoints.iter().enumerate().flat_map(|(number, served)| {
            let addresses = served.addresses.iter();
            addresses.map(move |address| (*address, number))
        });
        let places = addresses.enumerate();
        Self {
            table,
            places: places
                .map(|(place, (address, endpoint))| (address, (place, endpoint)))
                .collect(),
            names: endpoints.iter().map(|it| it.endpoint.clone()).collect(),
            limits,
            errors: Errors::default(),
        }
    }

    /// Counts what is established at the servers, by address, and checks the limit.
    fn count(&mut self) -> std::io::Result<Vec<u32>> {
        let before = self.table.read()?;
        let now = self.table.read()?;
        self.check(&before, &now);
        let mut counts = vec![0; self.places.len()];
        for socket in &now {
            if let Some((End::Server, place, _)) = self.place(socket) {
                counts[place] += 1;
            }
        }
        Ok(counts)
    }

    fn check(&mut self, before: &[Socket], now: &[Socket]) {
        let known: HashSet<u64> = before
            .iter()
            .filter(|socket| self.place(socket).is_some())
            .map(|socket| socket.number)
            .collect();
        let mut counts = vec![[0; 2]; self.names.len()];
        for socket in now.iter().filter(|socket| known.contains(&socket.number)) {
            if let Some((end, _, endpoint)) = self.place(socket) {
                counts[endpoint][end as usize] += 1;
            }
        }
        let all = counts.iter().fold([0; 2], |all: [usize; 2], it| {
            [all[0] + it[0], all[1] + it[1]]
        });
        for (name, counts) in self.names.clone().iter().zip(counts) {
            self.errors_of(name, counts, self.limits.each);
        }
        self.errors_of("all endpoints", all, self.limits.all);
    }

    fn errors_of(&mut self, name: &str, [servers, pool]: [usize; 2], limit: usize) {
        if servers > limit {
            let text = format!("{servers} connections established at {name}, limit {limit}");
            self.errors.add(text);
        }
        if pool > limit {
            let text = format!("the pool has {pool} sockets to {name}, limit {limit}");
            self.errors.add(text);
        }
    }

    /// Which end of a connection the socket is, with the address's place and its endpoint.
    fn place(&self, socket: &Socket) -> Option<(End, usize, usize)> {
        if let Some(&(place, endpoint)) = self.places.get(&socket.peer) {
            let is_ours = socket.local.ip() != IpAddr::V4(STRANGER);
            return is_ours.then_some((End::Pool, place, endpoint));
        }
        let &(place, endpoint) = self.places.get(&socket.local)?;
        let is_ours = socket.is_established && socket.peer.ip() != IpAddr::V4(STRANGER);
        is_ours.then_some((End::Server, place, endpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn sample(at: u64) -> Sample {
        Sample {
            at: Duration::from_millis(at),
            ..Sample::default()
        }
    }

    #[test]
    fn a_run_of_any_length_keeps_a_bounded_number_of_samples_and_the_newest() {
        let mut samples = Samples::default();
        let thinned = (0..2000).filter(|at| samples.add(sample(*at))).count();
        assert_eq!(thinned, 5);
        assert!(samples.taken.len() <= MOST);
        assert_eq!(samples.taken[0], sample(0));
        assert_eq!(samples.taken.last(), Some(&sample(1999)));
        assert!(samples.taken.is_sorted_by_key(|sample| sample.at));
    }

    /// A counter of one endpoint with this address, and its limit.
    fn counter(address: SocketAddr, each: usize) -> Counter {
        let all = usize::MAX;
        Counter {
            table: Table::open().unwrap(),
            places: [(address, (0, 0))].into(),
            names: vec!["s0.stress.test:80".into()],
            limits: Limits { each, all },
            errors: Errors::default(),
        }
    }

    #[test]
    fn connections_over_the_limit_are_found_at_both_ends() {
        let listener = TcpListener::bind("127.9.1.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients: Vec<_> = (0..3)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let mut counter = counter(address, 3);
        assert_eq!(counter.count().unwrap(), [3]);
        assert_eq!(counter.errors.count, 0);
        clients.push(TcpStream::connect(address).unwrap());
        assert_eq!(counter.count().unwrap(), [4]);
        assert_eq!(
            counter.errors.first,
            [
                "4 connections established at s0.stress.test:80, limit 3",
                "the pool has 4 sockets to s0.stress.test:80, limit 3"
            ]
        );
    }

    #[test]
    fn connections_over_the_limit_of_all_endpoints_are_found() {
        let listeners = ["127.9.1.3:0", "127.9.1.4:0"].map(|at| TcpListener::bind(at).unwrap());
        let addresses = listeners.each_ref().map(|it| it.local_addr().unwrap());
        let mut counter = counter(addresses[0], 2);
        counter.places.insert(addresses[1], (1, 1));
        counter.names.push("s1.stress.test:80".into());
        counter.limits.all = 2;
        let mut clients = Vec::from(addresses.map(|at| TcpStream::connect(at).unwrap()));
        assert_eq!(counter.count().unwrap(), [1, 1]);
        assert_eq!(counter.errors.count, 0);
        clients.push(TcpStream::connect(addresses[1]).unwrap());
        assert_eq!(counter.count().unwrap(), [1, 2]);
        let text = "3 connections established at all endpoints, limit 2";
        assert_eq!(counter.errors.first.first().map(String::as_str), Some(text));
    }

    #[test]
    fn connections_that_follow_each_other_are_not_added_up() {
        let listener = TcpListener::bind("127.9.1.2:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut counter = counter(address, 1);
        let first = TcpStream::connect(address).unwrap();
        let before = counter.table.read().unwrap();
        drop(first);
        let _second = TcpStream::connect(address).unwrap();
        let now = counter.table.read().unwrap();
        counter.check(&before, &now);
        assert_eq!(counter.errors.count, 0);
        let both = [before, now].concat();
        counter.check(&both, &both);
        assert_eq!(counter.errors.count, 2);
    }
}
