//! Runs the pool in simulated worlds, one for each seed, on every core; a seed that fails is run
//! again with fewer faults until no fewer will do.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringpool::sim::Fault;
use ringpool::sim::swarm::{self, EXPECTED, Meeting, Outcome};
use ringpool::{Error, ErrorKind, Result};

use crate::args::SimulateArgs;
use crate::output::print;

/// Every so many schedules one is run twice, and the two traces are compared.
const TWICE: u64 = 100;
/// From so many schedules on, a fault that did not happen often enough, or a state that did not meet
/// an event, is a failure.
const MANY: u64 = 1_000_000;
/// How often each fault must happen in so many.
const OFTEN: u64 = 1000;

pub(crate) fn run(args: &SimulateArgs) -> Result<bool> {
    swarm::hide_injected_panics();
    if let Some(seed) = args.seed {
        return one(seed, args.trace);
    }
    let seeds = match &args.seeds {
        Some(path) => Seeds::Listed(read_seeds(path)?),
        None => Seeds::From(
            args.from.unwrap_or_else(|| fastrand::u64(..)),
            args.schedules,
        ),
    };
    many(&seeds, args.jobs())
}

/// The schedules to run.
enum Seeds {
    /// So many, numbered from the first.
    From(u64, u64),
    Listed(Vec<u64>),
}

impl Seeds {
    fn get(&self, n: u64) -> Option<u64> {
        match self {
            Seeds::From(first, count) => (n < *count).then(|| first.wrapping_add(n)),
            Seeds::Listed(list) => list.get(usize::try_from(n).ok()?).copied(),
        }
    }
}

/// One schedule, with all that is to be said of it.
fn one(seed: u64, trace: bool) -> Result<bool> {
    let outcome = swarm::run(seed, &[], trace);
    for line in &outcome.trace {
        print(line)?;
    }
    let faults: Vec<&str> = outcome.faults.iter().map(|fault| fault.name()).collect();
    print(&format!(
        "seed {seed}: {} steps, {:?} of virtual time, {} answers, faults: {}",
        outcome.steps,
        outcome.time,
        outcome.answers,
        faults.join(" ")
    ))?;
    if let Some(failure) = &outcome.failure {
        report(seed, failure);
    }
    Ok(outcome.failure.is_none())
}

/// What all schedules together came to.
#[derive(Default)]
struct Sum {
    schedules: u64,
    steps: Vec<u32>,
    time: Duration,
    answers: u64,
    compared: u64,
    fired: BTreeMap<Fault, u64>,
    met: BTreeMap<Meeting, u64>,
    failure: Option<(u64, String)>,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.schedules += 1;
        self.steps
            .push(u32::try_from(outcome.steps).unwrap_or(u32::MAX));
        self.time += outcome.time;
        self.answers += outcome.answers;
        for (fault, count) in &outcome.fired {
            *self.fired.entry(*fault).or_default() += count;
        }
        for (meeting, count) in &outcome.met {
            *self.met.entry(*meeting).or_default() += count;
        }
    }

    /// Whether every fault happened often, and every state met every event.
    fn is_thorough(&self) -> bool {
        let count = |fault| self.fired.get(fault).copied().unwrap_or(0);
        Fault::ALL.iter().all(|fault| count(fault) >= OFTEN) && self.missing().is_empty()
    }

    /// The meetings that did not happen.
    fn missing(&self) -> Vec<String> {
        let missing = EXPECTED
            .iter()
            .filter(|meeting| !self.met.contains_key(*meeting));
        missing
            .map(|(state, event)| format!("{state} {event}"))
            .collect()
    }

    fn merge(&mut self, other: Sum) {
        self.schedules += other.schedules;
        self.steps.extend(other.steps);
        self.time += other.time;
        self.answers += other.answers;
        self.compared += other.compared;
        for (fault, count) in other.fired {
            *self.fired.entry(fault).or_default() += count;
        }
        for (meeting, count) in other.met {
            *self.met.entry(meeting).or_default() += count;
        }
        self.failure = self.failure.take().or(other.failure);
    }
}

