//! Rules that no compiler holds: who may import whom, where a clock, `unsafe` or a runtime may
//! appear, what must be written beside what. The tree is read as text.
//!
//! Promise: a broken rule fails with the file, the line and what to do; and each rule is shown,
//! with a bad and a good sample, to be able to fail and to be able to pass.

mod documents;
mod faults;
mod rules;
mod source;

use std::path::{Path, PathBuf};

use documents::{
    broken_links, dependencies, missing_names, missing_settings, missing_tests,
    patches_that_do_not_apply, refusal, settings, source_entries, test_entries,
};
use faults::Table;
use rules::*;
use source::{File, Problems, files_under, read, root, tree};

struct Rule {
    check: fn(&File) -> Problems,
    /// Files that the rule refuses: path and text.
    bad: &'static [(&'static str, &'static str)],
    /// Files that the rule accepts.
    good: &'static [(&'static str, &'static str)],
}

const RULES: &[Rule] = &[
    Rule {
        check: imports_go_down,
        bad: &[
            ("src/policy/bucket.rs", "use crate::ring::Ring;"),
            ("src/slot.rs", "fn f() { crate::dns::query::encode() }"),
            (
                "src/ring/op.rs",
                "use crate::{\n    error::Error,\n    shard::Shard,\n};",
            ),
            (
                "src/error.rs",
                "use crate::{config::{Config, Other}, pool::Pool};",
            ),
            ("src/newcomer.rs", "use crate::error::Error;"),
            ("src/time.rs", "use crate::newcomer::Thing;"),
            ("src/time.rs", "use crate::Config;"),
        ],
        good: &[
            (
                "src/ring/op.rs",
                "use crate::{error::{Error, Result}, ring::token, share::Wake};",
            ),
            ("src/lib.rs", "pub use crate::pool::Pool;"),
            (
                "src/policy/mod.rs",
                "//! [`Ring`](crate::ring::Ring)\nuse crate::policy::event;",
            ),
            ("src/time.rs", "const S: &str = \"crate::ring::Ring\";"),
        ],
    },
    Rule {
        check: clocks_stay_below,
        bad: &[
            ("src/policy/mod.rs", "use std::time::{Duration, Instant};"),
            ("src/share/names.rs", "let now = SystemTime::now();"),
            (
                "src/dns/lookup.rs",
                "let now = rustix::time::clock_gettime(id);",
            ),
        ],
        good: &[
            ("src/ring/clock.rs", "use std::time::Instant;"),
            (
                "src/policy/mod.rs",
                "// An Instant would be a clock.\nuse std::time::Duration;",
            ),
            (
                "src/share/wake.rs",
                "#[cfg(test)]\nmod tests {\n    use std::time::Instant;\n}",
            ),
        ],
    },
    Rule {
        check: unsafe_stays_in_ring,
        bad: &[
            ("src/shard/mod.rs", "fn f() { unsafe { g() } }"),
            ("src/bin/a/main.rs", "unsafe fn f();"),
        ],
        good: &[
            ("src/ring/mem.rs", "unsafe { g() }"),
            ("src/lib.rs", "#![deny(unsafe_code)]"),
            ("tests/a.rs", "unsafe { g() }"),
        ],
    },
    Rule {
        check: pure_layers_do_not_wait,
        bad: &[
            ("src/policy/mod.rs", "async fn f() {}"),
            ("src/dns/lookup.rs", "f().await;"),
        ],
        good: &[
            ("src/dns/lookup.rs", "// No async here.\nfn f() {}"),
            ("src/pool.rs", "f().await"),
        ],
    },
    Rule {
        check: runtimes_stay_at_the_edge,
        bad: &[
            ("src/shard/mod.rs", "use tokio::task;"),
            ("src/pool.rs", "tokio_uring::spawn(f());"),
            ("src/conn.rs", "use tokio_uring::net::TcpStream;"),
            ("src/share/mod.rs", "use tokio_uring::buf::IoBuf;"),
            (
                "src/stream.rs",
                "use tokio_uring::{buf::IoBuf, net::TcpStream};",
            ),
        ],
        good: &[
            ("src/ring/driver.rs", "use tokio::io::unix::AsyncFd;"),
            ("src/shards.rs", "use tokio_uring::Runtime;"),
            (
                "src/conn.rs",
                "use tokio_uring::buf::IoBuf;\nuse tokio_uring::BufResult;",
            ),
            ("src/bin/ringpool/main.rs", "use tokio::net::TcpStream;"),
        ],
    },
    Rule {
        check: nothing_is_left_undone,
        bad: &[
            ("src/pool.rs", "fn f() { todo!() }"),
            ("src/pool.rs", "fn f() { std::unimplemented!(\"later\") }"),
            ("benches/a.rs", "dbg!(x);"),
            ("src/ring/op.rs", "_ => unreachable!(),"),
            ("tests/a.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}"),
            ("src/pool.rs", "// FIXME: later\nfn f() {}"),
        ],
        good: &[(
            "src/pool.rs",
            "// todo!() is not for us\nlet s = \"FIXME todo!()\";",
        )],
    },
    Rule {
        check: the_ring_does_not_unwrap,
        bad: &[("src/ring/op.rs", "let x = y.unwrap();")],
        good: &[
            (
                "src/ring/op.rs",
                "#[cfg(test)]\nmod tests {\n    fn f() { y.unwrap(); }\n}",
            ),
            ("src/ring/tests.rs", "let x = y.unwrap();"),
            ("src/ring/op.rs", "let x = y.unwrap_or(0);"),
        ],
    },
    Rule {
        check: unsafe_is_argued_for,
        bad: &[
            ("src/ring/mem.rs", "let x = unsafe { f() };"),
            (
                "src/ring/mem.rs",
                "// SAFETY: for f alone.\nunsafe { f() };\nunsafe { g() };",
            ),
            ("src/ring/mem.rs", "unsafe impl Send for X {}"),
            (
                "src/ring/mem.rs",
                "// SAFETY: as said.\nunsafe impl X for Y {\n}\nunsafe fn f();",
            ),
            ("src/ring/mem.rs", "/// Does things.\nunsafe fn f() {}"),
        ],
        good: &[
            (
                "src/ring/mem.rs",
                "// SAFETY: f has no duties (D1).\nlet x = unsafe { f() };",
            ),
            (
                "src/ring/mem.rs",
                "// SAFETY: as said.\n#[allow(a)]\nlet x =\n    unsafe { f() };",
            ),
            (
                "src/ring/mem.rs",
                "/// # Safety\n///\n/// Once.\npub(super) unsafe fn f() {}",
            ),
            (
                "tests/a.rs",
                "// SAFETY: as said.\nunsafe impl X for Y {\n    unsafe fn f() {\n    }\n}",
            ),
        ],
    },
    Rule {
        check: sleeps_are_bounded,
        bad: &[("tests/a.rs", "thread::sleep(SECOND);")],
        good: &[
            (
                "tests/a.rs",
                "// bounded: at most ten rounds\nthread::sleep(SECOND);",
            ),
            (
                "tests/a.rs",
                "sleep(STEP).await; // bounded: by the deadline above",
            ),
        ],
    },
    Rule {
        check: cited_rules_exist,
        bad: &[("src/ring/mem.rs", "// SAFETY: by D99.")],
        good: &[("src/ring/mem.rs", "// SAFETY: by D1 and D13.\nlet D99 = 0;")],
    },
    Rule {
        check: files_are_short,
        bad: &[],
        good: &[("src/pool.rs", "fn f() {}")],
    },
];

