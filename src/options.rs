//! What a caller can ask of a restoration: plain structs with defaults.

mod denoiser_tiles;
mod guidance;
mod sampling;
mod speed;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::memory::Bytes;
use crate::tiling::Tiles;

pub use denoiser_tiles::{AUTO_TILES, AUTO_WHOLE, DenoiserTiles};
pub use guidance::{GuidanceOptions, SemanticsOption};
pub use sampling::{SamplingOptions, SeedMode, StartPoint, Strength};
pub use speed::Speed;

/// Everything that decides a result's pixels, besides the picture and the bundle.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Options {
    /// What to do to a picture.
    pub restore: RestoreOptions,
    /// How stage 2 samples.
    pub sampling: SamplingOptions,
    /// Restoration guidance.
    pub guidance: GuidanceOptions,
    /// Which stages run in tiles.
    pub tiling: TilingOptions,
}

impl Options {
    /// Checks every value that can be checked without a bundle.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option), naming the value and what is accepted.
    pub fn validate(&self) -> Result<()> {
        self.restore.validate()?;
        self.sampling.validate()?;
        self.guidance.validate()?;
        self.tiling.validate()
    }

    /// The same without what is about memory, which decides nothing about the result.
    pub fn without_memory(&self) -> Options {
        Options {
            tiling: TilingOptions {
                memory_budget: None,
                cleaner_exact: None,
                vae_encoder: None,
                vae_decoder: None,
                ..self.tiling
            },
            ..self.clone()
        }
    }
}

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

/// What stage 1 is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cleaner {
    /// The task's network.
    #[default]
    Task,
    /// Nothing: the enlarged picture itself conditions stage 2.
    None,
}

/// What to do to a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestoreOptions {
    /// A task that the bundle serves: `sr`, `face` (aligned) or `denoise`. Default: `sr`.
    pub task: String,
    /// Output size over input size, more than 0. Default: 4.
    pub upscale: f64,
    /// What stage 1 is. Default: the task's network.
    pub cleaner: Cleaner,
    /// Where the colours come from. Default: wavelet.
    pub color_fix: ColorFix,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        RestoreOptions {
            task: "sr".to_owned(),
            upscale: 4.0,
            cleaner: Cleaner::Task,
            color_fix: ColorFix::Wavelet,
        }
    }
}

impl RestoreOptions {
    fn validate(&self) -> Result<()> {
        expect("restore.upscale", self.upscale, "a number above 0", |x| {
            x.is_finite() && x > 0.0
        })
    }
}

/// Which stages run in tiles, in pixels of what the stage sees. A stage whose picture is smaller than a tile runs on
/// the whole of it. Tiles of [`cleaner`](Self::cleaner) (the reference's) and [`cldm`](Self::cldm)
/// change the picture; the others do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TilingOptions {
    /// Stage 1. With SwinIR a multiple of 64. Default: whole.
    pub cleaner: Option<Tiles>,
    /// Control module and UNet. Default: as the picture's size asks for.
    pub cldm: DenoiserTiles,
    /// What the whole process may hold in memory; decides which of the exact stages run in tiles. Default: nine tenths
    /// of what is free.
    pub memory_budget: Option<Bytes>,
    /// The edge of stage 1's exact tiles. Default: as memory allows.
    pub cleaner_exact: Option<usize>,
    /// The height of the VAE encoder's bands, which are exact. Default: as memory allows.
    pub vae_encoder: Option<usize>,
    /// The height of the VAE decoder's bands, which are exact. Default: as memory allows.
    pub vae_decoder: Option<usize>,
}

impl TilingOptions {
    fn validate(&self) -> Result<()> {
        let exact = [
            ("cleaner_exact", self.cleaner_exact),
            ("vae_encoder", self.vae_encoder),
            ("vae_decoder", self.vae_decoder),
        ];
        if let Some((key, _)) = exact.iter().find(|(_, pixels)| *pixels == Some(0)) {
            return Err(Error::option(format!(
                "tiling.{key} is 0, expected a number of pixels"
            )));
        }
        if let Some(tiles) = self.cleaner {
            check_tiles("tiling.cleaner", tiles, (1, 1))?;
        }
        self.cldm.validate()
    }
}

/// Checks that the size is a multiple of `size`, the stride one of `stride` and at most the size.
fn check_tiles(key: &str, tiles: Tiles, (size, stride): (usize, usize)) -> Result<()> {
    let fits = tiles.size > 0
        && tiles.size.is_multiple_of(size)
        && (1..=tiles.size).contains(&tiles.stride)
        && tiles.stride.is_multiple_of(stride);
    if fits {
        return Ok(());
    }
    Err(Error::option(format!(
        "{key} is {}:{}, expected SIZE:STRIDE with SIZE a multiple of {size}, STRIDE a multiple of {stride} and at most SIZE",
        tiles.size, tiles.stride
    )))
}

fn expect(key: &str, value: f64, wanted: &str, accepts: impl Fn(f64) -> bool) -> Result<()> {
    if accepts(value) {
        return Ok(());
    }
    Err(Error::option(format!(
        "{key} is {value}, expected {wanted}"
    )))
}
