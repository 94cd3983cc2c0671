//! The results for people: one page that can be mailed, kept and opened anywhere.
//!
//! Promise: the page is self-contained. It has no script and asks for nothing: no font, image,
//! style sheet or link outside of itself. It follows the reader's light or dark theme.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use ringpool::Result;

use super::charts::over_time::{self, OverTime};
use super::charts::{overview, preset};
use super::figures::{count, micros, short};
use super::{Figure, Mark, Outcome};

const STYLE: &str = include_str!("style.css");

/// The outcomes as a page. `seed` is told so that the run can be repeated.
pub(crate) fn render(outcomes: &[Outcome], seed: u64) -> Result<String> {
    let shards = outcomes.first().map_or(0, |outcome| outcome.shards);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "ringpool stress" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "ringpool stress" }
                    p.muted {
                        (outcomes.len()) " presets on " (shards) " shards, seed " (seed)
                        ". Every echoed byte was compared."
                    }
                }
                (tiles(outcomes))
                h2 { "Presets side by side" }
                (side_by_side(outcomes)?)
                h2 { "Figures" }
                (table(outcomes))
                h2 { "Preset by preset" }
                @for outcome in outcomes { (one_preset(outcome)?) }
            }
        }
    };
    Ok(page.into_string())
}

fn tiles(outcomes: &[Outcome]) -> Markup {
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let messages = sum(|outcome| outcome.measured.messages());
    let errors = sum(|outcome| outcome.measured.errors.count);
    let created = sum(|outcome| outcome.connections.created);
    let reused = sum(|outcome| outcome.connections.reused);
    let seconds: f64 = outcomes
        .iter()
        .map(|o| o.measured.duration.as_secs_f64())
        .sum();
    let share = reused as f64 / (messages + errors).max(1) as f64 * 100.0;
    let best = outcomes
        .iter()
        .map(|o| o.measured.throughput_per_s())
        .fold(0.0, f64::max);
    let p99 = outcomes
        .iter()
        .map(|o| o.measured.latency_us(0.99))
        .fold(0.0, f64::max);
    html! {
        div.tiles {
            (tile(&count(messages), "messages compared", ""))
            (tile(&count(errors), "errors", if errors == 0 { "good" } else { "bad" }))
            (tile(&format!("{seconds:.2} s"), "spent sending them", ""))
            (tile(&short(best), "messages per second at best", ""))
            (tile(&micros(p99), "p99 latency at worst", ""))
            (tile(&count(created), "connections created", ""))
            (tile(&format!("{share:.1} %"), "of gets reused one", ""))
        }
    }
}

fn tile(figure: &str, what: &str, class: &str) -> Markup {
    html! {
        div.card.tile { b class=(class) { (figure) } span.muted { (what) } }
    }
}

fn side_by_side(outcomes: &[Outcome]) -> Result<Markup> {
    let none = html! {};
    let latency = key(&[("first", "p50"), ("second", "p99")]);
    let reuse = key(&[("first", "reused"), ("second", "created")]);
    Ok(html! {
        div.charts {
            (card("Throughput", &none, &overview::throughput(outcomes)?))
            (card("Latency, from get to echo compared", &latency, &overview::latency(outcomes)?))
            (card("Connections created against reused", &reuse, &overview::reuse(outcomes)?))
        }
    })
}

fn card(title: &str, key: &Markup, svg: &str) -> Markup {
    html! { div.card { h3 { (title) } (key) (drawing(title, svg)) } }
}

/// A chart, named for readers who cannot see it.
fn drawing(title: &str, svg: &str) -> Markup {
    html! { figure role="img" aria-label=(title) style="margin:0" { (PreEscaped(svg)) } }
}

fn key(series: &[(&str, &str)]) -> Markup {
    html! { p.key { @for (class, name) in series { i class=(class) {} (name) } } }
}

fn table(outcomes: &[Outcome]) -> Markup {
    const HEADER: [&str; 14] = [
        "preset",
        "messages",
        "errors",
        "seconds",
        "messages/s",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "created",
        "reused",
        "closed",
        "handed over",
    ];
    html! {
        div.card.scroll {
            table {
                thead { tr { @for title in HEADER { th { (title) } } } }
                tbody { @for outcome in outcomes { (line(outcome)) } }
            }
        }
    }
}

fn line(outcome: &Outcome) -> Markup {
    let measured = &outcome.measured;
    let connections = &outcome.connections;
    html! {
        tr {
            td { (outcome.preset.name) }
            td { (count(measured.messages())) }
            td class=(if outcome.failed() { "bad" } else { "good" }) { (count(measured.errors.count)) }
            td { (format!("{:.3}", measured.duration.as_secs_f64())) }
            td { (count(measured.throughput_per_s().round() as u64)) }
            @for q in [0.5, 0.9, 0.99, 0.999, 1.0] { td { (micros(measured.latency_us(q))) } }
            td { (count(connections.created)) }
            td { (count(connections.reused)) }
            td { (count(connections.closed)) }
            td { (count(connections.handed_over)) }
        }
    }
}

