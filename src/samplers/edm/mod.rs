//! The samplers of k-diffusion: noise levels in variance-exploding form, a denoiser in place of the network's output.
//!
//! | here | Karras et al. (arXiv 2206.00364) |
//! |---|---|
//! | `sigma` | the noise level, `x = x_0 + sigma * noise` |
//! | `denoised` | D(x; sigma), the estimate of x_0 |
//! | `d` | dx / dsigma = (x - denoised) / sigma, equation 3 |
//! | `c_in`, `c_out`, `c_skip` | the preconditioning of section 5 |
//!
//! Arithmetic is in f32 in the reference's order: in an ancestral step `sigma_down` loses digits to cancellation, and
//! only f32 loses the same ones. Source: `EDMSampler`, diffbir/sampler/edm_sampler.py, and
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
    /// The schedule of `sampling`, and `x_T` at its first noise level.
    fn start(sampling: &'a Sampling<'a>, x_t: Latent) -> Result<(Self, Latent)> {
        let schedule = EdmSchedule::new(sampling.diffusion, sampling.steps, sampling.fidelity)?;
        let scale = (1.0 + schedule.sigmas[0].powi(2)).sqrt();
        let x = x_t.mapv_into(|x| x * scale);
        Ok((Edm { sampling, schedule }, x))
    }

    /// The noise levels, a 0 at the end.
    fn sigmas(&self) -> &[f32] {
        &self.schedule.sigmas
    }

    /// Number of steps.
    fn steps(&self) -> usize {
        self.schedule.steps()
    }

    /// D(x; sigma). The network is asked at the timestep whose noise level is nearest. Restoration guidance moves it
    /// by its `share` in the latent that the step leads to.
    fn denoised(&self, run: &mut Run<'_>, x: &Latent, sigma: f32, share: f32) -> Result<Latent> {
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
        run.steer(&mut denoised, timestep, share)?;
        Ok(denoised)
    }

    /// Tells the observer of step `i`.
    fn report(&self, run: &mut Run<'_>, i: usize, x: &Latent, denoised: &Latent) -> Result<()> {
        let timestep = self.schedule.timesteps[i] as f32;
        run.step((i, self.steps()), timestep, x, denoised)
    }
}

/// The share of the denoised latent in a first-order step from `sigma` to `to`, in variance-preserving form.
fn share(sigma: f32, to: f32) -> f32 {
    (1.0 - to / sigma) / (1.0 + to.powi(2)).sqrt()
}

/// dx / dsigma at `x`.
fn derivative(x: &Latent, sigma: f32, denoised: &Latent) -> Latent {
    let mut d = x.clone();
    d.zip_mut_with(denoised, |x, &denoised| *x = (*x - denoised) / sigma);
    d
}

/// An Euler step from `sigma` to `to`.
fn euler_step(x: &Latent, sigma: f32, to: f32, denoised: &Latent) -> Latent {
    let mut next = x.clone();
    add_scaled(&mut next, to - sigma, &derivative(x, sigma, denoised));
    next
}

/// The step of DPM-Solver++ between two levels given as `t = -log(sigma)`: exact where the denoised latent is
/// constant. `to` may be infinite, where it leads to `denoised`.
fn exponential_step(x: &Latent, t: f32, to: f32, denoised: &Latent) -> Latent {
    let (keep, gain) = ((-to).exp() / (-t).exp(), -(t - to).exp_m1());
    combine(keep, x, gain, denoised)
}

/// The step of DPM-Solver-2: the derivative is taken at the level in the middle, on a logarithmic scale.
fn dpm_2_step(
    edm: &Edm<'_>,
    run: &mut Run<'_>,
    x: &Latent,
    (sigma, to): (f32, f32),
    denoised: &Latent,
) -> Result<Latent> {
    if to == 0.0 {
        return Ok(euler_step(x, sigma, to, denoised));
    }
    let (from, end) = (sigma.ln(), to.ln());
    let mid = (end - (end - from) * 0.5).exp();
    let x_2 = euler_step(x, sigma, mid, denoised);
    let d_2 = derivative(&x_2, mid, &edm.denoised(run, &x_2, mid, share(mid, to))?);
    let mut next = x.clone();
    add_scaled(&mut next, to - sigma, &d_2);
    Ok(next)
}
