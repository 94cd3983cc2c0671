//! Charts of one preset's run.

use hdrhistogram::Histogram;
use plotters::prelude::{EmptyElement, PathElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color, RGBColor};
use ringpool::Result;

use super::super::figures::{micros, short};
use super::super::{AddressCount, Outcome};
use super::axis::Axis;
use super::{Area, Chart, Drawn, Values, chart, palette, svg, text};

const SIZE: (u32, u32) = (430, 240);
const LEFT: i32 = 68;
/// Bars of a histogram.
const BINS: usize = 40;

/// How many messages took how long.
pub(crate) fn histogram(outcome: &Outcome) -> Result<String> {
    let measured = &outcome.measured;
    let [low, p50, p99, high] = [0.0, 0.5, 0.99, 1.0].map(|q| measured.latency_us(q).max(0.1));
    let bins = bins(&measured.latency, low, high);
    let highest = bins.iter().map(|bin| bin.share).fold(0.0, f64::max);
    svg(SIZE, |area| {
        let x = Axis::logarithmic("latency, logarithmic", low, high).labelled(micros);
        // Room on top for the marks' labels, one below the other.
        let y = Axis::linear("share of messages", highest, 0.35)
            .labelled(|percent| format!("{} %", short(percent)));
        let top = if highest > 0.0 { highest * 1.35 } else { 1.0 };
        let mut chart = chart(area, LEFT, x, y, Values::Upwards)?;
        chart.draw_series(bins.iter().map(|bin| {
            Rectangle::new(
                [(bin.from, 0.0), (bin.to, bin.share)],
                palette::FIRST.filled(),
            )
        }))?;
        if measured.messages() > 0 {
            // The labels stand where there is room: away from the nearer side.
            let is_beyond = |value: f64, share| (value / low).ln() > (high / low).ln() * share;
            let p50_left = is_beyond(p50, 0.33);
            draw_mark(&mut chart, (p50, top * 0.95), "p50", palette::INK, p50_left)?;
            let p99_left = is_beyond(p99, 0.66);
            draw_mark(
                &mut chart,
                (p99, top * 0.84),
                "p99",
                palette::SECOND,
                p99_left,
            )?;
        }
        Ok(())
    })
}

/// A vertical line up to a point, with its name and value beside its end.
fn draw_mark(
    chart: &mut Chart<'_, '_>,
    (x, y): (f64, f64),
    name: &str,
    color: RGBColor,
    label_on_left: bool,
) -> Drawn {
    let (beside, h_pos) = if label_on_left {
        (-6, HPos::Right)
    } else {
        (6, HPos::Left)
    };
    let label = Text::new(
        format!("{name} {}", micros(x)),
        (beside, 0),
        text(color, h_pos, VPos::Center),
    );
    chart.draw_series([PathElement::new([(x, 0.0), (x, y)], color.stroke_width(2))])?;
    chart.draw_series([EmptyElement::at((x, y)) + label])?;
    Ok(())
}

struct Bin {
    from: f64,
    to: f64,
    /// In percent.
    share: f64,
}

/// The histogram in bins of equal width on a logarithmic axis of microseconds.
fn bins(latency: &Histogram<u64>, low: f64, high: f64) -> Vec<Bin> {
    let width = (high / low).ln().max(0.05) / BINS as f64;
    let edge = |n: usize| low * (width * n as f64).exp();
    let mut bins: Vec<Bin> = (0..BINS)
        .map(|n| Bin {
            from: edge(n),
            to: edge(n + 1),
            share: 0.0,
        })
        .collect();
    for recorded in latency.iter_recorded() {
        let us = recorded.value_iterated_to() as f64 / 1e3;
        let bin = ((us / low).ln().max(0.0) / width) as usize;
        let share = recorded.count_since_last_iteration() as f64 / latency.len() as f64;
        bins[bin.min(BINS - 1)].share += share * 100.0;
    }
    bins
}

/// Messages per second and p99 over the run, one above the other.
pub(crate) fn timeline(outcome: &Outcome) -> Result<String> {
    let timeline = &outcome.measured.timeline;
    let width = timeline.width.as_secs_f64();
    let rates: Vec<f64> = timeline
        .buckets
        .iter()
        .map(|bucket| bucket.len() as f64 / width)
        .collect();
    let p99: Vec<f64> = timeline
        .buckets
        .iter()
        .map(|bucket| bucket.value_at_quantile(0.99) as f64 / 1e3)
        .collect();
    let highest = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    svg(SIZE, |area| {
        let (above, below) = area.split_vertically(110);
        let end = width * rates.len().max(1) as f64;
        let x = Axis::up_to("", end);
        let y = Axis::linear("messages/s", highest(&rates), 0.05)
            .labelled(short)
            .ticks_every(2);
        draw_over_time(&above, x, y, width, &rates, palette::FIRST)?;
        let x = Axis::up_to("time since the start", end).labelled(|at| micros(at * 1e6));
        let y = Axis::linear("p99", highest(&p99), 0.05)
            .labelled(micros)
            .ticks_every(2);
        draw_over_time(&below, x, y, width, &p99, palette::SECOND)
    })
}

