//! Rust as text: code, comments and strings told apart, and what is compiled for tests alone.

use std::fs;
use std::path::{Path, PathBuf};

/// A line of Rust, taken apart: what strings say is in neither part. An empty comment is a space.
#[derive(Default)]
pub(super) struct Line {
    pub(super) code: String,
    pub(super) comment: String,
    pub(super) test: bool,
}

pub(super) struct File {
    /// From the root of the tree.
    pub(super) path: String,
    pub(super) lines: Vec<Line>,
}

/// What a rule finds: a line, counted from 0, and the complaint.
pub(super) type Problems = Vec<(usize, String)>;

impl File {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let mut lines = take_apart(text);
        let all_test = path.ends_with("tests.rs") || format!("/{path}").contains("/tests/");
        mark_tests(&mut lines, all_test);
        Self {
            path: path.to_owned(),
            lines,
        }
    }

    /// The module directly under `src` to which the file belongs.
    pub(super) fn module(&self) -> Option<&str> {
        let first = self.path.strip_prefix("src/")?.split('/').next()?;
        Some(first.trim_end_matches(".rs"))
    }

    pub(super) fn complain(&self, message: &str, is_bad: impl Fn(&Line) -> bool) -> Problems {
        let lines = self.lines.iter().enumerate();
        lines
            .filter(|(_, line)| is_bad(line))
            .map(|(at, _)| (at, message.to_owned()))
            .collect()
    }
}

/// Marks what is compiled under `cfg(test)` alone: the item that follows the attribute.
fn mark_tests(lines: &mut [Line], all: bool) {
    let (mut inside, mut depth) = (false, 0);
    for line in lines {
        if !inside && (line.code.contains("#[cfg(test)]") || line.code.contains("cfg(all(test")) {
            (inside, depth) = (true, 0);
        }
        line.test = all || inside;
        let code = if inside { line.code.as_str() } else { "" };
        for c in code.chars() {
            depth += i32::from(c == '{') - i32::from(c == '}');
            inside &= depth != 0 || !matches!(c, '}' | ';');
        }
    }
}

/// Separates code from comments and empties strings, character by character.
fn take_apart(text: &str) -> Vec<Line> {
    enum In {
        Code,
        Comment(usize),
        Text { hashes: Option<usize> },
    }
    let mut state = In::Code;
    let mut lines = Vec::new();
    for text in text.lines() {
        let chars: Vec<char> = text.chars().collect();
        let mut line = Line::default();
        let mut at = 0;
        while at < chars.len() {
            let rest = &chars[at..];
            let mut step = 1;
            match state {
                In::Code if rest.starts_with(&['/', '/']) => {
                    line.comment.push(' ');
                    line.comment
                        .extend(rest[2..].iter().skip_while(|&&c| c == '/' || c == '!'));
                    break;
                }
                In::Code if rest.starts_with(&['/', '*']) => (state, step) = (In::Comment(1), 2),
                In::Code => {
                    line.code.push(rest[0]);
                    if rest[0] == '"' {
                        state = In::Text {
                            hashes: raw_hashes(&line.code),
                        };
                    } else if let Some(length) = char_literal(rest) {
                        line.code.push_str(" '");
                        step = length;
                    }
                }
                In::Comment(depth) if rest.starts_with(&['*', '/']) => {
                    state = if depth == 1 {
                        In::Code
                    } else {
                        In::Comment(depth - 1)
                    };
                    step = 2;
                }
                In::Comment(depth) if rest.starts_with(&['/', '*']) => {
                    (state, step) = (In::Comment(depth + 1), 2);
                }
                In::Comment(_) => line.comment.push(rest[0]),
                In::Text { hashes: None } if rest[0] == '\\' => step = 2,
                In::Text { hashes } if ends_text(rest, hashes.unwrap_or(0)) => {
                    line.code.push('"');
                    state = In::Code;
                }
                In::Text { .. } => {}
            }
            at += step;
        }
        lines.push(line);
    }
    lines
}

/// Whether the quote that ends `code` opens a raw string, and with how many hashes.
fn raw_hashes(code: &str) -> Option<usize> {
    let before = code.trim_end_matches('"');
    let word = before.trim_end_matches('#');
    let prefix: String = word.chars().rev().take_while(|&c| is_word(c)).collect();
    matches!(prefix.as_str(), "r" | "rb" | "rc").then(|| before.len() - word.len())
}

fn ends_text(rest: &[char], hashes: usize) -> bool {
    rest[0] == '"' && rest.len() > hashes && rest[1..=hashes].iter().all(|&c| c == '#')
}

/// The length of the character literal at the start, if it is one and not a lifetime.
fn char_literal(rest: &[char]) -> Option<usize> {
    match rest {
        ['\'', '\\', ..] => rest
            .iter()
            .skip(3)
            .position(|&c| c == '\'')
            .map(|end| end + 4),
        ['\'', _, '\'', ..] => Some(3),
        _ => None,
    }
}

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

pub(super) fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !is_word(c)).any(|found| found == word)
}

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// Every Rust file of the tree; a file that its parent includes under `cfg(test)` is all test.
pub(super) fn tree() -> Vec<File> {
    let paths: Vec<PathBuf> = ["src", "tests", "benches"]
        .iter()
        .flat_map(|folder| files_under(folder, "rs"))
        .collect();
    let mut files: Vec<File> = paths
        .iter()
        .map(|path| File::new(&path.to_string_lossy(), &read(path)))
        .collect();
    assert!(files.len() > 5, "only {} files found", files.len());
    let test_modules: Vec<String> = files.iter().flat_map(test_modules).collect();
    for file in &mut files {
        let path = file.path.trim_end_matches(".rs").to_owned() + "/";
        if test_modules.iter().any(|module| path.starts_with(module)) {
            mark_tests(&mut file.lines, true);
        }
    }
    files
}

/// The paths, with a slash at the end, of modules that `file` declares under `cfg(test)`.
fn test_modules(file: &File) -> Vec<String> {
    let path = file.path.trim_end_matches(".rs");
    let folder = ["/mod", "/lib", "/main"]
        .iter()
        .find_map(|name| path.strip_suffix(name));
    let folder = folder.unwrap_or(path);
    let declared = file
        .lines
        .iter()
        .filter(|line| line.test)
        .filter_map(|line| {
            let declaration = line.code.trim().strip_suffix(';')?;
            declaration.rsplit_once("mod ").map(|(_, name)| name)
        });
    declared.map(|name| format!("{folder}/{name}/")).collect()
}

/// Files with an extension under a folder of the tree, as paths from the root, sorted; but none of
/// those that a build has put there.
pub(super) fn files_under(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(root().join(&folder)) else {
            continue;
        };
        for entry in entries {
            let path = folder.join(entry.expect("an entry of a folder").file_name());
            if root().join(&path).is_dir() {
                folders.extend((!path.ends_with("target")).then_some(path));
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
