//! DPM-Solver and DPM-Solver++ (Lu et al., arXiv 2206.00927 and 2211.01095) of order 1 to 3, evenly spaced in time.
//!
//! Both are exponential integrators in `lambda`, half the log-SNR: DPM-Solver in the noise prediction, DPM-Solver++ in
//! the data prediction. No draws. They end at the first training timestep, not at the clean latent. Source:
//! `DPMSolverSampler`, diffbir/sampler/dpms_sampler.py, and diffbir/sampler/dpm_solver_pytorch.py at 3f8b530.
//!
//! At zero SNR the reference's table of noise levels is shorter than its model timesteps assume (see
//! [`LogSnrSchedule`]), so noise level and model timestep disagree by up to 1.4 %. This is reproduced.

mod multistep;
mod singlestep;

use super::{Run, Sampling};
use crate::denoise::Parameterization;
use crate::error::Result;
use crate::schedule::LogSnrSchedule;
use crate::tensor::Latent;

pub use multistep::multistep;
pub use singlestep::singlestep;

/// Prediction type of the solver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prediction {
    /// Noise prediction: DPM-Solver.
    Noise,
    /// Data prediction (the clean latent): DPM-Solver++.
    Data,
}

/// Conversion of a time to a model timestep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ModelTimesteps {
    /// For a schedule of 1000 timesteps, as in the reference.
    Stretched,
    /// For the actual length of the schedule.
    True,
}

/// A schedule and the prediction type on it.
pub(super) struct Solver<'a> {
    sampling: &'a Sampling<'a>,
    pub(super) schedule: LogSnrSchedule,
    prediction: Prediction,
    timesteps: ModelTimesteps,
}

/// The result of a denoiser call.
pub(super) struct ModelOutput {
    pub(super) time: f32,
    /// The noise or the clean latent, according to the prediction type.
    pub(super) value: Latent,
    /// The clean latent.
    pub(super) pred_x0: Latent,
}

impl<'a> Solver<'a> {
    pub(super) fn new(
        sampling: &'a Sampling<'a>,
        prediction: Prediction,
        timesteps: ModelTimesteps,
    ) -> Self {
        Solver {
            sampling,
            schedule: LogSnrSchedule::new(sampling.diffusion),
            prediction,
            timesteps,
        }
    }

    /// The model timestep, fractional, for `time`.
    pub(super) fn model_timestep(&self, time: f32) -> f32 {
        let count = match self.timesteps {
            ModelTimesteps::Stretched => self.sampling.diffusion.timesteps(),
            ModelTimesteps::True => self.schedule.len(),
        };
        (time - self.schedule.end()) * count as f32
    }

    /// Calls the denoiser at `x` and `time`, in a step that leads to `next`.
    pub(super) fn call(
        &self,
        run: &mut Run<'_>,
        x: &Latent,
        time: f32,
        next: f32,
    ) -> Result<ModelOutput> {
        let timestep = self.model_timestep(time);
        let (alpha, sigma) = (self.schedule.alpha(time), self.schedule.sigma(time));
        let is_v = self.sampling.diffusion.parameterization == Parameterization::V;
        let convert = |output: Latent| match is_v {
            true => super::combine(alpha, &output, sigma, x),
            false => output,
        };
        let mut noise = run.predict(self.sampling.cfg, x, timestep, &convert)?;
        let mut pred_x0 = noise.clone();
        pred_x0.zip_mut_with(x, |e, &x| *e = (x - sigma * *e) / alpha);
        let x0_weight = self.schedule.alpha(next) - self.schedule.sigma(next) * alpha / sigma;
        run.steer(&mut pred_x0, timestep, x0_weight)?;
        let value = match self.prediction {
            Prediction::Data => pred_x0.clone(),
            Prediction::Noise if run.guide.is_some() => {
                noise.assign(x);
                noise.zip_mut_with(&pred_x0, |x, &x0| *x = (*x - alpha * x0) / sigma);
                noise
            }
            Prediction::Noise => noise,
        };
        Ok(ModelOutput {
            time,
            value,
            pred_x0,
        })
    }

    /// The coefficients of a step from `from` to `to` of size `h` in `lambda`.
    pub(super) fn coefficients(&self, from: f32, to: f32, h: f32) -> Coefficients {
        let schedule = &self.schedule;
        match self.prediction {
            Prediction::Data => {
                let phi_1 = (-h).exp_m1();
                let phi_2 = phi_1 / h + 1.0;
                Coefficients {
                    x_weight: schedule.sigma(to) / schedule.sigma(from),
                    gain: schedule.alpha(to),
                    phi_1,
                    phi_2,
                    phi_3: phi_2 / h - 0.5,
                }
            }
            Prediction::Noise => {
                let phi_1 = h.exp_m1();
                let phi_2 = phi_1 / h - 1.0;
                Coefficients {
                    x_weight: (schedule.log_alpha(to) - schedule.log_alpha(from)).exp(),
                    gain: schedule.sigma(to),
                    phi_1,
                    phi_2: -phi_2,
                    phi_3: phi_2 / h - 0.5,
                }
            }
        }
    }

    /// The difference of two times in `lambda`.
    pub(super) fn distance(&self, from: f32, to: f32) -> f32 {
        self.schedule.lambda(to) - self.schedule.lambda(from)
    }
}

/// The coefficients of an exponential integrator step: `x_weight * x - gain * phi_1 * value + gain * phi_2 * first
/// derivative - gain * phi_3 * second derivative`.
pub(super) struct Coefficients {
    pub(super) x_weight: f32,
    pub(super) gain: f32,
    pub(super) phi_1: f32,
    pub(super) phi_2: f32,
    pub(super) phi_3: f32,
}

impl Coefficients {
    /// The first-order part of a step.
    pub(super) fn first(&self, x: &Latent, value: &Latent) -> Latent {
        super::combine(self.x_weight, x, -(self.gain * self.phi_1), value)
    }
}

/// `weight * (a - b)`.
fn scaled_difference(weight: f32, a: &Latent, b: &Latent) -> Latent {
    let mut d = a.clone();
    d.zip_mut_with(b, |a, &b| *a = weight * (*a - b));
    d
}