#[test]
fn the_tree_is_tidy() {
    let mut problems = String::new();
    for file in tree() {
        for rule in RULES {
            for (line, problem) in (rule.check)(&file) {
                problems += &format!("\n{}:{}: {problem}", file.path, line + 1);
            }
        }
    }
    assert!(problems.is_empty(), "{problems}");
}

#[test]
fn each_rule_can_fail_and_can_pass() {
    for rule in RULES {
        for (path, text) in rule.bad {
            let problems = (rule.check)(&File::new(path, text));
            assert!(!problems.is_empty(), "passed, must not: {path}: {text}");
        }
        for (path, text) in rule.good {
            let problems = (rule.check)(&File::new(path, text));
            assert!(
                problems.is_empty(),
                "failed, must not: {path}: {text}: {problems:?}"
            );
        }
    }
    let long = "\n".repeat(MAX_LINES + 1);
    assert_eq!(files_are_short(&File::new("src/pool.rs", &long)).len(), 1);
    assert_eq!(files_are_short(&File::new("tests/pool.rs", &long)).len(), 0);
}

#[test]
fn a_line_is_taken_apart() {
    let text = r##"let a = "x // y"; // one "quoted"
/* two /* nested */ still */ let b = 'c'; let q = '"'; // three
fn f<'a>(x: &'a str) -> &'a str { r#"raw " { unsafe "# } // four
let s = "a \" b
  unsafe"; let t = b"z"; // five"##;
    let file = File::new("src/a.rs", text);
    let code: Vec<&str> = file.lines.iter().map(|line| line.code.trim()).collect();
    assert_eq!(
        code,
        [
            r#"let a = "";"#,
            "let b = ' '; let q = ' ';",
            r##"fn f<'a>(x: &'a str) -> &'a str { r#""# }"##,
            r#"let s = ""#,
            r#""; let t = b"";"#
        ]
    );
    let comments: Vec<&str> = file.lines.iter().map(|line| line.comment.trim()).collect();
    assert_eq!(comments[0], r#"one "quoted""#);
    assert_eq!(comments[1], "two  nested  still   three");
    assert_eq!(comments[2..], ["four", "", "five"]);
}

