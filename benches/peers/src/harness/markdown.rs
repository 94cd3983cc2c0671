//! The rows for a document: one table for each workload, with what stands in another column of the
//! text table cut to what a reader compares.

use std::fmt::Write as _;

use super::row::Row;

/// What a table begins with.
const HEAD: &str = "\
| case | what | ringpool | least to most | best peer | ours ÷ it | limit | ours ÷ it | other peers |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
";

pub fn page(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut workload = "";
    for row in rows {
        // Writing to a String cannot fail.
        let _never_fails = if row.workload == workload {
            write_row(&mut text, row)
        } else {
            let space = if workload.is_empty() { "" } else { "\n" };
            workload = row.workload;
            write!(text, "{space}### {workload}\n\n{HEAD}").and_then(|()| write_row(&mut text, row))
        };
    }
    text
}

fn write_row(text: &mut String, row: &Row) -> std::fmt::Result {
    let (least, most) = row.spread["ringpool"];
    let of = |known: Option<(&str, f64)>| {
        known.map_or("–".into(), |(name, figure)| {
            format!("{name} {}", short(figure))
        })
    };
    let best = row.best_peer.map(|(name, _)| name);
    let limit = row.limit.map(|(name, _)| name);
    let others = row.others.iter().filter(|(name, _)| {
        let name = Some(**name);
        name != best && name != limit
    });
    let others: Vec<String> = others
        .map(|(name, figure)| format!("{name} {}", short(*figure)))
        .collect();
    let direction = match row.better {
        super::row::Better::Lower => "",
        super::row::Better::Higher => ", more is better",
    };
    writeln!(
        text,
        "| {} | {} ({}{direction}) | {} | {} to {} | {} | {} | {} | {} | {} |",
        row.case,
        row.metric,
        row.unit,
        short(row.ours),
        short(least),
        short(most),
        of(row.best_peer),
        ratio(row.ratio_to_best_peer),
        of(row.limit),
        ratio(row.ratio_to_limit),
        others.join("; ")
    )
}

/// Three digits that say something; of a whole number, all.
fn short(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".into(),
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        size if size >= 1.0 => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or("–".into(), |ratio| format!("{ratio:.2}"))
}

#[cfg(test)]
mod tests {
    use super::super::row::{Measured, Metric, Role};
    use super::*;

    #[test]
    fn a_row_has_a_cell_for_each_column_and_a_workload_one_head() {
        let one = |name, role, figure| Measured {
            name,
            role,
            sorted: vec![figure],
        };
        let all = [
            one("ringpool", Role::Ours, 120.0),
            one("fast", Role::Peer, 60.0),
            one("slow", Role::Peer, 1234.5),
            one("limit: none", Role::Limit, 0.0),
        ];
        let row =
            |workload| Row::new(workload, "a case", Metric::time("time", "ns"), &all).unwrap();
        let text = page(&[row("w"), row("w"), row("v")]);
        assert_eq!(text.matches("### w\n").count(), 1);
        assert_eq!(text.matches("### v\n").count(), 1);
        let cells = |line: &str| line.matches('|').count();
        assert!(
            text.lines()
                .filter(|line| line.starts_with('|'))
                .all(|line| cells(line) == 10)
        );
        let line = "| a case | time (ns) | 120 | 120 to 120 | fast 60.0 | 2.00 | limit: none 0 | – | slow 1234 |";
        assert!(text.contains(line), "{text}");
    }
}
