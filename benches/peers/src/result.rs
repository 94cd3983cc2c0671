//! Rows of figures: medians over repetitions that took turns, and what they are to each other.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::Outcome;

/// One case of one workload.
#[derive(Debug, Serialize)]
pub struct Row {
    pub workload: &'static str,
    pub case: String,
    pub metric: &'static str,
    pub unit: &'static str,
    /// `lower` or `higher`.
    pub better: &'static str,
    pub ours: f64,
    /// The peers, and the limit.
    pub others: BTreeMap<&'static str, f64>,
    pub ratio_to_best_peer: Option<f64>,
    pub ratio_to_limit: Option<f64>,
    /// The least and the most over the repetitions, of each.
    pub spread: BTreeMap<&'static str, (f64, f64)>,
}

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Ours,
    Peer,
    Limit,
}

/// One that does the work: once, returning what it measured.
pub struct Contender<'a> {
    pub name: &'static str,
    pub role: Role,
    pub measure: Box<dyn FnMut() -> Outcome<f64> + 'a>,
}

/// What is measured: less is better.
#[derive(Debug)]
pub struct Case {
    pub workload: &'static str,
    pub case: String,
    pub metric: &'static str,
    pub unit: &'static str,
}

impl Case {
    /// Lets all take turns, `times` times after one that does not count.
    pub fn run(self, mut contenders: Vec<Contender<'_>>, times: usize) -> Outcome<Row> {
        let mut figures = vec![Vec::with_capacity(times); contenders.len()];
        for round in 0..=times {
            for (contender, figures) in contenders.iter_mut().zip(&mut figures) {
                let figure = (contender.measure)()?;
                if round > 0 {
                    figures.push(figure);
                }
            }
        }
        figures
            .iter_mut()
            .for_each(|of_one| of_one.sort_by(f64::total_cmp));
        let median = |figures: &Vec<f64>| figures[figures.len() / 2];
        let of = |role| {
            let all = contenders.iter().zip(&figures);
            all.filter(move |(contender, _)| contender.role == role)
                .map(|(_, figures)| median(figures))
        };
        let ours = of(Role::Ours).next().ok_or("nobody is ours")?;
        let named = || contenders.iter().zip(&figures);
        Ok(Row {
            workload: self.workload,
            case: self.case,
            metric: self.metric,
            unit: self.unit,
            better: "lower",
            ours,
            others: named()
                .filter(|(contender, _)| contender.role != Role::Ours)
                .map(|(contender, figures)| (contender.name, median(figures)))
                .collect(),
            ratio_to_best_peer: of(Role::Peer)
                .min_by(f64::total_cmp)
                .map(|best| ours / best),
            ratio_to_limit: of(Role::Limit)
                .min_by(f64::total_cmp)
                .map(|best| ours / best),
            spread: named()
                .map(|(contender, figures)| {
                    (contender.name, (figures[0], figures[figures.len() - 1]))
                })
                .collect(),
        })
    }
}

/// The rows for people.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let Row {
            workload,
            case,
            metric,
            unit,
            ours,
            ..
        } = row;
        line(
            &mut text,
            format_args!("{workload}, {case}: {metric} ({unit}, median, least to most)"),
        );
        let mut all = vec![("ringpool", *ours)];
        all.extend(row.others.iter().map(|(name, figure)| (*name, *figure)));
        for (name, figure) in all {
            let (least, most) = row.spread[name];
            let ratio = ours / figure;
            line(
                &mut text,
                format_args!(
                    "  {name:<36} {figure:>9.1}  {least:>9.1} to {most:>9.1}  ours ÷ it {ratio:.3}"
                ),
            );
        }
    }
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _never_fails = writeln!(text, "{line}");
}
