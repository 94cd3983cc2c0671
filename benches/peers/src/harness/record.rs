//! The file of record: what is counted and not timed, as it was when somebody last looked at it.
//!
//! Promise: a count that is worse than there, or that only one of the two has, is a fault; times are
//! shown and decide nothing. Counts are ours: those of peers are not ours to keep.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::row::{Better, Row};

/// A count of ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Count {
    workload: String,
    case: String,
    metric: String,
    unit: String,
    ours: f64,
}

impl Count {
    fn name(&self) -> String {
        format!("{}, {}: {}", self.workload, self.case, self.metric)
    }

    fn is_of(&self, row: &Row) -> bool {
        (&*self.workload, &*self.case, &*self.metric) == (row.workload, &*row.case, row.metric)
    }

    /// The most that is no worse than this.
    ///
    /// Calls depend on how many completions one of them finds, allocations on how messages are cut,
    /// bytes on how far tables have grown. Of fewer than nine in each operation, one more exceeds
    /// the tolerance. An error is an error.
    fn most(&self) -> f64 {
        match &*self.unit {
            "calls" => self.ours * 1.1 + 0.1,
            "allocations" | "connections" => self.ours * 1.1 + 0.01,
            "bytes" => self.ours * 1.05,
            _ => self.ours,
        }
    }
}

/// The counts of a run, after those of earlier ones: of each the greater, since some vary.
pub fn add(mut record: Vec<Count>, rows: &[Row]) -> Vec<Count> {
    for count in of(rows) {
        match record.iter_mut().find(|known| known.name() == count.name()) {
            Some(known) if known.ours < count.ours => *known = count,
            Some(_) => {}
            None => record.push(count),
        }
    }
    record
}

fn of(rows: &[Row]) -> Vec<Count> {
    let counted = rows.iter().filter(|row| !row.is_time);
    counted
        .map(|row| Count {
            workload: row.workload.into(),
            case: row.case.clone(),
            metric: row.metric.into(),
            unit: row.unit.into(),
            ours: row.ours,
        })
        .collect()
}

/// What a comparison with the record says, and how many faults it found.
pub struct Verdict {
    pub text: String,
    pub faults: usize,
}

/// `ran` says whether a case of a workload took part, and whether a unit could be counted.
pub fn check(record: &[Count], rows: &[Row], ran: impl Fn(&str, &str, &str) -> bool) -> Verdict {
    let mut verdict = Verdict {
        text: String::new(),
        faults: 0,
    };
    for count in record
        .iter()
        .filter(|count| ran(&count.workload, &count.case, &count.unit))
    {
        let name = count.name();
        match rows.iter().find(|row| count.is_of(row)) {
            Some(row) => verdict.compare(&name, count, row),
            None => verdict.say(true, &name, "is in the record and was not counted"),
        }
    }
    for row in rows {
        let name = format!("{}, {}: {}", row.workload, row.case, row.metric);
        if row.is_time {
            verdict.say(false, &name, &time(row));
        } else if !record.iter().any(|count| count.is_of(row)) {
            verdict.say(true, &name, "is not in the record");
        }
    }
    verdict
}

impl Verdict {
    fn compare(&mut self, name: &str, count: &Count, row: &Row) {
        let is_worse = match row.better {
            Better::Lower => row.ours > count.most(),
            Better::Higher => row.ours < count.ours,
        };
        let what = format!(
            "{:.3} {}, {:.3} in the record, {:.3} at most",
            row.ours,
            row.unit,
            count.ours,
            count.most()
        );
        self.say(is_worse, name, &what);
    }

    fn say(&mut self, is_fault: bool, name: &str, what: &str) {
        self.faults += usize::from(is_fault);
        let mark = if is_fault { "WORSE" } else { "     " };
        // Writing to a String cannot fail.
        let _never_fails = writeln!(self.text, "{mark} {name}: {what}");
    }
}

fn time(row: &Row) -> String {
    let mut text = format!("{:.3} {}", row.ours, row.unit);
    for (ratio, of) in [
        (row.ratio_to_best_peer, "the best peer's"),
        (row.ratio_to_limit, "the limit's"),
    ] {
        if let Some(ratio) = ratio {
            // Writing to a String cannot fail.
            let _never_fails = write!(text, ", {ratio:.3} of {of}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::row::{Measured, Metric, Role};
    use super::*;

    fn row(metric: Metric, ours: f64) -> Row {
        let ours = Measured {
            name: "ours",
            role: Role::Ours,
            sorted: vec![ours],
        };
        Row::new("w", "c", metric, &[ours]).unwrap()
    }

    const CALLS: Metric = Metric::count("system calls of one", "calls");
    const ERRORS: Metric = Metric::count("errors", "per million gets");
    const TIME: Metric = Metric::time("time", "ns");

    fn faults(record: &[Row], rows: &[Row]) -> usize {
        check(&of(record), rows, |workload, _, unit| {
            workload == "w" && unit != "rare"
        })
        .faults
    }

    #[test]
    fn one_more_call_in_each_operation_is_a_fault_and_a_little_more_is_not() {
        let record = [row(CALLS, 3.0)];
        assert_eq!(faults(&record, &[row(CALLS, 3.2)]), 0);
        assert_eq!(faults(&record, &[row(CALLS, 2.0)]), 0);
        assert_eq!(faults(&record, &[row(CALLS, 4.0)]), 1);
    }

    #[test]
    fn a_record_of_two_runs_has_the_greater_of_each_count() {
        let first = add(
            Vec::new(),
            &[row(CALLS, 2.0), row(ERRORS, 1.0), row(TIME, 1.0)],
        );
        let both = add(first, &[row(CALLS, 3.0), row(ERRORS, 0.0)]);
        assert_eq!(both, of(&[row(CALLS, 3.0), row(ERRORS, 1.0)]));
    }

    #[test]
    fn an_error_more_is_a_fault() {
        assert_eq!(faults(&[row(ERRORS, 0.0)], &[row(ERRORS, 0.1)]), 1);
    }

    #[test]
    fn a_time_is_none_however_long_it_is() {
        assert_eq!(faults(&[row(TIME, 1.0)], &[row(TIME, 1000.0)]), 0);
    }

    #[test]
    fn a_count_that_only_one_of_the_two_has_is_a_fault_unless_its_workload_did_not_run() {
        assert_eq!(faults(&[row(CALLS, 3.0)], &[]), 1);
        assert_eq!(faults(&[], &[row(CALLS, 3.0)]), 1);
        assert_eq!(
            check(&of(&[row(CALLS, 3.0)]), &[], |_, _, _| false).faults,
            0
        );
        assert_eq!(faults(&[row(Metric::count("x", "rare"), 3.0)], &[]), 0);
    }
}
