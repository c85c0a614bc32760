//! The options of sampling.

use serde::{Deserialize, Serialize};

use super::Speed;
use crate::declare::{Section, in_range, options};
use crate::denoise::Cfg;
use crate::error::{Error, Result};
use crate::nets::cldm::CachePolicy;
use crate::nets::contract::CONTROLS;
use crate::rng::Rng;
use crate::samplers::{self, Sampler, SamplerParameters};

options! {
    /// The sampler, its noise and its prompts.
    struct SamplingOptions, layer SamplingLayer, section "sampling";
    /// Sampler, by the reference's name.
    sampler: String = "spaced".to_owned(), (long = "sampler", value_parser = sampler_name());
    /// Sampling steps; some samplers need 2 or 3.
    steps: usize = 50, [1.0, 1e5], (long = "steps", value_name = "N");
    /// Scale of classifier-free guidance; 1 is off (the unconditional branch does not run).
    cfg_scale: f64 = 1.0, [-1000.0, 1000.0], (long = "cfg-scale", alias = "cfg_scale", allow_negative_numbers = true);
    /// Raise the CFG scale from 1 to cfg-scale + 1 over the steps.
    rescale_cfg: bool = false,
        (long = "rescale-cfg", alias = "rescale_cfg", num_args = 0, default_missing_value = "true");
    /// Positive prompt.
    prompt: String = String::new(), (long = "prompt", alias = "pos_prompt", value_name = "TEXT");
    /// Negative prompt.
    negative_prompt: String = String::new(), (long = "negative-prompt", alias = "neg_prompt", value_name = "TEXT");
    /// Weight of the ControlNet's residuals: one number, or 13 with commas between (12 skip connections from the finest
    /// up, then the middle block).
    strength: Strength = Strength::All(1.0), (long = "strength", allow_hyphen_values = true);
    /// Start of sampling: noise, or cond for the noised latent of the stage-1 image.
    start_point: StartPoint = StartPoint::Noise, (long = "start-point", alias = "start_point_type", alias = "start_point");
    /// Noise augmentation: noise the ControlNet's condition to this model timestep; 0 is off.
    noise_aug: usize = 0, [0.0, 1e5], (long = "noise-aug", alias = "noise_aug", value_name = "TIMESTEP");
    /// Seed of the noise, as for `torch.manual_seed`: 0 to 2^64-1.
    seed: u64 = 231, (long = "seed");
    /// Noise of several samples: per-sample (sample k from seed + k) or stream (one stream, as the reference draws).
    seed_mode: SeedMode = SeedMode::PerSample, (long = "seed-mode", alias = "seed_mode");
    /// Generator: torch-cpu, or torch-cuda, torch-cuda:SMS or torch-cuda:SMSxTHREADS for the numbers torch draws on a GPU
    /// with so many multiprocessors (132, an H100's, unless given) and threads per multiprocessor (2048).
    rng: Rng = Rng::TorchCpu, (long = "rng");
    /// Samples per picture, written as NAME_0.png, NAME_1.png …
    samples: usize = 1, [1.0, 1024.0], (long = "samples", alias = "n_samples", value_name = "N");
    /// Samples that run in one batch.
    batch_size: usize = 1, [1.0, 1024.0], (long = "batch-size", alias = "batch_size", value_name = "N");
    /// Approximations: exact has none; docs/speed.md has the measured loss of the others.
    speed: Speed = Speed::Exact, (long = "speed");
    /// Feature caching of the ControlNet's residuals: reuse those of an earlier step whose age is at most this share of
    /// the timestep. Excludes deep_reuse, which skips the same work and more.
    control_reuse: f64 = 0.0, [0.0, 10.0], (skip);
    optional:
    /// Churn: noise added over all steps (Karras et al., algorithm 2). Unset: 0.
    s_churn: f64, (long = "s-churn", alias = "s_churn", num_args = 1, allow_negative_numbers = true);
    /// Smallest sigma at which s_churn acts. Unset: 0.
    s_tmin: f64, (long = "s-tmin", alias = "s_tmin", num_args = 1, allow_negative_numbers = true);
    /// Largest sigma at which s_churn acts. Unset: 300.
    s_tmax: f64, (long = "s-tmax", alias = "s_tmax", num_args = 1, allow_negative_numbers = true);
    /// Factor on all added noise. Unset: 1.
    s_noise: f64, (long = "s-noise", alias = "s_noise", num_args = 1, allow_negative_numbers = true);
    /// Stochasticity: 0 deterministic, 1 ancestral. Unset: 1 (ddim: 0).
    eta: f64, (long = "eta", num_args = 1, allow_negative_numbers = true);
    /// Order of the solver: edm_lms 1 to 4, unipc 2 or 3. Unset: 1 (unipc: 2).
    order: usize, (long = "order", num_args = 1);
    /// Feature caching (DeepCache): reuse deep UNet features of an earlier step whose age is at most this share of the
    /// timestep. Unset: as speed says (exact 0, balanced 0.25, fast 0.4).
    deep_reuse: f64, [0.0, 10.0], (skip);
    /// Lowest and highest model timestep with classifier-free guidance (arXiv 2404.07724), [LOW, HIGH]. Unset: all.
    cfg_interval: [f64; 2], (skip);
}

