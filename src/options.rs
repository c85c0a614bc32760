//! What a caller can ask of a restoration: plain structs with defaults.

use serde::{Deserialize, Serialize};

use crate::denoise::Cfg;
use crate::error::{Error, Result};
use crate::nets::contract::CONTROLS;
use crate::samplers::{self, Sampler};

/// Where the colours of the result come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColorFix {
    /// Low frequencies of the stage-1 picture by wavelet decomposition.
    #[default]
    Wavelet,
    /// Mean and deviation per channel of the stage-1 picture.
    Adain,
    /// The decoder's own.
    None,
}

/// What to do to a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestoreOptions {
    /// A task that the bundle serves: `sr`, `face` (aligned) or `denoise`. Default: `sr`.
    pub task: String,
    /// Output size over input size, more than 0. Default: 4.
    pub upscale: f64,
    /// Where the colours come from. Default: wavelet.
    pub color_fix: ColorFix,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        RestoreOptions {
            task: "sr".to_owned(),
            upscale: 4.0,
            color_fix: ColorFix::Wavelet,
        }
    }
}

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
    pub strength: f64,
    /// Seed of the noise, as `torch.manual_seed` takes it. Default: 231.
    pub seed: u64,
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
            strength: 1.0,
            seed: 231,
        }
    }
}

impl RestoreOptions {
    /// Checks every value that can be checked without a bundle.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option), naming the value and what is accepted.
    pub fn validate(&self) -> Result<()> {
        expect("restore.upscale", self.upscale, "a number above 0", |x| {
            x.is_finite() && x > 0.0
        })
    }
}

impl SamplingOptions {
    /// Checks every value that can be checked without a bundle.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option), naming the value and what is accepted.
    pub fn validate(&self) -> Result<()> {
        let sampler = self.sampler()?;
        if self.steps < sampler.min_steps {
            return Err(Error::option(format!(
                "sampling.steps is {}, expected at least {} for the sampler {}",
                self.steps, sampler.min_steps, sampler.name
            )));
        }
        expect(
            "sampling.cfg_scale",
            self.cfg_scale,
            "a number",
            f64::is_finite,
        )?;
        expect(
            "sampling.strength",
            self.strength,
            "a number",
            f64::is_finite,
        )
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
        }
    }

    /// The weight of each of the control module's residuals.
    pub fn strengths(&self) -> [f32; CONTROLS] {
        [self.strength as f32; CONTROLS]
    }
}

fn expect(key: &str, value: f64, wanted: &str, accepts: impl Fn(f64) -> bool) -> Result<()> {
    if accepts(value) {
        return Ok(());
    }
    Err(Error::option(format!(
        "{key} is {value}, expected {wanted}"
    )))
}