/// A bar for each step of `width`.
fn draw_over_time<'a>(
    area: &'a Area<'_>,
    x: Axis<'a>,
    y: Axis<'a>,
    width: f64,
    values: &[f64],
    color: RGBColor,
) -> Drawn {
    let mut chart = chart(area, LEFT, x, y, Values::Upwards)?;
    // An empty step has no value, rather than one of 0.
    let steps = values.iter().enumerate().filter(|(_, value)| **value > 0.0);
    chart.draw_series(steps.map(|(n, value)| {
        let from = n as f64 * width;
        Rectangle::new([(from, 0.0), (from + width, *value)], color.filled())
    }))?;
    Ok(())
}

/// Connections to each address: those open at rest, and those opened and closed before.
pub(crate) fn addresses(outcome: &Outcome) -> Result<String> {
    let counts = &outcome.addresses;
    let columns = counts.len().max(1);
    let level = outcome.preset.pool_size as f64 / outcome.preset.addresses as f64;
    let high = counts
        .iter()
        .map(|count| count.opened as f64)
        .fold(level, f64::max);
    let many = columns > 4;
    let title = if many {
        "last number of the address"
    } else {
        "address"
    };
    svg(SIZE, |area| {
        let x = Axis::columns(title, counts.len())
            .ticks_every(columns.div_ceil(15))
            .labelled(|at| {
                counts
                    .get(at as usize)
                    .map_or_else(String::new, |c| address_label(c, many))
            });
        let y = Axis::whole("connections", high, 0.25).labelled(|n| format!("{n:.0}"));
        let mut chart = chart(area, LEFT, x, y, Values::Upwards)?;
        for (n, count) in counts.iter().enumerate() {
            let (left, right) = (n as f64 + 0.25, n as f64 + 0.75);
            let (open, opened) = (count.open as f64, count.opened as f64);
            chart.draw_series([
                Rectangle::new([(left, open), (right, opened)], palette::SECOND.filled()),
                Rectangle::new([(left, 0.0), (right, open)], palette::FIRST.filled()),
            ])?;
        }
        let name = match outcome.preset.addresses {
            1 => "pool size",
            _ => "even share of the pool size",
        };
        draw_level(&mut chart, level, (columns as f64, high), name)
    })
}

/// A horizontal line, with its name and value on top of the chart, at its right `end`.
fn draw_level(chart: &mut Chart<'_, '_>, y: f64, end: (f64, f64), name: &str) -> Drawn {
    let color = palette::INK;
    chart.draw_series([PathElement::new(
        [(0.0, y), (end.0, y)],
        color.stroke_width(2),
    )])?;
    let style = text(color, HPos::Right, VPos::Bottom);
    let label = Text::new(format!("{name}: {y}"), (0, -5), style);
    chart.draw_series([EmptyElement::at(end) + label])?;
    Ok(())
}

/// The address without its port, or its last number.
pub(super) fn address_label(count: &AddressCount, last_number: bool) -> String {
    let ip = count.address.ip().to_string();
    match ip.rsplit_once('.') {
        Some((_, last)) if last_number => last.to_owned(),
        _ => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::example;
    use super::*;
    use crate::measure::Measured;
    use crate::stress::preset::Preset;
    use std::time::Instant;

    #[test]
    fn the_bins_hold_every_message() {
        let measured = example::outcome(&Preset::ALL[0]).measured;
        let bins = bins(
            &measured.latency,
            measured.latency_us(0.0),
            measured.latency_us(1.0),
        );
        let sum: f64 = bins.iter().map(|bin| bin.share).sum();
        assert!((99.99..100.01).contains(&sum), "{sum}");
    }

    #[test]
    fn a_run_without_messages_can_be_drawn() {
        let mut outcome = example::outcome(&Preset::ALL[0]);
        outcome.measured = Measured::new(Instant::now());
        outcome.addresses.clear();
        for draw in [histogram, timeline, addresses] {
            assert!(draw(&outcome).unwrap().ends_with("</svg>\n"));
        }
    }
}
