//! Imports point down: no module names one of a higher layer, and only `runtime/` names `ort`.

#![allow(clippy::unwrap_used)] // a source that cannot be read fails the test

use std::collections::{BTreeMap, BTreeSet};
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
    ("sandbox", 4),
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

/// The modules that the fronts may name: a request, as a host of the library makes it; what they inspect, report and
/// install; the ground.
const FOR_FRONTS: &[&str] = &[
    "service", "engine", "options", "config", "imageio", "error", "bundle", "pipeline", "runtime",
    "cancel", "memory", "files", "yaml", "sandbox",
];

/// Files above the engine that decode pictures in their own process, and why. Others go by `service::pictures`, which
/// knows whether pictures are decoded apart.
const DECODING: &[(&str, &str)] = &[
    ("src/service/pictures.rs", "decides"),
    ("src/cli/demo.rs", "reads the program's own pictures"),
    ("src/cli/mod.rs", "is the process apart"),
];

/// Files of the fronts that name another module, and why.
const FRONT_EXCEPTIONS: &[(&str, &str, &str)] = &[(
    "src/cli/bench/graphs.rs",
    "nets",
    "measures the memory of single graphs, so it feeds them",
)];

/// Files that import one another in a circle, and why. A cycle is found within a module: modules import only downward.
const FILE_CYCLES: &[(&[&str], &str)] = &[
    (
        &[
            "capi::boundary",
            "capi::error",
            "capi::handles",
            "capi::strings",
        ],
        "a failed call gives an error object away, and its own functions can fail in the same way",
    ),
    (
        &["capi::engine", "capi::queue", "capi::restore", "capi::work"],
        "an engine owns the queue of its requests, and a request keeps its engine alive",
    ),
    (
        &["imageio::decode", "imageio::jxl", "imageio::raw"],
        "the readers of single formats report damage as `decode` does",
    ),
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

/// `text` without its inline tests and comments.
fn production(text: &str) -> String {
    let tested = text.find("#[cfg(test)]\nmod tests {");
    code(&text[..tested.unwrap_or(text.len())])
        .collect::<Vec<_>>()
        .join("\n")
}

/// The module path of a file of `src/`: `["cli", "args"]` of `src/cli/args/mod.rs`.
fn module_path(path: &Path) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let below = path.strip_prefix(root).unwrap().with_extension("");
    let parts = below.iter().map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| part != "mod").collect()
}

/// The paths that `code` in the module `own` names after `crate::`, `self::` or `super::`, from the crate's root on, with
/// braced lists expanded.
fn named(code: &str, own: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for root in ["crate::", "self::", "super::"] {
        for (at, _) in code.match_indices(root) {
            let inside = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            if !code[..at].ends_with(inside) {
                read_path(&code[at..], Vec::new(), own, &mut found);
            }
        }
    }
    found
}

