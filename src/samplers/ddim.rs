//! DDIM (Song et al., arXiv 2010.02502).

use super::{Run, Sampling, needs_v};
use crate::denoise::Parameterization;
use crate::error::Result;
use crate::schedule::{DdimSchedule, DdimStep};
use crate::tensor::Latent;

/// Denoises `x_t` on every n-th timestep; see [`DdimSchedule`] for the number of steps.
///
/// With `eta` 0, the default, a step adds no noise; with 1 as much as a DDPM step. Draws once per step, of `x_t`'s
/// shape, after the denoiser call, for any `eta`. The last step leads to timestep 0.
///
/// Source: `DDIMSampler`, diffbir/sampler/ddim_sampler.py at 3f8b530; the reference's program never sets `eta`.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option) for an invalid number of steps,
/// [`Bundle`](crate::error::ErrorKind::Bundle) for an eps model at zero SNR, and errors of the run.
pub fn sample(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    let eta = sampling.parameters.eta.unwrap_or(0.0);
    let schedule = DdimSchedule::new(sampling.diffusion, sampling.steps, eta)?;
    let total = schedule.steps.len();
    if schedule.steps.iter().any(|step| step.alpha_prod_t == 0.0) {
        needs_v("ddim", sampling.diffusion.parameterization)?;
    }
    let mut x = x_t;
    for (index, step) in schedule.steps.iter().enumerate() {
        let timestep = step.timestep as f32;
        let output = run.predict(sampling.cfg, &x, timestep, &|output| output)?;
        let (eps, pred_x0) = predict(sampling.diffusion.parameterization, step, &x, output);
        let (eps, pred_x0) = steer(run, step, &x, (eps, pred_x0))?;
        let noise = run.randn_like(&x)?;
        let (x0_weight, direction) = (step.alpha_prod_t_prev.sqrt(), direction(step));
        ndarray::Zip::from(&mut x)
            .and(&pred_x0)
            .and(&eps)
            .and(&noise)
            .for_each(|x, &x0, &e, &n| *x = x0_weight * x0 + direction * e + step.sigma * n);
        run.step((index, total), timestep, &x, &pred_x0)?;
    }
    Ok(x)
}

/// The weight of eps in the next latent, "direction pointing to x_t" in equation 12.
fn direction(step: &DdimStep) -> f32 {
    (1.0 - step.alpha_prod_t_prev - step.sigma.powi(2)).sqrt()
}

/// eps and `pred_x0` from the network's `output` at `x`.
fn predict(
    parameterization: Parameterization,
    step: &DdimStep,
    x: &Latent,
    mut output: Latent,
) -> (Latent, Latent) {
    if parameterization == Parameterization::V {
        if step.alpha_prod_t == 0.0 {
            // At zero SNR x is the noise, and v is the negative clean latent.
            output.mapv_inplace(|v| -v);
            return (x.clone(), output);
        }
        output.zip_mut_with(x, |v, &x| {
            *v = step.sqrt_alpha_prod_t * *v + step.sqrt_beta_prod_t * x;
        });
    }
    let mut pred_x0 = x.clone();
    let root = step.alpha_prod_t.sqrt();
    pred_x0.zip_mut_with(&output, |x, &e| {
        *x = (*x - step.sqrt_beta_prod_t * e) / root;
    });
    (output, pred_x0)
}

/// Applies restoration guidance to `pred_x0`, and recomputes eps so that both are consistent with `x`.
fn steer(
    run: &mut Run<'_>,
    step: &DdimStep,
    x: &Latent,
    (mut eps, mut pred_x0): (Latent, Latent),
) -> Result<(Latent, Latent)> {
    if run.guide.is_none() {
        return Ok((eps, pred_x0));
    }
    let root = step.alpha_prod_t.sqrt();
    let x0_weight = step.alpha_prod_t_prev.sqrt() - direction(step) * root / step.sqrt_beta_prod_t;
    run.steer(&mut pred_x0, step.timestep as f32, x0_weight)?;
    ndarray::Zip::from(&mut eps)
        .and(x)
        .and(&pred_x0)
        .for_each(|e, &x, &x0| *e = (x - root * x0) / step.sqrt_beta_prod_t);
    Ok((eps, pred_x0))
}
