//! The rules for one Rust file.

use std::collections::BTreeSet;
use std::path::Path;

use super::source::{File, Line, Problems, has_word, is_word, read};

/// The modules by layer; a file imports from its own layer or a lower one. See
/// `docs/architecture.md`.
const LAYERS: [&[&str]; 6] = [
    &[
        "error", "balance", "config", "resolver", "endpoint", "target", "slot", "line", "time",
        "hooks",
    ],
    &["policy", "dns"],
    &["share"],
    &["ring", "machine"],
    &["host", "shard", "local", "shards", "group"],
    &[
        "pool", "resolved", "conn", "stats", "protocol", "stream", "sim", "bench", "fuzzing",
        "lib", "bin",
    ],
];

/// The ring: the first layer that may read a clock, and the last below what users see.
const RING_LAYER: usize = 3;

/// How many lines a file of `src` may have.
pub(super) const MAX_LINES: usize = 500;

pub(super) fn imports_go_down(file: &File) -> Problems {
    let Some(module) = file.module() else {
        return Vec::new();
    };
    let Some(own) = layer_of(module) else {
        return vec![(
            0,
            format!("{module} has no layer: add it to LAYERS in tests/tidy/rules.rs"),
        )];
    };
    let mut problems = Problems::new();
    for (line, name) in crate_paths(file) {
        match layer_of(&name) {
            Some(layer) if layer <= own => {}
            Some(layer) => problems.push((
                line,
                format!("{module} (layer {own}) imports crate::{name} (layer {layer})"),
            )),
            None if own + 1 == LAYERS.len() => {}
            None => problems.push((line, format!("crate::{name} is not a module with a layer"))),
        }
    }
    problems
}

/// Every `x` of `crate::x` and of `crate::{x, ..}` in the code, with its line.
fn crate_paths(file: &File) -> Vec<(usize, String)> {
    let code: Vec<(usize, char)> = file
        .lines
        .iter()
        .enumerate()
        .flat_map(|(at, line)| line.code.chars().chain(['\n']).map(move |c| (at, c)))
        .collect();
    let text: Vec<char> = code.iter().map(|&(_, c)| c).collect();
    let marker: Vec<char> = "crate::".chars().collect();
    let mut paths = Vec::new();
    for start in 0..text.len() {
        if !text[start..].starts_with(&marker) || start > 0 && is_word(text[start - 1]) {
            continue;
        }
        let (mut at, mut depth) = (start + marker.len(), 0);
        let mut expect = true;
        while let Some(&c) = text.get(at) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => expect = true,
                c if is_word(c) && expect && depth <= 1 => {
                    let name: String = text[at..].iter().take_while(|&&c| is_word(c)).collect();
                    at += name.len() - 1;
                    paths.push((code[at].0, name));
                    expect = false;
                }
                _ => {}
            }
            at += 1;
            if depth == 0 && !expect {
                break;
            }
        }
    }
    paths
}

pub(super) fn clocks_stay_below(file: &File) -> Problems {
    let pure = file
        .module()
        .and_then(layer_of)
        .is_some_and(|layer| layer < RING_LAYER);
    let clocks = ["Instant", "SystemTime", "clock_gettime"];
    let is_clock = |code: &str| {
        clocks.iter().any(|clock| has_word(code, clock)) || code.contains("rustix::time")
    };
    file.complain("a clock; take a Tick from the caller", |line| {
        pure && !line.test && is_clock(&line.code)
    })
}

/// In the crate. A test or a benchmark may need it to play the kernel's other side.
pub(super) fn unsafe_stays_in_ring(file: &File) -> Problems {
    let elsewhere = file.module().is_some_and(|module| module != "ring");
    file.complain("unsafe outside src/ring/", |line| {
        elsewhere && has_word(&line.code, "unsafe")
    })
}

pub(super) fn pure_layers_do_not_wait(file: &File) -> Problems {
    let pure = file
        .module()
        .is_some_and(|module| LAYERS[1].contains(&module));
    file.complain("async in a pure layer; return what is to be done", |line| {
        pure && ["async", "await"]
            .iter()
            .any(|word| has_word(&line.code, word))
    })
}

