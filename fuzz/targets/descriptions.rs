//! `bundle.yaml` and `memory.yaml`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use diffbir::bundle::{Bundle, MANIFEST, MEMORY};
use diffbir::engine::Engine;
use diffbir::error::ErrorKind;
use diffbir::memory::Bytes;

use super::fakes::{self, FakeNetworks};
use super::{expect_blame, folder};

/// What reading a description and planning with it may take.
pub const BYTES: usize = 64_000_000;

fn place(name: &'static str, once: &'static OnceLock<PathBuf>) -> &'static Path {
    once.get_or_init(|| {
        let folder = folder(name);
        fakes::write_bundle(&folder, "bsrnet", 1, 64);
        folder
    })
}

/// Opens a bundle with this `bundle.yaml`.
pub fn bundle(bytes: &[u8]) {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    open(place("bundle", &PLACE), MANIFEST, bytes);
}

/// Opens a bundle with this `memory.yaml`.
pub fn memory(bytes: &[u8]) {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    open(place("memory", &PLACE), MEMORY, bytes);
}

fn open(folder: &Path, file: &str, bytes: &[u8]) {
    std::fs::write(folder.join(file), bytes).unwrap();
    match Bundle::open(folder) {
        Ok(bundle) => plan(bundle),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Bundle, "{error}"),
    }
}

/// A bundle that opens is described, and plans pictures within bounds.
fn plan(bundle: Bundle) {
    let base = bundle.options();
    let _ = (bundle.graph_files(), bundle.files(), bundle.tokenizer());
    for graph in bundle.manifest().graphs.keys() {
        bundle.memory_of(graph, None).unwrap();
        let _ = bundle.segments(graph).inspect_err(expect_blame);
    }
    let contexts = bundle.manifest().contexts.iter();
    for prompt in contexts.flat_map(|contexts| &contexts.prompts) {
        let _ = bundle.context(&prompt.prompt).inspect_err(expect_blame);
    }
    let (networks, _) = FakeNetworks::of(&bundle);
    let engine = Engine::from_networks(bundle, Box::new(networks));
    for (size, budget) in [((16, 24), None), ((3000, 4000), Some(2_000_000_000))] {
        let mut options = base.clone();
        options.restore.upscale = Some(1.0);
        options.tiling.memory_budget = budget.map(Bytes);
        let _ = engine.plan(size, &options).inspect_err(expect_blame);
    }
}
