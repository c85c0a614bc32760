//! Deterministic multistep solvers, which use the denoised latents of earlier steps.

use super::{Edm, derivative, dpmpp_1_step, x0_weight};
use crate::error::Result;
use crate::samplers::{Run, Sampling, add_scaled, combine};
use crate::tensor::Latent;

/// The linear multistep method (Adams-Bashforth) of `order` 1 to 4; its first steps are of lower order. One denoiser
/// call per step, no draws.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option) for an invalid number of steps, and errors of the run.
pub fn lms(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    let order = sampling.parameters.order.unwrap_or(1);
    let (edm, mut x) = Edm::start(sampling, x_t)?;
    let sigmas: Vec<f64> = edm.sigmas().iter().map(|&sigma| sigma.into()).collect();
    let mut derivatives: Vec<Latent> = Vec::new(); // latest first
    for i in 0..edm.steps() {
        let (sigma, sigma_next) = (edm.sigmas()[i], edm.sigmas()[i + 1]);
        let denoised = edm.denoised(run, &x, sigma, x0_weight(sigma, sigma_next))?;
        derivatives.insert(0, derivative(&x, sigma, &denoised));
        derivatives.truncate(order);
        let known: Vec<f64> = (0..derivatives.len()).map(|j| sigmas[i - j]).collect();
        let mut change = Latent::zeros(x.raw_dim());
        for (j, d) in derivatives.iter().enumerate() {
            let coeff = lagrange_integral(&known, j, sigmas[i], sigmas[i + 1]);
            add_scaled(&mut change, coeff as f32, d);
        }
        x += &change;
        edm.report(run, i, &x, &denoised)?;
    }
    Ok(x)
}

/// The integral from `from` to `to` of the Lagrange polynomial that is 1 at `known[j]` and 0 at the other `known`, at
/// most 4.
fn lagrange_integral(known: &[f64], j: usize, from: f64, to: f64) -> f64 {
    let basis = |x: f64| -> f64 {
        let others = known.iter().enumerate().filter(|(k, _)| *k != j);
        others
            .map(|(_, &other)| (x - other) / (known[j] - other))
            .product()
    };
    // Gauss-Legendre quadrature with two points is exact up to the third degree.
    let (middle, half) = ((from + to) / 2.0, (to - from) / 2.0);
    let offset = half / 3.0_f64.sqrt();
    half * (basis(middle - offset) + basis(middle + offset))
}

/// DPM-Solver++(2M) (Lu et al., arXiv 2211.01095). One denoiser call per step, no draws.
///
/// # Errors
/// As [`lms`].
pub fn dpmpp_2m(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    let (edm, mut x) = Edm::start(sampling, x_t)?;
    let t = |i: usize| -edm.sigmas()[i].ln();
    let mut old_denoised: Option<Latent> = None;
    for i in 0..edm.steps() {
        let (sigma, sigma_next) = (edm.sigmas()[i], edm.sigmas()[i + 1]);
        let denoised = edm.denoised(run, &x, sigma, x0_weight(sigma, sigma_next))?;
        x = match &old_denoised {
            Some(old_denoised) if sigma_next > 0.0 => {
                let (h, h_last) = (t(i + 1) - t(i), t(i) - t(i - 1));
                let r = h_last / h;
                let weight = 1.0 / (2.0 * r);
                let denoised_d = combine(1.0 + weight, &denoised, -weight, old_denoised);
                dpmpp_1_step(&x, t(i), t(i + 1), &denoised_d)
            }
            _ => dpmpp_1_step(&x, t(i), t(i + 1), &denoised),
        };
        edm.report(run, i, &x, &denoised)?;
        old_denoised = Some(denoised);
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_integrate_polynomials_exactly() {
        let known = [2.0, 3.5, 5.0, 9.0];
        for degree in 0..4 {
            let f = |x: f64| x.powi(degree);
            let sum: f64 = (0..4)
                .map(|j| lagrange_integral(&known, j, 2.0, 0.5) * f(known[j]))
                .sum();
            let n = degree + 1;
            let exact = (0.5_f64.powi(n) - 2.0_f64.powi(n)) / f64::from(n);
            assert!((sum - exact).abs() < 1e-12, "{degree}: {sum} {exact}");
        }
    }
}
