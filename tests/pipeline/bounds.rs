//! Numbers from outside that are far out of bounds: each ends in an error of the right kind before any work.

use diffbir::bundle::Bundle;
use diffbir::engine::Engine;
use diffbir::error::{Error, ErrorKind, Result};
use diffbir::nets::segments::SegmentPlan;
use diffbir::options::{DenoiserTiles, Options};
use diffbir::tiling::{EvenTiles, Tiles};

use crate::fakes::{FakeNetworks, manifest, write_bundle};

fn engine(cleaner: &str, scale: usize) -> (Engine, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let bundle = write_bundle(dir.path(), cleaner, scale, 64);
    let (networks, _) = FakeNetworks::of(&bundle);
    (Engine::from_networks(bundle, Box::new(networks)), dir)
}

/// The plan's error for a picture of `lq` under options that `change` sets.
fn refused(lq: (usize, usize), change: impl Fn(&mut Options)) -> Error {
    let mut options = Options::default();
    change(&mut options);
    let errors = [("swinir", 1), ("bsrnet", 4)].map(|(cleaner, scale)| {
        let (engine, _dir) = engine(cleaner, scale);
        engine.plan(lq, &options).unwrap_err()
    });
    assert_eq!(errors[0].kind(), errors[1].kind());
    errors.into_iter().next().unwrap()
}

/// Sets an option.
type Change = fn(&mut Options);

#[test]
fn options_out_of_bounds_are_option_errors() {
    const HUGE: usize = usize::MAX / 64 * 64;
    let changes: &[(&str, Change)] = &[
        ("restore.upscale", |o| o.restore.upscale = Some(1e6)),
        ("restore.upscale", |o| o.restore.upscale = Some(1e300)),
        ("restore.upscale", |o| o.restore.upscale = Some(f64::NAN)),
        ("guidance.repeat", |o| {
            o.guidance.repeat = Some(1_000_000_000)
        }),
        ("sampling.samples", |o| {
            o.sampling.samples = 1_000_000_000_000
        }),
        ("sampling.samples", |o| o.sampling.samples = usize::MAX),
        ("sampling.batch_size", |o| {
            o.sampling.batch_size = usize::MAX
        }),
        ("tiling.cleaner_exact", |o| {
            o.tiling.cleaner_exact = Some(usize::MAX)
        }),
        ("tiling.vae_encoder", |o| {
            o.tiling.vae_encoder = Some(usize::MAX)
        }),
        ("tiling.vae_decoder", |o| {
            o.tiling.vae_decoder = Some(usize::MAX)
        }),
        ("tiling.cleaner", |o| {
            o.tiling.cleaner = Some(Tiles {
                size: HUGE,
                stride: HUGE,
            });
        }),
        ("tiling.cldm", |o| {
            o.tiling.cldm = DenoiserTiles::Reference(Tiles {
                size: HUGE,
                stride: 8,
            });
        }),
        ("tiling.cldm", |o| {
            o.tiling.cldm = DenoiserTiles::Even(EvenTiles {
                size: HUGE,
                overlap: 8,
            });
        }),
    ];
    for (key, change) in changes {
        let error = refused((16, 16), change);
        assert_eq!(error.kind(), ErrorKind::Option, "{key}: {error}");
        assert!(error.to_string().contains(key), "{key}: {error}");
    }
}

#[test]
fn pictures_that_are_too_large_are_resource_errors() {
    for lq in [
        (1, 10_000_000),
        (10_000_000, 1),
        (1 << 40, 1 << 40),
        (usize::MAX, 1),
    ] {
        let error = refused(lq, |o| o.restore.upscale = Some(4.0));
        assert_eq!(error.kind(), ErrorKind::Resources, "{lq:?}: {error}");
        assert!(error.to_string().contains("restore.upscale"), "{error}");
    }
    let error = refused((1 << 20, 1 << 10), |o| o.restore.upscale = Some(1000.0));
    assert_eq!(error.kind(), ErrorKind::Resources, "{error}");
}

#[test]
fn a_warm_up_of_any_size_is_refused() {
    let (engine, _dir) = engine("swinir", 1);
    for size in [(1 << 32, 1 << 32), (usize::MAX, usize::MAX)] {
        let error = engine.warm_up(size, &Options::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Resources, "{error}");
    }
}

