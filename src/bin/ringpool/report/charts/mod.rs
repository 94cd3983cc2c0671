//! The charts of the HTML report, drawn by plotters as SVG text that goes into the page.
//!
//! **Colours.** An SVG knows no themes. The charts use the colours of [`palette`] and no others;
//! the page's style sheet names each of them (`[fill="#1F6FEB"]`) and replaces it with its own for
//! the theme at hand. A test in `html.rs` holds the two together.
//!
//! Promise: every chart has axes with units; none fails for lack of data.

mod axis;
pub(crate) mod over_time;
pub(crate) mod overview;
pub(crate) mod preset;

use std::io;

use plotters::coord::Shift;
use plotters::prelude::{
    Cartesian2d, ChartBuilder, ChartContext, DrawingArea, DrawingAreaErrorKind, IntoDrawingArea,
    RGBColor, SVGBackend, TextStyle,
};
use plotters::style::IntoTextStyle;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use ringpool::{Error, ErrorKind, Result};

use self::axis::Axis;

/// The colours of the charts, see the module's text. No two are the same.
pub(crate) mod palette {
    use super::RGBColor;

    /// Text that is to be read first.
    pub(crate) const INK: RGBColor = RGBColor(0x1B, 0x24, 0x30);
    /// Labels of axes.
    pub(crate) const MUTED: RGBColor = RGBColor(0x4F, 0x5B, 0x69);
    /// Lines of axes.
    pub(crate) const AXIS: RGBColor = RGBColor(0xA6, 0xB0, 0xBC);
    /// Lines of the grid.
    pub(crate) const GRID: RGBColor = RGBColor(0xE4, 0xE8, 0xED);
    /// The first series: throughput, p50, reused.
    pub(crate) const FIRST: RGBColor = RGBColor(0x1F, 0x6F, 0xEB);
    /// The second series: p99, created.
    pub(crate) const SECOND: RGBColor = RGBColor(0xC2, 0x50, 0x0B);

    /// Text on a bar of the first series.
    pub(crate) const ON_FIRST: RGBColor = RGBColor(0xFF, 0xFF, 0xFE);

    #[cfg(test)]
    pub(crate) const ALL: [RGBColor; 7] = [INK, MUTED, AXIS, GRID, FIRST, SECOND, ON_FIRST];
}

/// Size of all text, in the units of the drawing (plotters divides by 1.24).
const TEXT: i32 = 16;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis<'a>, Axis<'a>>>;
type Drawn<T = ()> = std::result::Result<T, DrawingAreaErrorKind<io::Error>>;

/// The SVG text of what `draw` draws.
fn svg(size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Drawn) -> Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&area).and_then(|()| area.present()).map_err(|error| {
            Error::new(ErrorKind::Io, error.to_string()).context("drawing a chart")
        })?;
    }
    // In HTML, an inline SVG is in its name space by itself.
    Ok(text.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1))
}

fn text(color: RGBColor, h_pos: HPos, v_pos: VPos) -> TextStyle<'static> {
    let style = ("sans-serif", TEXT)
        .with_color(color)
        .into_text_style(&(1, 1));
    style.pos(Pos::new(h_pos, v_pos))
}

/// The grid goes along with the values: up from the bottom, or across from the left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    Upwards,
    Rightwards,
}

/// A chart with its axes and grid, `left` units of room for what stands to the left of it.
fn chart<'a, 'b>(
    area: &'a Area<'b>,
    left: i32,
    x: Axis<'a>,
    y: Axis<'a>,
    values: Values,
) -> Drawn<Chart<'a, 'b>> {
    let (x_title, y_title) = (x.title, y.title);
    let mut chart = ChartBuilder::on(area)
        .margin_top(12)
        .margin_right(20)
        .x_label_area_size(if x_title.is_empty() { 8 } else { 44 })
        .y_label_area_size(left)
        .build_cartesian_2d(x, y)?;
    let label = text(palette::MUTED, HPos::Center, VPos::Center);
    let mut mesh = chart.configure_mesh();
    mesh.axis_style(palette::AXIS)
        .bold_line_style(palette::GRID)
        .label_style(label.clone())
        .axis_desc_style(label)
        .x_desc(x_title)
        .y_desc(y_title)
        .set_all_tick_mark_size(4);
    match values {
        Values::Upwards => mesh.disable_x_mesh(),
        Values::Rightwards => mesh.disable_y_mesh(),
    };
    mesh.draw()?;
    Ok(chart)
}
