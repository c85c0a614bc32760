//! Solvers of the probability flow ODE with optional noise before each step (Karras et al., algorithm 2).

use super::{Edm, derivative, dpm_2_step, euler_step, share};
use crate::error::Result;
use crate::samplers::{Run, Sampling, add_scaled};
use crate::tensor::Latent;

/// Euler's method, first order. One draw and one evaluation a step.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option) for an unusable number of steps, and what the run reports.
pub fn euler(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    solve(sampling, run, x_t, |_, _, x, (sigma, to), denoised| {
        Ok(euler_step(x, sigma, to, denoised))
    })
}

/// Heun's method, second order: two evaluations a step, one in the last. One draw a step.
///
/// # Errors
/// As [`euler`].
pub fn heun(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    solve(sampling, run, x_t, |edm, run, x, (sigma, to), denoised| {
        let x_2 = euler_step(x, sigma, to, denoised);
        if to == 0.0 {
            return Ok(x_2);
        }
        let share_2 = (sigma - to) / (2.0 * to) / (1.0 + to.powi(2)).sqrt();
        let mut d = derivative(x, sigma, denoised);
        let d_2 = derivative(&x_2, to, &edm.denoised(run, &x_2, to, share_2)?);
        d.zip_mut_with(&d_2, |d, &d_2| *d = (*d + d_2) / 2.0);
        let mut next = x.clone();
        add_scaled(&mut next, to - sigma, &d);
        Ok(next)
    })
}

/// DPM-Solver-2: the derivative is taken in the middle of the step. Evaluations and draws as [`heun`].
///
/// # Errors
/// As [`euler`].
pub fn dpm_2(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    solve(sampling, run, x_t, dpm_2_step)
}

/// Walks down the levels by `step`, which is given the denoised latent at the first of its two; raises each by noise
/// first where `s_churn` asks for it.
fn solve(
    sampling: &Sampling<'_>,
    run: &mut Run<'_>,
    x_t: Latent,
    step: impl Fn(&Edm<'_>, &mut Run<'_>, &Latent, (f32, f32), &Latent) -> Result<Latent>,
) -> Result<Latent> {
    let (edm, mut x) = Edm::start(sampling, x_t)?;
    for i in 0..edm.steps() {
        let sigma = edm.sigmas()[i];
        let raised = sigma * (churn(sampling, sigma, edm.steps()) + 1.0);
        // Drawn in every step, used or not, as in the reference.
        let noise = run.randn_like(&x)?;
        if raised > sigma {
            let s_noise = sampling.knobs.s_noise.unwrap_or(1.0) as f32;
            let level = (raised.powi(2) - sigma.powi(2)).sqrt();
            x.zip_mut_with(&noise, |x, &n| *x += n * s_noise * level);
        }
        let to = edm.sigmas()[i + 1];
        let denoised = edm.denoised(run, &x, raised, share(raised, to))?;
        x = step(&edm, run, &x, (raised, to), &denoised)?;
        edm.report(run, i, &x, &denoised)?;
    }
    Ok(x)
}

/// By which share a step's noise level is raised.
fn churn(sampling: &Sampling<'_>, sigma: f32, steps: usize) -> f32 {
    let knobs = &sampling.knobs;
    let range = knobs.s_tmin.unwrap_or(0.0)..=knobs.s_tmax.unwrap_or(300.0);
    if !range.contains(&f64::from(sigma)) {
        return 0.0;
    }
    let share = knobs.s_churn.unwrap_or(0.0) / steps as f64;
    share.min(2.0_f64.sqrt() - 1.0) as f32
}
