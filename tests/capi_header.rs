//! `include/diffbir.h` is what cbindgen makes of `src/capi`. `DIFFBIR_WRITE_HEADER=1 cargo test --release --test
//! capi_header` writes it anew.

#![allow(clippy::unwrap_used)] // what fails here fails the test

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

const INTRODUCTION: &str = "\
/* The C ABI of diffbir, the deployment engine for DiffBIR on ONNX Runtime.
 *
 * Generated from src/capi by cbindgen; docs/embedding.md is the guide.
 *
 * Objects are opaque handles: diffbir_X_new makes one, diffbir_X_free ends it. A handle that is NULL, freed or of
 * another type is refused with an error and never touched; freeing such a one does nothing.
 *
 * Functions that can fail return a diffbir_error that the caller frees; NULL is success. What a function gives back
 * through a pointer stays as it was where the function fails. No call ends the process, and no panic leaves the library.
 *
 * Structures begin with struct_size. Fill them with DIFFBIR_INIT before you set fields; then a host goes on working with
 * a later library. Enumerations are passed as uint32_t.
 *
 * Strings are UTF-8 (paths: any bytes on Unix) and end in NUL. What the host passes in is copied during the call.
 *
 * Threads: every function may be called from any thread. Each handle's type says what threads may do with one at once.
 *
 * Exit: a host that returns from main or calls exit() need not free anything first. Requests at work are stopped, and exit
 * waits for the graph that is running, for an engine that is being made, unless it is the first, and for one second for
 * progress functions. Afterwards nothing begins any more, and a progress function that returns keeps its thread. Not so
 * with _exit(), which ends at once, and on Windows: there, free the engines first.
 */";

const MACROS: &str = "
/* Fills a structure with its defaults: DIFFBIR_INIT(diffbir_options, &options). */
#define DIFFBIR_INIT(type, place) type##_init((place), sizeof(type))

/* NULL, or an error where this header is newer than the library. */
#define DIFFBIR_ABI_CHECK() diffbir_abi_check(DIFFBIR_ABI_VERSION)

#ifdef DIFFBIR_TEST_HOOKS
/* Panics inside the library, for tests: returns an error with DIFFBIR_CODE_PANIC. */
#ifdef __cplusplus
extern \"C\"
#endif
struct diffbir_error *diffbir_test_panic(void);
#endif
";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<PathBuf> {
    let folder = root().join("src/capi");
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension().is_some_and(|ending| ending == "rs") && !path.ends_with("mod.rs")
        })
        .collect();
    found.sort();
    found
}

fn generated() -> String {
    let mut config = cbindgen::Config {
        language: cbindgen::Language::C,
        header: Some(INTRODUCTION.to_owned()),
        after_includes: Some(MACROS.to_owned()),
        include_guard: Some("DIFFBIR_H".to_owned()),
        cpp_compat: true,
        style: cbindgen::Style::Both,
        documentation_style: cbindgen::DocumentationStyle::Doxy,
        usize_is_size_t: true,
        line_length: 110,
        ..cbindgen::Config::default()
    };
    config.enumeration.rename_variants = cbindgen::RenameRule::QualifiedScreamingSnakeCase;
    config.export.exclude = vec!["diffbir_test_panic".to_owned()];
    config.export.include = ["log_level", "event", "type", "channels", "layout"]
        .map(|name| format!("diffbir_{name}"))
        .to_vec();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for path in sources() {
        builder = builder.with_src(path);
    }
    let mut bytes = Vec::new();
    builder.generate().unwrap().write(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    // What is safe and what is not is Rust's business.
    without_safety_sections(&text)
}

/// cbindgen copies the sections on safety that clippy asks for; the header says the same in its introduction.
fn without_safety_sections(text: &str) -> String {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.trim() == "* # Safety" {
            inside = true;
            // The empty line before it.
            lines.pop();
            continue;
        }
        inside &= line.trim() != "*/";
        if !inside {
            lines.push(line.trim_end());
        }
    }
    lines.join("\n") + "\n"
}

fn header() -> PathBuf {
    root().join("include/diffbir.h")
}

#[test]
fn the_header_is_what_the_sources_say() {
    let generated = generated();
    if std::env::var_os("DIFFBIR_WRITE_HEADER").is_some() {
        std::fs::create_dir_all(header().parent().unwrap()).unwrap();
        std::fs::write(header(), &generated).unwrap();
    }
    let checked_in = std::fs::read_to_string(header()).unwrap_or_default();
    assert!(
        checked_in == generated,
        "include/diffbir.h differs from src/capi: DIFFBIR_WRITE_HEADER=1 cargo test --release --test capi_header"
    );
}

/// The functions and structures of the header, each with the comment before it.
fn declarations(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut comment = String::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with("/*") {
            comment.clear();
        }
        if trimmed.starts_with("/*") || trimmed.starts_with('*') {
            comment.push_str(trimmed);
            continue;
        }
        let name = trimmed.split('(').next().unwrap_or_default();
        let name = name.rsplit([' ', '*']).next().unwrap_or_default();
        if line.contains('(') && !line.starts_with(' ') && name.starts_with("diffbir_") {
            found.insert(name.to_owned(), std::mem::take(&mut comment));
        }
    }
    found
}

#[test]
fn every_function_is_documented_and_says_what_it_owns() {
    let text = std::fs::read_to_string(header()).unwrap();
    let functions = declarations(&text);
    assert!(functions.len() > 30, "{}", functions.len());
    for (name, comment) in &functions {
        assert!(comment.len() > 20, "{name} is not documented");
        let gives = [
            "_new",
            "_image",
            "_encode",
            "_provenance",
            "_bundle",
            "_runtime",
        ];
        if gives.iter().any(|ending| name.ends_with(ending)) {
            assert!(
                comment.to_lowercase().contains("free"),
                "{name} does not say who frees"
            );
        }
    }
}

/// What version 1 of the ABI promised. A line may be added, none may go.
#[test]
fn nothing_of_the_first_version_is_gone() {
    let promised = std::fs::read_to_string(root().join("tests/capi/abi-1.txt")).unwrap();
    let promised: BTreeSet<&str> = promised.lines().collect();
    let text = std::fs::read_to_string(header()).unwrap();
    let functions = declarations(&text);
    for name in &promised {
        let enumerator = text.contains(&format!("  {name} = "));
        assert!(
            functions.contains_key(*name) || enumerator,
            "{name} is gone"
        );
    }
    let new: Vec<_> = functions
        .keys()
        .filter(|name| !promised.contains(name.as_str()))
        .collect();
    assert!(
        new.is_empty(),
        "add to tests/capi/abi-1.txt or raise the ABI version: {new:?}"
    );
}

#[test]
fn enumerators_have_numbers_of_their_own() {
    let text = std::fs::read_to_string(header()).unwrap();
    let mut numbers: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let mut of = "";
    for line in text.lines() {
        if let Some(rest) = line
            .strip_prefix("typedef enum ")
            .or(line.strip_prefix("enum "))
        {
            of = rest.split_whitespace().next().unwrap_or_default();
        }
        if let Some((name, number)) = line.trim().trim_end_matches(',').split_once(" = ")
            && name.starts_with("DIFFBIR_")
        {
            let before = numbers.insert((of, number), name);
            assert!(before.is_none(), "{name} and {before:?} are both {number}");
        }
    }
    assert!(numbers.len() > 20);
}

#[test]
fn the_guide_is_there() {
    assert!(root().join("docs/embedding.md").is_file());
}