/// Opens a bundle whose manifest has `to` instead of `from`.
fn open_with(from: &str, to: &str) -> Result<Bundle> {
    let dir = tempfile::tempdir().unwrap();
    write_bundle(dir.path(), "swinir", 1, 64);
    let text = manifest("swinir", 1, 64);
    assert!(text.contains(from), "{from}");
    std::fs::write(dir.path().join("bundle.yaml"), text.replacen(from, to, 1)).unwrap();
    Bundle::open(dir.path())
}

#[test]
fn bundles_with_numbers_out_of_bounds_are_bundle_errors() {
    for (from, to) in [
        ("timesteps: 1000", "timesteps: 1000000000"),
        ("timesteps: 1000", "timesteps: 4611686018427387904"),
        ("timesteps: 1000", "timesteps: 1"),
        ("min_short_edge: 64", "min_short_edge: 1000000000"),
        ("min_short_edge: 64", "min_short_edge: 4611686018427387904"),
        ("    scale: 1", "    scale: 100000"),
        ("    scale: 1", "    scale: 1.5"),
        ("    scale: 1", "    scale: 0.25"),
        ("multiple: 64", "multiple: 4611686018427387904"),
        (
            "multiple: 64",
            "halo: 4611686018427387904\n    multiple: 64",
        ),
        ("width: 4", "width: 4611686018427387904"),
        ("tokens: 77", "tokens: 4611686018427387904"),
        ("steps: 50", "steps: 4611686018427387904"),
        ("linear_end: 0.012", "linear_end: 1.5"),
    ] {
        let error = open_with(from, to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Bundle, "{to}: {error}");
    }
}

#[test]
fn betas_that_leave_no_schedule_are_a_bundle_error() {
    let bundle = open_with("linear_start: 0.00085", "linear_start: 0.99999999").unwrap();
    let (networks, _) = FakeNetworks::of(&bundle);
    let engine = Engine::from_networks(bundle, Box::new(networks));
    let mut options = Options::default();
    options.sampling.sampler = "dpm++_m2".to_owned();
    let error = engine.check(&options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bundle, "{error}");
}

#[test]
fn memory_figures_out_of_bounds_are_bundle_errors() {
    for figures in [
        "{ load: 18446744073709551615, run: [0, 0, 0] }",
        "{ load: 0, run: [.inf, 0, 0] }",
        "{ load: 0, run: [0, .nan, 0] }",
    ] {
        let dir = tempfile::tempdir().unwrap();
        write_bundle(dir.path(), "swinir", 1, 64);
        let text = format!("graphs: {{ denoiser: {figures} }}");
        std::fs::write(dir.path().join("memory.yaml"), text).unwrap();
        let error = Bundle::open(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Bundle, "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    write_bundle(dir.path(), "swinir", 1, 64);
    let text = "graphs: { denoiser: { load: 1000, run: [1e300, 1e300, 1e300] } }";
    std::fs::write(dir.path().join("memory.yaml"), text).unwrap();
    let bundle = Bundle::open(dir.path()).unwrap();
    let (networks, _) = FakeNetworks::of(&bundle);
    let engine = Engine::from_networks(bundle, Box::new(networks));
    let mut options = Options::default();
    options.tiling.memory_budget = Some("8GiB".parse().unwrap());
    let error = engine.plan((16, 16), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Resources, "{error}");
}

#[test]
fn segments_with_numbers_out_of_bounds_are_bundle_errors() {
    let plan = |channels: u64, scale: (u64, u64), halo: u64| {
        format!(
            r#"{{ "version": 1, "input": "in", "output": "out", "canvases": {{ "in": {{ "channels": 3, "scale": [1, 1] }},
            "out": {{ "channels": {channels}, "scale": [{}, {}] }} }}, "steps": [ {{ "graph": "0", "norm": null,
            "bands": ["in"], "outputs": ["out"], "halo": {halo} }} ] }}"#,
            scale.0, scale.1
        )
    };
    assert!(SegmentPlan::parse(&plan(4, (1, 2), 1)).is_ok());
    for (channels, scale, halo) in [
        (1 << 62, (1, 1), 1),
        (0, (1, 1), 1),
        (4, (1 << 62, 1 << 61), 1),
        (4, (0, 1), 1),
        (4, (1, 1), 1 << 62),
    ] {
        let error = SegmentPlan::parse(&plan(channels, scale, halo)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Bundle, "{error}");
    }
}
