//! Samplers against oracles: where the data are normal with mean `MU` and standard deviation `S`, the exact denoiser
//! is known, and with it the solution of the probability flow ODE, and what a stochastic sampler must end with.

#![allow(clippy::unwrap_used)]

use diffbir::denoise::{Branch, NoiseModel, Parameterization};
use diffbir::error::Result;
use diffbir::rng::{NoiseSource, TorchCpu};
use diffbir::samplers::{
    Run, SAMPLERS, SamplerParameter, SamplerParameters, Sampling, StepInfo, by_name,
};
use diffbir::schedule::{
    DdimSchedule, Diffusion, DiffusionConfig, EdmSchedule, LogSnrSchedule, linspace,
};
use diffbir::tensor::Latent;

const MU: f64 = 1.5;
const S: f64 = 0.6;

fn diffusion(parameterization: Parameterization) -> Diffusion {
    Diffusion::new(&DiffusionConfig {
        zero_snr: parameterization == Parameterization::V,
        parameterization,
        ..DiffusionConfig::default()
    })
    .unwrap()
}

/// Shares of signal and noise at a timestep, between two of them by linear interpolation of `log(alpha)`.
fn shares(diffusion: &Diffusion, timestep: f32) -> (f64, f64) {
    let log_alpha = |t: usize| 0.5 * diffusion.alphas_cumprod()[t].max(1e-300).ln();
    let (below, part) = (timestep.floor(), f64::from(timestep.fract()));
    let log_alpha = match part {
        0.0 => log_alpha(below as usize),
        _ => log_alpha(below as usize) * (1.0 - part) + log_alpha(below as usize + 1) * part,
    };
    (log_alpha.exp(), (-(2.0 * log_alpha).exp_m1()).sqrt())
}

/// The exact denoiser: the noise, or velocity, expected at `x_t`.
struct Exact<'a> {
    diffusion: &'a Diffusion,
}

impl NoiseModel for Exact<'_> {
    fn predict(&mut self, x_t: &Latent, timestep: f32, branches: &[Branch]) -> Result<Vec<Latent>> {
        let (signal, sigma) = shares(self.diffusion, timestep);
        let gain = signal * S * S / ((signal * S).powi(2) + sigma * sigma);
        let output = x_t.mapv(|x| {
            let surplus = f64::from(x) - signal * MU;
            let x0 = MU + gain * surplus;
            // (x - signal * x0) / sigma, without the loss of digits where sigma is small
            let eps = surplus * (1.0 - signal * gain) / sigma;
            match self.diffusion.parameterization {
                Parameterization::Eps => eps as f32,
                Parameterization::V => (signal * eps - sigma * x0) as f32,
            }
        });
        Ok(vec![output; branches.len()])
    }
}

/// `A * x + B` whatever the timestep: for solvers that evaluate between the levels of their schedule, where the
/// timestep that the network is given is only the nearest one's.
struct Untimed;

const A: f64 = 0.35;
const B: f64 = 0.4;

impl NoiseModel for Untimed {
    fn predict(&mut self, x_t: &Latent, _: f32, branches: &[Branch]) -> Result<Vec<Latent>> {
        let output = x_t.mapv(|x| (A * f64::from(x) + B) as f32);
        Ok(vec![output; branches.len()])
    }
}

/// Runs a sampler and returns the latent after each step.
fn trajectory(
    name: &str,
    sampling: &Sampling<'_>,
    model: &mut dyn NoiseModel,
    x_t: &Latent,
) -> Vec<Latent> {
    let mut states = Vec::new();
    let mut observe = |info: &StepInfo<'_>| {
        states.push(info.x.clone());
        Ok(())
    };
    let mut run = Run {
        model,
        noise: &mut TorchCpu::new(42),
        guide: None,
        observe: &mut observe,
    };
    (by_name(name).unwrap().sample)(sampling, &mut run, x_t.clone()).unwrap();
    states
}

/// The exact solution of the ODE from one pair of shares to another, for normal data.
fn flow((signal, sigma): (f64, f64), (to_signal, to_sigma): (f64, f64), x: f64) -> f64 {
    let spread = |signal: f64, sigma: f64| (signal * S).hypot(sigma);
    to_signal * MU + spread(to_signal, to_sigma) / spread(signal, sigma) * (x - signal * MU)
}

/// The exact solution of `dx/dsigma = A x / sqrt(1 + sigma^2) + B`.
fn untimed_flow(sigma: f64, to: f64, x: f64) -> f64 {
    let particular = |s: f64| B / 2.0 * (s.exp() / (1.0 - A) - (-s).exp() / (1.0 + A));
    let (s, to) = (sigma.asinh(), to.asinh());
    (x - particular(s)) * (A * (to - s)).exp() + particular(to)
}

