//! Trajectories on the analytic model of the golden files, with the recorded noise.

use std::path::Path;

use diffbir::denoise::Parameterization;
use diffbir::error::ErrorKind;
use diffbir::rng::{NoiseSource, TorchCpu};
use diffbir::samplers::SAMPLERS;
use diffbir::tensor::Latent;
use diffbir::tiling::Tiles;
use ndarray::Ix4;
use serde_json::Value;

use crate::analytic::{
    AnalyticModel, diffusion, diffusion_of, recorded_rows, replay, run, sampling_of,
};
use crate::common::{Goldens, abs, assert_close, with_reference};
use crate::tiled::TiledModel;

/// The largest difference of a result from the recorded one, relative to its largest value (at least 1): 1e-5 is
/// asked for.
const TOLERANCE: f64 = 1e-5;

/// Compares where both are of the same size; relative to the largest value, at least 1.
fn check(
    what: &str,
    found: &ndarray::ArrayD<f32>,
    expected: &ndarray::ArrayD<f32>,
    tolerance: f64,
) -> f64 {
    let largest = expected.iter().fold(1.0_f32, |max, x| max.max(x.abs()));
    let scale = f64::from(largest);
    assert_close(what, found, expected, abs(tolerance * scale)) / scale
}

/// Runs one case of the index and compares calls and result. Returns the largest relative difference of the result.
fn check_case(goldens: &Goldens, case: &Value, on_recorded_outputs: bool) -> f64 {
    let prefix = case["prefix"].as_str().unwrap();
    let name = |key: &str| format!("{prefix}{key}");
    let diffusion = diffusion_of(case);
    let sampling = sampling_of(case, &diffusion);
    let mut noise = replay(goldens, &name("noise"));
    let x_t = goldens.array::<Ix4>(&name("x_T"));
    let mut model = AnalyticModel {
        c_img: goldens.array(&name("c_img")),
        recorded: on_recorded_outputs.then(|| {
            let rows = recorded_rows(goldens, prefix, "call_out", sampling.cfg);
            rows.into_iter().map(|(output, _, _)| output).collect()
        }),
        rows: Vec::new(),
    };
    let sampler = case["sampler"].as_str().unwrap();
    let result = match case["tile_size"].as_u64() {
        None => run(sampler, &sampling, &mut model, &mut noise, x_t),
        Some(size) => {
            let tiles = Tiles {
                size: size as usize,
                stride: case["tile_stride"].as_u64().unwrap() as usize,
            };
            let mut tiled = TiledModel {
                model: &mut model,
                tiles,
            };
            run(sampler, &sampling, &mut tiled, &mut noise, x_t)
        }
    };
    assert_eq!(noise.remaining(), 0, "{sampler} {prefix}: draws");
    if case["tile_size"].is_null() {
        // A step down from sigma 10000 takes the difference of values of that size: the sine's last digit in the formula
        // shows there.
        let call_tolerance = if on_recorded_outputs {
            TOLERANCE
        } else {
            5.0 * TOLERANCE
        };
        let expected = recorded_rows(goldens, prefix, "call_x", sampling.cfg);
        assert_eq!(
            model.rows.len(),
            expected.len(),
            "{sampler} {prefix}: calls"
        );
        for (i, (found, expected)) in model.rows.iter().zip(&expected).enumerate() {
            let what = format!("{sampler} {prefix}call_x[{i}]");
            check(&what, &found.0, &expected.0, call_tolerance);
            assert!((found.1 - expected.1).abs() < 2e-4, "{what}: timestep");
            assert_eq!(found.2, expected.2, "{what}: context");
        }
    }
    let expected = goldens.array::<Ix4>(&name("result")).into_dyn();
    let what = format!("{sampler} {}", name("result"));
    check(&what, &result.unwrap().into_dyn(), &expected, TOLERANCE)
}

