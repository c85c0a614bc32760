//! Solvers of the reverse SDE, driven by a Brownian path.
//!
//! The path's seed is the first thing drawn, whatever `eta` is; nothing else is. All end with the denoised latent of
//! the last level. Where the reference cannot do a single step (`edm_dpm++_2m_sde`, `edm_dpm++_3m_sde`: a variable that
//! was never set), that latent is the result.

use super::ancestral::ancestral_levels;
use super::{Edm, combine, euler_step, exponential_step, share};
use crate::error::Result;
use crate::rng::Path;
use crate::samplers::{Run, Sampling, add_scaled};
use crate::tensor::{Latent, shape};

/// A schedule with the path that drives it.
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
            eta: sampling.knobs.eta.unwrap_or(1.0) as f32,
            s_noise: sampling.knobs.s_noise.unwrap_or(1.0) as f32,
        };
        Ok((driven, x))
    }

    /// Adds the path's increment between two levels, `scale` times.
    fn add_noise(&mut self, x: &mut Latent, from: f32, to: f32, scale: f32) -> Result<()> {
        let noise = self.path.increment(from, to)?;
        let s_noise = self.s_noise;
        x.zip_mut_with(&noise, |x, &n| *x += n * s_noise * scale);
        Ok(())
    }

    /// Adds the noise of a step of `h` in `log(sigma)` to the level `to`, unless `eta` is 0.
    fn add_step_noise(&mut self, x: &mut Latent, from: f32, to: f32, h: f32) -> Result<()> {
        if self.eta == 0.0 {
            return Ok(());
        }
        let share = (-(-2.0 * h * self.eta).exp_m1()).sqrt();
        let noise = self.path.increment(from, to)?;
        let s_noise = self.s_noise;
        x.zip_mut_with(&noise, |x, &n| *x += n * to * share * s_noise);
        Ok(())
    }
}

/// DPM-Solver++ for the SDE: two evaluations and two increments a step; one evaluation and no increment in the last.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option) for an unusable number of steps, and what the run reports.
pub fn dpmpp_sde(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    solve(
        sampling,
        run,
        x_t,
        |driven, run, x, (sigma, to), denoised| {
            if to == 0.0 {
                return Ok(euler_step(x, sigma, to, denoised));
            }
            dpmpp_sde_step(driven, run, x, (sigma, to), denoised)
        },
    )
}

/// Walks down the levels by `step`, which is given the denoised latent at the first of its two.
fn solve(
    sampling: &Sampling<'_>,
    run: &mut Run<'_>,
    x_t: Latent,
    mut step: impl FnMut(&mut Driven<'_>, &mut Run<'_>, &Latent, (f32, f32), &Latent) -> Result<Latent>,
) -> Result<Latent> {
    let (mut driven, mut x) = Driven::start(sampling, run, x_t)?;
    for i in 0..driven.edm.steps() {
        let (sigma, to) = (driven.edm.sigmas()[i], driven.edm.sigmas()[i + 1]);
        let denoised = driven.edm.denoised(run, &x, sigma, share(sigma, to))?;
        x = step(&mut driven, run, &x, (sigma, to), &denoised)?;
        driven.edm.report(run, i, &x, &denoised)?;
    }
    Ok(x)
}

fn dpmpp_sde_step(
    driven: &mut Driven<'_>,
    run: &mut Run<'_>,
    x: &Latent,
    (sigma, to): (f32, f32),
    denoised: &Latent,
) -> Result<Latent> {
    let (t, t_to) = (-sigma.ln(), -to.ln());
    let t_mid = t + (t_to - t) * 0.5;
    // Levels go through their logarithm and back, as in the reference.
    let (sigma, mid, to) = ((-t).exp(), (-t_mid).exp(), (-t_to).exp());
    let (down, up) = ancestral_levels(sigma, mid, driven.eta);
    let mut x_2 = exponential_step(x, t, -down.ln(), denoised);
    driven.add_noise(&mut x_2, sigma, mid, up)?;
    let denoised_2 = driven.edm.denoised(run, &x_2, mid, share(mid, to))?;

    let (down, up) = ancestral_levels(sigma, to, driven.eta);
    // With the middle at one half the second denoised latent alone counts.
    let mut next = exponential_step(x, t, -down.ln(), &denoised_2);
    driven.add_noise(&mut next, sigma, to, up)?;
    Ok(next)
}

/// DPM-Solver++(2M) for the SDE, midpoint form: one evaluation a step; one increment in all but the last.
///
/// # Errors
/// As [`dpmpp_sde`].
pub fn dpmpp_2m_sde(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    let mut last: Option<(Latent, f32)> = None;
    solve(sampling, run, x_t, |driven, _, x, (sigma, to), denoised| {
        if to == 0.0 {
            return Ok(denoised.clone());
        }
        let h = -to.ln() - -sigma.ln();
        let h_eta = driven.eta * h;
        let gain = -(-h - h_eta).exp_m1();
        let mut next = combine(to / sigma * (-h_eta).exp(), x, gain, denoised);
        if let Some((last, h_last)) = &last {
            let slope = combine(1.0, denoised, -1.0, last);
            add_scaled(&mut next, 0.5 * gain * (1.0 / (h_last / h)), &slope);
        }
        driven.add_step_noise(&mut next, sigma, to, h)?;
        last = Some((denoised.clone(), h));
        Ok(next)
    })
}

/// DPM-Solver++(3M) for the SDE, v2.1's default: one evaluation a step; one increment in all but the last.
///
/// # Errors
/// As [`dpmpp_sde`].
pub fn dpmpp_3m_sde(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    let mut past: Vec<(Latent, f32)> = Vec::new(); // denoised latents and step sizes, the latest first
    solve(sampling, run, x_t, |driven, _, x, (sigma, to), denoised| {
        if to == 0.0 {
            return Ok(denoised.clone());
        }
        let h = -to.ln() - -sigma.ln();
        let h_eta = h * (driven.eta + 1.0);
        let mut next = combine((-h_eta).exp(), x, -(-h_eta).exp_m1(), denoised);
        correct(&mut next, denoised, h, h_eta, &past);
        driven.add_step_noise(&mut next, sigma, to, h)?;
        past.insert(0, (denoised.clone(), h));
        past.truncate(2);
        Ok(next)
    })
}

/// The terms of second and third order, as far as earlier steps are known.
fn correct(x: &mut Latent, denoised: &Latent, h: f32, h_eta: f32, past: &[(Latent, f32)]) {
    let phi_2 = (-h_eta).exp_m1() / h_eta + 1.0;
    match past {
        [] => {}
        [(last, h_1)] => {
            let r = h_1 / h;
            let d = divided(denoised, last, r);
            add_scaled(x, phi_2, &d);
        }
        [(last, h_1), (second, h_2), ..] => {
            let (r0, r1) = (h_1 / h, h_2 / h);
            let phi_3 = phi_2 / h_eta - 0.5;
            let (d1_0, d1_1) = (divided(denoised, last, r0), divided(last, second, r1));
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
