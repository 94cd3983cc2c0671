//! A list of faults with their tests beside them goes stale with the next rename. So the page is
//! made from the names of the tests: a test whose name begins with ids of faults (`e4_s8_..`)
//! injects those.
//!
//! Promise: each fault of `faults.txt` is on the page once, with every test that names it; a fault
//! that has neither a test nor a reason is shown as missing and counted.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::source::{File, is_word};

/// The groups, in the order of the page, and how many faults each has.
const GROUPS: [(&str, &str, usize); 10] = [
    ("D", "Names", 38),
    ("C", "Connecting", 15),
    ("T", "TLS handshake", 15),
    ("E", "Established connections", 18),
    ("R", "Resources", 20),
    ("P", "Process", 16),
    ("M", "Time", 7),
    ("X", "Between cores", 13),
    ("K", "Cancellation", 16),
    ("S", "Security", 17),
];

/// What is to come, as the notes name it. Only these may stand beside a test.
const PARTS: [(&str, &str); 3] = [
    ("resolver", "comes with the resolver"),
    ("cores", "comes with the work between cores"),
    ("tls", "comes with TLS"),
];

pub(super) struct Fault<'a> {
    id: &'a str,
    what: &'a str,
    must: &'a str,
    never: &'a str,
    note: Option<&'a str>,
}

/// A test that injects faults.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) path: String,
    pub(super) name: String,
    pub(super) ids: Vec<String>,
}

/// The faults with their tests.
pub(super) struct Table<'a> {
    faults: Vec<Fault<'a>>,
    tests: Vec<Test>,
}

/// Reads the list; a line that is none is a problem.
pub(super) fn faults(text: &str) -> (Vec<Fault<'_>>, Vec<String>) {
    let (mut faults, mut problems) = (Vec::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = line.split(" | ").collect();
        let (note, fields) = match &fields[..] {
            [first @ .., note] if first.len() == 4 => (Some(*note), first),
            all => (None, all),
        };
        match fields {
            [id, what, must, never] => faults.push(Fault {
                id,
                what,
                must,
                never,
                note,
            }),
            _ => problems.push(format!("faults.txt:{}: not a fault: {line}", at + 1)),
        }
    }
    (faults, problems)
}

/// The ids at the start of a test's name, in capitals.
fn ids(name: &str) -> Vec<String> {
    let is_id = |segment: &&str| {
        let (letter, digits) = segment.split_at(segment.len().min(1));
        "dctermpxks".contains(letter)
            && matches!(digits.len(), 1 | 2)
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    // The last segment is never an id: a name must say more than that.
    let (start, _) = name.rsplit_once('_').unwrap_or_default();
    let segments = start.split('_').take_while(is_id);
    segments.map(str::to_ascii_uppercase).collect()
}

/// Every test of the tree whose name begins with ids.
pub(super) fn tests(files: &[File]) -> Vec<Test> {
    let mut tests = Vec::new();
    for file in files {
        let mut marked = false;
        for line in &file.lines {
            let code = line.code.trim();
            if let Some(name) = function(code).filter(|_| marked) {
                let ids = ids(name);
                if !ids.is_empty() {
                    tests.push(Test {
                        path: file.path.clone(),
                        name: name.to_owned(),
                        ids,
                    });
                }
            }
            // Between the mark and the function stand comments and other attributes.
            marked = code == "#[test]" || marked && (code.is_empty() || code.starts_with("#["));
        }
    }
    tests
}

fn function(code: &str) -> Option<&str> {
    let (before, after) = code.split_once("fn ")?;
    let is_start = before.is_empty() || before.ends_with(' ');
    let end = after.find(|c| !is_word(c)).unwrap_or(after.len());
    (is_start && end > 0).then_some(&after[..end])
}

impl<'a> Table<'a> {
    pub(super) fn new(faults: Vec<Fault<'a>>, tests: Vec<Test>) -> Self {
        Self { faults, tests }
    }

    fn tests_of(&self, id: &str) -> impl Iterator<Item = &Test> {
        let names_it = move |test: &&Test| test.ids.iter().any(|found| found == id);
        self.tests.iter().filter(names_it)
    }

    fn has_tests(&self, fault: &Fault<'_>) -> bool {
        self.tests_of(fault.id).next().is_some()
    }

    /// How many faults have neither a test nor a reason.
    pub(super) fn missing(&self) -> usize {
        let missing = |fault: &&Fault<'_>| fault.note.is_none() && !self.has_tests(fault);
        self.faults.iter().filter(missing).count()
    }

    /// Ids that do not exist, exist twice or are left out; reasons that hold no longer.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let expected: Vec<String> = GROUPS
            .iter()
            .flat_map(|(group, _, count)| (1..=*count).map(move |n| format!("{group}{n}")))
            .collect();
        let listed: Vec<&str> = self.faults.iter().map(|fault| fault.id).collect();
        if listed != expected {
            problems.push("faults.txt must have each id once, in the order of the groups".into());
        }
        for test in &self.tests {
            let unknown = test.ids.iter().filter(|id| !listed.contains(&id.as_str()));
            problems.extend(unknown.map(|id| {
                let (path, name) = (&test.path, &test.name);
                format!("{path}: {name} names the fault {id}, which does not exist")
            }));
        }
        for fault in &self.faults {
            let is_reason = |note: &&str| PARTS.iter().all(|(part, _)| part != note);
            if fault.note.is_some_and(|note| is_reason(&note)) && self.has_tests(fault) {
                let id = fault.id;
                problems.push(format!("{id} has a test: its note in faults.txt must go"));
            }
        }
        problems
    }

    /// The page.
    pub(super) fn page(&self) -> String {
        let mut page = String::from(INTRODUCTION);
        page += &self.summary();
        for (group, title, _) in GROUPS {
            let _ = write!(
                page,
                "\n## {group}: {title}\n\n| | fault | must | never | tests |\n| --- | --- | --- | --- | --- |\n"
            );
            let of_group = self.faults.iter().filter(|fault| {
                let number = fault.id.strip_prefix(group);
                number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
            });
            for fault in of_group {
                let Fault {
                    id,
                    what,
                    must,
                    never,
                    ..
                } = fault;
                let tests = self.cell(fault);
                let _ = writeln!(page, "| {id} | {what} | {must} | {never} | {tests} |");
            }
        }
        page
    }

    fn summary(&self) -> String {
        let count = |keep: &dyn Fn(&Fault<'_>) -> bool| {
            self.faults.iter().filter(|fault| keep(fault)).count()
        };
        let tested = count(&|fault| self.has_tests(fault));
        let partly = count(&|fault| self.has_tests(fault) && fault.note.is_some());
        let waiting = count(&|fault| !self.has_tests(fault) && fault.note.is_some());
        let (all, missing) = (self.faults.len(), self.missing());
        format!(
            "{all} faults: {tested} with tests ({partly} of them in part), {waiting} that wait for \
             a part which the pool does not have, {missing} without a test.\n"
        )
    }

    /// The tests of a fault, by file, and why there are no more.
    fn cell(&self, fault: &Fault<'_>) -> String {
        let mut by_file: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for test in self.tests_of(fault.id) {
            by_file.entry(&test.path).or_default().push(&test.name);
        }
        let files = by_file.iter().map(|(path, names)| {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            format!("{path}: {}", names.join(", "))
        });
        let mut parts: Vec<String> = files.collect();
        let note = fault.note.map(|note| {
            let part = PARTS.iter().find(|(part, _)| *part == note);
            part.map_or(note, |(_, text)| text)
        });
        match note {
            Some(note) if parts.is_empty() => parts.push(note.to_owned()),
            Some(note) => parts.push(format!("the rest {note}")),
            None if parts.is_empty() => parts.push("**no test yet**".into()),
            None => {}
        }
        parts.join("<br>")
    }
}

