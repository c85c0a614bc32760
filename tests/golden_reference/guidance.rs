//! Restoration guidance: gradients, and whole runs on an analytic model and an analytic autoencoder.

use diffbir::denoise::{Cfg, Guide};
use diffbir::error::Result;
use diffbir::guidance::{
    Decoder, Guidance, LossKind, Rule, Semantics, Target, Weights, loss_and_delta,
};
use diffbir::rng::NoiseSource;
use diffbir::samplers::{Run, Sampling, StepInfo, spaced};
use diffbir::tensor::{Image, Latent};
use ndarray::{Array4, Axis, Ix4, Ix5};
use serde_json::Value;

use crate::analytic::{AnalyticModel, diffusion, replay};
use crate::common::{Goldens, abs, assert_close, with_reference};

/// Gradients to 1e-4 relative; the arithmetic allows less.
const TOLERANCE: f64 = 1e-5;

fn close(what: &str, found: &Array4<f32>, expected: &Array4<f32>) -> f64 {
    let largest = expected.iter().fold(1e-9_f32, |max, x| max.max(x.abs()));
    assert_close(what, found, expected, abs(TOLERANCE * f64::from(largest))) / f64::from(largest)
}

fn index(folder: &std::path::Path) -> Value {
    let text = std::fs::read(folder.join("guidance.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn guidance_gradients() {
    with_reference("guidance_gradients", |folder| {
        let goldens = Goldens::open(folder.join("guidance.safetensors"));
        let index = index(folder);
        let mut worst = 0.0_f64;
        for (case, kind) in [
            ("bare.latent.mse.", LossKind::Mse),
            ("bare.latent2.mse.", LossKind::Mse),
            ("bare.rgb.mse.", LossKind::Mse),
            ("bare.rgb2.mse.", LossKind::Mse),
            ("bare.rgb.w_mse.", LossKind::WMse),
            ("bare.rgb2.w_mse.", LossKind::WMse),
        ] {
            let array = |key: &str| goldens.array::<Ix4>(&format!("{case}{key}"));
            let weights = Weights::of(kind, &array("target"));
            if let Some(map) = weights.map() {
                close(case, map, &array("weight"));
            }
            let scale = index[case]["effective_scale"].as_f64().unwrap() as f32;
            let (loss, delta) = loss_and_delta(&array("pred"), &array("target"), &weights, scale);
            worst = worst.max(close(case, &delta, &array("g")));
            let expected = index[case]["loss"].as_f64().unwrap();
            assert!((loss / expected - 1.0).abs() < TOLERANCE, "{case}: {loss}");
        }
        eprintln!("gradients: largest relative difference {worst:.1e}");
    });
}

/// Every latent cell is 8x8 pixels of a mixture of its channels.
struct Nearest {
    mix: fn(&[f32; 4], usize) -> f32,
    /// The derivative of colour `c` by channel `k`.
    weight: fn(usize, usize) -> f32,
}

impl Decoder for Nearest {
    fn decode(&mut self, z: &Latent) -> Result<Image> {
        let (n, _, h, w) = z.dim();
        Ok(Array4::from_shape_fn(
            (n, 3, 8 * h, 8 * w),
            |(i, c, y, x)| (self.mix)(&std::array::from_fn(|k| z[[i, k, y / 8, x / 8]]), c),
        ))
    }

    fn pull_back(&mut self, z: &Latent, cotangent: &Image) -> Result<Latent> {
        Ok(Array4::from_shape_fn(z.dim(), |(i, k, y, x)| {
            let block = |c| {
                let pixels = (0..64).map(|p| cotangent[[i, c, y * 8 + p / 8, x * 8 + p % 8]]);
                pixels.sum::<f32>()
            };
            (0..3).map(|c| (self.weight)(c, k) * block(c)).sum()
        }))
    }
}

const V2: Nearest = Nearest {
    mix: |z, c| 0.1 * z[c] + 0.05 * z[3],
    weight: |c, k| match k {
        3 => 0.05,
        k if k == c => 0.1,
        _ => 0.0,
    },
};

const V1: Nearest = Nearest {
    mix: |z, c| z[c],
    weight: |c, k| if k == c { 1.0 } else { 0.0 },
};

/// The analytic encoder: pixels averaged over cells, and the mean of the three as fourth channel.
fn encode(image: &Image) -> Latent {
    let (n, _, h, w) = image.dim();
    Array4::from_shape_fn((n, 4, h / 8, w / 8), |(i, k, y, x)| {
        let cell = |c| {
            let pixels = (0..64).map(|p| image[[i, c, y * 8 + p / 8, x * 8 + p % 8]]);
            pixels.sum::<f32>() / 64.0
        };
        match k {
            3 => (0..3).map(cell).sum::<f32>() / 3.0,
            k => cell(k),
        }
    })
}

/// Runs a recorded case under `guide` and compares predictions and result.
fn check_run(goldens: &Goldens, prefix: &str, case: &Value, guide: &mut dyn Guide, pred_x0: &str) {
    let name = |key: &str| format!("{prefix}{key}");
    let diffusion = diffusion(false, diffbir::denoise::Parameterization::Eps);
    let sampling = Sampling {
        cfg: Cfg {
            scale: case["cfg_scale"].as_f64().unwrap_or(1.0),
            ..Cfg::default()
        },
        ..Sampling::new(&diffusion, case["steps"].as_u64().unwrap() as usize)
    };
    let predictions = goldens.array::<Ix5>(&name(pred_x0));
    let mut noise = replay(goldens, &name("noise"));
    let mut model = AnalyticModel {
        c_img: goldens.array(&name("c_img")),
        recorded: None,
        rows: Vec::new(),
    };
    let mut observe = |info: &StepInfo<'_>| {
        // v1's recorded prediction steers the repeats alone; here it is what the next latent is made of.
        if pred_x0 == "pred_x0_after" {
            let expected = predictions.index_axis(Axis(0), info.index).to_owned();
            close(&name(pred_x0), info.pred_x0, &expected);
        }
        Ok(())
    };
    let mut run = Run {
        model: &mut model,
        noise: &mut noise,
        guide: Some(guide),
        observe: &mut observe,
    };
    let x_t = goldens.array::<Ix4>(&name("x_T"));
    let result = spaced::sample(&sampling, &mut run, x_t).unwrap();
    assert_eq!(noise.remaining(), 0);
    let worst = close(&name("result"), &result, &goldens.array(&name("result")));
    eprintln!("{prefix} largest relative difference {worst:.1e}");
}

fn rule(case: &Value, semantics: Semantics) -> Rule {
    let scale = match semantics {
        Semantics::V1 => &case["scale"],
        Semantics::V2 => &case["cli_scale"],
    };
    Rule {
        semantics,
        scale: scale.as_f64().unwrap(),
        start: case["t_start"].as_i64().unwrap(),
        stop: case["t_stop"].as_i64().unwrap(),
        repeat: case["repeat"].as_u64().unwrap() as usize,
    }
}

fn target(goldens: &Goldens, prefix: &str, case: &Value, decoder: Nearest) -> Target<'static> {
    let image = goldens.array::<Ix4>(&format!("{prefix}target_rgb"));
    if case["space"] == "latent" {
        return Target::Latent {
            target: encode(&image),
            discard_draws: false,
        };
    }
    let kind = match case["loss"].as_str() {
        Some("WeightedMSEGuidance") => LossKind::WMse,
        _ => LossKind::Mse,
    };
    Target::Rgb {
        weights: Weights::of(kind, &image),
        target: image,
        decoder: Box::new(decoder),
    }
}

