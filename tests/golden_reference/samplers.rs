//! Trajectories on the analytic model of the golden files, with the recorded noise.

use std::path::Path;

use diffbir::denoise::{Branch, Cfg, NoiseModel, Parameterization};
use diffbir::error::Result;
use diffbir::rng::{NoiseSource, Replay, TorchCpu};
use diffbir::samplers::{Sampling, by_name};
use diffbir::tensor::Latent;
use ndarray::{Array5, Axis, Ix4, Ix5};
use serde_json::Value;

use crate::common::{Goldens, Tolerance, abs, assert_close, with_reference};
use crate::schedule::diffusion;

/// `a*x + b*c_img + c*sin(t/100) + d*mean(c_txt)` in f32, or the recorded outputs, recording its calls.
struct AnalyticModel {
    c_img: Latent,
    recorded: Option<Array5<f32>>,
    calls: Vec<(Latent, f32, f32)>,
}

impl NoiseModel for AnalyticModel {
    fn predict(&mut self, x_t: &Latent, timestep: f32, branches: &[Branch]) -> Result<Vec<Latent>> {
        let outputs = branches.iter().map(|branch| {
            let c_txt = match branch {
                Branch::Cond => 0.75_f32,
                Branch::Uncond => -0.5,
            };
            self.calls.push((x_t.clone(), timestep, c_txt));
            if let Some(recorded) = &self.recorded {
                return recorded
                    .index_axis(Axis(0), self.calls.len() - 1)
                    .to_owned();
            }
            let mut output = x_t.clone();
            output.zip_mut_with(&self.c_img, |x, &c| {
                *x = 0.35 * *x + -0.2 * c + 0.15 * (timestep / 100.0).sin() + 0.5 * c_txt;
            });
            output
        });
        Ok(outputs.collect())
    }
}

/// Runs one case of the index and compares the calls and the result. Returns the largest difference of the result.
///
/// The model is the formula, within 1e-5, or, with `recorded`, the recorded outputs, within that tolerance.
fn check_case(goldens: &Goldens, case: &Value, recorded: Option<Tolerance>) -> f64 {
    let tolerance = recorded.unwrap_or(abs(1e-5));
    let prefix = case["prefix"].as_str().unwrap();
    let name = |key: &str| format!("{prefix}{key}");
    let parameterization = match case["parameterization"].as_str().unwrap() {
        "eps" => Parameterization::Eps,
        _ => Parameterization::V,
    };
    let diffusion = diffusion(parameterization == Parameterization::V, parameterization);
    let sampling = Sampling {
        diffusion: &diffusion,
        steps: case["steps"].as_u64().unwrap() as usize,
        cfg: Cfg {
            scale: case["cfg_scale"].as_f64().unwrap(),
            rescale: case["rescale_cfg"].as_bool().unwrap(),
        },
    };
    let mut model = AnalyticModel {
        c_img: goldens.array(&name("c_img")),
        recorded: recorded.map(|_| goldens.array(&name("call_out"))),
        calls: Vec::new(),
    };
    let noise = goldens.array::<Ix5>(&name("noise"));
    let mut noise = Replay::new(noise.outer_iter().map(|draw| draw.to_owned()).collect());
    let sampler = by_name(case["sampler"].as_str().unwrap()).unwrap();
    let x_t = goldens.array::<Ix4>(&name("x_T"));
    let mut steps = 0;
    let mut observe = |info: &diffbir::samplers::StepInfo<'_>| {
        assert_eq!(info.index, steps);
        steps += 1;
        Ok(())
    };
    let result = (sampler.sample)(&sampling, &mut model, x_t, &mut noise, &mut observe).unwrap();

    assert_eq!(steps, sampling.steps);
    assert_eq!(noise.remaining(), 0, "{prefix}: draws");
    assert_eq!(
        model.calls.len() as u64,
        case["n_calls"].as_u64().unwrap(),
        "{prefix}: calls"
    );
    let call_x = goldens.array::<Ix5>(&name("call_x"));
    let (call_t, call_ctxt) = (
        goldens.f32(&name("call_t")),
        goldens.f32(&name("call_ctxt")),
    );
    for (i, (x, timestep, c_txt)) in model.calls.iter().enumerate() {
        let what = name(&format!("call_x[{i}]"));
        assert_close(&what, x, &call_x.index_axis(Axis(0), i), tolerance);
        assert!(call_t.index_axis(Axis(0), i).iter().all(|t| t == timestep));
        assert!(call_ctxt.index_axis(Axis(0), i).iter().all(|c| c == c_txt));
    }
    let expected = goldens.array::<Ix4>(&name("result"));
    assert_close(&name("result"), &result, &expected, tolerance)
}

/// Checks the cases of `file` that `select` picks; there must be `count`. Those whose outputs were recorded (one
/// sample) are checked on these too, within `recorded`.
fn check_file(
    folder: &Path,
    file: &str,
    count: usize,
    recorded: Tolerance,
    select: impl Fn(&Value) -> bool,
) {
    let index = std::fs::read(folder.join("samplers/index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let goldens = Goldens::open(folder.join("samplers").join(file));
    let cases = index["files"][file].as_array().unwrap();
    let cases: Vec<&Value> = cases.iter().filter(|case| select(case)).collect();
    assert_eq!(cases.len(), count, "{file}: cases");
    let (mut max, mut max_recorded) = (0.0_f64, 0.0_f64);
    for case in cases {
        max = max.max(check_case(&goldens, case, None));
        if goldens.has(&format!("{}call_out", case["prefix"].as_str().unwrap())) {
            max_recorded = max_recorded.max(check_case(&goldens, case, Some(recorded)));
        }
    }
    eprintln!(
        "{file}: {count} cases, max difference {max:e}, on recorded outputs {max_recorded:e}"
    );
}

#[test]
fn spaced_trajectories() {
    with_reference("spaced_trajectories", |folder| {
        for (file, count) in [
            ("spaced_eps_5.safetensors", 7),
            ("spaced_eps_10.safetensors", 4),
            ("spaced_v_5.safetensors", 7),
            ("spaced_v_10.safetensors", 4),
        ] {
            check_file(folder, file, count, abs(0.0), |_| true);
        }
    });
}

#[test]
fn spaced_extra_trajectories() {
    with_reference("spaced_extra_trajectories", |folder| {
        // In one case the reference's own f32 rounding of a variance differs between its runs.
        check_file(folder, "extra.safetensors", 5, abs(1e-6), |case| {
            case["sampler"] == "spaced" && case["error"].is_null() && case["tile_size"].is_null()
        });
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