const INTRODUCTION: &str = "# Faults

What a pool meets in the world, what it must do then and what it must never do, and the tests that inject it.
This page is made from `tests/tidy/faults.txt` and the names of the tests by `UPDATE_DOCS=1 cargo test --test tidy`; an edit here is lost, and a page that differs fails the test.

A test whose name begins with ids injects those faults: `e4_s8_..` injects E4 and S8.
The ids of group D are not the numbers of the rules in [safety.md](safety.md).

";

/// Samples that the checks refuse, and one that they accept.
pub(super) fn each_check_can_fail_and_can_pass() {
    let (rows, problems) = faults("# c\n\nE4 | a | b | c\nE5 | a | b\n");
    assert_eq!((rows.len(), problems.len()), (1, 1));
    let line = |id: &str| match id {
        "C2" => format!("{id} | a | b | c | not there\n"),
        "T1" => format!("{id} | a | b | c | tls\n"),
        _ => format!("{id} | a | b | c\n"),
    };
    let all = GROUPS.iter().flat_map(|(group, _, count)| {
        let count = *count;
        (1..=count).map(move |n| line(&format!("{group}{n}")))
    });
    let text: String = all.collect();
    let table = |text, source: &str| {
        let tests = tests(&[File::new("tests/a.rs", source)]);
        Table::new(faults(text).0, tests)
    };
    let good = table(
        &text,
        "#[test]\n// c\n#[cfg(x)]\nfn e4_s8_it_holds() {}\nfn e5_no_test() {}\n\
         #[test]\nfn t1_in_part() {}\n#[test]\nfn x_y() {}\n#[test]\nfn d100_x() {}\n",
    );
    assert_eq!(good.problems(), Vec::<String>::new());
    assert_eq!(good.tests.len(), 2);
    assert_eq!(good.missing(), 175 - 2 - 2);
    let page = good.page();
    let row = "| E4 | a | b | c | tests/a.rs: `e4_s8_it_holds` |\n";
    assert!(page.contains(row), "{page}");
    assert!(page.contains("| S8 | a | b | c | tests/a.rs: `e4_s8_it_holds` |\n"));
    assert!(page.contains("| C2 | a | b | c | not there |\n"));
    assert!(
        page.contains("| T1 | a | b | c | tests/a.rs: `t1_in_part`<br>the rest comes with TLS")
    );
    assert!(page.contains("| E5 | a | b | c | **no test yet** |\n"));
    let summary = "175 faults: 3 with tests (1 of them in part), 1 that wait";
    assert!(
        page.contains(summary) && page.contains("171 without a test"),
        "{page}"
    );
    let unknown = table(&text, "#[test]\nfn e4_e19_too_far() {}\n");
    assert_eq!(unknown.problems().len(), 1);
    let overtaken = table(&text, "#[test]\nfn c2_there_now() {}\n");
    assert_eq!(overtaken.problems().len(), 1);
    let twice = text.clone() + "E4 | a | b | c\n";
    assert_eq!(table(&twice, "").problems().len(), 1);
    assert_eq!(ids("e4_s17_x"), ["E4", "S17"]);
    for name in ["e4", "e_4_x", "z4_x", "e444_x", "x", ""] {
        assert!(ids(name).is_empty(), "{name}");
    }
}
