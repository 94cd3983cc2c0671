//! The command line of ringpool: a stress test and an endurance run with everything embedded, a load
//! generator for a server of the user's, and what a name resolves to.
//!
//! Promise: the exit status is 0 only if all went well; 1 says that something failed, with the
//! reason on the error stream; 2 says that the arguments are bad.

mod args;
mod escape;
mod limits;
mod load;
mod measure;
mod output;
mod progress;
mod report;
mod resolve;
mod server_thread;
#[cfg(feature = "sim")]
mod simulate;
mod soak;
mod stress;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    let passed = match Args::parse().command {
        Command::Stress(args) => stress::run(&args),
        Command::Load(args) => load::run(&args),
        #[cfg(feature = "sim")]
        Command::Simulate(args) => simulate::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Resolve(args) => resolve::run(&args, &args.asked()),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ringpool: {error}");
            ExitCode::FAILURE
        }
    }
}
