//! How stage 2 samples.

use serde::{Deserialize, Serialize};

use super::{Speed, expect};
use crate::denoise::Cfg;
use crate::error::{Error, Result};
use crate::nets::cldm::Reuse;
use crate::nets::contract::CONTROLS;
use crate::rng::Rng;
use crate::samplers::{self, Knobs, Sampler};
use crate::schedule::Fidelity;

/// How stage 2 samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SamplingOptions {
    /// The sampler, by the reference's name. Default: the bundle's.
    pub sampler: String,
    /// Steps, at least 1. Default: the bundle's.
    pub steps: usize,
    /// Scale of classifier-free guidance; 1 runs no uncond branch. Default: the bundle's.
    pub cfg_scale: f64,
    /// Raises the guidance scale from 1 to `cfg_scale + 1` over the steps. Default: false.
    pub rescale_cfg: bool,
    /// The positive prompt. Default: the bundle's.
    pub prompt: String,
    /// The negative prompt. Default: the bundle's.
    pub negative_prompt: String,
    /// Weight of the control module's residuals. Default: 1.
    pub strength: Strength,
    /// What sampling starts from. Default: noise.
    pub start_point: StartPoint,
    /// The timestep up to which the condition is noised, 0 (not at all) to the last of the schedule. Default: 0.
    pub noise_aug: usize,
    /// See [`Knobs::s_churn`]. Default: the sampler's.
    pub s_churn: Option<f64>,
    /// See [`Knobs::s_tmin`]. Default: the sampler's.
    pub s_tmin: Option<f64>,
    /// See [`Knobs::s_tmax`]. Default: the sampler's.
    pub s_tmax: Option<f64>,
    /// See [`Knobs::s_noise`]. Default: the sampler's.
    pub s_noise: Option<f64>,
    /// See [`Knobs::eta`]. Default: the sampler's.
    pub eta: Option<f64>,
    /// See [`Knobs::order`]. Default: the sampler's.
    pub order: Option<usize>,
    /// What to do where the reference's result is of no use. Default: sound.
    pub fidelity: Fidelity,
    /// Seed of the noise, as `torch.manual_seed` takes it. Default: 231.
    pub seed: u64,
    /// How the seed becomes the noise of several samples. Default: per sample.
    pub seed_mode: SeedMode,
    /// The generator. Default: `torch-cpu`.
    pub rng: Rng,
    /// How many samples to make of each picture, at least 1. Default: 1.
    pub samples: usize,
    /// How many of them run at once, at least 1. Default: 1.
    pub batch_size: usize,
    /// Which approximations are made. Default: exact.
    pub speed: Speed,
    /// The deep features that an evaluation of the denoiser takes over from an earlier one (see [`Deep`](crate::nets::Deep))
    /// may be older than its timestep by this share of it, see [`Reuse`]; 0 to 10, 0 takes none. Default: as `speed` says.
    pub deep_reuse: Option<f64>,
    /// The same for the control module's residuals. Not together with `deep_reuse`, which leaves out the same and more.
    /// Default: 0.
    pub control_reuse: f64,
    /// The lowest and the highest timestep at which the uncond branch runs (Kynkäänniemi et al., arXiv 2404.07724).
    /// Default: at all.
    pub cfg_interval: Option<[f64; 2]>,
}

/// What sampling starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartPoint {
    /// Noise.
    #[default]
    Noise,
    /// The stage-1 picture's latent, noised to the last timestep.
    Cond,
}

/// How the seed becomes the noise of several samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeedMode {
    /// Sample k starts from `seed + k`, whatever runs beside it.
    #[default]
    PerSample,
    /// One stream for all samples of a picture, a batch drawn at once: the reference's way.
    Stream,
}

/// Weight of the control module's residuals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Strength {
    /// The same for all.
    All(f64),
    /// One for each: 12 skip connections from the finest up, and the middle block.
    Each(Vec<f64>),
}

impl Default for SamplingOptions {
    /// DiffBIR v1's published command.
    fn default() -> Self {
        SamplingOptions {
            sampler: "spaced".to_owned(),
            steps: 50,
            cfg_scale: 1.0,
            rescale_cfg: false,
            prompt: String::new(),
            negative_prompt: String::new(),
            strength: Strength::All(1.0),
            start_point: StartPoint::Noise,
            noise_aug: 0,
            s_churn: None,
            s_tmin: None,
            s_tmax: None,
            s_noise: None,
            eta: None,
            order: None,
            fidelity: Fidelity::Sound,
            seed: 231,
            seed_mode: SeedMode::PerSample,
            rng: Rng::TorchCpu,
            samples: 1,
            batch_size: 1,
            speed: Speed::Exact,
            deep_reuse: None,
            control_reuse: 0.0,
            cfg_interval: None,
        }
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
        self.knobs().check(sampler.name, sampler.knobs)?;
        let number = f64::is_finite;
        expect("sampling.cfg_scale", self.cfg_scale, "a number", number)?;
        for strength in self.strengths()? {
            expect("sampling.strength", strength.into(), "a number", number)?;
        }
        if let Some([low, high]) = self.cfg_interval
            && (low.is_nan() || high.is_nan() || low > high)
        {
            return Err(Error::option(format!(
                "sampling.cfg_interval is [{low}, {high}], expected two timesteps, the lower one first"
            )));
        }
        self.reuse()?;
        for (key, count) in [("samples", self.samples), ("batch_size", self.batch_size)] {
            if count == 0 {
                return Err(Error::option(format!(
                    "sampling.{key} is 0, expected at least 1"
                )));
            }
        }
        Ok(())
    }

    /// The sampler that [`sampler`](field@Self::sampler) names.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option), naming the nearest and the known ones.
    pub fn sampler(&self) -> Result<&'static Sampler> {
        samplers::by_name(&self.sampler)
    }

    /// Classifier-free guidance as the sampler takes it.
    pub fn cfg(&self) -> Cfg {
        Cfg {
            scale: self.cfg_scale,
            rescale: self.rescale_cfg,
            interval: self.cfg_interval.map(|[low, high]| (low, high)),
        }
    }

    /// What evaluations take over from earlier ones.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): no number of timesteps, or both kinds at once.
    pub fn reuse(&self) -> Result<Reuse> {
        let deep = self.deep_reuse.unwrap_or_else(|| self.speed.deep_reuse());
        let control = self.control_reuse;
        for (key, share) in [("deep", deep), ("control", control)] {
            let what = "a share of the timestep, 0 to 10";
            expect(&format!("sampling.{key}_reuse"), share, what, |x| {
                (0.0..=10.0).contains(&x)
            })?;
        }
        match (deep > 0.0, control > 0.0) {
            (true, true) => Err(Error::option(
                "sampling.control_reuse and deep_reuse (or speed): choose one",
            )),
            (true, false) => Ok(Reuse::Deep(deep as f32)),
            (false, true) => Ok(Reuse::Control(control as f32)),
            (false, false) => Ok(Reuse::Nothing),
        }
    }

    /// The knobs as the sampler takes them.
    pub fn knobs(&self) -> Knobs {
        Knobs {
            s_churn: self.s_churn,
            s_tmin: self.s_tmin,
            s_tmax: self.s_tmax,
            s_noise: self.s_noise,
            eta: self.eta,
            order: self.order,
        }
    }

    /// The weight of each of the control module's residuals.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option) for a list that is not one for each.
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
