//! Samplers: functions from noise to a latent, and the table of their names.
//!
//! A sampler is a function of the [`Sampling`] (schedule, steps, classifier-free guidance, sampler parameters), the
//! [`Run`] (model, noise, restoration guidance, observer) and the initial noise `x_T`. The number and order of its
//! draws are part of its contract, since results would not be reproducible otherwise. Schedules are data of
//! [`schedule`](crate::schedule).

pub mod ddim;
pub mod dpm;
pub mod edm;
mod parameters;
pub mod spaced;
mod table;
pub mod unipc;

use crate::denoise::{Cfg, Guide, NoiseModel, Parameterization, guided};
use crate::error::{Error, Result};
use crate::rng::NoiseSource;
use crate::schedule::{Diffusion, Fidelity};
use crate::tensor::{Latent, shape};

pub use parameters::{SamplerParameter, SamplerParameters};
pub use table::{SAMPLERS, Sampler, by_name};

/// The options of a sampler.
#[derive(Debug, Clone, Copy)]
pub struct Sampling<'a> {
    /// The forward process that the model was trained on.
    pub diffusion: &'a Diffusion,
    /// Number of steps; each sampler documents its limits.
    pub steps: usize,
    /// Classifier-free guidance.
    pub cfg: Cfg,
    /// Sampler parameters.
    pub parameters: SamplerParameters,
    /// Whether known faults of the reference are fixed or reproduced.
    pub fidelity: Fidelity,
}

impl<'a> Sampling<'a> {
    /// `steps` steps on `diffusion`, without guidance and with every parameter at its default.
    pub fn new(diffusion: &'a Diffusion, steps: usize) -> Self {
        Sampling {
            diffusion,
            steps,
            cfg: Cfg::default(),
            parameters: SamplerParameters::default(),
            fidelity: Fidelity::default(),
        }
    }
}

/// The model, noise and callbacks of a sampler.
pub struct Run<'a> {
    /// The denoiser.
    pub model: &'a mut dyn NoiseModel,
    /// The noise source.
    pub noise: &'a mut dyn NoiseSource,
    /// Restoration guidance, if any.
    pub guide: Option<&'a mut dyn Guide>,
    /// Receives each step.
    pub observe: &'a mut Observer<'a>,
}

/// A sampler's state after a step.
#[derive(Debug, Clone, Copy)]
pub struct StepInfo<'a> {
    /// Index of the step just completed, from 0.
    pub index: usize,
    /// Number of steps.
    pub total: usize,
    /// The model timestep of the denoiser call; fractional for some solvers.
    pub timestep: f32,
    /// The latent after the step, `[N, 4, h, w]`.
    pub x: &'a Latent,
    /// The clean latent predicted in this step, of the same shape, after restoration guidance.
    pub pred_x0: &'a Latent,
    /// The loss of restoration guidance in this step (mean over its iterations), if any.
    pub guidance_loss: Option<f64>,
}

/// Receives each step. An error stops the sampler and is its result; this is how a run is cancelled.
pub type Observer<'a> = dyn FnMut(&StepInfo<'_>) -> Result<()> + 'a;

/// A sampler: from the initial noise `x_T`, `[N, 4, h, w]` and standard normal, to the denoised latent.
pub type SampleFn = fn(&Sampling<'_>, &mut Run<'_>, Latent) -> Result<Latent>;

impl Run<'_> {
    /// The network's output at `x_t`, mapped by `convert`, under classifier-free guidance with the scale at
    /// `timestep`.
    fn predict(
        &mut self,
        cfg: Cfg,
        x_t: &Latent,
        timestep: f32,
        convert: &dyn Fn(Latent) -> Latent,
    ) -> Result<Latent> {
        let scale = cfg.scale_at(f64::from(timestep));
        guided(self.model, x_t, timestep, scale, convert)
    }

    /// Applies restoration guidance to `pred_x0`; `x0_weight` is its weight in the latent of the next step.
    fn steer(&mut self, pred_x0: &mut Latent, timestep: f32, x0_weight: f32) -> Result<()> {
        match &mut self.guide {
            Some(guide) => guide.steer(pred_x0, timestep, x0_weight, self.noise),
            None => Ok(()),
        }
    }

    /// Standard normal noise of `x`'s shape.
    fn randn_like(&mut self, x: &Latent) -> Result<Latent> {
        let noise = self.noise.randn(shape(x))?;
        if noise.dim() != x.dim() {
            return Err(Error::internal(
                "the noise differs from what was asked for in shape",
            ));
        }
        Ok(noise)
    }

    /// Passes a step to the observer.
    fn step(
        &mut self,
        (index, total): (usize, usize),
        timestep: f32,
        x: &Latent,
        pred_x0: &Latent,
    ) -> Result<()> {
        let guidance_loss = self.guide.as_mut().and_then(|guide| guide.take_loss());
        (self.observe)(&StepInfo {
            index,
            total,
            timestep,
            x,
            pred_x0,
            guidance_loss,
        })
    }
}

/// At zero SNR `x_T` is pure noise: eps carries no information about `x_0`, and the reference computes infinity minus
/// infinity.
fn needs_v(sampler: &str, parameterization: Parameterization) -> Result<()> {
    match parameterization {
        Parameterization::V => Ok(()),
        Parameterization::Eps => Err(Error::bundle(format!(
            "diffusion: with zero_snr the sampler {sampler} needs a model of parameterization v, found eps"
        ))),
    }
}

/// `a * x + b * y`, in this order of operations.
fn combine(a: f32, x: &Latent, b: f32, y: &Latent) -> Latent {
    let mut sum = x.clone();
    sum.zip_mut_with(y, |x, &y| *x = a * *x + b * y);
    sum
}

/// Adds `weight * y` to `x`.
fn add_scaled(x: &mut Latent, weight: f32, y: &Latent) {
    x.zip_mut_with(y, |x, &y| *x += weight * y);
}
