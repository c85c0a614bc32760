//! Solvers of the probability flow ODE with optional churn, noise added before each step (Karras et al., algorithm 2).

use super::{Edm, derivative, dpm_2_step, euler_step, x0_weight};
use crate::error::Result;
use crate::samplers::{Run, Sampling, add_scaled};
use crate::tensor::Latent;

/// Euler's method, first order. One draw and one denoiser call per step.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option) for an invalid number of steps, and errors of the run.
pub fn euler(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    solve(
        sampling,
        run,
        x_t,
        |_, _, x, (sigma_hat, sigma_next), denoised| {
            Ok(euler_step(x, sigma_hat, sigma_next, denoised))
        },
    )
}

/// Heun's method, second order. One draw and two denoiser calls per step, one call in the last.
///
/// # Errors
/// As [`euler`].
pub fn heun(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    solve(
        sampling,
        run,
        x_t,
        |edm, run, x, (sigma_hat, sigma_next), denoised| {
            // Euler method
            let x_2 = euler_step(x, sigma_hat, sigma_next, denoised);
            if sigma_next == 0.0 {
                return Ok(x_2);
            }
            // Heun's method
            let dt = sigma_next - sigma_hat;
            let x0_weight_2 =
                (sigma_hat - sigma_next) / (2.0 * sigma_next) / (1.0 + sigma_next.powi(2)).sqrt();
            let denoised_2 = edm.denoised(run, &x_2, sigma_next, x0_weight_2)?;
            let mut d_prime = derivative(x, sigma_hat, denoised);
            let d_2 = derivative(&x_2, sigma_next, &denoised_2);
            d_prime.zip_mut_with(&d_2, |d, &d_2| *d = (*d + d_2) / 2.0);
            let mut next = x.clone();
            add_scaled(&mut next, dt, &d_prime);
            Ok(next)
        },
    )
}

/// DPM-Solver-2: the derivative at the midpoint of the step. Denoiser calls and draws as [`heun`].
///
/// # Errors
/// As [`euler`].
pub fn dpm_2(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    solve(sampling, run, x_t, dpm_2_step)
}

/// The sampler's loop: `step` from `sigma_hat` to `sigma_next`, given the denoised latent at `sigma_hat`.
fn solve(
    sampling: &Sampling<'_>,
    run: &mut Run<'_>,
    x_t: Latent,
    step: impl Fn(&Edm<'_>, &mut Run<'_>, &Latent, (f32, f32), &Latent) -> Result<Latent>,
) -> Result<Latent> {
    let (edm, mut x) = Edm::start(sampling, x_t)?;
    for i in 0..edm.steps() {
        let sigma = edm.sigmas()[i];
        let sigma_hat = sigma * (gamma(sampling, sigma, edm.steps()) + 1.0);
        // Drawn in every step even if unused, as in the reference.
        let noise = run.randn_like(&x)?;
        if sigma_hat > sigma {
            let s_noise = sampling.parameters.s_noise.unwrap_or(1.0) as f32;
            let noise_std = (sigma_hat.powi(2) - sigma.powi(2)).sqrt();
            x.zip_mut_with(&noise, |x, &n| *x += n * s_noise * noise_std);
        }
        let sigma_next = edm.sigmas()[i + 1];
        let denoised = edm.denoised(run, &x, sigma_hat, x0_weight(sigma_hat, sigma_next))?;
        x = step(&edm, run, &x, (sigma_hat, sigma_next), &denoised)?;
        edm.report(run, i, &x, &denoised)?;
    }
    Ok(x)
}

/// The relative increase of a step's noise level by churn.
fn gamma(sampling: &Sampling<'_>, sigma: f32, steps: usize) -> f32 {
    let parameters = &sampling.parameters;
    let range = parameters.s_tmin.unwrap_or(0.0)..=parameters.s_tmax.unwrap_or(300.0);
    if !range.contains(&f64::from(sigma)) {
        return 0.0;
    }
    let gamma = parameters.s_churn.unwrap_or(0.0) / steps as f64;
    gamma.min(2.0_f64.sqrt() - 1.0) as f32
}