fn one_preset(outcome: &Outcome) -> Result<Markup> {
    let errors = &outcome.measured.errors;
    let width = micros(outcome.measured.timeline.width.as_secs_f64() * 1e6);
    Ok(html! {
        section.card.preset {
            header {
                h3 { (outcome.preset.name) }
                p.muted { (outcome.preset.describe()) }
                @if let Some(spread) = outcome.spread() {
                    p.muted {
                        "Open connections per address, at rest, lie " (spread)
                        " apart at most; up to " (outcome.most_apart()) " is even."
                    }
                }
                @if !outcome.marks.is_empty() {
                    p.muted {
                        "What happened, drawn as lines over the connections: "
                        (listed(outcome.marks.iter().map(happened))) "."
                    }
                }
                @if !outcome.figures.is_empty() {
                    p { "Measured: " (listed(outcome.figures.iter().map(Figure::to_string))) "." }
                }
                @if outcome.failed() {
                    p.bad { (count(errors.count)) @if errors.count == 1 { " error:" } @else { " errors; the first:" } }
                    ul.faults { @for text in &errors.first { li { (text) } } }
                }
            }
            div.parts {
                div {
                    h3 { "Latency histogram" }
                    (key(&[("first", "messages")]))
                    (drawing("Latency histogram", &preset::histogram(outcome)?))
                }
                div {
                    h3 { "Timeline, in steps of " (width) }
                    (key(&[("first", "throughput"), ("second", "p99")]))
                    (drawing("Timeline", &preset::timeline(outcome)?))
                }
                div {
                    h3 { "Connections per address" }
                    (key(&[("first", "open at rest"), ("second", "closed before")]))
                    (drawing("Connections per address", &preset::addresses(outcome)?))
                }
                (rows("Connections per address over time", &over_time::addresses(outcome)?))
                (rows("Connections per core over time", &over_time::cores(outcome)?))
            }
        }
    })
}

fn listed(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join("; ")
}

fn happened(mark: &Mark) -> String {
    format!(
        "{} after {}",
        mark.what,
        micros(mark.at.as_secs_f64() * 1e6)
    )
}

fn rows(title: &str, chart: &OverTime) -> Markup {
    let full = format!("a full row is {}", chart.full);
    html! {
        div {
            h3 { (title) }
            (key(&[("first", &full)]))
            (drawing(title, &chart.svg))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::charts::palette;
    use super::super::example;
    use super::*;

    fn page() -> String {
        render(&example::outcomes(), 42).unwrap()
    }

    #[test]
    fn the_page_asks_for_nothing_outside_of_itself() {
        let page = page();
        for outside in [
            "http:", "https:", "src=", "href=", "@import", "url(", "<script", "<link", "//",
        ] {
            assert!(!page.contains(outside), "the page contains {outside}");
        }
    }

    #[test]
    fn every_preset_is_on_the_page_with_its_charts() {
        let page = page();
        for outcome in example::outcomes() {
            assert!(page.contains(outcome.preset.name));
            assert!(page.contains(&outcome.preset.describe()));
        }
        assert_eq!(page.matches("<svg").count(), 3 + 5 * 12);
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }

    #[test]
    fn what_happened_and_what_came_of_it_is_told() {
        let page = page();
        assert!(page.contains("something happens after 200 ms."));
        assert!(page.contains("Measured: things_done: 17; done_after_s: 0.25 (at most 2.5)."));
    }

    #[test]
    fn every_colour_of_the_charts_is_themed() {
        for color in palette::ALL {
            let name = format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2);
            for attribute in ["fill", "stroke"] {
                let rule = format!("[{attribute}=\"{name}\"] {{ {attribute}: var(");
                assert!(STYLE.contains(&rule), "{rule}");
            }
        }
        // A chart uses no other colour.
        let page = page();
        let body = &page[page.find("</style>").unwrap()..];
        for attribute in ["fill=\"#", "stroke=\"#"] {
            for (at, _) in body.match_indices(attribute) {
                let color = &body[at + attribute.len()..at + attribute.len() + 6];
                assert!(
                    STYLE.contains(&format!("{attribute}{color}\"]")),
                    "{attribute}{color}"
                );
            }
        }
    }

    #[test]
    fn texts_are_escaped() {
        let page = page();
        assert!(page.contains("getting a &lt;connection&gt;"));
        assert!(!page.contains("<connection>"));
    }

    #[test]
    fn a_page_without_outcomes_is_a_page() {
        assert!(render(&[], 1).unwrap().ends_with("</html>"));
    }
}
