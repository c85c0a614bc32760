//! Ancestral samplers: each step goes below its level, and noise brings it back up.

use super::{Edm, dpm_2_step, euler_step, exponential_step, share};
use crate::error::Result;
use crate::samplers::{Run, Sampling};
use crate::tensor::Latent;

/// The level to step down to, and that of the noise to add then, for a step from `from` to `to`.
pub(super) fn ancestral_levels(from: f32, to: f32, eta: f32) -> (f32, f32) {
    if eta == 0.0 {
        return (to, 0.0);
    }
    let (from_2, to_2) = (from.powi(2), to.powi(2));
    let up = to.min(eta * (to_2 * (from_2 - to_2) / from_2).sqrt());
    ((to_2 - up.powi(2)).sqrt(), up)
}

/// Euler's method. One evaluation a step; one draw, after it, in all but the last.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option) for an unusable number of steps, and what the run reports.
pub fn euler_ancestral(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    solve(sampling, run, x_t, |_, _, x, (sigma, down), denoised| {
        Ok(euler_step(x, sigma, down, denoised))
    })
}

/// DPM-Solver-2. Two evaluations a step, one in the last; draws as [`euler_ancestral`].
///
/// # Errors
/// As [`euler_ancestral`].
pub fn dpm_2_ancestral(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    solve(sampling, run, x_t, dpm_2_step)
}

/// DPM-Solver++(2S) (Lu et al., arXiv 2211.01095). Evaluations and draws as [`dpm_2_ancestral`].
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
        |edm, run, x, (sigma, down), denoised| {
            if down == 0.0 {
                return Ok(euler_step(x, sigma, down, denoised));
            }
            let (t, to) = (-sigma.ln(), -down.ln());
            let t_mid = t + 0.5 * (to - t);
            let x_2 = exponential_step(x, t, t_mid, denoised);
            let mid = (-t_mid).exp();
            let denoised_2 = edm.denoised(run, &x_2, mid, share(mid, down))?;
            Ok(exponential_step(x, t, to, &denoised_2))
        },
    )
}

/// Walks down the levels: `step` to the lower of the two, then noise.
fn solve(
    sampling: &Sampling<'_>,
    run: &mut Run<'_>,
    x_t: Latent,
    step: impl Fn(&Edm<'_>, &mut Run<'_>, &Latent, (f32, f32), &Latent) -> Result<Latent>,
) -> Result<Latent> {
    let eta = sampling.knobs.eta.unwrap_or(1.0) as f32;
    let s_noise = sampling.knobs.s_noise.unwrap_or(1.0) as f32;
    let (edm, mut x) = Edm::start(sampling, x_t)?;
    for i in 0..edm.steps() {
        let (sigma, to) = (edm.sigmas()[i], edm.sigmas()[i + 1]);
        let denoised = edm.denoised(run, &x, sigma, share(sigma, to))?;
        let (down, up) = ancestral_levels(sigma, to, eta);
        x = step(&edm, run, &x, (sigma, down), &denoised)?;
        if to > 0.0 {
            let noise = run.randn_like(&x)?;
            x.zip_mut_with(&noise, |x, &n| *x += n * s_noise * up);
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
        for (from, to) in [(14.0, 3.0), (1.0, 0.9), (0.4, 0.0)] {
            for eta in [0.0, 0.3, 1.0, 2.0] {
                let (down, up) = ancestral_levels(from, to, eta);
                assert!((down.hypot(up) - to).abs() < 1e-6, "{from} {to} {eta}");
                assert!(down <= to);
            }
        }
    }
}
