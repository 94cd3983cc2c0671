//! How many connections there were, address by address and core by core, while a preset ran: a row
//! for each, as high as it had connections. Sixty-four rows are read as easily as four, which lines
//! that cross each other are not.

use std::time::Duration;

use plotters::prelude::{PathElement, Polygon};
use plotters::style::Color;
use ringpool::Result;

use super::super::figures::micros;
use super::super::{Mark, Outcome};
use super::axis::Axis;
use super::preset::address_label;
use super::{Values, chart, palette, svg};
use crate::stress::samples::Sample;

const WIDTH: u32 = 430;
const LEFT: i32 = 84;
/// Height of everything but the rows.
const BESIDE: u32 = 60;
/// Rows are as high as this, or together so.
const ROWS: u32 = 200;
const LOWEST_ROW: u32 = 5;
const HIGHEST_ROW: u32 = 40;
/// Labels at most.
const LABELS: usize = 16;
/// The part of a row that its figure may fill.
const FILLED: f64 = 0.85;

/// Counts of one row over time.
type Row = Vec<(Duration, u32)>;

/// A chart, and the count that fills a row of it.
pub(crate) struct OverTime {
    pub(crate) svg: String,
    pub(crate) full: u32,
}

/// Connections that were established at the servers.
pub(crate) fn addresses(outcome: &Outcome) -> Result<OverTime> {
    let counts = &outcome.addresses;
    let rows = rows(outcome, counts.len(), |sample| &sample.addresses);
    let many = counts.len() > 4;
    let label = |row: usize| counts.get(row).map(|count| address_label(count, many));
    draw(&rows, &outcome.marks, |row| label(row).unwrap_or_default())
}

/// Connections that the pool had.
pub(crate) fn cores(outcome: &Outcome) -> Result<OverTime> {
    let rows = rows(outcome, outcome.shards, |sample| &sample.cores);
    draw(&rows, &outcome.marks, |row| format!("core {row}"))
}

fn rows(outcome: &Outcome, count: usize, of: impl Fn(&Sample) -> &[u32]) -> Vec<Row> {
    let row = |row: usize| {
        let samples = outcome.samples.iter();
        let counts = samples.map(|sample| (sample.at, of(sample).get(row).copied().unwrap_or(0)));
        counts.collect()
    };
    (0..count).map(row).collect()
}

fn draw(rows: &[Row], marks: &[Mark], label: impl Fn(usize) -> String) -> Result<OverTime> {
    let count = u32::try_from(rows.len().max(1)).unwrap_or(u32::MAX);
    let height = BESIDE + count * (ROWS / count).clamp(LOWEST_ROW, HIGHEST_ROW);
    let of_all = rows.iter().flatten();
    let full = of_all.clone().map(|(_, count)| *count).max().unwrap_or(0);
    let end = of_all.map(|(at, _)| at.as_secs_f64()).fold(0.0, f64::max);
    let svg = svg((WIDTH, height), |area| {
        let x = Axis::up_to("time since the start", end).labelled(|at| micros(at * 1e6));
        let y = Axis::lines(rows.len())
            .ticks_every(rows.len().div_ceil(LABELS))
            .labelled(|at| label(at as usize));
        let mut chart = chart(area, LEFT, x, y, Values::Rightwards)?;
        chart.draw_series(
            rows.iter()
                .enumerate()
                .map(|(n, row)| Polygon::new(outline(n, row, full), palette::FIRST.filled())),
        )?;
        let (top, bottom) = (0.0, rows.len().max(1) as f64);
        for at in marks.iter().map(|mark| mark.at.as_secs_f64()) {
            let line = [(at, top), (at, bottom)];
            chart.draw_series([PathElement::new(line, palette::SECOND.stroke_width(2))])?;
        }
        Ok(())
    })?;
    Ok(OverTime { svg, full })
}

/// The outline of a row: what was counted holds until the next count.
fn outline(number: usize, row: &Row, full: u32) -> Vec<(f64, f64)> {
    let ground = number as f64 + 1.0 - (1.0 - FILLED) / 2.0;
    let level = |count: u32| ground - FILLED * f64::from(count) / f64::from(full.max(1));
    let mut points = Vec::new();
    let mut last = None;
    for (at, count) in row {
        if last == Some(*count) {
            continue;
        }
        let at = at.as_secs_f64();
        points.push((at, level(last.unwrap_or(0))));
        points.push((at, level(*count)));
        last = Some(*count);
    }
    if let Some(((end, _), last)) = row.last().zip(last) {
        let end = end.as_secs_f64();
        points.extend([(end, level(last)), (end, ground)]);
    }
    points
}

#[cfg(test)]
mod tests {
    use super::super::super::example;
    use super::*;
    use crate::stress::preset::Preset;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_row_is_as_high_as_its_count_and_steps_where_that_changes() {
        let row = vec![(Duration::ZERO, 1), (S, 1), (S * 2, 4), (S * 3, 4)];
        let ground = 1.0 - (1.0 - FILLED) / 2.0;
        let quarter = ground - FILLED / 4.0;
        let full = ground - FILLED;
        assert_eq!(
            outline(0, &row, 4),
            [
                (0.0, ground),
                (0.0, quarter),
                (2.0, quarter),
                (2.0, full),
                (3.0, full),
                (3.0, ground)
            ]
        );
        assert_eq!(outline(0, &Vec::new(), 4), []);
    }

    #[test]
    fn a_run_without_samples_and_one_of_many_rows_can_be_drawn() {
        let mut outcome = example::outcome(&Preset::ALL[0]);
        assert!(addresses(&outcome).unwrap().full > 0);
        outcome.samples.clear();
        outcome.shards = 256;
        for draw in [addresses, cores] {
            let drawn = draw(&outcome).unwrap();
            assert_eq!(drawn.full, 0);
            assert!(drawn.svg.ends_with("</svg>\n"));
        }
    }
}