fn rms_error(found: &Latent, x_t: &Latent, exact: impl Fn(f64) -> f64) -> f64 {
    let square = |(&found, &x): (&f32, &f32)| (f64::from(found) - exact(x.into())).powi(2);
    let sum: f64 = found.iter().zip(x_t).map(square).sum();
    (sum / found.len() as f64).sqrt()
}

/// The error after three quarters of the way.
fn error(name: &str, parameters: SamplerParameters, steps: usize) -> f64 {
    let diffusion = diffusion(Parameterization::Eps);
    let sampling = Sampling {
        parameters,
        ..Sampling::new(&diffusion, steps)
    };
    let x_t = TorchCpu::new(7).randn([1, 4, 8, 8]).unwrap();
    if name == "ddim" {
        let schedule = DdimSchedule::new(&diffusion, steps, 0.0).unwrap().steps;
        let i = schedule.len() * 3 / 4;
        let at = |i: usize| shares(&diffusion, schedule[i].timestep as f32);
        let x = trajectory(
            name,
            &sampling,
            &mut Exact {
                diffusion: &diffusion,
            },
            &x_t,
        )
        .remove(i - 1);
        return rms_error(&x, &x_t, |x| flow(at(0), at(i), x));
    }
    if name.starts_with("edm") {
        return edm_error(name, &sampling, &x_t);
    }
    let schedule = LogSnrSchedule::new(&diffusion);
    let times = linspace(1.0, schedule.end(), steps + 1);
    let states = trajectory(
        name,
        &sampling,
        &mut Exact {
            diffusion: &diffusion,
        },
        &x_t,
    );
    // Singlestep solvers of order k tell of steps of k evaluations each; the lower orders stand at the end.
    let order = if name.contains("_s") {
        name[name.len() - 1..].parse().unwrap()
    } else {
        1
    };
    let i = steps * 3 / 4 / order;
    let at = |time: f32| shares(&diffusion, (time * 1000.0 - 1.0).max(0.0));
    rms_error(&states[i - 1], &x_t, |x| {
        flow(at(1.0), at(times[i * order]), x)
    })
}

fn edm_error(name: &str, sampling: &Sampling<'_>, x_t: &Latent) -> f64 {
    let diffusion = sampling.diffusion;
    let schedule = EdmSchedule::new(diffusion, sampling.steps, sampling.fidelity).unwrap();
    let i = sampling.steps * 3 / 4;
    let (from, to) = (f64::from(schedule.sigmas[0]), f64::from(schedule.sigmas[i]));
    let start = 1.0_f64.hypot(from);
    let between = [
        "edm_dpm_2",
        "edm_dpm_2_a",
        "edm_dpm++_2s_a",
        "edm_dpm++_sde",
    ];
    if between.contains(&name) {
        let x = trajectory(name, sampling, &mut Untimed, x_t).remove(i - 1);
        return rms_error(&x, x_t, |x| untimed_flow(from, to, x * start));
    }
    let x = trajectory(name, sampling, &mut Exact { diffusion }, x_t).remove(i - 1);
    rms_error(&x, x_t, |x| flow((1.0, from), (1.0, to), x * start))
}

