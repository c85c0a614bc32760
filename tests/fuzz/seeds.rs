//! The seeds: small, made here or taken from the tests' goldens.

use std::path::Path;

use crate::kinds::{self, golden};
use crate::targets::fakes::manifest;
use crate::targets::metadata::wrapped;

/// Keys of `bundle.yaml` and `memory.yaml`, and YAML's own signs.
pub const BUNDLE_WORDS: &[&str] = &[
    "format: 1",
    "family: v2.1",
    "graphs:",
    "denoiser:",
    "files: {}",
    "segments: a.safetensors",
    "tokenizer: { file: a, sha256: b }",
    "variants: []",
    "multiple: ",
    "scale: ",
    "min_short_edge: ",
    "timesteps: ",
    "load: ",
    "run: [0, 0, 0]",
    "../",
    "/etc/passwd",
    "\\0",
    "&a ",
    "*a",
    "<<: *a",
    "!!binary ",
    "!t ",
    "? ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "|\n",
    "---\n",
    "...",
    "#",
    "~",
    "null",
    "prompts: [ { tensor: empty, prompt: \"\" } ]",
    "zero_snr: true",
    "parameterization: v",
    "cleaner: denoiser",
    "\u{feff}",
];
/// Keys of a configuration.
pub const CONFIGURATION_WORDS: &[&str] = &[
    "sampling:",
    "steps: ",
    "samples: ",
    "seed: ",
    "sampler: edm_dpm++_3m_sde",
    "restore:",
    "upscale: ",
    "tiling:",
    "cldm: 512:256",
    "memory_budget: ",
    "4GiB",
    "vae: ",
    "guidance:",
    "repeat: ",
    "scale: ",
    "loss: mse",
    "runtime:",
    "providers: [cuda, cpu]",
    "cpu: { threads: 1 }",
    "options: { a.b: 1 }",
    "graphs: { denoiser: { providers: [cpu] } }",
    "devices: [0, 1]",
    "warm_up: [16, 16]",
    "input:",
    "max_pixels: ",
    "output:",
    "quality: ",
    "depth: 16",
    "save_stages: /",
    "bundle: x",
    "sampling.steps=",
    "restore.upscale=",
    "tiling.memory_budget=",
    "=",
    ".",
    "a.b.c.d",
    "&a ",
    "*a",
    "<<: *a",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "- ",
    "~",
    "!!float ",
    ".nan",
    ".inf",
    "strength: [0.5, 1]",
    "sampling.fidelity: exact",
    "speed:",
    "---\n",
];
/// Words of the ledger.
pub const LEDGER_WORDS: &[&str] = &[
    "\"made\"",
    "\"settings\"",
    "\"replacing\"",
    "\"format\":",
    "\"digest\":",
    "\"result\":",
    "\"bytes\":",
    "\"size\":",
    "\"modified\":",
    "\"sha256\":",
    "\"input\":",
    "\"a.png\"",
    "\"../a.png\"",
    "\"/etc/passwd\"",
    "\"sub/c.png\"",
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "\\u0000",
    "null",
    "true",
    "\n",
    "\\ud800",
    "\"a.jpg\"",
];

/// Every kind of picture.
pub fn pictures() -> Vec<Vec<u8>> {
    let made = kinds::kinds().into_iter().map(|kind| kind.bytes);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/pictures");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".py"))
        .collect();
    names.sort();
    let goldens = names.iter().map(|name| golden(&format!("pictures/{name}")));
    made.chain(goldens)
        .filter(|seed| seed.len() < 5000)
        .collect()
}

/// EXIF, XMP and profiles in each container.
pub fn metadata() -> Vec<Vec<u8>> {
    let cmyk = golden("jpeg/cmyk_profile.jpg");
    let profile = cmyk
        .windows(12)
        .position(|found| found == b"ICC_PROFILE\0")
        .map(|at| cmyk[at + 14..].to_vec());
    let payloads = [
        kinds::exif(6),
        kinds::display_p3(),
        moxcms::ColorProfile::new_gray_with_gamma(2.2)
            .encode()
            .unwrap(),
        profile.unwrap_or_default().into_iter().take(8000).collect(),
        b"<x:xmpmeta><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>".to_vec(),
        // An empty stream of Brotli.
        vec![0x3b],
    ];
    let mut seeds = Vec::new();
    for kind in 0..12 {
        for data in &payloads {
            assert!(wrapped(kind, data).len() > data.len());
            seeds.push([&[kind], &data[..]].concat());
        }
    }
    seeds
}

