//! The samplers of k-diffusion: noise levels in variance-exploding form, with the denoised latent as model output.
//!
//! | here | Karras et al. (arXiv 2206.00364) |
//! |---|---|
//! | `sigma` | the noise level t_i, `x = x_0 + sigma * noise` |
//! | `sigma_next` | the noise level after a step, t_{i+1} |
//! | `sigma_hat`, `gamma` | the level after churn, t^_i, and its relative increase (algorithm 2) |
//! | `sigma_down`, `sigma_up` | the level before the noise of an ancestral step, and the noise's standard deviation |
//! | `denoised` | D(x; sigma), the estimate of x_0 |
//! | `d` | dx / dsigma = (x - denoised) / sigma, equation 3 |
//! | `c_in`, `c_out`, `c_skip` | the preconditioning of section 5 |
//!
//! Arithmetic is in f32 in the reference's order of operations: in an ancestral step `sigma_down` loses digits to
//! cancellation, and only f32 loses the same ones. Source: `EDMSampler`, diffbir/sampler/edm_sampler.py, and
//! diffbir/sampler/k_diffusion.py at 3f8b530.

mod ancestral;
mod churn;
mod multistep;
mod sde;

use super::{Run, Sampling, add_scaled, combine};
use crate::denoise::Parameterization;
use crate::error::Result;
use crate::schedule::EdmSchedule;
use crate::tensor::Latent;

pub use ancestral::{dpm_2_ancestral, dpmpp_2s_ancestral, euler_ancestral};
pub use churn::{dpm_2, euler, heun};
pub use multistep::{dpmpp_2m, lms};
pub use sde::{dpmpp_2m_sde, dpmpp_3m_sde, dpmpp_sde};

/// The denoiser on a schedule of noise levels.
struct Edm<'a> {
    sampling: &'a Sampling<'a>,
    schedule: EdmSchedule,
}

impl<'a> Edm<'a> {
    /// The schedule of `sampling`, and `x_T` scaled to its first noise level.
    fn start(sampling: &'a Sampling<'a>, x_t: Latent) -> Result<(Self, Latent)> {
        let schedule = EdmSchedule::new(sampling.diffusion, sampling.steps, sampling.fidelity)?;
        let scale = (1.0 + schedule.sigmas[0].powi(2)).sqrt();
        let x = x_t.mapv_into(|x| x * scale);
        Ok((Edm { sampling, schedule }, x))
    }

    /// The noise levels, with a 0 at the end.
    fn sigmas(&self) -> &[f32] {
        &self.schedule.sigmas
    }

    fn steps(&self) -> usize {
        self.schedule.steps()
    }

    /// D(x; sigma). The network is called at the timestep with the nearest noise level. `x0_weight` is the weight of
    /// the result in the latent of the next step, for restoration guidance.
    fn denoised(
        &self,
        run: &mut Run<'_>,
        x: &Latent,
        sigma: f32,
        x0_weight: f32,
    ) -> Result<Latent> {
        let timestep = self.schedule.timestep(sigma) as f32;
        let norm = sigma.powi(2) + 1.0;
        let c_in = 1.0 / norm.sqrt();
        let (c_skip, c_out) = match self.sampling.diffusion.parameterization {
            Parameterization::Eps => (1.0, -sigma),
            Parameterization::V => (1.0 / norm, -sigma / norm.sqrt()),
        };
        let convert = |output: Latent| combine(c_out, &output, c_skip, x);
        let x_in = x.mapv(|x| x * c_in);
        let mut denoised = run.predict(self.sampling.cfg, &x_in, timestep, &convert)?;
        run.steer(&mut denoised, timestep, x0_weight)?;
        Ok(denoised)
    }

    fn report(&self, run: &mut Run<'_>, i: usize, x: &Latent, denoised: &Latent) -> Result<()> {
        let timestep = self.schedule.timesteps[i] as f32;
        run.step((i, self.steps()), timestep, x, denoised)
    }
}

/// The weight of the denoised latent in a first-order step, in variance-preserving form.
fn x0_weight(sigma: f32, sigma_next: f32) -> f32 {
    (1.0 - sigma_next / sigma) / (1.0 + sigma_next.powi(2)).sqrt()
}

/// dx / dsigma at `x`.
fn derivative(x: &Latent, sigma: f32, denoised: &Latent) -> Latent {
    let mut d = x.clone();
    d.zip_mut_with(denoised, |x, &denoised| *x = (*x - denoised) / sigma);
    d
}

fn euler_step(x: &Latent, sigma: f32, sigma_next: f32, denoised: &Latent) -> Latent {
    let dt = sigma_next - sigma;
    let mut next = x.clone();
    add_scaled(&mut next, dt, &derivative(x, sigma, denoised));
    next
}

/// DPM-Solver++(1) between two levels given as `t = -log(sigma)`: exact for a constant denoised latent. An infinite
/// `t_next` leads to `denoised`.
fn dpmpp_1_step(x: &Latent, t: f32, t_next: f32, denoised: &Latent) -> Latent {
    let (x_weight, x0_weight) = ((-t_next).exp() / (-t).exp(), -(t - t_next).exp_m1());
    combine(x_weight, x, x0_weight, denoised)
}

/// DPM-Solver-2: the derivative is taken at the geometric mean of the two levels.
fn dpm_2_step(
    edm: &Edm<'_>,
    run: &mut Run<'_>,
    x: &Latent,
    (sigma, sigma_next): (f32, f32),
    denoised: &Latent,
) -> Result<Latent> {
    // Euler method in the last step.
    if sigma_next == 0.0 {
        return Ok(euler_step(x, sigma, sigma_next, denoised));
    }
    let (log_sigma, log_next) = (sigma.ln(), sigma_next.ln());
    let sigma_mid = (log_next - (log_next - log_sigma) * 0.5).exp();
    let x_2 = euler_step(x, sigma, sigma_mid, denoised);
    let denoised_2 = edm.denoised(run, &x_2, sigma_mid, x0_weight(sigma_mid, sigma_next))?;
    let d_2 = derivative(&x_2, sigma_mid, &denoised_2);
    let dt_2 = sigma_next - sigma;
    let mut next = x.clone();
    add_scaled(&mut next, dt_2, &d_2);
    Ok(next)
}
