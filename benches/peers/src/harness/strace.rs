//! System calls of a contender, counted by strace(1).
//!
//! It runs twice, with a number of operations and with three times that: what starting and ending cost
//! falls out of the difference. Its times mean nothing meanwhile, and are not used.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::child;
use crate::Outcome;

/// Whether it is there and may trace.
pub fn is_there() -> bool {
    let version = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .output();
    version.is_ok_and(|output| output.status.success())
}

/// All calls of all threads of ours, started again with `args`.
pub fn calls(args: &[String], limit: Duration) -> Outcome<u64> {
    let file = std::env::temp_dir().join(format!("ringpool-peers-{}", std::process::id()));
    let name = file
        .to_str()
        .ok_or("the folder for temporary files has an odd name")?;
    let mut command = child::again(&["strace", "-f", "-c", "-U", "calls,name", "-o", name])?;
    command.args(args);
    let counted = child::output(command, limit).and_then(|_| total(&file));
    // It may not have been written.
    let _missing = std::fs::remove_file(&file);
    counted
}

fn total(file: &Path) -> Outcome<u64> {
    let text = std::fs::read_to_string(file)?;
    let words = text.lines().map(str::split_whitespace);
    let mut totals = words.filter_map(|mut words| match (words.next(), words.next()) {
        (Some(calls), Some("total")) => calls.parse().ok(),
        _ => None,
    });
    Ok(totals.next().ok_or("strace printed no total")?)
}
