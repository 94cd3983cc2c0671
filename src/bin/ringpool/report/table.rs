//! The results for a terminal.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, LineStyle, Table};

use super::Outcome;
use super::figures::{count, micros};

const HEADER: [&str; 10] = [
    "preset",
    "messages",
    "errors",
    "seconds",
    "messages/s",
    "p50",
    "p99",
    "max",
    "created",
    "reused",
];

/// One line for each outcome.
pub(crate) fn render(outcomes: &[Outcome]) -> String {
    let mut table = Table::new();
    table
        .load_style(UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()))
        .set_header(HEADER);
    for outcome in outcomes {
        let measured = &outcome.measured;
        table.add_row([
            outcome.preset.name.to_owned(),
            count(measured.messages()),
            count(measured.errors.count),
            format!("{:.2}", measured.duration.as_secs_f64()),
            count(measured.throughput_per_s().round() as u64),
            micros(measured.latency_us(0.5)),
            micros(measured.latency_us(0.99)),
            micros(measured.latency_us(1.0)),
            count(outcome.connections.created),
            count(outcome.connections.reused),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn every_outcome_has_its_line() {
        let outcomes = example::outcomes();
        let text = render(&outcomes);
        for outcome in &outcomes {
            let line = text
                .lines()
                .find(|line| line.contains(outcome.preset.name))
                .unwrap();
            assert!(line.contains(&count(outcome.measured.messages())), "{line}");
        }
        assert!(HEADER.iter().all(|title| text.contains(title)));
    }
}
