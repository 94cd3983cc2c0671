//! The rules for documents: what they name exists, and what exists they name.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::source::{File, is_word, root};

/// Links of the form `](path)` that lead to no file.
pub(super) fn broken_links(document: &Path, text: &str) -> Vec<String> {
    let folder = document.parent().unwrap_or(Path::new(""));
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    targets
        .map(|target| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .filter(|target| !root().join(folder).join(target).exists())
        .map(|target| format!("{}: link to {target}, which is no file", document.display()))
        .collect()
}

pub(super) fn missing_names(document: &str, text: &str, names: &[String]) -> Vec<String> {
    let missing = names
        .iter()
        .filter(|name| !text.contains(&format!("`{name}`")));
    missing
        .map(|name| format!("{document} does not name `{name}`"))
        .collect()
}

/// What stands directly in `src`, folders with a slash; a folder beside a file of the same name is
/// part of that.
pub(super) fn source_entries() -> Vec<String> {
    let has_file = |folder: &str| root().join("src").join(folder.replace('/', ".rs")).exists();
    let entries = entries_of("src").into_iter();
    entries
        .filter(|name| name.ends_with(".rs") || name.ends_with('/') && !has_file(name))
        .collect()
}

/// The files of tests, without their extension.
pub(super) fn test_entries() -> Vec<String> {
    let entries = entries_of("tests").into_iter();
    entries
        .filter_map(|name| name.strip_suffix(".rs").map(ToOwned::to_owned))
        .collect()
}

/// The deliberate bugs of `tests/mutations` that do not fit the code any more: where each needs a
/// new home, and nobody else would notice before the simulation has been built for them.
pub(super) fn patches_that_do_not_apply() -> Vec<String> {
    let patches = entries_of("tests/mutations").into_iter();
    patches
        .filter(|name| name.ends_with(".patch"))
        .filter_map(|name| {
            let patch = root().join("tests/mutations").join(&name);
            refusal(&patch).map(|why| format!("tests/mutations/{name}: {why}"))
        })
        .collect()
}

/// Why `git apply` would refuse the patch, if it would.
pub(super) fn refusal(patch: &Path) -> Option<String> {
    let checked = Command::new("git")
        .args(["apply", "--check"])
        .arg(patch)
        .current_dir(root())
        .output()
        .expect("git can be started");
    let why = String::from_utf8_lossy(&checked.stderr).trim().to_owned();
    (!checked.status.success()).then_some(why)
}

fn entries_of(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).expect("the folder can be listed");
    let name_of = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let slash = if entry.path().is_dir() { "/" } else { "" };
        name + slash
    };
    entries
        .map(|entry| name_of(entry.expect("an entry of the folder")))
        .collect()
}

/// The names in the dependency tables of a manifest.
pub(super) fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| inside) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Tests that `text` names on its lines `Tested: ..` and that no file has.
pub(super) fn missing_tests(text: &str, files: &[File]) -> Vec<String> {
    let named = text
        .lines()
        .filter_map(|line| line.strip_prefix("Tested: "))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|name| name.chars().all(is_word) && name.contains('_'));
    let exists = |name: &str| {
        let start = format!("fn {name}(");
        let mut lines = files.iter().flat_map(|file| &file.lines);
        lines.any(|line| line.test && line.code.contains(&start))
    };
    named
        .filter(|name| !exists(name))
        .map(|name| format!("docs/safety.md names the test {name}, which does not exist"))
        .collect()
}

/// The public fields of a struct with their defaults, as its documentation has them.
pub(super) fn settings(source: &str, name: &str) -> Vec<(String, String)> {
    let start = format!("pub struct {name} {{");
    let lines = source.lines().skip_while(|line| *line != start).skip(1);
    let mut documentation = String::new();
    let mut settings = Vec::new();
    for line in lines.take_while(|line| *line != "}") {
        let line = line.trim_start();
        if let Some(text) = line.strip_prefix("///") {
            documentation += text;
        } else if let Some((field, _)) = line
            .strip_prefix("pub ")
            .and_then(|rest| rest.split_once(':'))
        {
            settings.push((field.to_owned(), default_of(&documentation)));
            documentation.clear();
        }
    }
    settings
}

/// What stands behind the last "Default", up to the end of its clause.
fn default_of(documentation: &str) -> String {
    let Some((_, text)) = documentation.rsplit_once("Default") else {
        return "none".into();
    };
    // Not the `default` of a path.
    let text = text.trim_start_matches(':').trim();
    let ends = [". ", ": "].iter().filter_map(|end| text.find(end));
    let clause = &text[..ends.min().unwrap_or(text.len())];
    clause.trim_end_matches('.').replace(['[', ']', '`'], "")
}

/// Settings that no row of a table begins with, or that it gives another default.
pub(super) fn missing_settings(text: &str, settings: &[(String, String)]) -> Vec<String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows: Vec<(&str, String)> = rows
        .filter_map(|row| row.split_once("` | "))
        .map(|(field, rest)| {
            let default = rest.split(" |").next().unwrap_or_default();
            (field, default.replace('`', ""))
        })
        .collect();
    let problem =
        |(field, default): &(String, String)| match rows.iter().find(|(name, _)| name == field) {
            None => Some(format!("docs/tuning.md has no row for `{field}`")),
            Some((_, said)) if said != default => Some(format!(
                "docs/tuning.md: the default of `{field}` is {said:?}, its documentation says \
                 {default:?}"
            )),
            Some(_) => None,
        };
    settings.iter().filter_map(problem).collect()
}
