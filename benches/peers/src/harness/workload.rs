//! A workload: cases, who takes part, and what is measured. Each measurement is a process of its
//! own, so that no contender inherits another one's heap, threads or sockets.
//!
//! Promise: contenders take turns, repetition by repetition; one repetition comes first and does
//! not count; a contender that fails, or takes far longer than it should, fails the run and is named.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::row::{Measured, Metric, Role, Row};
use super::server::{Kind, Server, Service};
use super::{child, cpu, strace};
use crate::Outcome;

const LIMIT: Duration = Duration::from_secs(300);
/// A traced process is some fifty times as slow.
const TRACED_LIMIT: Duration = Duration::from_secs(900);
pub const CALLS: Metric = Metric::count("system calls of one", "calls");

/// What one process measured, by the metric's name.
pub type Figures = BTreeMap<String, f64>;

pub fn figures<const N: usize>(all: [(&Metric, f64); N]) -> Figures {
    all.into_iter()
        .map(|(metric, figure)| (metric.name.to_owned(), figure))
        .collect()
}

/// What a contender is told to do; a workload uses what it needs.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Settings {
    pub threads: usize,
    pub connections: usize,
    /// Of a message.
    pub bytes: usize,
    /// How often, over all threads and connections.
    pub count: usize,
    /// How long nothing is asked for.
    pub quiet: Duration,
    /// Of the case's server, if it has one.
    pub server: Option<SocketAddr>,
}

impl Settings {
    pub fn server(&self) -> Outcome<SocketAddr> {
        Ok(self.server.ok_or("the workload has no server")?)
    }

    /// With an address of the server for this run alone, of those below 127.0.0.0/8: the ports that
    /// the runs before it left in TIME_WAIT are in nobody's way.
    fn of_run(self, run: u8) -> Self {
        let own = |server: SocketAddr| (Ipv4Addr::new(127, 0, 1, 1 + run % 254), server.port());
        Self {
            server: self.server.map(|server| own(server).into()),
            ..self
        }
    }
}

pub struct Case {
    pub name: String,
    pub settings: Settings,
}

/// One that does the work once, in a process of its own.
pub struct Entry {
    pub name: &'static str,
    pub role: Role,
    pub run: fn(&Settings) -> Outcome<Figures>,
}

pub struct Workload {
    pub name: &'static str,
    pub entries: &'static [Entry],
    pub metrics: &'static [Metric],
    pub server: Option<Kind>,
    /// The cases; less work for all if it is to be short.
    pub cases: fn(bool) -> Vec<Case>,
    pub repetitions: usize,
    /// With how many operations system calls are counted; 0 where that says nothing.
    pub traced: fn(&Settings) -> usize,
}

impl Workload {
    /// Runs the cases that `has` says, and shows the rows of each when it has ended.
    pub fn run(
        &self,
        is_short: bool,
        has: impl Fn(&str) -> bool,
        show: impl Fn(&[Row]),
    ) -> Outcome<Vec<Row>> {
        let mut rows = Vec::new();
        let cases = (self.cases)(is_short).into_iter();
        for case in cases.filter(|case| has(&case.name)) {
            let repetitions = if is_short { 3 } else { self.repetitions };
            let of_one = self.run_case(&case, repetitions)?;
            show(&of_one);
            rows.extend(of_one);
        }
        Ok(rows)
    }

    fn run_case(&self, case: &Case, repetitions: usize) -> Outcome<Vec<Row>> {
        let server = self.server.map(|kind| {
            let bytes = case.settings.bytes;
            Server::start(Service { kind, bytes })
        });
        let server = server.transpose()?;
        let settings = Settings {
            server: server.as_ref().map(|server| server.address),
            ..case.settings
        };
        let mut all: BTreeMap<(String, usize), Vec<f64>> = BTreeMap::new();
        let mut runs = 0u8;
        for repetition in 0..=repetitions {
            for (n, entry) in self.entries.iter().enumerate() {
                server.as_ref().map_or(Ok(()), Server::settle)?;
                let settings = settings.of_run(runs);
                runs = runs.wrapping_add(1);
                let figures = self.measure(entry, &case.name, &settings)?;
                if repetition > 0 {
                    for (metric, figure) in figures {
                        all.entry((metric, n)).or_default().push(figure);
                    }
                }
            }
        }
        self.count_calls(&case.name, &settings, &mut all)?;
        let metrics = self.metrics.iter().chain([&CALLS]);
        let rows = metrics.filter_map(|metric| {
            let measured = self.entries.iter().enumerate().filter_map(|(n, entry)| {
                let mut sorted = all.remove(&(metric.name.to_owned(), n))?;
                sorted.sort_by(f64::total_cmp);
                Some(Measured {
                    name: entry.name,
                    role: entry.role,
                    sorted,
                })
            });
            let measured: Vec<_> = measured.collect();
            Row::new(self.name, &case.name, *metric, &measured)
        });
        Ok(rows.collect())
    }

    fn measure(&self, entry: &Entry, case: &str, settings: &Settings) -> Outcome<Figures> {
        let mut command = child::again::<&str>(&[])?;
        command.args(self.args(entry, settings)?);
        let text = child::output(command, LIMIT)
            .map_err(|error| format!("{}, {case}, {}: {error}", self.name, entry.name))?;
        Ok(serde_json::from_str(&text)?)
    }

    fn count_calls(
        &self,
        case: &str,
        settings: &Settings,
        all: &mut BTreeMap<(String, usize), Vec<f64>>,
    ) -> Outcome<()> {
        let count = (self.traced)(settings);
        if count == 0 {
            return Ok(());
        }
        if !strace::is_there() {
            eprintln!(
                "{}: no strace here, so system calls are not counted",
                self.name
            );
            return Ok(());
        }
        // Whether one client sleeps before its echo is there depends on who runs when, and a sleep
        // costs calls: it always does.
        let bytes = settings.bytes;
        let kind = Kind::Late;
        let late = (settings.connections == 1).then(|| Server::start(Service { kind, bytes }));
        let late = late.transpose()?;
        let settings = &Settings {
            server: late
                .as_ref()
                .map_or(settings.server, |late| Some(late.address)),
            ..*settings
        };
        for (n, entry) in self.entries.iter().enumerate() {
            let calls = |count| -> Outcome<u64> {
                let settings = Settings { count, ..*settings };
                let args = self.args(entry, &settings)?;
                strace::calls(&args, TRACED_LIMIT).map_err(|error| {
                    format!("{}, {case}, {}: {error}", self.name, entry.name).into()
                })
            };
            let more = calls(3 * count)?.saturating_sub(calls(count)?);
            let key = (CALLS.name.to_owned(), n);
            all.insert(key, vec![more as f64 / (2 * count) as f64]);
        }
        Ok(())
    }

    fn args(&self, entry: &Entry, settings: &Settings) -> Outcome<Vec<String>> {
        let settings = serde_json::to_string(settings)?;
        let words = ["--child", self.name, entry.name, settings.as_str()];
        Ok(words.map(str::to_owned).to_vec())
    }
}

/// Does the work of one contender and prints what it measured: the child's side of `measure`.
pub fn work(workload: &Workload, entry: &str, settings: &str) -> Outcome<()> {
    child::end_with_parent()?;
    cpu::raise_descriptors()?;
    let settings: Settings = serde_json::from_str(settings)?;
    if settings.threads == 1 {
        cpu::pin(cpu::CONTENDER)?;
    }
    let mut entries = workload.entries.iter();
    let entry = entries
        .find(|one| one.name == entry)
        .ok_or("there is no such contender")?;
    let figures = (entry.run)(&settings)?;
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}
