//! The whole v1 pipeline on ONNX Runtime against what the reference computed with the same tiny weights.
//!
//! Needs the reference goldens and the bundle that `tests/run.sh` exports from them (`DIFFBIR_GOLDEN_BUNDLE`).

#![allow(clippy::unwrap_used)] // what fails here fails the test

mod common;
#[path = "common/program.rs"]
#[allow(dead_code)] // the goldens need little of it
mod program;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{Goldens, with_reference};
use diffbir::bundle::Bundle;
use diffbir::engine::{Engine, Noise, Request};
use diffbir::imageio;
use diffbir::options::{RestoreOptions, SamplingOptions};
use diffbir::pipeline::{Event, Intermediate};
use diffbir::runtime::RuntimeOptions;
use ndarray::{Array4, Ix4, s};
use program::Program;

/// Relative RMS error allowed between ONNX Runtime's and PyTorch's arithmetic, accumulated over the pipeline.
const RELATIVE_RMS: f64 = 1e-4;

fn bundle_dir() -> Option<PathBuf> {
    std::env::var_os("DIFFBIR_GOLDEN_BUNDLE").map(PathBuf::from)
}

/// Runs `test` with the goldens and the bundle; says so where one is missing.
fn with_bundle(name: &str, test: impl FnOnce(&Path, &Path)) {
    let Some(bundle) = bundle_dir() else {
        eprintln!("SKIPPED (no bundle exported from the reference goldens): {name}");
        return;
    };
    with_reference(name, |folder| test(folder, &bundle));
}

fn v1_request(folder: &Path) -> Request {
    let lq = imageio::read(&folder.join("tiny/lq_A.png"), 1 << 20)
        .unwrap()
        .rgb;
    let restore = RestoreOptions {
        upscale: 2.0,
        ..RestoreOptions::default()
    };
    Request::new(
        lq,
        restore,
        SamplingOptions {
            steps: 5,
            ..SamplingOptions::default()
        },
    )
}

fn relative_rms(found: &Array4<f32>, expected: &Array4<f32>) -> f64 {
    assert_eq!(found.dim(), expected.dim());
    let square = |x: f32| f64::from(x).powi(2);
    let error: f64 = found
        .iter()
        .zip(expected)
        .map(|(&f, &e)| square(f - e))
        .sum();
    (error / expected.iter().map(|&e| square(e)).sum::<f64>()).sqrt()
}

/// Parity level 1: with the reference's own noise, every intermediate result.
#[test]
fn v1_with_replayed_noise() {
    with_bundle("v1_with_replayed_noise", |folder, bundle| {
        Program::new();
        let goldens = Goldens::open(folder.join("tiny/e2e/v1_swinir_spaced5.safetensors"));
        let golden = |name: &str| goldens.array::<Ix4>(name);
        let mut request = v1_request(folder);
        let mut draws = vec![golden("x_T")];
        draws.extend((1..5).map(|i| golden(&format!("noise.{i}"))));
        draws.push(Array4::zeros(draws[0].dim())); // drawn and dropped
        request.noise = Noise::Replay(draws);
        let engine = Engine::open(Bundle::open(bundle).unwrap(), RuntimeOptions::default());
        let mut found = BTreeMap::new();
        let mut keep = |event: Event<'_>| {
            match event {
                Event::Step(step) => {
                    drop(found.insert(format!("step.{}", step.index), step.x.clone()))
                }
                Event::Tensor(Intermediate::CImg, x) => {
                    drop(found.insert("c_img".to_owned(), x.clone()))
                }
                Event::Tensor(Intermediate::Z, x) => drop(found.insert("z".to_owned(), x.clone())),
                Event::Tensor(what, x) => {
                    let name = format!("{what:?}");
                    found.insert(
                        format!("{name}.sub"),
                        x.slice(s![.., .., ..;16, ..;16]).to_owned(),
                    );
                }
                _ => {}
            }
            Ok(())
        };
        engine.restore(&request, &mut keep).unwrap();
        let compare = |ours: &str, theirs: &str| {
            let error = relative_rms(&found[ours], &golden(theirs));
            eprintln!("{theirs}: relative RMS error {error:.1e}");
            assert!(
                error < RELATIVE_RMS,
                "{theirs}: relative RMS error {error:.2e}"
            );
        };
        compare("Stage1.sub", "stage1.sub");
        compare("c_img", "c_img");
        (0..5).for_each(|i| compare(&format!("step.{i}"), &format!("step.{i}")));
        compare("z", "z");
        compare("ColorFixed.sub", "color_fixed.sub");
    });
}

/// Parity level 2: from the seed alone, through the program, the written 8-bit picture.
#[test]
fn v1_from_the_seed_through_the_program() {
    with_bundle("v1_from_the_seed_through_the_program", |folder, bundle| {
        let program = Program::new();
        let input = folder.join("tiny/lq_A.png").to_string_lossy().into_owned();
        let bundle = bundle.to_string_lossy().into_owned();
        let args = [
            "restore",
            &input,
            "-o",
            "r.png",
            "--bundle",
            &bundle,
            "--upscale",
            "2",
            "--steps",
            "5",
            "--seed",
            "231",
        ];
        program.run(&args).code(0);
        let read = |path: &Path| imageio::read(path, 1 << 20).unwrap().rgb.mapv(i32::from);
        let found = read(&program.dir().join("r.png"));
        let expected = read(&folder.join("tiny/e2e/v1_swinir_spaced5.png"));
        let difference = (&found - &expected).mapv(i32::abs);
        let mean = f64::from(difference.sum()) / difference.len() as f64;
        let max = difference.iter().max().unwrap();
        eprintln!("v1 from the seed: mean difference {mean:.5} levels, largest {max}");
        assert!(mean <= 0.05 && *max <= 2, "mean {mean}, largest {max}");
    });
}