/// Reads the path or the braced list of paths at the start of `rest` below `prefix`; returns the text behind it.
fn read_path<'a>(
    rest: &'a str,
    mut prefix: Vec<String>,
    own: &[String],
    found: &mut Vec<Vec<String>>,
) -> &'a str {
    let rest = rest.trim_start();
    if let Some(list) = rest.strip_prefix('{') {
        let mut list = list.trim_start();
        while !list.is_empty() && !list.starts_with('}') {
            list = read_path(list, prefix.clone(), own, found);
            // Behind `as NAME` and `*`.
            list = &list[list.find([',', '}']).unwrap_or(list.len())..];
            list = list.trim_start_matches(',').trim_start();
        }
        return list.strip_prefix('}').unwrap_or(list);
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
    let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
    match name {
        "crate" => prefix.clear(),
        "self" if prefix.is_empty() => prefix = own.to_vec(),
        "super" if prefix.is_empty() => prefix = own[..own.len() - 1].to_vec(),
        "super" => prefix.truncate(prefix.len() - 1),
        "self" | "" => {}
        name => prefix.push(name.to_owned()),
    }
    match rest.strip_prefix("::") {
        Some(more) => read_path(more, prefix, own, found),
        None => {
            found.push(prefix);
            rest
        }
    }
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
    let mut wrong = BTreeSet::new();
    for (module, path, text) in all_sources() {
        let Some(own) = layer(&module) else { continue };
        let code: Vec<&str> = code(&text).collect();
        for name in named(&code.join("\n"), &module_path(&path)) {
            let Some(name) = name.first().filter(|name| **name != module) else {
                continue;
            };
            let up = layer(name).is_some_and(|other| other > own);
            if up || APART.contains(&(module.as_str(), name.as_str())) {
                wrong.insert(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that point up: {wrong:#?}");
}

#[test]
fn fronts_name_what_a_host_would() {
    let mut others = BTreeSet::new();
    for (module, path, text) in all_sources() {
        if !["cli", "capi"].contains(&module.as_str()) {
            continue;
        }
        let root = env!("CARGO_MANIFEST_DIR");
        let file = path.strip_prefix(root).unwrap().display().to_string();
        for name in named(&production(&text), &module_path(&path)) {
            let Some(name) = name.into_iter().next() else {
                continue;
            };
            if name != module && !FOR_FRONTS.contains(&name.as_str()) {
                others.insert((file.clone(), name));
            }
        }
    }
    let listed = FRONT_EXCEPTIONS
        .iter()
        .map(|(file, name, _)| ((*file).to_owned(), (*name).to_owned()));
    assert_eq!(others, listed.collect(), "found, and listed with a reason");
}

#[test]
fn pictures_are_decoded_where_the_configuration_says() {
    let mut found = BTreeSet::new();
    for (module, path, text) in all_sources() {
        let is_above = ["service", "cli", "capi"].contains(&module.as_str());
        for call in ["imageio::read", "imageio::decode", "imageio::header"] {
            if is_above && production(&text).contains(call) {
                let root = env!("CARGO_MANIFEST_DIR");
                found.insert(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    let listed = DECODING.iter().map(|(file, _)| (*file).to_owned());
    assert_eq!(found, listed.collect(), "found, and listed with a reason");
}

/// Files import one another in circles only where [`FILE_CYCLES`] says why. A file and the files of its own folder count
/// as one way: children may name their parent.
#[test]
fn files_import_without_cycles() {
    let sources = all_sources();
    let files: BTreeMap<Vec<String>, &String> = sources
        .iter()
        .map(|(_, path, text)| (module_path(path), text))
        .collect();
    let mut reached: BTreeMap<&[String], BTreeSet<&[String]>> = BTreeMap::new();
    for (own, text) in &files {
        let file_of = |path: Vec<String>| {
            let ends = (1..=path.len()).rev();
            let mut known = ends.filter_map(|n| files.get_key_value(&path[..n]));
            known.next().map(|(file, _)| file.as_slice())
        };
        let names = named(&production(text), own).into_iter();
        let others = names.filter_map(file_of).filter(|f| !own.starts_with(f));
        reached.insert(own, others.collect());
    }
    // Whatever is reached from what is reached, until nothing is new.
    loop {
        let before = reached.clone();
        for far in reached.values_mut() {
            let near: Vec<&[String]> = far.iter().copied().collect();
            far.extend(near.iter().flat_map(|file| &before[file]));
        }
        if before == reached {
            break;
        }
    }
    let circle = |file: &[String]| -> Vec<String> {
        let far = reached[file].iter();
        let back = far.filter(|other| reached[**other].contains(file));
        back.map(|other| other.join("::")).collect()
    };
    let cycles: BTreeSet<Vec<String>> = reached.keys().map(|file| circle(file)).collect();
    let listed = FILE_CYCLES
        .iter()
        .map(|(files, _)| files.iter().map(|file| (*file).to_owned()).collect());
    let listed: BTreeSet<Vec<String>> = listed.chain([Vec::new()]).collect();
    assert_eq!(cycles, listed, "found, and listed with a reason");
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
    let own = ["cli".to_owned(), "bench".to_owned()];
    let seen = |code| -> Vec<String> {
        let paths = named(code, &own);
        paths.iter().map(|path| path.join("::")).collect()
    };
    assert_eq!(
        seen("use crate::{engine, cli::{self, args as a},\n files::*};"),
        ["engine", "cli", "cli::args", "files"]
    );
    assert_eq!(
        seen("    x: crate::runtime::Session,"),
        ["runtime::Session"]
    );
    assert_eq!(
        seen("super::say::x(super::super::imageio::y, self::z)"),
        ["cli::bench::z", "cli::say::x", "imageio::y"]
    );
}