#[cfg(feature = "cli")]
fn sampler_name() -> impl clap::builder::TypedValueParser<Value = String> {
    let names = samplers::SAMPLERS.iter().map(|sampler| sampler.name);
    clap::builder::PossibleValuesParser::new(names)
}

/// The start of sampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum StartPoint {
    /// Noise
    #[default]
    Noise,
    /// The latent of the stage-1 image, noised to the last timestep
    Cond,
}

/// Derivation of several samples' noise from the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum SeedMode {
    /// Sample k uses seed + k, independent of the batch
    #[default]
    PerSample,
    /// One stream for all samples of a picture, a batch drawn at once, as in the reference
    Stream,
}

/// Weight of the ControlNet's residuals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Strength {
    /// One weight for all residuals.
    All(f64),
    /// One weight per residual: 12 skip connections from the finest up, and the middle block.
    Each(Vec<f64>),
}

impl std::str::FromStr for Strength {
    type Err = Error;

    /// One number, or several with commas between.
    fn from_str(text: &str) -> Result<Self> {
        let numbers: Vec<f64> = text
            .split(',')
            .map(|number| number.trim().parse())
            .collect::<Result<_, _>>()
            .map_err(|_| {
                Error::option(format!(
                    "`{text}`: expected a number, or {CONTROLS} with commas between"
                ))
            })?;
        Ok(match numbers.as_slice() {
            [one] => Strength::All(*one),
            _ => Strength::Each(numbers),
        })
    }
}

impl SamplingOptions {
    pub(super) fn validate(&self) -> Result<()> {
        let sampler = self.sampler()?;
        if self.steps < sampler.min_steps {
            return Err(Error::option(format!(
                "sampling.steps is {}, expected at least {} for the sampler {}",
                self.steps, sampler.min_steps, sampler.name
            )));
        }
        self.parameters().check(sampler.name, sampler.parameters)?;
        self.check_ranges()?;
        for strength in self.strengths()? {
            in_range("sampling.strength", f64::from(strength), (-1000.0, 1000.0))?;
        }
        if let Some([low, high]) = self.cfg_interval
            && (low.is_nan() || high.is_nan() || low > high)
        {
            return Err(Error::option(format!(
                "sampling.cfg_interval is [{low}, {high}], expected two timesteps, the lower one first"
            )));
        }
        self.reuse().map(drop)
    }

    /// The sampler that [`sampler`](field@Self::sampler) names.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option), naming the nearest and all known ones.
    pub fn sampler(&self) -> Result<&'static Sampler> {
        samplers::by_name(&self.sampler)
    }

    /// The sampler's settings of classifier-free guidance.
    pub fn cfg(&self) -> Cfg {
        Cfg {
            scale: self.cfg_scale,
            rescale: self.rescale_cfg,
            interval: self.cfg_interval.map(|[low, high]| (low, high)),
        }
    }

    /// The feature-cache policy.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): both kinds of caching at once.
    pub fn reuse(&self) -> Result<CachePolicy> {
        let deep = self.deep_reuse.unwrap_or_else(|| self.speed.deep_reuse());
        let control = self.control_reuse;
        match (deep > 0.0, control > 0.0) {
            (true, true) => Err(Error::option(
                "sampling.control_reuse and deep_reuse (or speed): choose one",
            )),
            (true, false) => Ok(CachePolicy::Features(deep as f32)),
            (false, true) => Ok(CachePolicy::Residuals(control as f32)),
            (false, false) => Ok(CachePolicy::Off),
        }
    }

    /// The sampler parameters.
    pub fn parameters(&self) -> SamplerParameters {
        SamplerParameters {
            s_churn: self.s_churn,
            s_tmin: self.s_tmin,
            s_tmax: self.s_tmax,
            s_noise: self.s_noise,
            eta: self.eta,
            order: self.order,
        }
    }

    /// The weight of each of the ControlNet's residuals.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option) for a list of another length.
    pub fn strengths(&self) -> Result<[f32; CONTROLS]> {
        match &self.strength {
            Strength::All(strength) => Ok([*strength as f32; CONTROLS]),
            Strength::Each(list) => {
                let list: Vec<f32> = list.iter().map(|&strength| strength as f32).collect();
                let found = list.len();
                list.try_into().map_err(|_| {
                    Error::option(format!(
                        "sampling.strength has {found} values, expected 1 or {CONTROLS}"
                    ))
                })
            }
        }
    }
}
