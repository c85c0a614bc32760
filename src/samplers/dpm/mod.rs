//! DPM-Solver and DPM-Solver++ (Lu et al., arXiv 2206.00927 and 2211.01095) of order 1 to 3, evenly spaced in time.
//!
//! Both are exponential integrators in `lambda`, half the log-SNR: DPM-Solver of the noise, DPM-Solver++ of the clean
//! latent. No draws. They end at the first training timestep, not at the clean latent. Source: `DPMSolverSampler`,
//! diffbir/sampler/dpms_sampler.py, and diffbir/sampler/dpm_solver_pytorch.py at 3f8b530.
//!
//! With zero SNR the reference's table of noise levels is shorter than its model timesteps assume (see [`LogSnrSchedule`]), so
//! that noise level and model timestep disagree by up to 1.4 %. That is kept.

mod multistep;
mod singlestep;

use super::{Run, Sampling};
use crate::denoise::Parameterization;
use crate::error::Result;
use crate::schedule::LogSnrSchedule;
use crate::tensor::Latent;

pub use multistep::multistep;
pub use singlestep::singlestep;

/// What the solver integrates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prediction {
    /// The noise: DPM-Solver.
    Noise,
    /// The clean latent: DPM-Solver++.
    Data,
}

/// How a time becomes the timestep at which the network is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ModelTimesteps {
    /// As if the schedule had 1000 timesteps: the reference's.
    Stretched,
    /// The timestep that the time stands for.
    True,
}

/// A schedule and what is integrated on it.
pub(super) struct Solver<'a> {
    sampling: &'a Sampling<'a>,
    pub(super) schedule: LogSnrSchedule,
    prediction: Prediction,
    timesteps: ModelTimesteps,
}

/// An evaluation of the network.
pub(super) struct ModelOutput {
    pub(super) time: f32,
    /// The noise or the clean latent, whichever is integrated.
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

    /// The training timestep, fractional, at which the network is called for `time`.
    pub(super) fn model_timestep(&self, time: f32) -> f32 {
        let count = match self.timesteps {
            ModelTimesteps::Stretched => self.sampling.diffusion.timesteps(),
            ModelTimesteps::True => self.schedule.len(),
        };
        (time - self.schedule.end()) * count as f32
    }

    /// Calls the network at `x` and `time`. The step that this begins leads to `next`.
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

    /// The weights of a step from `from` to `to`, `h` apart in `lambda`.
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

    /// The distance of two times in `lambda`.
    pub(super) fn distance(&self, from: f32, to: f32) -> f32 {
        self.schedule.lambda(to) - self.schedule.lambda(from)
    }
}

/// The weights of an exponential step:
/// `x_weight * x - gain * phi_1 * value + gain * phi_2 * first derivative - gain * phi_3 * second derivative`.
pub(super) struct Coefficients {
    pub(super) x_weight: f32,
    pub(super) gain: f32,
    pub(super) phi_1: f32,
    pub(super) phi_2: f32,
    pub(super) phi_3: f32,
}

impl Coefficients {
    /// The part of a step that every order has.
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
