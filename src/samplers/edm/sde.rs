//! Solvers of the reverse SDE, driven by a Brownian path.
//!
//! The only draw from the noise source is the path's seed, at the start and for any `eta`. All solvers end with the
//! denoised latent of the last level. The reference fails on a single step of `edm_dpm++_2m_sde` and
//! `edm_dpm++_3m_sde` (unset variable); here that latent is the result.

use super::ancestral::ancestral_step;
use super::{Edm, combine, dpmpp_1_step, euler_step, x0_weight};
use crate::error::Result;
use crate::rng::Path;
use crate::samplers::{Run, Sampling, add_scaled};
use crate::tensor::{Latent, shape};

/// A schedule with its Brownian path.
struct Driven<'a> {
    edm: Edm<'a>,
    path: Box<dyn Path>,
    eta: f32,
    s_noise: f32,
}

impl<'a> Driven<'a> {
    fn start(sampling: &'a Sampling<'a>, run: &mut Run<'_>, x_t: Latent) -> Result<(Self, Latent)> {
        let shape = shape(&x_t);
        let (edm, x) = Edm::start(sampling, x_t)?;
        let (low, high) = edm.schedule.range();
        let path = run.noise.path(shape, low, high)?;
        let driven = Driven {
            edm,
            path,
            eta: sampling.parameters.eta.unwrap_or(1.0) as f32,
            s_noise: sampling.parameters.s_noise.unwrap_or(1.0) as f32,
        };
        Ok((driven, x))
    }

    /// Adds the path's increment from `sigma` to `sigma_next`, times `sigma_up`.
    fn add_noise(
        &mut self,
        x: &mut Latent,
        (sigma, sigma_next): (f32, f32),
        sigma_up: f32,
    ) -> Result<()> {
        let noise = self.path.increment(sigma, sigma_next)?;
        let s_noise = self.s_noise;
        x.zip_mut_with(&noise, |x, &n| *x += n * s_noise * sigma_up);
        Ok(())
    }

    /// Adds the noise of a step of size `h` in `log(sigma)`, unless `eta` is 0.
    fn add_step_noise(
        &mut self,
        x: &mut Latent,
        (sigma, sigma_next): (f32, f32),
        h: f32,
    ) -> Result<()> {
        if self.eta == 0.0 {
            return Ok(());
        }
        let noise_std = (-(-2.0 * h * self.eta).exp_m1()).sqrt();
        let noise = self.path.increment(sigma, sigma_next)?;
        let s_noise = self.s_noise;
        x.zip_mut_with(&noise, |x, &n| *x += n * sigma_next * noise_std * s_noise);
        Ok(())
    }
}

/// DPM-Solver++ for the SDE: two denoiser calls and two increments per step; one call and no increment in the last.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option) for an invalid number of steps, and errors of the run.
pub fn dpmpp_sde(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    solve(
        sampling,
        run,
        x_t,
        |driven, run, x, (sigma, sigma_next), denoised| {
            // Euler method in the last step.
            if sigma_next == 0.0 {
                return Ok(euler_step(x, sigma, sigma_next, denoised));
            }
            dpmpp_sde_step(driven, run, x, (sigma, sigma_next), denoised)
        },
    )
}

/// The sampler's loop: `step` from `sigma` to `sigma_next`, given the denoised latent at `sigma`.
fn solve(
    sampling: &Sampling<'_>,
    run: &mut Run<'_>,
    x_t: Latent,
    mut step: impl FnMut(&mut Driven<'_>, &mut Run<'_>, &Latent, (f32, f32), &Latent) -> Result<Latent>,
) -> Result<Latent> {
    let (mut driven, mut x) = Driven::start(sampling, run, x_t)?;
    for i in 0..driven.edm.steps() {
        let (sigma, sigma_next) = (driven.edm.sigmas()[i], driven.edm.sigmas()[i + 1]);
        let weight = x0_weight(sigma, sigma_next);
        let denoised = driven.edm.denoised(run, &x, sigma, weight)?;
        x = step(&mut driven, run, &x, (sigma, sigma_next), &denoised)?;
        driven.edm.report(run, i, &x, &denoised)?;
    }
    Ok(x)
}

