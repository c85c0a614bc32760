//! Fuzzing on stable: every target over its seeds, the inputs that were found once, and 2,000 seeded mutations of them.
//! `fuzz/run.sh TARGET RUNS` makes long runs of it; see `fuzz/README.md`.

#![allow(clippy::unwrap_used)] // what fails here fails the test

#[path = "pictures/colours.rs"]
mod colours;
#[path = "fuzz/driver.rs"]
mod driver;
#[path = "pictures/kinds.rs"]
#[allow(dead_code)] // only its files
mod kinds;
#[path = "pictures/memory.rs"]
mod memory;
#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/seeds.rs"]
mod seeds;
#[path = "../fuzz/targets/mod.rs"]
#[allow(dead_code)] // not every helper of the fakes has a use here
mod targets;
#[path = "pictures/tiffs.rs"]
mod tiffs;

use driver::Target;
use mutate::Shape;

/// Every target.
const TARGETS: &[Target] = &[
    Target {
        name: "pictures",
        run: targets::pictures::run,
        memory: targets::pictures::MEMORY,
        seeds: seeds::pictures,
        shape: Shape::Container,
    },
    Target {
        name: "metadata",
        run: targets::metadata::run,
        memory: targets::metadata::MEMORY,
        seeds: seeds::metadata,
        shape: Shape::Bytes,
    },
    Target {
        name: "bundle",
        run: targets::descriptions::bundle,
        memory: targets::descriptions::BYTES,
        seeds: seeds::bundle,
        shape: Shape::Text(seeds::BUNDLE_WORDS),
    },
    Target {
        name: "memory",
        run: targets::descriptions::memory,
        memory: targets::descriptions::BYTES,
        seeds: seeds::memory,
        shape: Shape::Text(seeds::BUNDLE_WORDS),
    },
    Target {
        name: "configuration",
        run: targets::configuration::run,
        memory: targets::configuration::BYTES,
        seeds: seeds::configuration,
        shape: Shape::Text(seeds::CONFIGURATION_WORDS),
    },
    Target {
        name: "ledger",
        run: targets::ledger::run,
        memory: targets::ledger::BYTES,
        seeds: seeds::ledger,
        shape: Shape::Text(seeds::LEDGER_WORDS),
    },
    Target {
        name: "host",
        run: targets::host::fakes,
        memory: targets::host::BYTES,
        seeds: seeds::host,
        shape: Shape::Bytes,
    },
    Target {
        name: "host_onnx",
        run: targets::host::onnx,
        memory: usize::MAX,
        seeds: seeds::host,
        shape: Shape::Bytes,
    },
];

fn short(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    driver::short(target);
}

#[test]
fn pictures() {
    short("pictures");
}

#[test]
fn metadata() {
    short("metadata");
}

#[test]
fn bundle() {
    short("bundle");
}

#[test]
fn memory_model() {
    short("memory");
}

#[test]
fn configuration() {
    short("configuration");
}

#[test]
fn ledger() {
    short("ledger");
}

#[test]
fn host() {
    short("host");
}

/// For `fuzz/run.sh`.
#[test]
#[ignore = "long: fuzz/run.sh TARGET RUNS"]
fn long() {
    let name = std::env::var("DIFFBIR_FUZZ_TARGET").unwrap();
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("no target {name}"));
    if name == "host_onnx" && !targets::host::has_runtime() {
        println!("SKIPPED (no ONNX Runtime)");
        return;
    }
    driver::long(target);
}

/// For libFuzzer: the seeds as files.
#[test]
#[ignore = "writes files: fuzz/run.sh --libfuzzer"]
fn write_seeds() {
    let folder = std::path::PathBuf::from(std::env::var_os("DIFFBIR_FUZZ_SEEDS").unwrap());
    for target in TARGETS {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder).unwrap();
        for (number, seed) in driver::seeds(target).iter().enumerate() {
            std::fs::write(folder.join(format!("seed{number}")), seed).unwrap();
        }
    }
}
