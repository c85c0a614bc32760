//! Noise levels in the variance-exploding form of Karras et al. (arXiv 2206.00364): `x = x_0 + sigma * noise`.

use super::{Diffusion, Fidelity};
use crate::error::{Error, Result};

/// The first cumulative alpha of the reference's schedule, for every model.
const FIRST_ALPHA: f64 = 1e-8;

/// A descending list of noise levels that ends with 0.
///
/// Source: `EDMSampler.make_schedule`, diffbir/sampler/edm_sampler.py at 3f8b530.
#[derive(Debug, Clone, PartialEq)]
pub struct EdmSchedule {
    /// `sqrt((1 - alpha_bar) / alpha_bar)`, descending, then 0: one entry more than steps.
    pub sigmas: Vec<f32>,
    /// The training timestep of each level; 0 for the last.
    pub timesteps: Vec<usize>,
}

impl EdmSchedule {
    /// `steps` noise levels from the last training timestep down, evenly spaced in time.
    /// The reference starts at sigma 10000 for every model. That is correct if the last timestep is pure noise. For
    /// other models it scales `x_T`, and every error of the network, by a factor of 700. With [`Fidelity::Sound`] only
    /// an infinite sigma is replaced by 10000.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option) for 0 steps or more than there are training timesteps.
    pub fn new(diffusion: &Diffusion, steps: usize, fidelity: Fidelity) -> Result<Self> {
        let total = diffusion.timesteps();
        if steps == 0 || steps > total {
            return Err(Error::option(format!(
                "steps: expected 1 to {total}, found {steps}"
            )));
        }
        let last = (total - 1) as f64;
        let stride = -last / steps as f64;
        let mut timesteps: Vec<usize> = (0..steps)
            .map(|i| (i as f64 * stride + last) as usize)
            .collect();
        let mut alphas: Vec<f64> = timesteps
            .iter()
            .map(|&t| diffusion.alphas_cumprod()[t].max(FIRST_ALPHA))
            .collect();
        if fidelity == Fidelity::Reference {
            alphas[0] = FIRST_ALPHA;
        }
        let mut sigmas: Vec<f32> = alphas
            .iter()
            .map(|alpha| ((1.0 - alpha) / alpha).sqrt() as f32)
            .collect();
        sigmas.push(0.0);
        timesteps.push(0);
        Ok(EdmSchedule { sigmas, timesteps })
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.sigmas.len() - 1
    }

    /// The training timestep with the noise level nearest to `sigma`; the noisier one of two equally near.
    pub fn timestep(&self, sigma: f32) -> usize {
        let mut nearest = (f32::INFINITY, 0);
        for (&level, &timestep) in self.sigmas.iter().zip(&self.timesteps) {
            let distance = (sigma - level).abs();
            if distance < nearest.0 {
                nearest = (distance, timestep);
            }
        }
        nearest.1
    }

    /// The lowest and the highest noise level above 0.
    pub fn range(&self) -> (f32, f32) {
        (self.sigmas[self.steps() - 1], self.sigmas[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::DiffusionConfig;

    #[test]
    fn levels_fall_to_zero_for_every_count() {
        let diffusion = Diffusion::new(&DiffusionConfig::default()).unwrap();
        for steps in [1, 2, 7, 50, 999, 1000] {
            let schedule = EdmSchedule::new(&diffusion, steps, Fidelity::Sound).unwrap();
            assert_eq!(schedule.steps(), steps);
            assert!(schedule.sigmas.windows(2).all(|pair| pair[0] > pair[1]));
            assert_eq!(schedule.timesteps[0], 999);
        }
        assert!(EdmSchedule::new(&diffusion, 0, Fidelity::Sound).is_err());
        assert!(EdmSchedule::new(&diffusion, 1001, Fidelity::Sound).is_err());
    }

    #[test]
    fn only_the_reference_raises_the_first_level_of_an_eps_model() {
        let diffusion = Diffusion::new(&DiffusionConfig::default()).unwrap();
        let first = |fidelity| EdmSchedule::new(&diffusion, 5, fidelity).unwrap().sigmas[0];
        assert!((first(Fidelity::Sound) - 14.6146).abs() < 1e-3);
        assert_eq!(first(Fidelity::Reference), 1e4);
    }

    #[test]
    fn a_level_between_two_takes_the_nearer_ones_timestep() {
        let diffusion = Diffusion::new(&DiffusionConfig::default()).unwrap();
        let schedule = EdmSchedule::new(&diffusion, 4, Fidelity::Sound).unwrap();
        for (sigma, &timestep) in schedule.sigmas.iter().zip(&schedule.timesteps) {
            assert_eq!(schedule.timestep(*sigma), timestep);
            assert_eq!(schedule.timestep(*sigma * 1.001), timestep);
        }
    }
}
