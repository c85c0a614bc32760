//! Noise schedules: that of the model's training, and the subset of timesteps that a sampler visits.
//!
//! Everything is computed in f64 in the reference's order of operations. Values that are f32 in the reference are
//! rounded once at the end, by the accessors that return f32. [`LogSnrSchedule`] is the documented exception.

mod ddim;
mod edm;
mod log_snr;
mod spaced;

use crate::denoise::Parameterization;
use crate::error::{Error, Result};
use crate::tensor::Latent;

pub use ddim::{DdimSchedule, DdimStep};
pub use edm::EdmSchedule;
pub use log_snr::{LogSnrSchedule, linspace};
pub use spaced::{SpacedSchedule, SpacedStep, space_timesteps};

/// Whether known faults of the reference are fixed or reproduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Fidelity {
    /// Fixed
    #[default]
    Sound,
    /// Reproduced bit by bit
    Reference,
}

/// The forward process that the model was trained on.
///
/// Source: `Diffusion`, diffbir/model/gaussian_diffusion.py at 3f8b530.
#[derive(Debug, Clone)]
pub struct Diffusion {
    betas: Vec<f64>,
    alphas_cumprod: Vec<f64>,
    /// Prediction type.
    pub parameterization: Parameterization,
}

/// The parameters of a [`Diffusion`], as in a bundle's manifest.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DiffusionConfig {
    /// Number of training timesteps. Default: 1000.
    pub timesteps: usize,
    /// The first beta, in `(0, 1)`. Default: 0.00085.
    pub linear_start: f64,
    /// The last beta, in `(0, 1)`. Default: 0.0120.
    pub linear_end: f64,
    /// Whether the last timestep is pure noise (Lin et al., arXiv 2305.08891). Default: false.
    pub zero_snr: bool,
    /// Prediction type. Default: eps.
    pub parameterization: Parameterization,
}

impl Default for DiffusionConfig {
    fn default() -> Self {
        DiffusionConfig {
            timesteps: 1000,
            linear_start: 0.00085,
            linear_end: 0.0120,
            zero_snr: false,
            parameterization: Parameterization::Eps,
        }
    }
}

impl Diffusion {
    /// The schedule for `config`.
    ///
    /// # Errors
    /// [`Bundle`](crate::error::ErrorKind::Bundle) for fewer than 2 timesteps, a first or last beta outside `(0, 1)`,
    /// or betas so large that the schedule vanishes.
    pub fn new(config: &DiffusionConfig) -> Result<Self> {
        if config.timesteps < 2 {
            return Err(Error::bundle(format!(
                "diffusion.timesteps: expected at least 2, found {}",
                config.timesteps
            )));
        }
        for (key, beta) in [
            ("linear_start", config.linear_start),
            ("linear_end", config.linear_end),
        ] {
            if !(beta > 0.0 && beta < 1.0) {
                return Err(Error::bundle(format!(
                    "diffusion.{key}: expected a number between 0 and 1, found {beta}"
                )));
            }
        }
        let mut betas = linear_betas(config.timesteps, config.linear_start, config.linear_end);
        if config.zero_snr {
            betas = zero_terminal_snr(&betas);
        }
        let diffusion = Diffusion {
            alphas_cumprod: cumprod(betas.iter().map(|beta| 1.0 - beta)),
            betas,
            parameterization: config.parameterization,
        };
        if LogSnrSchedule::new(&diffusion).len() < 2 {
            return Err(Error::bundle(
                "diffusion.linear_start and linear_end leave almost no signal from the first timesteps on",
            ));
        }
        Ok(diffusion)
    }

    /// Number of training timesteps.
    pub fn timesteps(&self) -> usize {
        self.betas.len()
    }

    /// `beta_t`, the variance added in step `t`.
    pub fn betas(&self) -> &[f64] {
        &self.betas
    }

    /// `alpha_bar_t`, the product of `1 - beta` up to and including `t`: the fraction of the signal's power at `t`.
    pub fn alphas_cumprod(&self) -> &[f64] {
        &self.alphas_cumprod
    }