/// The traits of buffers are words, not a runtime: whoever faces the user may name them.
pub(super) fn runtimes_stay_at_the_edge(file: &File) -> Problems {
    let edge =
        !file.path.starts_with("src/") || matches!(file.module(), Some("ring" | "bin" | "shards"));
    let faces_user = file
        .module()
        .and_then(layer_of)
        .is_some_and(|layer| layer > RING_LAYER);
    let names_runtime = |code: &str| {
        let words = ["tokio_uring::buf::", "tokio_uring::BufResult"];
        let allowed = words.iter().filter(|_| faces_user);
        let code = allowed.fold(code.to_owned(), |code, word| code.replace(word, ""));
        has_word(&code, "tokio") || has_word(&code, "tokio_uring")
    };
    file.complain("a runtime outside ring/, shards/ and bin/", |line| {
        !edge && !line.test && names_runtime(&line.code)
    })
}

pub(super) fn nothing_is_left_undone(file: &File) -> Problems {
    let macros = [
        "todo!",
        "unimplemented!",
        "dbg!",
        "unreachable!",
        "#[ignore",
    ];
    file.complain(
        "left undone (todo!, unimplemented!, dbg!, unreachable!, ignore)",
        |line| {
            macros.iter().any(|name| line.code.contains(name)) || has_word(&line.comment, "FIXME")
        },
    )
}

pub(super) fn the_ring_does_not_unwrap(file: &File) -> Problems {
    let ring = file.path.starts_with("src/ring/");
    file.complain(
        "unwrap in the ring; what the kernel says is input",
        |line| ring && !line.test && line.code.contains(".unwrap()"),
    )
}

/// `unsafe` blocks and impls have a `SAFETY:` comment above their statement, unsafe functions a
/// `# Safety` section, unless they stand in an unsafe impl: then the trait states their duty.
pub(super) fn unsafe_is_argued_for(file: &File) -> Problems {
    let mut problems = Problems::new();
    let mut in_unsafe_impl = false;
    for (at, line) in file.lines.iter().enumerate() {
        in_unsafe_impl |= line.code.starts_with("unsafe impl");
        in_unsafe_impl &= line.code != "}";
        let rest = match line.code.split_once("unsafe") {
            Some((_, rest)) if has_word(&line.code, "unsafe") => rest.trim_start(),
            _ => continue,
        };
        let argument = match rest {
            // An attribute, a function type, a declaration of foreign functions.
            rest if ["(", "fn(", "extern"]
                .iter()
                .any(|start| rest.starts_with(start)) =>
            {
                continue;
            }
            rest if rest.starts_with("fn ") && in_unsafe_impl => continue,
            rest if rest.starts_with("fn ") => "# Safety",
            _ => "SAFETY:",
        };
        let above = file.lines[..at]
            .iter()
            .rev()
            .take_while(|line| belongs_below(line));
        if !above
            .chain([line])
            .any(|line| line.comment.contains(argument))
        {
            problems.push((at, format!("no {argument:?} comment above this unsafe")));
        }
    }
    problems
}

/// Whether a line is a comment, an attribute, or the start of a statement that goes on below.
fn belongs_below(line: &Line) -> bool {
    let code = line.code.trim();
    match code {
        "" => !line.comment.is_empty(),
        _ => code.starts_with("#[") || !code.ends_with([';', '{', '}', ',']),
    }
}

pub(super) fn sleeps_are_bounded(file: &File) -> Problems {
    let tests = file.path.starts_with("tests/");
    let mut above = "";
    let mut problems = Problems::new();
    for (at, line) in file.lines.iter().enumerate() {
        let sleeps = has_word(&line.code, "sleep") && line.code.contains("sleep(");
        let bounded = [above, &line.comment]
            .iter()
            .any(|comment| comment.contains("bounded:"));
        if tests && sleeps && !bounded {
            problems.push((at, "a sleep without a comment `// bounded: ...`".into()));
        }
        above = &line.comment;
    }
    problems
}

pub(super) fn cited_rules_exist(file: &File) -> Problems {
    let safety = read(Path::new("docs/safety.md"));
    let known: BTreeSet<&str> = safety
        .lines()
        .filter_map(|line| line.strip_prefix("### ")?.split_whitespace().next())
        .map(|number| number.trim_end_matches('.'))
        .collect();
    let mut problems = Problems::new();
    for (at, line) in file.lines.iter().enumerate() {
        for word in line.comment.split(|c: char| !is_word(c)) {
            let is_rule = word.strip_prefix('D').is_some_and(|digits| {
                !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
            });
            if is_rule && !known.contains(word) {
                problems.push((at, format!("{word} is not a rule of docs/safety.md")));
            }
        }
    }
    problems
}

pub(super) fn files_are_short(file: &File) -> Problems {
    let lines = file.lines.len();
    match file.path.starts_with("src/") && lines > MAX_LINES {
        true => vec![(
            lines - 1,
            format!("{lines} lines, at most {MAX_LINES}: split by idea"),
        )],
        false => Vec::new(),
    }
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}