fn many(seeds: &Seeds, jobs: usize) -> Result<bool> {
    let began = Instant::now();
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let sum = Mutex::new(Sum::default());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let own = work(seeds, &next, &failed);
                if let Ok(mut sum) = sum.lock() {
                    sum.merge(own);
                }
            });
        }
    });
    let sum = sum.into_inner().map_err(|_| {
        Error::new(
            ErrorKind::Panicked,
            "a thread that ran schedules has panicked",
        )
    })?;
    print(&figures(&sum, began.elapsed()))?;
    match &sum.failure {
        Some((seed, failure)) => {
            report(*seed, failure);
            Ok(false)
        }
        None => Ok(sum.schedules < MANY || sum.is_thorough()),
    }
}

fn work(seeds: &Seeds, next: &AtomicU64, failed: &AtomicBool) -> Sum {
    let mut sum = Sum::default();
    while !failed.load(Ordering::Relaxed) {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let Some(seed) = seeds.get(n) else { break };
        let outcome = swarm::run(seed, &[], false);
        sum.add(&outcome);
        let mut failure = outcome.failure;
        if failure.is_none() && n.is_multiple_of(TWICE) {
            sum.compared += 1;
            failure = differs(seed);
        }
        if let Some(failure) = failure {
            failed.store(true, Ordering::Relaxed);
            sum.failure = Some((seed, failure));
        }
    }
    sum
}

/// The same seed gives the same trace, byte for byte (I18).
fn differs(seed: u64) -> Option<String> {
    let (first, second) = (swarm::run(seed, &[], true), swarm::run(seed, &[], true));
    let lines = first.trace.iter().zip(&second.trace);
    let at = lines
        .clone()
        .take_while(|(one, other)| one == other)
        .count();
    if first.trace == second.trace {
        return None;
    }
    let line = |outcome: &Outcome| outcome.trace.get(at).cloned().unwrap_or_default();
    Some(format!(
        "I18: two runs differ from line {at} on:\n  {}\n  {}",
        line(&first),
        line(&second)
    ))
}

fn figures(sum: &Sum, took: Duration) -> String {
    let mut steps = sum.steps.clone();
    steps.sort_unstable();
    let median = steps.get(steps.len() / 2).copied().unwrap_or(0);
    let mut text = format!(
        "{} schedules in {:.1} s: {:.0} a second; median {median} steps, {:.1} virtual hours, \
         {} answers; {} run twice with the same trace\n",
        sum.schedules,
        took.as_secs_f64(),
        sum.schedules as f64 / took.as_secs_f64().max(1e-9),
        sum.time.as_secs_f64() / 3600.0,
        sum.answers,
        sum.compared,
    );
    for fault in Fault::ALL {
        let count = sum.fired.get(fault).copied().unwrap_or(0);
        text += &format!(
            "{count:>12}  {:<16} {:<9} {}\n",
            fault.name(),
            fault.ids(),
            fault.text()
        );
    }
    text += "met by the policy:\n";
    for ((state, event), count) in &sum.met {
        text += &format!("{count:>12}  {state} {event}\n");
    }
    let missing = sum.missing();
    text + &match missing.is_empty() {
        true => "every state met every event it can meet".to_owned(),
        false => format!("not met: {}", missing.join(", ")),
    }
}

/// Says what failed, with the fewest faults that it needs, and how to see it again.
fn report(seed: u64, failure: &str) {
    // First, because finding the smallest set may take long.
    eprintln!("seed {seed} fails: {failure}");
    let without = swarm::shrink(seed);
    let left = swarm::run(seed, &without, false);
    let names: Vec<&str> = left
        .faults
        .iter()
        .filter(|fault| !without.contains(fault))
        .map(|fault| fault.name())
        .collect();
    eprintln!(
        "smallest set of faults: {}",
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(" ")
        }
    );
    eprintln!("see it again: ringpool simulate --seed {seed} --trace");
}

/// The seeds of a file: one number in a line; `#` begins a comment.
fn read_seeds(path: &std::path::Path) -> Result<Vec<u64>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::from_source(ErrorKind::Io, error).context(format!("reading {}", path.display()))
    })?;
    let mut seeds = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let number = line.split('#').next().unwrap_or_default().trim();
        if number.is_empty() {
            continue;
        }
        seeds.push(number.parse().map_err(|_| {
            let text = format!("{}:{}: {number:?} is not a seed", path.display(), at + 1);
            Error::new(ErrorKind::InvalidInput, text)
        })?);
    }
    Ok(seeds)
}
