//! The command line of ringpool: a stress test with everything embedded, and a load generator.

mod escape;
mod limits;
mod measure;
mod output;
mod progress;
mod report;
mod stress;

fn main() {}
