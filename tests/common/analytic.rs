//! Samplers on the analytic model that the golden trajectories were made with.

use diffbir::denoise::{Branch, Cfg, NoiseModel, Parameterization};
use diffbir::error::Result;
use diffbir::rng::{NoiseSource, Replay};
use diffbir::samplers::{Run, SamplerParameters, Sampling, StepInfo, by_name};
use diffbir::schedule::{Diffusion, DiffusionConfig, Fidelity};
use diffbir::tensor::Latent;
use ndarray::{ArrayD, Axis, Ix5};
use serde_json::Value;

use crate::common::Goldens;

/// The value of the context of a branch.
fn c_txt(branch: Branch) -> f32 {
    match branch {
        Branch::Cond => 0.75,
        Branch::Uncond => -0.5,
    }
}

/// One sample of one call of the network: `x`, the timestep, the context's value.
pub type Row = (ArrayD<f32>, f32, f32);

/// `0.35 * x - 0.2 * c_img + 0.15 * sin(t / 100) + 0.5 * c_txt` in f32, or recorded outputs. Remembers its calls.
pub struct AnalyticModel {
    pub c_img: Latent,
    pub recorded: Option<Vec<ArrayD<f32>>>,
    pub rows: Vec<Row>,
}

impl NoiseModel for AnalyticModel {
    fn predict(&mut self, x_t: &Latent, timestep: f32, branches: &[Branch]) -> Result<Vec<Latent>> {
        let outputs = branches.iter().map(|&branch| {
            let first = self.rows.len();
            let rows = x_t.outer_iter();
            self.rows
                .extend(rows.map(|x| (x.to_owned().into_dyn(), timestep, c_txt(branch))));
            let mut output = x_t.clone();
            if let Some(recorded) = &self.recorded {
                for (k, mut sample) in output.outer_iter_mut().enumerate() {
                    sample.assign(&recorded[first + k]);
                }
                return output;
            }
            let c_img = &self.c_img;
            output.zip_mut_with(c_img, |x, &c| {
                *x = 0.35 * *x + -0.2 * c + 0.15 * (timestep / 100.0).sin() + 0.5 * c_txt(branch);
            });
            output
        });
        Ok(outputs.collect())
    }
}

pub fn diffusion(zero_snr: bool, parameterization: Parameterization) -> Diffusion {
    Diffusion::new(&DiffusionConfig {
        zero_snr,
        parameterization,
        ..DiffusionConfig::default()
    })
    .unwrap()
}

/// The process of a golden case: `v` cases were made with zero SNR.
pub fn diffusion_of(case: &Value) -> Diffusion {
    match case["parameterization"].as_str().unwrap() {
        "eps" => diffusion(false, Parameterization::Eps),
        _ => diffusion(true, Parameterization::V),
    }
}

/// What a golden case asks of the sampler: of its options those that the sampler uses.
pub fn sampling_of<'a>(case: &Value, diffusion: &'a Diffusion) -> Sampling<'a> {
    let used = by_name(case["sampler"].as_str().unwrap())
        .unwrap()
        .parameters;
    let asked = |key: &str| {
        let given = &case["hparams"];
        let value = match (case["sampler"].as_str(), key) {
            // The reference's program never passes eta on to ddim; the goldens that do name it apart.
            (Some("ddim"), "eta") => &given["ddim_eta"],
            _ => &given[key],
        };
        used.iter().find(|parameter| parameter.key() == key)?;
        value.as_f64()
    };
    Sampling {
        cfg: Cfg {
            scale: case["cfg_scale"].as_f64().unwrap_or(1.0),
            rescale: case["rescale_cfg"].as_bool().unwrap_or(false),
            ..Cfg::default()
        },
        parameters: SamplerParameters {
            s_churn: asked("s_churn"),
            s_tmin: asked("s_tmin"),
            s_tmax: asked("s_tmax"),
            s_noise: asked("s_noise"),
            eta: asked("eta"),
            order: asked("order").map(|order| order as usize),
        },
        fidelity: Fidelity::Reference,
        ..Sampling::new(diffusion, case["steps"].as_u64().unwrap() as usize)
    }
}

/// Recorded draws, `[n, N, C, H, W]`; none where there is no such array.
pub fn replay(goldens: &Goldens, name: &str) -> Replay {
    if !goldens.has(name) {
        return Replay::new(Vec::new());
    }
    let draws = goldens.array::<Ix5>(name);
    Replay::new(draws.outer_iter().map(|draw| draw.to_owned()).collect())
}

/// Runs a sampler and checks that it tells of its steps in order.
pub fn run(
    name: &str,
    sampling: &Sampling<'_>,
    model: &mut dyn NoiseModel,
    noise: &mut dyn NoiseSource,
    x_t: Latent,
) -> Result<Latent> {
    let (mut next, mut last) = (0, 0);
    let mut observe = |info: &StepInfo<'_>| {
        assert_eq!(info.index, next, "{name}: steps in order");
        assert_eq!(info.x.dim(), info.pred_x0.dim());
        (next, last) = (next + 1, info.total);
        Ok(())
    };
    let mut run = Run {
        model,
        noise,
        guide: None,
        observe: &mut observe,
    };
    let result = (by_name(name)?.sample)(sampling, &mut run, x_t)?;
    assert_eq!(next, last, "{name}: every step is told of");
    Ok(result)
}

/// The samples of recorded calls, in the order in which the engine asks: call by call, cond before uncond. Where the
/// scale in force is 1 the engine does not ask for uncond.
pub fn recorded_rows(goldens: &Goldens, prefix: &str, what: &str, cfg: Cfg) -> Vec<Row> {
    let array = |key: &str| goldens.f32(&format!("{prefix}{key}"));
    let (values, timesteps, contexts) = (array(what), array("call_t"), array("call_ctxt"));
    let mut rows = Vec::new();
    for (call, values) in values.outer_iter().enumerate() {
        let (t, c) = (
            timesteps.index_axis(Axis(0), call),
            contexts.index_axis(Axis(0), call),
        );
        let of = |wanted: f32| {
            let samples = values.outer_iter().zip(t.iter().zip(c.iter()));
            samples
                .filter(move |(_, (_, c))| **c == wanted)
                .map(|(x, (t, c))| (x.to_owned(), *t, *c))
                .collect::<Vec<Row>>()
        };
        rows.extend(of(0.75));
        let uncond = of(-0.5).into_iter();
        rows.extend(uncond.filter(|(_, t, _)| cfg.scale_at(f64::from(*t)) != 1.0));
    }
    rows
}
