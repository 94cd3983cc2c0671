//! ringpool beside its peers and beside the limit, on the same work, in one run: a figure of
//! another machine or another day says nothing, a ratio within one run does.
//!
//! Promise: contenders take turns, repetition by repetition; what is shown is the median, with the
//! least and the most; each does the work it claims, which is checked and not measured.

mod args;
mod bare;
mod checkout;
mod connect;
mod dial;
mod harness;
mod idle;
mod resolve;
mod roundtrip;
mod scale;
mod serve;
mod spike;
mod stale;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use args::{Args, Job};
use harness::Workload;
use harness::record::{self, Count};
use harness::row::Row;

pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const WORKLOADS: &[&Workload] = &[
    &checkout::WORKLOAD,
    &roundtrip::WORKLOAD,
    &stale::WORKLOAD,
    &spike::WORKLOAD,
    &connect::WORKLOAD,
    &idle::WORKLOAD,
    &scale::WORKLOAD,
    &resolve::WORKLOAD,
];

fn main() -> ExitCode {
    let names: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
    let job = match args::parse(std::env::args().skip(1), &names) {
        Ok(job) => job,
        Err(message) => {
            eprintln!("ringpool-peers: {message}\n\n{}", usage(&names));
            return ExitCode::from(2);
        }
    };
    let ended = match job {
        Job::Help => {
            println!("{}", usage(&names));
            Ok(())
        }
        Job::Compare(args) => compare(&args),
        Job::Child {
            workload,
            entry,
            settings,
        } => match WORKLOADS.iter().find(|known| known.name == workload) {
            Some(workload) => harness::workload::work(workload, &entry, &settings),
            None => Err("there is no such workload".into()),
        },
        Job::Serve(service) => serve::serve(&service),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringpool-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage(names: &[&str]) -> String {
    format!(
        "\
Usage: ringpool-peers [--workload W] [--case C] [--short] [--json FILE]
                      [--html FILE] [--markdown FILE] [--record FILE] [--check FILE]

  --workload W  run this one alone; there are: {}
  --case C      run only cases with C in their names
  --short       less work and fewer cases, three repetitions: for CI, not for figures
  --json FILE   write the rows to FILE
  --html FILE   write them to FILE as a page
  --markdown FILE
                write them to FILE as tables for docs/performance.md
  --record FILE write what is counted and not timed to FILE; of a count that is there already,
                the greater one stays
  --check FILE  fail if a count is worse than in that FILE, made as this run is (--short or not)

Exit status: 0 if all ran, 1 if anything failed or is worse, 2 for bad arguments.",
        names.join(", ")
    )
}

fn compare(args: &Args) -> Outcome<()> {
    // A file that cannot be read is known before anything runs.
    let record = args.check.as_deref().map(read).transpose()?;
    let mut rows = Vec::new();
    for workload in WORKLOADS.iter().filter(|it| args.runs(it.name)) {
        let show = |rows: &[Row]| print!("{}", harness::table::table(rows));
        rows.extend(workload.run(args.is_short, |case| args.has_case(case), show)?);
    }
    keep(args, &rows)?;
    record.map_or(Ok(()), |record| judge(args, &record, &rows))
}

/// Writes the files that were asked for.
fn keep(args: &Args, rows: &[Row]) -> Outcome<()> {
    if let Some(path) = &args.json {
        write(path, &(serde_json::to_string_pretty(&rows)? + "\n"))?;
    }
    if let Some(path) = &args.html {
        write(path, &harness::html::page(rows))?;
    }
    if let Some(path) = &args.markdown {
        write(path, &harness::markdown::page(rows))?;
    }
    if let Some(path) = &args.record {
        let before = if path.exists() {
            read(path)?
        } else {
            Vec::new()
        };
        let counts = record::add(before, rows);
        write(path, &(serde_json::to_string_pretty(&counts)? + "\n"))?;
    }
    Ok(())
}

fn judge(args: &Args, record: &[Count], rows: &[Row]) -> Outcome<()> {
    // A case with more threads than cores is none; without strace no calls are counted.
    let is_case = |name: &str, case: &str| {
        let mut workloads = WORKLOADS.iter().filter(|workload| workload.name == name);
        workloads.any(|it| (it.cases)(args.is_short).iter().any(|one| one.name == case))
    };
    let has_strace = harness::strace::is_there();
    let ran = |workload: &str, case: &str, unit: &str| {
        let counted = has_strace || unit != harness::workload::CALLS.unit;
        args.runs(workload) && args.has_case(case) && is_case(workload, case) && counted
    };
    let verdict = record::check(record, rows, ran);
    print!("\n{}", verdict.text);
    match verdict.faults {
        0 => Ok(()),
        faults => Err(format!("{faults} counts are worse than the record").into()),
    }
}

fn read(path: &Path) -> Outcome<Vec<Count>> {
    let read = || Outcome::Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?);
    read().map_err(|error| format!("reading {}: {error}", path.display()).into())
}

fn write(path: &Path, text: &str) -> Outcome<()> {
    std::fs::write(path, text)
        .map_err(|error| format!("writing {}: {error}", path.display()).into())
}