/// Manifests of fakes and of the tests' bundle.
pub fn bundle() -> Vec<Vec<u8>> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bundle/bundle.yaml");
    vec![
        manifest("bsrnet", 1, 64).into_bytes(),
        manifest("swinir", 1, 512).into_bytes(),
        manifest("scunet", 4, 8).into_bytes(),
        std::fs::read(fixture).unwrap(),
    ]
}

/// Memory models.
pub fn memory() -> Vec<Vec<u8>> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bundle/memory.yaml");
    let small = "graphs:\n  cleaner_sr: { load: 1000, run: [1e6, 800.0, 0.0] }\n  denoiser:\n    load: 5\n    run:\n    - 1.0\n    - 2\n    - 3\n";
    vec![
        std::fs::read(fixture).unwrap(),
        small.as_bytes().to_vec(),
        b"graphs: {}\n".to_vec(),
    ]
}

/// The published configurations, and assignments.
pub fn configuration() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    paths.sort();
    let mut seeds: Vec<Vec<u8>> = paths
        .iter()
        .filter(|path| path.is_file())
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    seeds.retain(|seed| seed.len() < 10_000);
    seeds.push(
        b"=sampling.steps=4\nrestore.upscale=2\ntiling.cldm=512:256\ntiling.memory_budget=4GiB\n"
            .to_vec(),
    );
    seeds.push(b"=runtime.options.session.intra=1\nguidance.scale=0.5\nsampling.strength=[0.5, 1]\noutput.depth=16\n".to_vec());
    seeds.push(
        serde_yaml::to_string(&diffbir::config::Config::default())
            .unwrap()
            .into_bytes(),
    );
    seeds
}

/// Ledgers with a finished result, one to be replaced, and a torn line.
pub fn ledger() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("result");
    std::fs::write(&file, "result").unwrap();
    let sha = |text: &str| diffbir::bundle::sha256_bytes(text.as_bytes());
    let settings = serde_json::json!({"steps": 4, "seed": 231});
    let digest = sha(&settings.to_string());
    let identity =
        |text: &str| serde_json::json!({"size": text.len(), "modified": 5, "sha256": sha(text)});
    let head = serde_json::json!({"settings": {"format": 1, "digest": digest, "values": settings}});
    let made = |result: &str| {
        serde_json::json!({"made": {"result": result, "bytes": identity("result"), "input": "a.jpg",
            "input_bytes": identity("input"), "settings": digest}})
    };
    let replacing =
        serde_json::json!({"replacing": {"settings": digest, "results": ["a.png", "b.png"]}});
    vec![
        format!("{head}\n{}\n", made("a.png")).into_bytes(),
        format!("{head}\n{replacing}\n{}\n", made("sub/c.png")).into_bytes(),
        format!("{head}\n{}\n{{\"made\": {{\"resu", made("a.png")).into_bytes(),
        Vec::new(),
    ]
}

/// Sequences of calls: see `fuzz/targets/host/calls.rs` for the meaning of the bytes.
pub fn host() -> Vec<Vec<u8>> {
    // A request on 6x6 pixels that runs; then its image is taken, encoded and copied.
    let new = [0, 0, 0, 0];
    let bytes = [2, 0, 5, 0, 0];
    let run = [10, 0];
    let image = [19, 0, 0, 0];
    let whole = [
        &[0][..],
        &new,
        &bytes,
        &run,
        &image,
        &[21, 0, 255, 24, 0, 27, 0, 0, 3],
    ]
    .concat();
    let pixels = [
        &[1][..],
        &new,
        &[4, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &run,
        &image,
        &[22, 0, 4],
    ]
    .concat();
    let queued = [
        &[2][..],
        &new,
        &bytes,
        &[8, 7, 0, 0],
        &[13, 0, 13, 0, 17, 0, 3, 0],
        &image,
    ]
    .concat();
    let options = [
        &[0][..],
        &new,
        &bytes,
        &[6, 0, 0, 200, 0, 0, 0, 0, 1, 1, 1, 200, 5, 2, 2, 1, 0, 0, 0],
        &run,
    ]
    .concat();
    let file = [
        &[0][..],
        &new,
        &[29, 0, 0, 0],
        &run,
        &image,
        &[23, 0, 0, 255, 28, 0, 0, 0, 1, 0, 0, 0, 0, 0],
    ]
    .concat();
    let mut seeds = vec![
        whole,
        pixels,
        queued,
        options,
        file,
        [9, 0, 9, 3, 0, 0, 9, 1, 0].to_vec(),
    ];
    // Every number in turn, so that each call is reached with each neighbour.
    for step in [1, 37, 91, 151] {
        seeds.push((0..200_u32).map(|k| (k * step % 256) as u8).collect());
    }
    seeds
}
