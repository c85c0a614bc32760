//! Evenly spaced timesteps, and the DDPM posterior on them.

use super::{Diffusion, cumprod, respaced_betas};
use crate::denoise::Parameterization;
use crate::error::{Error, Result};

/// `count` timesteps evenly spaced over `0..total`, ascending, including both ends (0 alone if `count` is 1). Halves
/// are rounded to even, as in Python.
///
/// Source: `space_timesteps`, diffbir/sampler/spaced_sampler.py at 3f8b530, with one section.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option) for a `count` of 0 or above `total`.
pub fn space_timesteps(total: usize, count: usize) -> Result<Vec<usize>> {
    if count == 0 || count > total {
        return Err(Error::option(format!(
            "steps: expected 1 to {total}, found {count}"
        )));
    }
    let stride = if count == 1 {
        1.0
    } else {
        (total - 1) as f64 / (count - 1) as f64
    };
    // Summed rather than multiplied, as in the reference: the rounding errors decide ties.
    let mut position = 0.0_f64;
    let timesteps = (0..count).map(|_| {
        let timestep = position.round_ties_even() as usize;
        position += stride;
        timestep
    });
    Ok(timesteps.collect())
}

/// DDPM (Ho et al., arXiv 2006.11239) restricted to a subset of timesteps (Nichol and Dhariwal, arXiv 2102.09672,
/// section 4).
///
/// Every array has one entry per timestep, ascending. Source: `SpacedSampler.make_schedule`,
/// diffbir/sampler/spaced_sampler.py at 3f8b530.
#[derive(Debug, Clone)]
pub struct SpacedSchedule {
    /// The training timestep of each step.
    pub timesteps: Vec<usize>,
    /// `sqrt(alpha_bar)`.
    pub sqrt_alphas_cumprod: Vec<f64>,
    /// `sqrt(1 - alpha_bar)`.
    pub sqrt_one_minus_alphas_cumprod: Vec<f64>,
    /// `sqrt(1 / alpha_bar)`; infinite at the last step of a zero-SNR schedule.
    pub sqrt_recip_alphas_cumprod: Vec<f64>,
    /// `sqrt(1 / alpha_bar - 1)`; infinite at the last step of a zero-SNR schedule.
    pub sqrt_recipm1_alphas_cumprod: Vec<f64>,
    /// The variance of `x_{i-1}` given `x_i` and `x_0` (DDPM, equation 7); 0 at step 0.
    pub posterior_variance: Vec<f64>,
    /// Its logarithm, where step 0 has the value of step 1.
    pub posterior_log_variance_clipped: Vec<f64>,
    /// The weight of `x_0` in the mean of `x_{i-1}` given `x_i` and `x_0` (DDPM, equation 7).
    pub posterior_mean_coef1: Vec<f64>,
    /// The weight of `x_i` in that mean.
    pub posterior_mean_coef2: Vec<f64>,
}

/// One step of a [`SpacedSchedule`], rounded to f32 as the reference's buffers are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpacedStep {
    /// The training timestep.
    pub timestep: usize,
    /// The weight of `x_t` in `pred_x0`.
    pub x0_from_x: f32,
    /// The weight of the network's output, which is subtracted, in `pred_x0`.
    pub x0_from_output: f32,
    /// The weight of `pred_x0` in the posterior mean.
    pub mean_from_x0: f32,
    /// The weight of `x_t` in the posterior mean.
    pub mean_from_x: f32,
    /// The standard deviation of the added noise; 0 at step 0.
    pub sigma: f32,
}

