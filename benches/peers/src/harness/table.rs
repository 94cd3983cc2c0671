//! The rows for people, as text.

use std::fmt::Write as _;

use super::row::{Row, ratio};

pub fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        // Writing to a String cannot fail.
        let _never_fails = write_row(&mut text, row);
    }
    text
}

fn write_row(text: &mut String, row: &Row) -> std::fmt::Result {
    writeln!(
        text,
        "{}, {}: {} ({}, median, least to most)",
        row.workload, row.case, row.metric, row.unit
    )?;
    for (name, figure) in all(row) {
        let (least, most) = row.spread[name];
        let ratio = ratio_text(row.ours, figure);
        writeln!(
            text,
            "  {name:<36} {figure:>12.3}  {least:>12.3} to {most:>12.3}  ours ÷ it {ratio}"
        )?;
    }
    Ok(())
}

/// Ours first, then the others.
pub fn all(row: &Row) -> Vec<(&'static str, f64)> {
    let mut all = vec![("ringpool", row.ours)];
    all.extend(row.others.iter().map(|(name, figure)| (*name, *figure)));
    all
}

pub fn ratio_text(ours: f64, other: f64) -> String {
    ratio(ours, other).map_or("–".into(), |ratio| format!("{ratio:.3}"))
}
