//! Charts of one preset's run.

use hdrhistogram::Histogram;
use plotters::prelude::{Circle, EmptyElement, LineSeries, PathElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color, RGBColor};
use ringpool::Result;

use super::super::Outcome;
use super::super::figures::{micros, short};
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
            let beyond = (high / low).powf(0.66) * low;
            draw_mark(&mut chart, (p50, top * 0.95), "p50", palette::INK, true)?;
            draw_mark(
                &mut chart,
                (p99, top * 0.84),
                "p99",
                palette::SECOND,
                p99 > beyond,
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
    let end = width * timeline.buckets.len().max(1) as f64;
    let rates = timeline
        .buckets
        .iter()
        .map(|bucket| bucket.len() as f64 / width)
        .collect();
    let p99 = timeline
        .buckets
        .iter()
        .enumerate()
        .filter(|(_, bucket)| !bucket.is_empty());
    let p99 = p99.map(|(n, bucket)| {
        (
            (n as f64 + 0.5) * width,
            bucket.value_at_quantile(0.99) as f64 / 1e3,
        )
    });
    let p99: Vec<(f64, f64)> = p99.collect();
    svg(SIZE, |area| {
        let (above, below) = area.split_vertically(110);
        draw_rates(&above, width, end, rates)?;
        draw_p99(&below, end, &p99)
    })
}

fn draw_rates(area: &Area<'_>, width: f64, end: f64, rates: Vec<f64>) -> Drawn {
    let high = rates.iter().copied().fold(0.0, f64::max);
    let y = Axis::linear("messages/s", high, 0.05)
        .labelled(short)
        .ticks_every(2);
    let mut chart = chart(area, LEFT, Axis::up_to("", end), y, Values::Upwards)?;
    chart.draw_series(rates.into_iter().enumerate().map(|(n, rate)| {
        let from = n as f64 * width;
        Rectangle::new([(from, 0.0), (from + width, rate)], palette::FIRST.filled())
    }))?;
    Ok(())
}

fn draw_p99(area: &Area<'_>, end: f64, p99: &[(f64, f64)]) -> Drawn {
    let high = p99.iter().map(|point| point.1).fold(0.0, f64::max);
    let x = Axis::up_to("time since the start", end).labelled(|seconds| micros(seconds * 1e6));
    let y = Axis::linear("p99", high, 0.05)
        .labelled(micros)
        .ticks_every(2);
    let mut chart = chart(area, LEFT, x, y, Values::Upwards)?;
    let style = palette::SECOND.stroke_width(2);
    chart.draw_series(LineSeries::new(p99.iter().copied(), style))?;
    if let [only] = p99 {
        chart.draw_series([Circle::new(*only, 4, palette::SECOND.filled())])?;
    }
    Ok(())
}

/// Connections opened to each address.
pub(crate) fn addresses(outcome: &Outcome) -> Result<String> {
    let opened: Vec<f64> = outcome
        .addresses
        .iter()
        .map(|count| count.opened as f64)
        .collect();
    let columns = opened.len().max(1);
    let even = outcome.preset.pool_size as f64 / outcome.preset.addresses as f64;
    let high = opened.iter().copied().fold(even, f64::max);
    let many = columns > 4;
    svg(SIZE, |area| {
        let title = if many {
            "last number of the address"
        } else {
            "address"
        };
        let x = Axis::columns(title, opened.len())
            .ticks_every(columns.div_ceil(15))
            .labelled(|at| address_label(outcome, at as usize, many));
        let y = Axis::whole("connections", high, 0.25).labelled(|opened| format!("{opened:.0}"));
        let mut chart = chart(area, LEFT, x, y, Values::Upwards)?;
        chart.draw_series(opened.iter().enumerate().map(|(n, opened)| {
            let from = n as f64 + 0.25;
            Rectangle::new(
                [(from, 0.0), (from + 0.5, *opened)],
                palette::FIRST.filled(),
            )
        }))?;
        let name = match outcome.preset.addresses {
            1 => "pool size",
            _ => "even share of the pool size",
        };
        draw_level(&mut chart, even, (columns as f64, high), name)
    })
}

/// A horizontal line, with its name and value on top of the chart, at its right `end`.
fn draw_level(chart: &mut Chart<'_, '_>, y: f64, end: (f64, f64), name: &str) -> Drawn {
    let color = palette::SECOND;
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
fn address_label(outcome: &Outcome, n: usize, last_number: bool) -> String {
    let Some(count) = outcome.addresses.get(n) else {
        return String::new();
    };
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