/// DPM-Solver++ with the midpoint at `r` = 1/2.
fn dpmpp_sde_step(
    driven: &mut Driven<'_>,
    run: &mut Run<'_>,
    x: &Latent,
    (sigma, sigma_next): (f32, f32),
    denoised: &Latent,
) -> Result<Latent> {
    let (t, t_next) = (-sigma.ln(), -sigma_next.ln());
    let r = 0.5;
    let s = t + (t_next - t) * r;
    // Levels are converted to logarithms and back, as in the reference.
    let (sigma, sigma_mid, sigma_next) = ((-t).exp(), (-s).exp(), (-t_next).exp());

    // Step 1
    let (sigma_down, sigma_up) = ancestral_step(sigma, sigma_mid, driven.eta);
    let mut x_2 = dpmpp_1_step(x, t, -sigma_down.ln(), denoised);
    driven.add_noise(&mut x_2, (sigma, sigma_mid), sigma_up)?;
    let weight = x0_weight(sigma_mid, sigma_next);
    let denoised_2 = driven.edm.denoised(run, &x_2, sigma_mid, weight)?;

    // Step 2: for this `r` the weight of the first denoised latent is 0.
    let (sigma_down, sigma_up) = ancestral_step(sigma, sigma_next, driven.eta);
    let mut next = dpmpp_1_step(x, t, -sigma_down.ln(), &denoised_2);
    driven.add_noise(&mut next, (sigma, sigma_next), sigma_up)?;
    Ok(next)
}

/// DPM-Solver++(2M) for the SDE, midpoint form: one denoiser call per step; one increment, except in the last.
///
/// # Errors
/// As [`dpmpp_sde`].
pub fn dpmpp_2m_sde(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    let mut old: Option<(Latent, f32)> = None;
    solve(
        sampling,
        run,
        x_t,
        |driven, _, x, (sigma, sigma_next), denoised| {
            // Denoising step
            if sigma_next == 0.0 {
                return Ok(denoised.clone());
            }
            // DPM-Solver++(2M) SDE
            let h = -sigma_next.ln() - -sigma.ln();
            let eta_h = driven.eta * h;
            let x0_weight = -(-h - eta_h).exp_m1();
            let x_weight = sigma_next / sigma * (-eta_h).exp();
            let mut next = combine(x_weight, x, x0_weight, denoised);
            if let Some((old_denoised, h_last)) = &old {
                let r = h_last / h;
                let change = combine(1.0, denoised, -1.0, old_denoised);
                add_scaled(&mut next, 0.5 * x0_weight * (1.0 / r), &change);
            }
            driven.add_step_noise(&mut next, (sigma, sigma_next), h)?;
            old = Some((denoised.clone(), h));
            Ok(next)
        },
    )
}

/// DPM-Solver++(3M) for the SDE, v2.1's default: one denoiser call per step; one increment, except in the last.
///
/// # Errors
/// As [`dpmpp_sde`].
pub fn dpmpp_3m_sde(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    let mut old: Vec<(Latent, f32)> = Vec::new(); // denoised latents and step sizes, latest first
    solve(
        sampling,
        run,
        x_t,
        |driven, _, x, (sigma, sigma_next), denoised| {
            // Denoising step
            if sigma_next == 0.0 {
                return Ok(denoised.clone());
            }
            // DPM-Solver++(3M) SDE
            let h = -sigma_next.ln() - -sigma.ln();
            let h_eta = h * (driven.eta + 1.0);
            let mut next = combine((-h_eta).exp(), x, -(-h_eta).exp_m1(), denoised);
            correct(&mut next, denoised, (h, h_eta), &old);
            driven.add_step_noise(&mut next, (sigma, sigma_next), h)?;
            old.insert(0, (denoised.clone(), h));
            old.truncate(2);
            Ok(next)
        },
    )
}

/// The second- and third-order terms, as far as earlier steps are available.
fn correct(x: &mut Latent, denoised: &Latent, (h, h_eta): (f32, f32), old: &[(Latent, f32)]) {
    let phi_2 = (-h_eta).exp_m1() / h_eta + 1.0;
    match old {
        [] => {}
        [(denoised_1, h_1)] => {
            let r = h_1 / h;
            let d = divided(denoised, denoised_1, r);
            add_scaled(x, phi_2, &d);
        }
        [(denoised_1, h_1), (denoised_2, h_2), ..] => {
            let (r0, r1) = (h_1 / h, h_2 / h);
            let phi_3 = phi_2 / h_eta - 0.5;
            let d1_0 = divided(denoised, denoised_1, r0);
            let d1_1 = divided(denoised_1, denoised_2, r1);
            ndarray::Zip::from(x)
                .and(&d1_0)
                .and(&d1_1)
                .for_each(|x, &a, &b| {
                    let d1 = a + (a - b) * r0 / (r0 + r1);
                    let d2 = (a - b) / (r0 + r1);
                    *x = *x + phi_2 * d1 - phi_3 * d2;
                });
        }
    }
}

/// `(a - b) / r`.
fn divided(a: &Latent, b: &Latent, r: f32) -> Latent {
    let mut d = a.clone();
    d.zip_mut_with(b, |a, &b| *a = (*a - b) / r);
    d
}
