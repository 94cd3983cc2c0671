//! Rows of figures: medians over repetitions that took turns, and what they are to each other.

use std::collections::BTreeMap;

use serde::Serialize;

/// Whether less is better, or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Lower,
    Higher,
}

/// Something that is measured.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub unit: &'static str,
    pub better: Better,
    /// It depends on how fast the machine is and on who else uses it; a count does not.
    pub is_time: bool,
}

impl Metric {
    pub const fn time(name: &'static str, unit: &'static str) -> Self {
        Self {
            name,
            unit,
            better: Better::Lower,
            is_time: true,
        }
    }

    pub const fn rate(name: &'static str, unit: &'static str) -> Self {
        Self {
            better: Better::Higher,
            ..Self::time(name, unit)
        }
    }

    pub const fn count(name: &'static str, unit: &'static str) -> Self {
        Self {
            is_time: false,
            ..Self::time(name, unit)
        }
    }
}

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Ours,
    Peer,
    Limit,
}

/// One metric of one case of one workload.
#[derive(Debug, Serialize)]
pub struct Row {
    pub workload: &'static str,
    pub case: String,
    pub metric: &'static str,
    pub unit: &'static str,
    pub better: Better,
    #[serde(skip)]
    pub is_time: bool,
    pub ours: f64,
    /// The peers, and the limit.
    pub others: BTreeMap<&'static str, f64>,
    pub ratio_to_best_peer: Option<f64>,
    pub ratio_to_limit: Option<f64>,
    /// The peer that is hardest to beat, and the limit.
    #[serde(skip)]
    pub best_peer: Option<(&'static str, f64)>,
    #[serde(skip)]
    pub limit: Option<(&'static str, f64)>,
    /// The least and the most over the repetitions, of each.
    #[serde(skip)]
    pub spread: BTreeMap<&'static str, (f64, f64)>,
}

/// What one contender measured over the repetitions, one figure or more, sorted.
#[derive(Debug)]
pub struct Measured {
    pub name: &'static str,
    pub role: Role,
    pub sorted: Vec<f64>,
}

impl Measured {
    fn median(&self) -> f64 {
        let (middle, is_even) = (self.sorted.len() / 2, self.sorted.len().is_multiple_of(2));
        match is_even {
            true => f64::midpoint(self.sorted[middle - 1], self.sorted[middle]),
            false => self.sorted[middle],
        }
    }
}

impl Row {
    /// `None` if ours did not measure it.
    pub fn new(
        workload: &'static str,
        case: &str,
        metric: Metric,
        all: &[Measured],
    ) -> Option<Self> {
        let of = |role| all.iter().filter(move |one| one.role == role);
        let best = |role| {
            let medians = of(role).map(|one| (one.name, one.median()));
            match metric.better {
                Better::Lower => medians.min_by(|a, b| a.1.total_cmp(&b.1)),
                Better::Higher => medians.max_by(|a, b| a.1.total_cmp(&b.1)),
            }
        };
        let (best_peer, limit) = (best(Role::Peer), best(Role::Limit));
        let ours = of(Role::Ours).next()?.median();
        Some(Self {
            workload,
            case: case.into(),
            metric: metric.name,
            unit: metric.unit,
            better: metric.better,
            is_time: metric.is_time,
            ours,
            others: all
                .iter()
                .filter(|one| one.role != Role::Ours)
                .map(|one| (one.name, one.median()))
                .collect(),
            ratio_to_best_peer: best_peer.and_then(|(_, best)| ratio(ours, best)),
            ratio_to_limit: limit.and_then(|(_, best)| ratio(ours, best)),
            best_peer,
            limit,
            spread: all
                .iter()
                .map(|one| (one.name, (one.sorted[0], one.sorted[one.sorted.len() - 1])))
                .collect(),
        })
    }
}

/// Two that count nothing are equal; something is no multiple of nothing.
pub fn ratio(ours: f64, other: f64) -> Option<f64> {
    match (ours, other) {
        (0.0, 0.0) => Some(1.0),
        (_, 0.0) => None,
        _ => Some(ours / other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &'static str, role: Role, sorted: &[f64]) -> Measured {
        let sorted = sorted.to_vec();
        Measured { name, role, sorted }
    }

    #[test]
    fn the_best_peer_is_the_one_that_is_hardest_to_beat() {
        let all = [
            one("ours", Role::Ours, &[1.0, 2.0, 9.0]),
            one("slow", Role::Peer, &[8.0]),
            one("fast", Role::Peer, &[4.0]),
            one("limit", Role::Limit, &[1.0]),
        ];
        let ratios = |metric| {
            let row = Row::new("w", "c", metric, &all).unwrap();
            (row.ratio_to_best_peer, row.ratio_to_limit)
        };
        assert_eq!(ratios(Metric::time("t", "ns")), (Some(0.5), Some(2.0)));
        assert_eq!(ratios(Metric::rate("r", "1/s")), (Some(0.25), Some(2.0)));
    }

    #[test]
    fn nothing_beside_nothing_is_equal_and_something_is_no_multiple_of_nothing() {
        assert_eq!(ratio(0.0, 0.0), Some(1.0));
        assert_eq!(ratio(3.0, 0.0), None);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(one("x", Role::Peer, &[1.0, 3.0]).median(), 2.0);
        assert_eq!(one("x", Role::Peer, &[1.0, 3.0, 4.0]).median(), 3.0);
    }
}
