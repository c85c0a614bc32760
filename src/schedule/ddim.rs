//! The timesteps of DDIM, and its coefficients on them.

use super::Diffusion;
use crate::error::{Error, Result};

/// DDIM's timesteps (Song et al., arXiv 2010.02502), in sampling order, noisiest first.
///
/// Source: `DDIMSampler.make_schedule`, diffbir/sampler/ddim_sampler.py at 3f8b530.
#[derive(Debug, Clone, PartialEq)]
pub struct DdimSchedule {
    /// One entry for each step.
    pub steps: Vec<DdimStep>,
}

/// One step, rounded to f32 as the reference's buffers are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DdimStep {
    /// The training timestep.
    pub timestep: usize,
    /// `alpha_bar` there.
    pub alpha_prod_t: f32,
    /// `sqrt(alpha_bar)`.
    pub sqrt_alpha_prod_t: f32,
    /// `sqrt(1 - alpha_bar)`.
    pub sqrt_beta_prod_t: f32,
    /// `alpha_bar` of the next latent; for the last step that is timestep 0, not the clean latent.
    pub alpha_prod_t_prev: f32,
    /// The standard deviation of the added noise (equation 16); 0 if `eta` is 0.
    pub sigma: f32,
}

impl DdimSchedule {
    /// Every `timesteps / steps`-th timestep, plus 1. `steps` is rounded up to a number with an integer stride: 7
    /// becomes 8.
    ///
    /// For a few counts (3, 9, 27, 36, 37 and 1000 of 1000) the highest timestep would be beyond the schedule. The
    /// reference fails there with an `IndexError`; here the last timestep of the schedule replaces it.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option) for 0 steps or more than there are training timesteps.
    pub fn new(diffusion: &Diffusion, steps: usize, eta: f64) -> Result<Self> {
        let total = diffusion.timesteps();
        if steps == 0 || steps > total {
            return Err(Error::option(format!(
                "steps: expected 1 to {total}, found {steps}"
            )));
        }
        let timesteps: Vec<usize> = (0..total)
            .step_by(total / steps)
            .map(|timestep| (timestep + 1).min(total - 1))
            .collect();
        let alphas = diffusion.alphas_cumprod();
        let previous = std::iter::once(alphas[0]).chain(timesteps.iter().map(|&t| alphas[t]));
        let mut steps: Vec<DdimStep> = timesteps
            .iter()
            .zip(previous)
            .map(|(&timestep, previous)| DdimStep::new(timestep, alphas[timestep], previous, eta))
            .collect();
        // With 1000 steps, two would be at the last timestep.
        steps.dedup_by_key(|step| step.timestep);
        steps.reverse();
        Ok(DdimSchedule { steps })
    }
}

impl DdimStep {
    fn new(timestep: usize, alpha: f64, alpha_prev: f64, eta: f64) -> Self {
        let sigma = eta * ((1.0 - alpha_prev) / (1.0 - alpha) * (1.0 - alpha / alpha_prev)).sqrt();
        DdimStep {
            timestep,
            alpha_prod_t: alpha as f32,
            sqrt_alpha_prod_t: alpha.sqrt() as f32,
            sqrt_beta_prod_t: (1.0 - alpha).sqrt() as f32,
            alpha_prod_t_prev: alpha_prev as f32,
            sigma: sigma as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::DiffusionConfig;

    #[test]
    fn counts_that_end_the_reference_are_sound() {
        let diffusion = Diffusion::new(&DiffusionConfig::default()).unwrap();
        for (asked, real, first) in [(5, 5, 801), (7, 8, 995), (3, 4, 999), (1000, 999, 999)] {
            let schedule = DdimSchedule::new(&diffusion, asked, 1.0).unwrap();
            assert_eq!(schedule.steps.len(), real, "{asked}");
            assert_eq!(schedule.steps[0].timestep, first, "{asked}");
            assert!(schedule.steps.iter().all(|step| step.sigma.is_finite()));
        }
    }
}
