//! Imports point down: no module names one of a higher layer, and only `runtime/` names `ort`.

#![allow(clippy::unwrap_used)] // a source that cannot be read fails the test

use std::path::{Path, PathBuf};

/// Each module and its layer. A module may import from its own layer and those below.
const LAYERS: &[(&str, u8)] = &[
    ("error", 0),
    ("declare", 1),
    ("wording", 1),
    ("files", 0),
    ("yaml", 1),
    ("tensor", 1),
    ("cancel", 1),
    ("canvas", 1),
    ("memory", 1),
    ("read_file", 1),
    ("rng", 2),
    ("resize", 2),
    ("color", 2),
    ("denoise", 2),
    ("text", 2),
    ("tiling", 2),
    ("schedule", 3),
    ("guidance", 3),
    ("samplers", 4),
    ("nets", 5),
    ("runtime", 6),
    ("options", 7),
    ("bundle", 7),
    ("config", 8),
    ("prompts", 8),
    ("pipeline", 8),
    ("imageio", 3),
    ("engine", 10),
    ("service", 11),
    ("cli", 12),
    ("capi", 12),
];

/// Modules that may not import each other although they share a layer.
const APART: &[(&str, &str)] = &[
    ("rng", "resize"),
    ("rng", "color"),
    ("cli", "capi"),
    ("capi", "cli"),
    ("config", "pipeline"),
    ("pipeline", "config"),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    let module = |path: &Path| {
        let first = path
            .strip_prefix(&root)
            .unwrap()
            .components()
            .next()
            .unwrap();
        first
            .as_os_str()
            .to_string_lossy()
            .trim_end_matches(".rs")
            .to_owned()
    };
    found
        .into_iter()
        .map(|path| {
            (
                module(&path),
                path.clone(),
                std::fs::read_to_string(path).unwrap(),
            )
        })
        .collect()
}

fn layer(module: &str) -> Option<u8> {
    LAYERS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, layer)| *layer)
}

/// Code without comments and strings' worth of prose: what is left of each line before `//`.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
}

/// The crate's modules that a line names after `crate::`, also in a braced list.
fn named(line: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        let list = rest
            .strip_prefix('{')
            .map_or(rest, |inner| inner.split('}').next().unwrap_or(inner));
        let parts: Vec<&str> = if rest.starts_with('{') {
            list.split(',').collect()
        } else {
            vec![list]
        };
        for part in parts {
            let name: String = part
                .trim()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            names.push(name);
        }
    }
    names
}

#[test]
fn every_module_has_a_layer() {
    for (module, path, _) in all_sources() {
        let known = layer(&module).is_some() || ["lib", "main"].contains(&module.as_str());
        assert!(
            known,
            "{}: give `{module}` a layer in this test",
            path.display()
        );
    }
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for (module, path, text) in all_sources() {
        let Some(own) = layer(&module) else { continue };
        for line in code(&text) {
            for name in named(line).into_iter().filter(|name| *name != module) {
                let Some(other) = layer(&name) else { continue };
                if other > own || APART.contains(&(module.as_str(), name.as_str())) {
                    wrong.push(format!(
                        "{}: `{module}` imports `{name}`: {}",
                        path.display(),
                        line.trim()
                    ));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports that point up:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn ort_is_named_in_the_runtime_alone() {
    for (module, path, text) in all_sources() {
        if module == "runtime" {
            continue;
        }
        for line in code(&text) {
            // `report::` ends in the same letters.
            let in_a_word =
                |at: usize| line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let named = line.match_indices("ort::").any(|(at, _)| !in_a_word(at));
            assert!(!named, "{}: {}", path.display(), line.trim());
        }
    }
}

#[test]
fn unsafe_stands_in_the_runtime_and_the_c_abi_alone_and_says_why() {
    // The environment can be set soundly only while one thread runs: in `main`, before anything else.
    let in_main = "unsafe { diffbir::runtime::telemetry::disable() };";
    for (module, path, text) in all_sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            if !line
                .split("//")
                .next()
                .unwrap_or_default()
                .contains("unsafe {")
            {
                continue;
            }
            let place = format!("{}:{}", path.display(), i + 1);
            let is_exception = module == "main" && line.trim() == in_main;
            assert!(
                ["runtime", "capi"].contains(&module.as_str()) || is_exception,
                "{place}"
            );
            let said = lines[i.saturating_sub(3)..i]
                .iter()
                .any(|line| line.contains("SAFETY:"));
            assert!(said, "{place}: unsafe without SAFETY");
        }
    }
}

#[test]
fn the_scanner_sees_lists_and_inline_paths() {
    assert_eq!(named("use crate::{engine, cli::args};"), ["engine", "cli"]);
    assert_eq!(named("    x: crate::runtime::Session,"), ["runtime"]);
}