/// Where the reference ends with an error there is an error that says why, or a sound result.
fn check_failing_case(goldens: &Goldens, case: &Value) {
    let name = |key: &str| format!("{}{key}", case["prefix"].as_str().unwrap());
    let sampler = case["sampler"].as_str().unwrap();
    let diffusion = diffusion_of(case);
    let sampling = sampling_of(case, &diffusion);
    let mut model = AnalyticModel {
        c_img: goldens.array(&name("c_img")),
        recorded: None,
        rows: Vec::new(),
    };
    let x_t = goldens.array::<Ix4>(&name("x_T"));
    let result = run(sampler, &sampling, &mut model, &mut TorchCpu::new(0), x_t);
    match result {
        Ok(x) => assert!(x.iter().all(|x| x.is_finite()), "{sampler}: not finite"),
        Err(e) => assert_eq!(e.kind(), ErrorKind::Option, "{sampler}: {e}"),
    }
}

/// Checks every case of a file. Those whose outputs were recorded (one sample) are checked on these too. Returns how
/// many there were.
fn check_file(folder: &Path, index: &Value, file: &str) -> usize {
    let goldens = Goldens::open(folder.join("samplers").join(file));
    let cases = index["files"][file].as_array().unwrap();
    let (mut max, mut max_recorded) = (0.0_f64, 0.0_f64);
    for case in cases {
        if !case["error"].is_null() {
            check_failing_case(&goldens, case);
            continue;
        }
        max = max.max(check_case(&goldens, case, false));
        let outputs = format!("{}call_out", case["prefix"].as_str().unwrap());
        if goldens.has(&outputs) && case["tile_size"].is_null() {
            max_recorded = max_recorded.max(check_case(&goldens, case, true));
        }
    }
    eprintln!(
        "{file}: {} cases, largest relative difference {max:.1e}, on recorded outputs {max_recorded:.1e}",
        cases.len()
    );
    cases.len()
}

#[test]
fn sampler_trajectories() {
    with_reference("sampler_trajectories", |folder| {
        let index = std::fs::read(folder.join("samplers/index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        let files = index["files"].as_object().unwrap();
        let cases: usize = files
            .keys()
            .map(|file| check_file(folder, &index, file))
            .sum();
        assert_eq!((files.len(), cases), (57, 230));
        // All fourteen of the reference's help text are among them.
        for sampler in &SAMPLERS[..14] {
            assert!(
                files
                    .keys()
                    .any(|file| file.starts_with(&format!("{}_", sampler.name)))
            );
        }
    });
}

/// The noise that a whole run of the reference drew after `torch.manual_seed(231)`, and what it made of a latent.
#[test]
fn pipeline_draws() {
    with_reference("pipeline_draws", |folder| {
        let open = |run: &str| Goldens::open(folder.join(format!("tiny/e2e/{run}.safetensors")));
        let check = |goldens: &Goldens, name: &str, found: &Latent, tolerance: f64| {
            assert_close(name, found, &goldens.array::<Ix4>(name), abs(tolerance));
        };
        for (run, shape, draws) in [
            ("v1_swinir_spaced5", [1, 4, 64, 88], 5),
            ("batch2_spaced2", [2, 4, 64, 64], 2),
        ] {
            let (goldens, mut rng) = (open(run), TorchCpu::new(231));
            check(&goldens, "x_T", &rng.randn(shape).unwrap(), 0.0);
            for i in 1..draws {
                check(
                    &goldens,
                    &format!("noise.{i}"),
                    &rng.randn(shape).unwrap(),
                    0.0,
                );
            }
        }

        let goldens = open("start_cond_ddim4_rescale");
        let noise = TorchCpu::new(231).randn([1, 4, 64, 88]).unwrap();
        check(&goldens, "noise.0", &noise, 0.0);
        let linear = diffusion(false, Parameterization::Eps);
        let x_t = linear
            .q_sample(&goldens.array("c_img"), 999, &noise)
            .unwrap();
        check(&goldens, "x_T", &x_t, 1e-6);

        let goldens = open("noise_aug200_dpmpp_m2");
        let (c_img, noise) = (goldens.array("c_img"), goldens.array("noise.1"));
        let zsnr = diffusion(true, Parameterization::V);
        let noisy = zsnr.q_sample(&c_img, 200, &noise).unwrap();
        check(&goldens, "c_img_used_by_model", &noisy, 1e-6);
    });
}
