//! The rules for documents: what they name exists, and what exists they name.

use std::fs;
use std::path::Path;

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

/// What stands directly in `src`, folders with a slash.
pub(super) fn source_entries() -> Vec<String> {
    let entries = fs::read_dir(root().join("src")).expect("src can be listed");
    let entries = entries.map(|entry| entry.expect("an entry of src"));
    entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let folder = entry.path().is_dir();
            if folder { format!("{name}/") } else { name }
        })
        .filter(|name| name.ends_with('/') || name.ends_with(".rs"))
        // A folder beside a file of the same name is part of it.
        .filter(|name| {
            !root().join("src").join(name.replace('/', ".rs")).exists() || !name.ends_with('/')
        })
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