#[test]
fn guidance_runs() {
    with_reference("guidance_runs", |folder| {
        let goldens = Goldens::open(folder.join("guidance.safetensors"));
        let index = index(folder);
        // 3 is weighted in latent space, which ends the reference and is refused here.
        for k in [0, 1, 2, 4, 5, 6] {
            let prefix = format!("v2.spaced.{k}.");
            let case = &index[&prefix];
            let target = target(&goldens, &prefix, case, V2);
            let mut guide = Guidance::new(rule(case, Semantics::V2), target);
            check_run(&goldens, &prefix, case, &mut guide, "pred_x0_after");
        }
        for k in 0..6 {
            let prefix = format!("v1.spaced.{k}.");
            let case = &index["v1"][format!("v1.spaced.{k}.")];
            let target = target(&goldens, &prefix, case, V1);
            let mut guide = Guidance::new(rule(case, Semantics::V1), target);
            check_run(&goldens, &prefix, case, &mut guide, "pred_x0");
        }
    });
}

/// A target that is another at every repeat, as the reference draws it.
struct Redrawn {
    rule: Rule,
    targets: std::vec::IntoIter<Latent>,
}

impl Guide for Redrawn {
    fn steer(
        &mut self,
        pred_x0: &mut Latent,
        timestep: f32,
        weight: f32,
        noise: &mut dyn NoiseSource,
    ) -> Result<()> {
        for _ in 0..self.rule.repeat {
            let target = Target::Latent {
                target: self.targets.next().unwrap(),
                discard_draws: true,
            };
            let once = Rule {
                repeat: 1,
                ..self.rule
            };
            Guidance::new(once, target).steer(pred_x0, timestep, weight, noise)?;
        }
        Ok(())
    }

    fn take_loss(&mut self) -> Option<f64> {
        None
    }
}

/// With the targets that the reference drew from the posterior: as many numbers are drawn, in the same places.
#[test]
fn guidance_draws() {
    with_reference("guidance_draws", |folder| {
        let goldens = Goldens::open(folder.join("guidance.safetensors"));
        let prefix = "tinyvae.spaced_latent_mse.";
        let case = &index(folder)[prefix];
        let targets = goldens.array::<Ix5>(&format!("{prefix}target_latent"));
        let targets: Vec<Latent> = targets.outer_iter().map(|x| x.to_owned()).collect();
        let mut guide = Redrawn {
            rule: rule(case, Semantics::V2),
            targets: targets.into_iter(),
        };
        check_run(&goldens, prefix, case, &mut guide, "pred_x0_after");
    });
}
