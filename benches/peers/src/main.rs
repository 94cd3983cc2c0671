//! ringpool beside its peers and beside the limit, on the same work, in one run: a figure of
//! another machine or another day says nothing, a ratio within one run does.
//!
//! Promise: contenders take turns, repetition by repetition; what is shown is the median, with the
//! least and the most; each does the work it claims, which is checked and not measured.

mod resolve;
mod result;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use result::Row;

pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "\
Usage: ringpool-peers [--workload W] [--short] [--json FILE]

  --workload W  run this one alone; there is: resolve
  --short       a tenth of the work: for CI, not for figures
  --json FILE   write the rows to FILE

Exit status: 0 if all ran, 1 if anything failed, 2 for bad arguments.";

struct Args {
    workload: Option<String>,
    is_short: bool,
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("ringpool-peers: {message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringpool-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Args>, String> {
    let mut args = Args {
        workload: None,
        is_short: false,
        json: None,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match &*word {
            "--workload" => args.workload = Some(value()?),
            "--short" => args.is_short = true,
            "--json" => args.json = Some(value()?.into()),
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("unknown argument {word:?}")),
        }
    }
    match args.workload.as_deref() {
        None | Some("resolve") => Ok(Some(args)),
        Some(other) => Err(format!("--workload: there is no {other:?}")),
    }
}

fn run(args: &Args) -> Outcome<()> {
    let rows: Vec<Row> = resolve::run(args.is_short)?;
    print!("{}", result::table(&rows));
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&rows)? + "\n")
            .map_err(|error| format!("writing {}: {error}", path.display()))?;
    }
    Ok(())
}
