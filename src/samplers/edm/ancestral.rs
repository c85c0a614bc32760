//! Ancestral samplers: each step goes down to `sigma_down`, then noise raises it to `sigma_next`.

use super::{Edm, dpm_2_step, dpmpp_1_step, euler_step, x0_weight};
use crate::error::Result;
use crate::samplers::{Run, Sampling};
use crate::tensor::Latent;

/// `sigma_down` and `sigma_up` of an ancestral step.
///
/// Source: `get_ancestral_step` of k-diffusion.
pub(super) fn ancestral_step(sigma: f32, sigma_next: f32, eta: f32) -> (f32, f32) {
    if eta == 0.0 {
        return (sigma_next, 0.0);
    }
    let (var, var_next) = (sigma.powi(2), sigma_next.powi(2));
    let sigma_up = sigma_next.min(eta * (var_next * (var - var_next) / var).sqrt());
    ((var_next - sigma_up.powi(2)).sqrt(), sigma_up)
}

/// Euler's method. One denoiser call per step; one draw after it, except in the last step.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option) for an invalid number of steps, and errors of the run.
pub fn euler_ancestral(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    solve(
        sampling,
        run,
        x_t,
        |_, _, x, (sigma, sigma_down), denoised| Ok(euler_step(x, sigma, sigma_down, denoised)),
    )
}

/// DPM-Solver-2. Two denoiser calls per step, one in the last; draws as [`euler_ancestral`].
///
/// # Errors
/// As [`euler_ancestral`].
pub fn dpm_2_ancestral(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    solve(sampling, run, x_t, dpm_2_step)
}

/// DPM-Solver++(2S) (Lu et al., arXiv 2211.01095). Denoiser calls and draws as [`dpm_2_ancestral`].
///
/// # Errors
/// As [`euler_ancestral`].
pub fn dpmpp_2s_ancestral(
    sampling: &Sampling<'_>,
    run: &mut Run<'_>,
    x_t: Latent,
) -> Result<Latent> {
    solve(
        sampling,
        run,
        x_t,
        |edm, run, x, (sigma, sigma_down), denoised| {
            // Euler method in the last step.
            if sigma_down == 0.0 {
                return Ok(euler_step(x, sigma, sigma_down, denoised));
            }
            // DPM-Solver++(2S)
            let (t, t_next) = (-sigma.ln(), -sigma_down.ln());
            let r = 0.5;
            let s = t + r * (t_next - t);
            let x_2 = dpmpp_1_step(x, t, s, denoised);
            let sigma_mid = (-s).exp();
            let weight = x0_weight(sigma_mid, sigma_down);
            let denoised_2 = edm.denoised(run, &x_2, sigma_mid, weight)?;
            Ok(dpmpp_1_step(x, t, t_next, &denoised_2))
        },
    )
}

/// The sampler's loop: `step` from `sigma` to `sigma_down`, then noise of standard deviation `sigma_up`.
fn solve(
    sampling: &Sampling<'_>,
    run: &mut Run<'_>,
    x_t: Latent,
    step: impl Fn(&Edm<'_>, &mut Run<'_>, &Latent, (f32, f32), &Latent) -> Result<Latent>,
) -> Result<Latent> {
    let eta = sampling.parameters.eta.unwrap_or(1.0) as f32;
    let s_noise = sampling.parameters.s_noise.unwrap_or(1.0) as f32;
    let (edm, mut x) = Edm::start(sampling, x_t)?;
    for i in 0..edm.steps() {
        let (sigma, sigma_next) = (edm.sigmas()[i], edm.sigmas()[i + 1]);
        let denoised = edm.denoised(run, &x, sigma, x0_weight(sigma, sigma_next))?;
        let (sigma_down, sigma_up) = ancestral_step(sigma, sigma_next, eta);
        x = step(&edm, run, &x, (sigma, sigma_down), &denoised)?;
        if sigma_next > 0.0 {
            let noise = run.randn_like(&x)?;
            x.zip_mut_with(&noise, |x, &n| *x += n * s_noise * sigma_up);
        }
        edm.report(run, i, &x, &denoised)?;
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_levels_make_up_the_one_asked_for() {
        for (sigma, next) in [(14.0, 3.0), (1.0, 0.9), (0.4, 0.0)] {
            for eta in [0.0, 0.3, 1.0, 2.0] {
                let (down, up) = ancestral_step(sigma, next, eta);
                assert!((down.hypot(up) - next).abs() < 1e-6, "{sigma} {next} {eta}");
                assert!(down <= next);
            }
        }
    }
}
