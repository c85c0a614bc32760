//! Samplers and guidance against k-diffusion and torch. Each golden file lies beside the script that made it, in
//! `tests/goldens/<module>/`.

#![allow(clippy::unwrap_used)]

#[path = "common/analytic.rs"]
#[allow(dead_code)] // the reference's goldens need more of it
mod analytic;
mod common;

use analytic::{AnalyticModel, diffusion, replay, run, sampling_of};
use common::{Goldens, abs, assert_close};
use diffbir::denoise::Parameterization;
use diffbir::guidance::{LossKind, Weights, loss_and_delta};
use diffbir::rng::Replay;
use diffbir::samplers::{SamplerParameters, Sampling};
use ndarray::Ix4;
use serde_json::{Value, json};

#[test]
fn edm_trajectories_are_those_of_k_diffusion() {
    let goldens = Goldens::of_module("kdiffusion");
    let index: Vec<Value> =
        serde_json::from_str(include_str!("goldens/kdiffusion/kdiffusion.json")).unwrap();
    let mut samplers = std::collections::BTreeSet::new();
    for case in &index {
        let prefix = case["prefix"].as_str().unwrap();
        let sampler = case["sampler"].as_str().unwrap();
        let case =
            json!({ "sampler": sampler, "steps": case["steps"], "hparams": case["options"] });
        let diffusion = diffusion(true, Parameterization::V);
        let array = |key: &str| goldens.array::<Ix4>(&format!("{prefix}{key}"));
        let mut model = AnalyticModel {
            c_img: array("c_img"),
            recorded: None,
            rows: Vec::new(),
        };
        let mut noise = replay(&goldens, &format!("{prefix}noise"));
        let sampling = sampling_of(&case, &diffusion);
        let result = run(sampler, &sampling, &mut model, &mut noise, array("x_T")).unwrap();
        assert_eq!(noise.remaining(), 0, "{sampler}: draws");
        let worst = assert_close(sampler, &result, &array("result"), abs(1e-5));
        eprintln!("{sampler} {prefix} {worst:.1e}");
        samplers.insert(sampler.to_owned());
    }
    assert_eq!((index.len(), samplers.len()), (26, 11));
}

#[test]
fn unipc_is_that_of_diffusers() {
    let goldens = Goldens::of_module("unipc");
    let diffusion = diffusion(false, Parameterization::Eps);
    for order in [2, 3] {
        for steps in [9, 27, 37] {
            let array = |key: &str| goldens.array::<Ix4>(&format!("{order}.{steps}.{key}"));
            let mut model = AnalyticModel {
                c_img: array("c_img"),
                recorded: None,
                rows: Vec::new(),
            };
            let sampling = Sampling {
                parameters: SamplerParameters {
                    order: Some(order),
                    ..SamplerParameters::default()
                },
                ..Sampling::new(&diffusion, steps)
            };
            let mut noise = Replay::new(Vec::new());
            let result = run("unipc", &sampling, &mut model, &mut noise, array("x_T")).unwrap();
            let expected = array("result");
            let largest = expected.iter().fold(1.0_f32, |max, x| max.max(x.abs()));
            let tolerance = abs(2e-5 * f64::from(largest));
            let worst = assert_close("unipc", &result, &expected, tolerance);
            eprintln!("order {order}, {steps} steps: {worst:.1e} of {largest:.1}");
        }
    }
}

#[test]
fn guidance_is_the_gradient_that_torch_finds() {
    let goldens = Goldens::of_module("guidance");
    for (case, kind) in [
        ("rgb.mse", LossKind::Mse),
        ("rgb.w_mse", LossKind::WMse),
        ("latent.mse", LossKind::Mse),
        ("latent_even.mse", LossKind::Mse),
    ] {
        let array = |key: &str| goldens.array::<Ix4>(&format!("{case}.{key}"));
        let weights = Weights::of(kind, &array("target"));
        if let Some(map) = weights.map() {
            assert_close(case, map, &array("weight"), abs(1e-6));
        }
        let (loss, delta) = loss_and_delta(&array("pred"), &array("target"), &weights, -1.0);
        let expected = goldens.f64(&format!("{case}.loss"))[[0]];
        assert!(
            (loss / expected - 1.0).abs() < 1e-6,
            "{case}: {loss}, expected {expected}"
        );
        let gradient = array("gradient");
        let largest = gradient.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        assert_close(case, &delta, &gradient, abs(2e-6 * f64::from(largest)));
    }
}