/// Documents: every link to a file leads to one, and what must be listed is listed.
#[test]
fn every_deliberate_bug_fits_the_code() {
    let refused = patches_that_do_not_apply();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    // A text that is no patch is refused: the check can fail.
    assert!(refusal(&root().join("README.md")).is_some());
}

#[test]
fn documents_tell_the_truth_about_files() {
    let mut problems = Vec::new();
    let mut documents = files_under("docs", "md");
    documents.extend(["README.md", "CHANGELOG.md"].map(PathBuf::from));
    for document in &documents {
        problems.extend(broken_links(document, &read(document)));
    }
    let map = read(Path::new("docs/architecture.md"));
    problems.extend(missing_names(
        "docs/architecture.md",
        &map,
        &source_entries(),
    ));
    let list = read(Path::new("docs/dependencies.md"));
    let crates = dependencies(&read(Path::new("Cargo.toml")));
    problems.extend(missing_names("docs/dependencies.md", &list, &crates));
    let tests = read(Path::new("docs/testing.md"));
    problems.extend(missing_names("docs/testing.md", &tests, &test_entries()));
    problems.extend(missing_tests(&read(Path::new("docs/safety.md")), &tree()));
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// Every setting has its row in docs/tuning.md, with the default that its documentation gives it.
#[test]
fn every_setting_is_explained() {
    let page = read(Path::new("docs/tuning.md"));
    let mut problems = Vec::new();
    for (file, name, least) in [
        ("src/config.rs", "Config", 35),
        ("src/resolver/options.rs", "ResolverOptions", 6),
    ] {
        let settings = settings(&read(Path::new(file)), name);
        assert!(settings.len() >= least, "{name}: {settings:?}");
        problems.extend(missing_settings(&page, &settings));
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn the_check_of_settings_can_fail_and_can_pass() {
    let source = "/// All.\npub struct S {\n    /// So many, [`S::default`]. Default 4: it is enough.\n    \
                  pub a: u8,\n    /// Which. Default:\n    /// [`B::One`].\n    pub b: B,\n    \
                  /// Told.\n    pub c: C,\n    d: D,\n}\npub struct T {\n    pub e: E,\n}\n";
    let found = settings(source, "S");
    let pair = |field: &str, default: &str| (field.to_owned(), default.to_owned());
    assert_eq!(
        found,
        [pair("a", "4"), pair("b", "B::One"), pair("c", "none")]
    );
    let good = "| `a` | 4 | more |\n| `b` | `B::One` | no |\n| `c` | none |";
    assert_eq!(missing_settings(good, &found), Vec::<String>::new());
    let bad = "`a` and\n| `b` | `B::Two` | no |\n| `c` | none | yes |";
    assert_eq!(missing_settings(bad, &found).len(), 2);
}

#[test]
fn each_check_of_documents_can_fail_and_can_pass() {
    let page = Path::new("docs/page.md");
    assert_eq!(
        broken_links(page, "[a](no-such-file.md) [b](../src/nothing.rs#L1)").len(),
        2
    );
    let good = "[a](architecture.md#layers) [b](../README.md) [c](https://a.test) [d](#here)";
    assert_eq!(broken_links(page, good), Vec::<String>::new());
    let names = ["slab".to_owned(), "libc".to_owned()];
    assert_eq!(missing_names("x", "`slab` and libc", &names).len(), 1);
    let test = [File::new("tests/a.rs", "#[test]\nfn it_holds() {}")];
    assert_eq!(
        missing_tests("Tested: `it_holds`, `it_fails`.\nSee `not_this`.", &test).len(),
        1
    );
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na-b = \"1\"\n\n[features]\nf = []\n\
                    [target.'cfg(x)'.dependencies]\n# c\nd = { version = \"1\" }\n";
    assert_eq!(dependencies(manifest), ["a-b", "d"]);
}

/// What the pool does depends on no wall clock, so that one that jumps changes nothing.
#[test]
fn m1_no_file_of_the_library_reads_the_wall_clock() {
    let reads = |file: &File| {
        let mut words = file.lines.iter().flat_map(|line| {
            let code = line.code.split(|c: char| !source::is_word(c));
            code.collect::<Vec<_>>()
        });
        words.any(|word| matches!(word, "SystemTime" | "CLOCK_REALTIME" | "UNIX_EPOCH"))
    };
    assert!(reads(&File::new(
        "src/a.rs",
        "let now = SystemTime::now();"
    )));
    let library = tree();
    let library = library
        .iter()
        .filter(|file| file.path.starts_with("src/") && !file.path.starts_with("src/bin/"));
    let readers: Vec<&str> = library
        .filter(|file| reads(file))
        .map(|file| file.path.as_str())
        .collect();
    assert_eq!(readers, [""; 0]);
}

/// How many faults of `faults.txt` may have neither a test nor a reason. It only goes down.
const MISSING_ALLOWED: usize = 0;

#[test]
fn every_fault_has_a_row_with_its_tests() {
    let text = read(Path::new("tests/tidy/faults.txt"));
    let (faults, mut problems) = faults::faults(&text);
    let table = Table::new(faults, faults::tests(&tree()));
    problems.extend(table.problems());
    let missing = table.missing();
    if missing > MISSING_ALLOWED {
        problems.push(format!(
            "{missing} faults have no test and no reason, MISSING_ALLOWED in tests/tidy/main.rs \
             says {MISSING_ALLOWED}: it goes down only"
        ));
    }
    let (page, path) = (table.page(), root().join("docs/faults.md"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("docs/faults.md can be written");
    } else if std::fs::read_to_string(&path).ok().as_deref() != Some(&page) {
        problems.push("docs/faults.md is stale: run `UPDATE_DOCS=1 cargo test --test tidy`".into());
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn each_check_of_faults_can_fail_and_can_pass() {
    faults::each_check_can_fail_and_can_pass();
}
