//! What a soak did and found, for a terminal.

use std::fmt::Write as _;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, LineStyle, Table};
use ringpool::{CloseReason, Stats};

use super::actions::Action;
use super::clients::Account;
use super::faults::Fault;
use super::values::Compared;
use crate::report::figures::count;

/// Everything that is told of a run.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) seed: u64,
    pub(super) seconds: f64,
    pub(super) account: Account,
    /// In the order of [`Fault::NAMES`].
    pub(super) faults: Vec<u64>,
    /// Answers that servers sent in full.
    pub(super) answered: u64,
    pub(super) stats: Vec<Stats>,
    pub(super) values: Vec<Compared>,
}

impl Report {
    /// The reasons why the run has failed; none if it has not.
    pub(super) fn failures(&self) -> Vec<String> {
        let wrong = &self.account.wrong;
        let mut failures = wrong.first.clone();
        let untold = wrong.count - wrong.first.len() as u64;
        if untold > 0 {
            failures.push(format!("and {untold} more"));
        }
        if self.account.checked == 0 {
            failures.push("no answer came".into());
        }
        let lost = self.values.iter().filter(|value| !value.is_back());
        failures.extend(lost.map(|value| {
            let (name, before, after) = (value.name, value.before, value.after);
            format!(
                "{name}: {before} before, {after} after, must be {}",
                value.must()
            )
        }));
        failures
    }

    pub(super) fn render(&self) -> String {
        let mut text = format!(
            "soak: {} answers checked in {:.0} s, seed {}, {} wrong\n",
            count(self.account.checked),
            self.seconds,
            self.seed,
            count(self.account.wrong.count)
        );
        let actions = Action::ALL.iter().zip(self.account.actions);
        list(
            &mut text,
            "actions",
            actions.map(|((_, name, _), n)| ((*name).to_owned(), n)),
        );
        let faults = Fault::NAMES.iter().zip(&self.faults);
        list(
            &mut text,
            "faults",
            faults.map(|(name, n)| ((*name).to_owned(), *n)),
        );
        let mut errors: Vec<_> = self.account.errors.iter().collect();
        errors.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let errors = errors
            .into_iter()
            .map(|(kind, n)| (format!("{kind:?}"), *n));
        let unsolicited = [(
            "unsolicited bytes read".to_owned(),
            self.account.unsolicited,
        )];
        list(&mut text, "errors", errors.chain(unsolicited));
        let sum = |of: fn(&Stats) -> u64| self.stats.iter().map(of).sum::<u64>();
        let connections = [
            ("created", sum(|stats| stats.created)),
            ("reused", sum(|stats| stats.reused)),
            ("failed to open", sum(|stats| stats.errors)),
            ("answers sent", self.answered),
        ];
        list(
            &mut text,
            "connections",
            connections.map(|(name, n)| (name.to_owned(), n)),
        );
        let closed = CloseReason::ALL.map(|reason| {
            let closed = self.stats.iter().map(|stats| stats.closed_by(reason));
            (format!("{reason:?}"), closed.sum())
        });
        list(&mut text, "closed", closed);
        text + &self.table()
    }

    fn table(&self) -> String {
        let mut table = Table::new();
        table
            .load_style(UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()))
            .set_header(["value", "before", "after", "must be", ""]);
        for value in &self.values {
            let verdict = if value.is_back() { "" } else { "NOT BACK" };
            table.add_row([
                value.name.to_owned(),
                count(value.before),
                count(value.after),
                value.must(),
                verdict.to_owned(),
            ]);
        }
        for column in table.column_iter_mut().skip(1).take(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }
}

/// A line `title  name n, name n, ..`, broken where it is too long. Those with 0 are left out.
fn list(text: &mut String, title: &str, counts: impl IntoIterator<Item = (String, u64)>) {
    const WIDTH: usize = 96;
    const INDENT: usize = 15;
    let mut line = format!("  {title:<12} ");
    for (name, n) in counts.into_iter().filter(|(_, n)| *n > 0) {
        let item = format!("{name} {}, ", count(n));
        if line.len() + item.len() > WIDTH {
            // Writing to a String cannot fail.
            let _never_fails = writeln!(text, "{}", line.trim_end());
            line = " ".repeat(INDENT);
        }
        line += &item;
    }
    let _never_fails = writeln!(text, "{}", line.trim_end_matches([',', ' ']));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_answers_has_failed() {
        let mut report = Report {
            seed: 1,
            seconds: 2.0,
            account: Account::default(),
            faults: vec![0, 3],
            answered: 0,
            stats: Vec::new(),
            values: Vec::new(),
        };
        assert_eq!(report.failures(), ["no answer came"]);
        report.account.checked = 1234;
        assert!(report.failures().is_empty());
        let text = report.render();
        assert!(
            text.starts_with("soak: 1 234 answers checked in 2 s"),
            "{text}"
        );
        assert!(
            text.contains("stall 3") && !text.contains("slice"),
            "{text}"
        );
    }

    #[test]
    fn long_lists_are_broken() {
        let mut text = String::new();
        list(&mut text, "many", (0..40).map(|n| (format!("name {n}"), 1)));
        assert!(text.lines().count() > 3 && text.lines().all(|line| line.len() <= 96));
    }
}