/// Every solver without noise converges to the ODE's solution with its order. A multistep solver begins with a step
/// of first order, which bounds what can be measured by 2.
#[test]
fn solvers_converge_with_their_order() {
    let eta_0 = SamplerParameters {
        eta: Some(0.0),
        ..SamplerParameters::default()
    };
    let order = |order| SamplerParameters {
        order: Some(order),
        ..SamplerParameters::default()
    };
    let none = SamplerParameters::default();
    let solvers = [
        ("ddim", none, 1.0),
        ("edm_euler", none, 1.0),
        ("edm_euler_a", eta_0, 1.0),
        ("edm_heun", none, 2.0),
        ("edm_dpm_2", none, 2.0),
        ("edm_dpm_2_a", eta_0, 2.0),
        ("edm_lms", order(1), 1.0),
        ("edm_lms", order(2), 2.0),
        ("edm_lms", order(3), 2.0),
        ("edm_lms", order(4), 2.0),
        ("edm_dpm++_2s_a", eta_0, 2.0),
        ("edm_dpm++_sde", eta_0, 2.0),
        ("edm_dpm++_2m", none, 2.0),
        ("edm_dpm++_2m_sde", eta_0, 2.0),
        ("edm_dpm++_3m_sde", eta_0, 2.0),
        ("dpm_s1", none, 1.0),
        ("dpm_s2", none, 2.0),
        ("dpm_s3", none, 3.0),
        ("dpm_m1", none, 1.0),
        ("dpm_m2", none, 2.0),
        ("dpm_m3", none, 2.0),
        ("dpm++_s1", none, 1.0),
        ("dpm++_s2", none, 2.0),
        ("dpm++_s3", none, 3.0),
        ("dpm++_m1", none, 1.0),
        ("dpm++_m2", none, 2.0),
        ("dpm++_m3", none, 2.0),
        ("unipc", order(2), 2.0),
        ("unipc", order(3), 3.0),
    ];
    let mut failures = Vec::new();
    for (name, parameters, order) in solvers {
        let errors = [24, 48, 96].map(|steps| error(name, parameters, steps));
        let slopes = [
            (errors[0] / errors[1]).log2(),
            (errors[1] / errors[2]).log2(),
        ];
        eprintln!(
            "{name} {parameters:?}: errors {errors:?}, orders {slopes:.2?}, expected {order}"
        );
        if slopes.iter().all(|slope| *slope < order - 0.35) || errors[2] > 0.02 {
            failures.push(name);
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
    // Nothing without noise is left out.
    let stochastic = |name: &str| name == "spaced";
    for sampler in SAMPLERS.iter().filter(|sampler| !stochastic(sampler.name)) {
        assert!(
            solvers.iter().any(|(name, ..)| *name == sampler.name),
            "{}",
            sampler.name
        );
    }
}

/// A higher order pays: the same number of evaluations, a smaller error.
#[test]
fn higher_orders_are_closer() {
    let order = |order| SamplerParameters {
        order: Some(order),
        ..SamplerParameters::default()
    };
    let none = SamplerParameters::default();
    for ((lower, lower_parameters), (higher, higher_parameters)) in [
        (("edm_lms", order(1)), ("edm_lms", order(2))),
        (("edm_lms", order(2)), ("edm_lms", order(4))),
        (("dpm++_m1", none), ("dpm++_m2", none)),
        (("dpm++_m2", none), ("dpm++_m3", none)),
        (("dpm++_m2", none), ("unipc", order(2))),
        (("unipc", order(2)), ("unipc", order(3))),
    ] {
        let (low, high) = (
            error(lower, lower_parameters, 24),
            error(higher, higher_parameters, 24),
        );
        assert!(high < low, "{lower} {low:.2e}, {higher} {high:.2e}");
    }
}

/// Mean and standard deviation of what sampler `name` ends with.
fn moments(name: &str, parameterization: Parameterization, steps: usize) -> (f64, f64) {
    let diffusion = diffusion(parameterization);
    let eta = by_name(name)
        .unwrap()
        .parameters
        .contains(&SamplerParameter::EtaToOne)
        .then_some(1.0);
    let sampling = Sampling {
        parameters: SamplerParameters {
            eta,
            ..SamplerParameters::default()
        },
        ..Sampling::new(&diffusion, steps)
    };
    let x_t = TorchCpu::new(1).randn([1, 4, 64, 64]).unwrap();
    let mut model = Exact {
        diffusion: &diffusion,
    };
    let x = trajectory(name, &sampling, &mut model, &x_t).pop().unwrap();
    let n = x.len() as f64;
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = x
        .iter()
        .map(|&x| (f64::from(x) - mean).powi(2))
        .sum::<f64>()
        / n;
    (mean, variance.sqrt())
}

/// Samplers that add noise end with the distribution of the data.
#[test]
fn stochastic_samplers_end_with_the_data() {
    for parameterization in [Parameterization::Eps, Parameterization::V] {
        for (name, steps) in [
            ("spaced", 1000),
            ("ddim", 500),
            ("edm_euler_a", 500),
            ("edm_dpm_2_a", 250),
            ("edm_dpm++_2s_a", 250),
            ("edm_dpm++_sde", 250),
            ("edm_dpm++_2m_sde", 100),
            ("edm_dpm++_3m_sde", 100),
        ] {
            // 16384 values: the sampling error is 0.005 for the mean and 0.003 for the deviation.
            let (mean, std) = moments(name, parameterization, steps);
            eprintln!("{name} {parameterization:?}: {mean:.4} {std:.4}");
            assert!(
                (mean - MU).abs() < 0.02,
                "{name} {parameterization:?}: mean {mean}"
            );
            assert!(
                (std - S).abs() < 0.02,
                "{name} {parameterization:?}: deviation {std}"
            );
        }
    }
}

#[test]
fn spaced_comes_closer_with_more_steps() {
    for parameterization in [Parameterization::Eps, Parameterization::V] {
        let errors = [5, 20, 100].map(|steps| {
            let (_, std) = moments("spaced", parameterization, steps);
            (std - S).abs()
        });
        assert!(
            errors.is_sorted_by(|a, b| *a > 1.5 * b),
            "{parameterization:?}: {errors:?}"
        );
    }
}
