//! The rows for people, as a page that needs nothing else.

use std::fmt::Write as _;

use super::row::{Better, Row};
use super::table::{all, ratio_text};

const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
<title>ringpool beside its peers</title>\n<style>\
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%;margin:.3rem 0 1.6rem}\
th,td{padding:.15rem .6rem;text-align:right;border-bottom:1px solid #8884}\
th:first-child,td:first-child{text-align:left}tr.ours{font-weight:bold}\
h2{margin:2rem 0 .5rem}h3{margin:.5rem 0 0;font-size:1rem}</style>\n\
<h1>ringpool beside its peers</h1>\n\
<p>Medians of repetitions that took turns in one run, the least and the most of them, and what ours \
is to each.</p>\n";

pub fn page(rows: &[Row]) -> String {
    let mut text = HEAD.to_owned();
    let mut last = "";
    for row in rows {
        // Writing to a String cannot fail.
        let _never_fails = write_row(&mut text, row, std::mem::replace(&mut last, row.workload));
    }
    text.push_str("</html>\n");
    text
}

fn write_row(text: &mut String, row: &Row, last: &str) -> std::fmt::Result {
    if row.workload != last {
        writeln!(text, "<h2>{}</h2>", escaped(row.workload))?;
    }
    let better = match row.better {
        Better::Lower => "less is better",
        Better::Higher => "more is better",
    };
    writeln!(
        text,
        "<h3>{}: {} ({}; {better})</h3>\n<table><tr><th><th>median<th>least<th>most<th>ours ÷ it</tr>",
        escaped(&row.case),
        escaped(row.metric),
        escaped(row.unit),
    )?;
    for (name, figure) in all(row) {
        let (least, most) = row.spread[name];
        let class = match name {
            "ringpool" => " class=\"ours\"",
            _ => "",
        };
        writeln!(
            text,
            "<tr{class}><td>{}<td>{figure:.3}<td>{least:.3}<td>{most:.3}<td>{}</tr>",
            escaped(name),
            ratio_text(row.ours, figure),
        )?;
    }
    writeln!(text, "</table>")
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}
