//! An axis of a chart: plotters' scales, with ticks and labels of our choice.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{IntoLogRange, LogCoord};

/// How a value is written at a tick.
type Label<'a> = Box<dyn Fn(f64) -> String + 'a>;

/// One axis with its title, ticks and labels.
pub(super) struct Axis<'a> {
    pub(super) title: &'static str,
    scale: Scale,
    ticks: Vec<f64>,
    label: Label<'a>,
}

enum Scale {
    Linear(RangedCoordf64),
    Logarithmic(LogCoord<f64>),
}

impl<'a> Axis<'a> {
    /// A linear axis from 0 that holds `high` and has `room`, a share of it, above.
    pub(super) fn linear(title: &'static str, high: f64, room: f64) -> Self {
        let end = if high > 0.0 { high * (1.0 + room) } else { 1.0 };
        let ticks = linear_ticks(end, f64::MIN_POSITIVE);
        Self::new(title, Scale::Linear((0.0..end).into()), ticks)
    }

    /// A linear axis of whole numbers, else the same.
    pub(super) fn whole(title: &'static str, high: f64, room: f64) -> Self {
        let axis = Self::linear(title, high, room);
        let ticks = linear_ticks(axis.range().end, 1.0);
        Self { ticks, ..axis }
    }

    /// A linear axis that ends at `end`.
    pub(super) fn up_to(title: &'static str, end: f64) -> Self {
        Self::linear(title, end, 0.0)
    }

    /// A logarithmic axis that holds `low` to `high`, with six ticks at most.
    pub(super) fn logarithmic(title: &'static str, low: f64, high: f64) -> Self {
        let low = step_below(low.max(0.1));
        let high = step_below(high.max(low)) * 2.5;
        let ticks = [&[1.0, 2.0, 5.0][..], &[1.0, 3.0], &[1.0]]
            .into_iter()
            .map(|steps| log_ticks(low, high, steps))
            .find(|ticks| ticks.len() <= 6)
            .unwrap_or_else(|| vec![low, high]);
        Self::new(
            title,
            Scale::Logarithmic((low..high).log_scale().into()),
            ticks,
        )
    }

    /// An axis of categories from left to right: category `n` is around `n + 0.5`.
    pub(super) fn columns(title: &'static str, count: usize) -> Self {
        let end = count.max(1) as f64;
        Self::new(title, Scale::Linear((0.0..end).into()), centres(count))
    }

    /// An axis of categories from top to bottom, else the same.
    pub(super) fn lines(count: usize) -> Self {
        let end = count.max(1) as f64;
        Self::new("", Scale::Linear((end..0.0).into()), centres(count))
    }

    fn new(title: &'static str, scale: Scale, ticks: Vec<f64>) -> Self {
        Self {
            title,
            scale,
            ticks,
            label: Box::new(|_| String::new()),
        }
    }

    /// The same axis with labels at its ticks.
    pub(super) fn labelled(self, label: impl Fn(f64) -> String + 'a) -> Self {
        Self {
            label: Box::new(label),
            ..self
        }
    }

    /// The same axis with one tick of `every`.
    pub(super) fn ticks_every(mut self, every: usize) -> Self {
        self.ticks = self.ticks.into_iter().step_by(every.max(1)).collect();
        self
    }
}

impl Ranged for Axis<'_> {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        match &self.scale {
            Scale::Linear(scale) => scale.map(value, limit),
            Scale::Logarithmic(scale) => scale.map(value, limit),
        }
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Light points are those between the ticks.
        match hint.weight().allow_light_points() {
            true => Vec::new(),
            false => self.ticks.clone(),
        }
    }

    fn range(&self) -> Range<f64> {
        match &self.scale {
            Scale::Linear(scale) => scale.range(),
            Scale::Logarithmic(scale) => scale.range(),
        }
    }
}

impl ValueFormatter<f64> for Axis<'_> {
    fn format_ext(&self, value: &f64) -> String {
        (self.label)(*value)
    }
}

fn centres(count: usize) -> Vec<f64> {
    (0..count).map(|n| n as f64 + 0.5).collect()
}

/// At most six multiples of 1, 2 or 5 times a power of ten from 0 to `end`, `least` apart or more.
fn linear_ticks(end: f64, least: f64) -> Vec<f64> {
    let power = 10f64.powf((end / 5.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let step = steps
        .into_iter()
        .find(|step| end / step <= 5.5)
        .unwrap_or(end)
        .max(least);
    (0..=6)
        .map(|n| f64::from(n) * step)
        .filter(|tick| *tick <= end)
        .collect()
}

fn log_ticks(low: f64, high: f64, steps: &[f64]) -> Vec<f64> {
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    powers
        .flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)))
        .filter(|tick| (low..=high).contains(tick))
        .collect()
}

/// The largest of 1, 2 or 5 times a power of ten that is not above `value`.
fn step_below(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let steps = [5.0, 2.0, 1.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|step| *step <= value)
        .unwrap_or(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            [1.0, 1.9, 4.0, 7.0, 120.0].map(step_below),
            [1.0, 1.0, 2.0, 5.0, 100.0]
        );
        let ticks = log_ticks(20.0, 1000.0, &[1.0, 2.0, 5.0]);
        assert_eq!(ticks, [20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]);
        assert_eq!(linear_ticks(230.0, 0.0), [0.0, 50.0, 100.0, 150.0, 200.0]);
        assert_eq!(linear_ticks(2.6, 1.0), [0.0, 1.0, 2.0]);
        assert_eq!(linear_ticks(26.0, 1.0), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]);
    }

    #[test]
    fn an_axis_without_data_is_one_too() {
        assert_eq!(Axis::linear("", 0.0, 0.1).range(), 0.0..1.0);
        assert_eq!(Axis::lines(0).range(), 1.0..0.0);
        assert!(Axis::logarithmic("", 0.0, 0.0).range().start > 0.0);
    }
}
