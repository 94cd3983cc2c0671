//! Charts that set the presets side by side, one line each.

use plotters::prelude::{Circle, EmptyElement, PathElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color, RGBColor};
use ringpool::Result;

use super::super::Outcome;
use super::super::figures::{count, micros, short};
use super::axis::Axis;
use super::{Area, Chart, Drawn, Values, palette, svg, text};

const WIDTH: u32 = 450;
const LINE: u32 = 32;
const LEFT: i32 = 124;

/// Messages per second.
pub(crate) fn throughput(outcomes: &[Outcome]) -> Result<String> {
    let rates: Vec<f64> = outcomes
        .iter()
        .map(|o| o.measured.throughput_per_s())
        .collect();
    let high = rates.iter().copied().fold(0.0, f64::max);
    svg(size(outcomes), |area| {
        let x = Axis::linear("messages per second", high, 0.2).labelled(short);
        let mut chart = chart(area, outcomes, x)?;
        for (n, rate) in rates.into_iter().enumerate() {
            let label = Text::new(
                short(rate),
                (7, 0),
                text(palette::INK, HPos::Left, VPos::Center),
            );
            chart.draw_series([bar(n, 0.0, rate, palette::FIRST)])?;
            chart.draw_series([EmptyElement::at((rate, middle(n))) + label])?;
        }
        Ok(())
    })
}

/// The latencies that half and 99 % of the messages did not exceed.
pub(crate) fn latency(outcomes: &[Outcome]) -> Result<String> {
    let pair = |o: &Outcome| [0.5, 0.99].map(|q| o.measured.latency_us(q).max(0.1));
    let pairs: Vec<[f64; 2]> = outcomes.iter().map(pair).collect();
    let low = pairs.iter().map(|pair| pair[0]).fold(1e6, f64::min);
    let high = pairs.iter().map(|pair| pair[1]).fold(0.1, f64::max);
    svg(size(outcomes), |area| {
        // Room on both sides for the figures.
        let x = Axis::logarithmic("latency, logarithmic", low * 0.25, high * 4.0).labelled(micros);
        let mut chart = chart(area, outcomes, x)?;
        for (n, [p50, p99]) in pairs.into_iter().enumerate() {
            let ends = [(p50, middle(n)), (p99, middle(n))];
            chart.draw_series([PathElement::new(ends, palette::AXIS.stroke_width(3))])?;
            for (value, color, beside, h_pos) in [
                (p50, palette::FIRST, -10, HPos::Right),
                (p99, palette::SECOND, 10, HPos::Left),
            ] {
                let label = text(palette::INK, h_pos, VPos::Center);
                chart.draw_series([EmptyElement::at((value, middle(n)))
                    + Circle::new((0, 0), 6, color.filled())
                    + Text::new(micros(value), (beside, 0), label)])?;
            }
        }
        Ok(())
    })
}

/// Which share of the gets was served by a connection that had been used before.
pub(crate) fn reuse(outcomes: &[Outcome]) -> Result<String> {
    /// A share that is not nothing stays visible, in percent.
    const SLIVER: f64 = 0.6;
    svg(size(outcomes), |area| {
        let x = Axis::up_to("share of connections created and reused", 100.0)
            .labelled(|percent| format!("{percent:.0} %"));
        let mut chart = chart(area, outcomes, x)?;
        for (n, outcome) in outcomes.iter().enumerate() {
            let connections = &outcome.connections;
            let all = (connections.created + connections.reused).max(1) as f64;
            let created = match connections.created {
                0 => 0.0,
                created => (created as f64 / all * 100.0).max(SLIVER),
            };
            let reused = if connections.reused == 0 {
                0.0
            } else {
                100.0 - created
            };
            chart.draw_series([
                bar(n, 0.0, reused, palette::FIRST),
                bar(n, reused, reused + created, palette::SECOND),
            ])?;
            let label = format!(
                "{} created, {} reused",
                count(connections.created),
                count(connections.reused)
            );
            let style = text(palette::ON_FIRST, HPos::Left, VPos::Center);
            chart.draw_series([
                EmptyElement::at((0.0, middle(n))) + Text::new(label, (10, 0), style)
            ])?;
        }
        Ok(())
    })
}

fn chart<'a, 'b>(area: &'a Area<'b>, outcomes: &'a [Outcome], x: Axis<'a>) -> Drawn<Chart<'a, 'b>> {
    let name = |at: f64| {
        outcomes
            .get(at as usize)
            .map_or("", |o| o.preset.name)
            .to_owned()
    };
    let y = Axis::lines(outcomes.len()).labelled(name);
    super::chart(area, LEFT, x, y, Values::Rightwards)
}

fn bar(line: usize, from: f64, to: f64, color: RGBColor) -> Rectangle<(f64, f64)> {
    let top = line as f64 + 0.2;
    Rectangle::new([(from, top), (to, top + 0.6)], color.filled())
}

fn middle(line: usize) -> f64 {
    line as f64 + 0.5
}

fn size(outcomes: &[Outcome]) -> (u32, u32) {
    (WIDTH, 60 + LINE * outcomes.len().max(1) as u32)
}