impl SpacedSchedule {
    /// A schedule of `steps` of `diffusion`'s timesteps.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option) for fewer than 2 steps or more than there are training timesteps. A
    /// single step is refused because it would visit timestep 0 but start from pure noise; the reference fails there
    /// with an `IndexError`.
    pub fn new(diffusion: &Diffusion, steps: usize) -> Result<Self> {
        if steps < 2 {
            return Err(Error::option(format!(
                "steps: the spaced sampler needs 2 to {}, found {steps}",
                diffusion.timesteps()
            )));
        }
        let timesteps = space_timesteps(diffusion.timesteps(), steps)?;
        let betas = respaced_betas(timesteps.iter().map(|&t| diffusion.alphas_cumprod[t]));
        let alphas_cumprod = cumprod(betas.iter().map(|beta| 1.0 - beta));
        let each = |f: &dyn Fn(f64) -> f64| alphas_cumprod.iter().map(|&a| f(a)).collect();
        // f(beta, alpha_bar, previous alpha_bar)
        let posterior = |f: &dyn Fn(f64, f64, f64) -> f64| -> Vec<f64> {
            let previous = std::iter::once(&1.0).chain(&alphas_cumprod);
            betas
                .iter()
                .zip(&alphas_cumprod)
                .zip(previous)
                .map(|((&beta, &alpha), &previous)| f(beta, alpha, previous))
                .collect()
        };
        let posterior_variance =
            posterior(&|beta, a, previous| beta * (1.0 - previous) / (1.0 - a));
        let clipped = std::iter::once(&posterior_variance[1]).chain(&posterior_variance[1..]);
        Ok(SpacedSchedule {
            sqrt_alphas_cumprod: each(&f64::sqrt),
            sqrt_one_minus_alphas_cumprod: each(&|a| (1.0 - a).sqrt()),
            sqrt_recip_alphas_cumprod: each(&|a| (1.0 / a).sqrt()),
            sqrt_recipm1_alphas_cumprod: each(&|a| (1.0 / a - 1.0).sqrt()),
            posterior_log_variance_clipped: clipped.map(|variance| variance.ln()).collect(),
            posterior_mean_coef1: posterior(&|beta, a, previous| {
                beta * previous.sqrt() / (1.0 - a)
            }),
            posterior_mean_coef2: posterior(&|beta, a, previous| {
                (1.0 - previous) * (1.0 - beta).sqrt() / (1.0 - a)
            }),
            posterior_variance,
            timesteps,
        })
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.timesteps.len()
    }

    /// Step `i`, numbered from the clean end.
    ///
    /// # Panics
    /// If `i` is not below [`steps`](Self::steps).
    pub fn step(&self, i: usize, parameterization: Parameterization) -> SpacedStep {
        let (x0_from_x, x0_from_output) = match parameterization {
            Parameterization::Eps => (
                self.sqrt_recip_alphas_cumprod[i],
                self.sqrt_recipm1_alphas_cumprod[i],
            ),
            Parameterization::V => (
                self.sqrt_alphas_cumprod[i],
                self.sqrt_one_minus_alphas_cumprod[i],
            ),
        };
        SpacedStep {
            timestep: self.timesteps[i],
            x0_from_x: x0_from_x as f32,
            x0_from_output: x0_from_output as f32,
            mean_from_x0: self.posterior_mean_coef1[i] as f32,
            mean_from_x: self.posterior_mean_coef2[i] as f32,
            // The reference computes the square root of the variance in f32.
            sigma: (self.posterior_variance[i] as f32).sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::DiffusionConfig;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn spaced_timesteps_ascend_from_end_to_end(total in 2..2000_usize, share in 0.0..1.0_f64) {
            let count = 2 + (share * (total - 2) as f64) as usize;
            let timesteps = space_timesteps(total, count).unwrap();
            prop_assert_eq!(timesteps.len(), count);
            prop_assert!(timesteps.is_sorted_by(|a, b| a < b));
            prop_assert_eq!((timesteps[0], timesteps[count - 1]), (0, total - 1));
        }

        /// For any number of steps, a posterior sample turns `q(x_t | x_0)` into `q(x_{t-1} | x_0)`.
        #[test]
        fn the_posterior_keeps_the_marginals(steps in 2..=1000_usize, zero_snr in any::<bool>()) {
            let config = DiffusionConfig { zero_snr, ..DiffusionConfig::default() };
            let s = SpacedSchedule::new(&Diffusion::new(&config).unwrap(), steps).unwrap();
            for i in 1..steps {
                let mean = s.posterior_mean_coef1[i] + s.posterior_mean_coef2[i] * s.sqrt_alphas_cumprod[i];
                prop_assert!((mean - s.sqrt_alphas_cumprod[i - 1]).abs() < 1e-10);
                let std = s.posterior_mean_coef2[i] * s.sqrt_one_minus_alphas_cumprod[i];
                let variance = std.powi(2) + s.posterior_variance[i];
                prop_assert!((variance.sqrt() - s.sqrt_one_minus_alphas_cumprod[i - 1]).abs() < 1e-10);
            }
        }
    }

    #[test]
    fn ties_go_to_the_even_number() {
        assert_eq!(space_timesteps(6, 3).unwrap(), [0, 2, 5]);
        assert_eq!(space_timesteps(8, 3).unwrap(), [0, 4, 7]);
        assert_eq!(space_timesteps(1000, 1).unwrap(), [0]);
    }

    #[test]
    fn step_counts_that_cannot_work_are_refused() {
        let diffusion = Diffusion::new(&DiffusionConfig::default()).unwrap();
        for (steps, message) in [
            (0, "steps: the spaced sampler needs 2 to 1000, found 0"),
            (1, "steps: the spaced sampler needs 2 to 1000, found 1"),
            (1001, "steps: expected 1 to 1000, found 1001"),
        ] {
            let error = SpacedSchedule::new(&diffusion, steps).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }
}