    /// `sqrt(alpha_bar_t)` and `sqrt(1 - alpha_bar_t)`: the coefficients of signal and noise in `x_t`.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option) for a `timestep` of at least [`timesteps`](Self::timesteps).
    pub fn q_coefficients(&self, timestep: usize) -> Result<(f32, f32)> {
        let Some(alpha) = self.alphas_cumprod.get(timestep) else {
            return Err(Error::option(format!(
                "timestep: expected 0 to {}, found {timestep}",
                self.timesteps() - 1
            )));
        };
        Ok((alpha.sqrt() as f32, (1.0 - alpha).sqrt() as f32))
    }

    /// `x_t` for `x_0` and `noise` of the same shape: `sqrt(alpha_bar_t) * x_0 + sqrt(1 - alpha_bar_t) * noise` (DDPM,
    /// equation 4).
    ///
    /// # Errors
    /// As [`q_coefficients`](Self::q_coefficients), and [`Internal`](crate::error::ErrorKind::Internal) if the shapes
    /// differ.
    pub fn q_sample(&self, x_0: &Latent, timestep: usize, noise: &Latent) -> Result<Latent> {
        let (signal, sigma) = self.q_coefficients(timestep)?;
        if x_0.dim() != noise.dim() {
            return Err(Error::internal("noise and latent differ in shape"));
        }
        let mut x_t = x_0.clone();
        x_t.zip_mut_with(noise, |x, &n| *x = signal * *x + sigma * n);
        Ok(x_t)
    }
}

/// Betas with evenly spaced square roots (`scaled_linear`).
fn linear_betas(n: usize, start: f64, end: f64) -> Vec<f64> {
    let (start, end) = (start.sqrt(), end.sqrt());
    let step = (end - start) / (n - 1) as f64;
    let root = |i| {
        if i == n - 1 {
            end
        } else {
            i as f64 * step + start
        }
    };
    (0..n).map(|i| root(i) * root(i)).collect()
}

/// Shifts and scales `sqrt(alpha_bar)` to a last value of 0 and an unchanged first value, and returns the betas.
///
/// Source: algorithm 1 of Lin et al., arXiv 2305.08891.
fn zero_terminal_snr(betas: &[f64]) -> Vec<f64> {
    let mut roots = cumprod(betas.iter().map(|beta| 1.0 - beta));
    roots.iter_mut().for_each(|alpha| *alpha = alpha.sqrt());
    let (first, last) = (roots[0], roots[roots.len() - 1]);
    let scale = first / (first - last);
    let alphas_cumprod: Vec<f64> = roots
        .iter()
        .map(|root| ((root - last) * scale).powi(2))
        .collect();
    respaced_betas(alphas_cumprod.into_iter())
}

/// The betas for given cumulative products of `1 - beta`.
fn respaced_betas(alphas_cumprod: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut last = 1.0;
    alphas_cumprod
        .map(|alpha| 1.0 - alpha / std::mem::replace(&mut last, alpha))
        .collect()
}

fn cumprod(factors: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut product = 1.0;
    factors
        .map(|factor| {
            product *= factor;
            product
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_snr_ends_in_pure_noise_and_keeps_its_start() {
        let config = DiffusionConfig::default();
        let linear = Diffusion::new(&config).unwrap();
        let zsnr = Diffusion::new(&DiffusionConfig {
            zero_snr: true,
            ..config
        })
        .unwrap();
        assert_eq!(zsnr.q_coefficients(999).unwrap(), (0.0, 1.0));
        assert_eq!(
            zsnr.q_coefficients(0).unwrap(),
            linear.q_coefficients(0).unwrap()
        );
        assert!(zsnr.q_coefficients(1000).is_err());
    }

    #[test]
    fn betas_outside_the_unit_interval_are_refused() {
        let config = DiffusionConfig {
            linear_end: f64::NAN,
            ..DiffusionConfig::default()
        };
        let error = Diffusion::new(&config).unwrap_err().to_string();
        assert_eq!(
            error,
            "diffusion.linear_end: expected a number between 0 and 1, found NaN"
        );
    }
}
