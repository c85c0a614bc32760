//! Samplers: functions from noise to a latent, and the table of their names.
//!
//! A sampler is a function of the [`Sampling`] (which schedule, how many steps, how strongly guided), the model, the
//! initial noise `x_T`, a source of further noise, and an observer. How many draws it makes and in which order is part
//! of its contract, since a result is reproducible only then.

pub mod spaced;

use crate::denoise::{Cfg, NoiseModel};
use crate::error::{Error, Result, nearest};
use crate::rng::NoiseSource;
use crate::schedule::Diffusion;
use crate::tensor::Latent;

/// What every sampler is told.
#[derive(Debug, Clone, Copy)]
pub struct Sampling<'a> {
    /// The process that the model was trained on.
    pub diffusion: &'a Diffusion,
    /// Number of steps; each sampler states which ones it can do.
    pub steps: usize,
    /// Classifier-free guidance.
    pub cfg: Cfg,
}

/// Where a sampler stands after a step.
#[derive(Debug, Clone, Copy)]
pub struct StepInfo<'a> {
    /// The step just done, from 0.
    pub index: usize,
    /// Number of steps.
    pub total: usize,
    /// The training timestep at which the denoiser was asked; fractional for some solvers.
    pub timestep: f32,
    /// The latent after the step, `[N, 4, h, w]`.
    pub x: &'a Latent,
    /// The clean latent that the denoiser predicted in this step, of the same shape.
    pub pred_x0: &'a Latent,
}

/// Told of every step. An error stops the sampler there and becomes its result; so a run is cancelled.
pub type Observer<'a> = dyn FnMut(&StepInfo<'_>) -> Result<()> + 'a;

/// A sampler: from the initial noise `x_T`, `[N, 4, h, w]` and standard normal, to the denoised latent.
pub type SampleFn = fn(
    &Sampling<'_>,
    &mut dyn NoiseModel,
    Latent,
    &mut dyn NoiseSource,
    &mut Observer<'_>,
) -> Result<Latent>;

/// One line of the table of samplers.
#[derive(Debug, Clone, Copy)]
pub struct Sampler {
    /// The reference's name for it.
    pub name: &'static str,
    /// The fewest steps it can do.
    pub min_steps: usize,
    /// The algorithm.
    pub sample: SampleFn,
}

/// All samplers.
pub const SAMPLERS: &[Sampler] = &[Sampler {
    name: "spaced",
    min_steps: 2,
    sample: spaced::sample,
}];

/// The sampler called `name`.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option) for a name that is not in [`SAMPLERS`], with the nearest one that is.
pub fn by_name(name: &str) -> Result<&'static Sampler> {
    if let Some(sampler) = SAMPLERS.iter().find(|sampler| sampler.name == name) {
        return Ok(sampler);
    }
    let names: Vec<&str> = SAMPLERS.iter().map(|sampler| sampler.name).collect();
    let nearest = nearest(name, names.iter().copied());
    Err(Error::option(format!(
        "sampler: there is no `{name}`, did you mean `{nearest}`? (expected one of: {})",
        names.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for (i, sampler) in SAMPLERS.iter().enumerate() {
            assert_eq!(by_name(sampler.name).unwrap().name, sampler.name);
            assert!(SAMPLERS[..i].iter().all(|other| other.name != sampler.name));
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let error = by_name("spacd").unwrap_err().to_string();
        assert!(error.contains("did you mean `spaced`?"), "{error}");
    }
}
