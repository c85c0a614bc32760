//! Sequences of calls of the C ABI, as a host would make them that has lost its mind, within the header's rules about
//! memory: strings end, buffers are as long as they are said to be.
//!
//! Each byte chooses a call or an argument. Handles lie in a pool with places for each type; one byte in eight takes any
//! of them, or what never was a handle.

mod arguments;
mod calls;

use std::ffi::c_void;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use diffbir::capi::*;
use diffbir::config::Layers;
use diffbir::runtime::library::{Candidate, Loaded, Origin};
use diffbir::service::Opened;

use super::fakes::{self, FakeNetworks};
use super::folder;
use calls::Calls;

/// What a sequence on fakes may take: its pictures have some hundred pixels.
pub const BYTES: usize = 256_000_000;

/// Callbacks' data that was handed over, and that came back.
pub static GIVEN: AtomicUsize = AtomicUsize::new(0);
pub static FREED: AtomicUsize = AtomicUsize::new(0);

/// Only one sequence runs at a time: handles are counted.
static ALONE: Mutex<()> = Mutex::new(());

/// A sequence on an engine on fake networks, made for it. The first byte is the queue's limit.
pub fn fakes(bytes: &[u8]) {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let before = diffbir_live_handles();
    let limit = u32::from(bytes.first().copied().unwrap_or(0) % 4);
    run(bytes, engine_of(fake_service(), limit));
    assert_eq!(diffbir_live_handles(), before, "handles are left");
    let counts = (GIVEN.load(Ordering::SeqCst), FREED.load(Ordering::SeqCst));
    assert_eq!(counts.0, counts.1, "callbacks' data is freed once");
}

/// A sequence on an engine on ONNX Runtime, which is kept from one to the next unless a sequence frees it.
pub fn onnx(bytes: &[u8]) {
    static KEPT: Mutex<usize> = Mutex::new(0);
    let _alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut kept = KEPT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut engine = std::ptr::without_provenance_mut(*kept);
    if !is_alive(engine) {
        engine = open_engine(&onnx_bundle());
        *kept = engine.addr();
    }
    let mut calls = Calls::new(bytes, engine);
    calls.frees_engine_rarely = true;
    calls.all();
    calls.free_all_but(engine.cast());
    assert_eq!(
        diffbir_live_handles(),
        usize::from(is_alive(engine)),
        "handles are left"
    );
}

fn run(bytes: &[u8], engine: *mut diffbir_engine) {
    let mut calls = Calls::new(bytes, engine);
    calls.all();
    calls.free_all_but(std::ptr::null_mut());
}

fn is_alive(engine: *mut diffbir_engine) -> bool {
    let mut json = std::ptr::null_mut();
    let error = diffbir_engine_configuration(engine, &mut json);
    diffbir_error_free(error);
    // SAFETY: NULL, or a string that the library has just handed over.
    unsafe { diffbir_string_free(json) };
    error.is_null()
}

fn fake_service() -> diffbir::service::Service {
    static LOADED: OnceLock<Loaded> = OnceLock::new();
    let loaded = LOADED.get_or_init(|| Loaded {
        candidate: Candidate {
            origin: Origin::Config,
            path: "fake".into(),
        },
        version: "0.0.0".to_owned(),
        build: String::new(),
        skipped: Vec::new(),
    });
    let folder = scratch().join("bundle");
    let mut layers = Layers::default();
    layers
        .set([
            format!("bundle={}", folder.display()).as_str(),
            "sampling.sampler=ddim",
            "sampling.steps=1",
            "restore.upscale=1",
        ])
        .unwrap();
    let opened = Opened::open(layers).unwrap();
    let (networks, _) = FakeNetworks::of(&opened.bundle);
    opened.start_on(vec![Box::new(networks)], loaded).unwrap()
}

/// The folder with a bundle of fakes, a picture, and what sequences write.
fn scratch() -> &'static Path {
    static PLACE: OnceLock<std::path::PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let folder = folder("host");
        std::fs::create_dir_all(folder.join("bundle")).unwrap();
        fakes::write_bundle(&folder.join("bundle"), "bsrnet", 1, 64);
        std::fs::write(folder.join("in.png"), arguments::picture(6)).unwrap();
        folder
    })
}

/// The tests' bundle, with pictures enlarged as little as the format allows.
fn onnx_bundle() -> std::path::PathBuf {
    let folder = scratch().join("onnx");
    if !folder.exists() {
        std::fs::create_dir_all(&folder).unwrap();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bundle");
        for file in std::fs::read_dir(fixture).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
        }
        let manifest = folder.join("bundle.yaml");
        let text = std::fs::read_to_string(&manifest).unwrap();
        let lines = text
            .lines()
            .map(|line| match line.starts_with("min_short_edge") {
                true => "min_short_edge: 64",
                false => line,
            });
        std::fs::write(&manifest, lines.collect::<Vec<_>>().join("\n") + "\n").unwrap();
    }
    folder
}

/// Whether an ONNX Runtime is found.
pub fn has_runtime() -> bool {
    diffbir::runtime::load(None).is_ok()
}

fn open_engine(bundle: &Path) -> *mut diffbir_engine {
    let settings = [
        "sampling.sampler=ddim",
        "sampling.steps=1",
        "restore.upscale=1",
    ];
    let mut arguments = arguments::Arguments::default();
    let list = arguments.list(&settings);
    let path = arguments.text(bundle.to_str().unwrap().as_bytes());
    // SAFETY: a structure of integers and nullable pointers.
    let mut options: diffbir_engine_options = unsafe { std::mem::zeroed() };
    // SAFETY: the place has that size.
    unsafe { diffbir_engine_options_init(&mut options, size_of::<diffbir_engine_options>()) };
    options.bundle = path;
    (options.settings, options.setting_count) = (list, settings.len());
    let mut engine = std::ptr::null_mut();
    let error = diffbir_engine_new(&options, &mut engine);
    assert!(error.is_null(), "{}", calls::message(error));
    engine
}

/// The untyped handle of a pool.
pub type Any = *mut c_void;
