//! Links in Markdown files lead somewhere, and README stays short.

#![allow(clippy::unwrap_used)] // a file that cannot be read fails the test

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Markdown files of the repository; not those of build folders and installed packages.
fn markdown_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with('.') || ["target", "node_modules"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            markdown_files(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The lines outside of fenced code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// A line without its `code`.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

/// The targets of a text's links, `[…](TARGET)`.
fn links(text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for line in prose(text).map(without_code) {
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split(')').next().unwrap_or_default();
            targets.push(target.to_owned());
        }
    }
    targets
}

/// The anchors of a text's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let title = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// Why `target` in `file` leads nowhere; `None` where it leads somewhere or out of the repository.
fn fault(file: &Path, target: &str) -> Option<String> {
    if target.contains("://") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = match path.is_empty() {
        true => file.to_owned(),
        false => file.with_file_name("").join(path),
    };
    if !path.exists() {
        return Some(format!("{}: {target}: no such file", file.display()));
    }
    let is_known = || anchors(&std::fs::read_to_string(&path).unwrap()).contains(anchor);
    let is_fine = anchor.is_empty() || is_known();
    (!is_fine).then(|| format!("{}: {target}: no such heading", file.display()))
}

#[test]
fn links_resolve() {
    let mut files = Vec::new();
    markdown_files(root(), &mut files);
    assert!(files.len() > 10, "{files:?}");
    let mut faults = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let targets = links(&text);
        faults.extend(targets.iter().filter_map(|target| fault(file, target)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn readme_is_short() {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let lines = text.lines().count();
    assert!(lines <= 140, "README.md has {lines} lines, at most 140");
    let is_long = |line: &&str| !line.starts_with('|') && line.chars().count() > 120;
    let long: Vec<&str> = text.lines().filter(is_long).collect();
    assert!(
        long.is_empty(),
        "longer than 120 columns:\n{}",
        long.join("\n")
    );
}

#[test]
fn readme_names_what_the_checks_call() {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let checks = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    for command in [
        "cargo fmt --check",
        "tests/tools.sh",
        "tests/run.sh",
        "cargo run --release -- demo",
    ] {
        assert!(text.contains(command), "README.md: {command}");
        assert!(checks.contains(command), ".ci/run: {command}");
    }
}

#[test]
fn the_map_of_modules_names_all() {
    let map = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    for entry in std::fs::read_dir(root().join("src")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let is_named =
            ["lib", "main"].contains(&name.as_ref()) || map.contains(&format!("`{name}`"));
        assert!(is_named, "docs/architecture.md: {name}");
    }
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let file = root().join("README.md");
    let text = "# Two words: `x`\n[a](#two-words-x) `[b](none.md)`\n```\n[c](none.md)\n```\n[d](none.md#x)";
    assert_eq!(links(text), ["#two-words-x", "none.md#x"]);
    assert!(anchors(text).contains("two-words-x"));
    assert!(fault(&file, "none.md").is_some());
    assert!(fault(&file, "README.md#no-such-heading").is_some());
    assert_eq!(fault(&file, "README.md#quick-start"), None);
    assert_eq!(fault(&file, "https://example.org/none"), None);
}
