//! The options of a restoration, each declared once ([`declare`](crate::declare)).

mod denoiser_tiles;
mod guidance;
mod sampling;
mod size;
mod speed;

use serde::{Deserialize, Serialize};

use crate::declare::{Section, options};
use crate::error::{Error, Result};
use crate::memory::Bytes;
use crate::schedule::Fidelity;

pub use crate::tiling::Tiles;

pub use denoiser_tiles::{AUTO_TILES, AUTO_WHOLE, DenoiserTiles};
pub use guidance::{GuidanceLayer, GuidanceOptions, SemanticsOption};
pub use sampling::{SamplingLayer, SamplingOptions, SeedMode, StartPoint, Strength};
pub use size::{Frame, MAX_EDGE, PixelSize, SizeLayer, SizeMode, SizeOptions, Target};
pub use speed::Speed;

/// Every option that affects the pixels of a result. The default is DiffBIR v1's published command;
/// [`Bundle::options`](crate::bundle::Bundle::options) gives a bundle's own.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Options {
    /// Task, size, colours.
    pub restore: RestoreOptions,
    /// The result's size, instead of a factor.
    pub size: SizeOptions,
    /// The sampler and its noise.
    pub sampling: SamplingOptions,
    /// Restoration guidance.
    pub guidance: GuidanceOptions,
    /// Tiles and memory.
    pub tiling: TilingOptions,
}

impl Options {
    /// Checks every value that can be checked without a bundle.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option), naming the value and what is accepted.
    pub fn validate(&self) -> Result<()> {
        self.restore.check_ranges()?;
        self.size.check_ranges()?;
        self.target()?;
        self.check_stage1_only()?;
        self.sampling.validate()?;
        self.guidance.validate()?;
        self.tiling.validate()
    }

    /// The result's size that is asked for.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): more than one value, or none.
    pub fn target(&self) -> Result<Target> {
        self.size.target(self.restore.upscale)
    }

    /// The same by a factor, where sizes are given otherwise: `restore.upscale`, or its default if a size is set.
    pub fn by_factor(mut self) -> (Options, f64) {
        let factor = self.restore.upscale.unwrap_or(DEFAULT_UPSCALE);
        self.restore.upscale = Some(factor);
        self.size = SizeOptions::default();
        (self, factor)
    }

    fn check_stage1_only(&self) -> Result<()> {
        let (restore, samples) = (&self.restore, self.sampling.samples);
        let problem = match restore.cleaner {
            _ if !restore.stage1_only => return Ok(()),
            Cleaner::None => "restore.cleaner is none: no network would run".to_owned(),
            Cleaner::Task if samples > 1 => {
                format!("sampling.samples is {samples}, expected 1: stage 1 has no noise")
            }
            Cleaner::Task => return Ok(()),
        };
        Err(Error::option(format!(
            "restore.stage1_only is set, and {problem}"
        )))
    }

    /// The same without the memory options that do not affect the result.
    pub fn without_memory(&self) -> Options {
        let as_reference = self.restore.fidelity == Fidelity::Reference;
        Options {
            tiling: TilingOptions {
                memory_budget: None,
                cleaner_exact: None,
                vae_encoder: self.tiling.vae_encoder.filter(|_| as_reference),
                vae_decoder: None,
                ..self.tiling
            },
            ..self.clone()
        }
    }
}

/// Colour correction of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum ColorFix {
    /// Low frequencies of the stage-1 image, by wavelet decomposition
    #[default]
    Wavelet,
    /// Mean and standard deviation per channel of the stage-1 image
    Adain,
    /// The VAE decoder's colours, unchanged
    None,
}

/// The network of stage 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Cleaner {
    /// The task's restoration module (SwinIR, BSRNet or SCUNet)
    #[default]
    Task,
    /// None: the upscaled input conditions stage 2
    None,
}

/// `restore.upscale` by default.
pub const DEFAULT_UPSCALE: f64 = 4.0;

options! {
    /// Task, size, colours.
    struct RestoreOptions, layer RestoreLayer, section "restore";
    /// Task: sr, face (aligned faces) or denoise, if the bundle supports it.
    task: String = "sr".to_owned(), (long = "task");
    /// Stage-1 network: the task's, or none to condition on the upscaled input directly.
    cleaner: Cleaner = Cleaner::Task, (long = "cleaner");
    /// Colour correction: where the colours of the result come from.
    color_fix: ColorFix = ColorFix::Wavelet, (long = "color-fix", alias = "color_fix");
    /// Stop after stage 1: the restoration module's picture is the result, and no diffusion model is needed.
    stage1_only: bool = false, (long = "stage1-only", num_args = 0, default_missing_value = "true");
    /// sound: fix known faults of the original code, such as black padding, which darkens the right and bottom edge;
    /// reference: reproduce them bit by bit.
    fidelity: Fidelity = Fidelity::Sound, (long = "fidelity");
    optional:
    /// Output size over input size. Unset where a size is set.
    upscale: f64 = DEFAULT_UPSCALE, [0.001, 1000.0], (long = "upscale", allow_negative_numbers = true, num_args = 1);
}

options! {
    /// Tiles and memory, in pixels of the stage's image. A stage whose image is smaller than a tile runs untiled. Tiles
    /// of `cleaner` (the reference's) and `cldm` change the result; the others are identical to untiled.
    struct TilingOptions, layer TilingLayer, section "tiling";
    /// Tiles of the denoiser (ControlNet and UNet): auto (untiled up to 1024x1024 pixels), none, SIZE:STRIDE (the
    /// reference's tiles) or { size, overlap }.
    cldm: DenoiserTiles = DenoiserTiles::Auto, (skip);
    optional:
    /// The reference's tiles of stage 1, SIZE:STRIDE; with SwinIR a multiple of 64.
    cleaner: Tiles, (skip);
    /// Memory that the whole process may use, such as 8GiB; decides which lossless stages are tiled. Unset: nine tenths of
    /// the free memory.
    memory_budget: Bytes, (long = "memory-budget", value_name = "SIZE", num_args = 1);
    /// Tile edge of stage 1's lossless tiles (identical to untiled). Unset: as memory allows.
    cleaner_exact: usize, [1.0, 1048576.0], (skip);
    /// Strip height of the strip-streamed VAE encoder (identical to untiled). Unset: as memory allows. With fidelity
    /// reference, setting it pads the image to a multiple of 8 pixels instead of 64, as the original does.
    vae_encoder: usize, [1.0, 1048576.0], (skip);
    /// Strip height of the strip-streamed VAE decoder (identical to untiled). Unset: as memory allows.
    vae_decoder: usize, [1.0, 1048576.0], (skip);
}

impl TilingOptions {
    fn validate(&self) -> Result<()> {
        self.check_ranges()?;
        if let Some(tiles) = self.cleaner {
            check_tiles("tiling.cleaner", tiles, (1, 1))?;
        }
        self.cldm.validate()
    }
}

/// The longest edge of a tile, in pixels.
const MAX_TILE: usize = 1 << 16;

/// Checks that the tile size is a multiple of `size`, and the stride a multiple of `stride` and at most the tile size.
fn check_tiles(key: &str, tiles: Tiles, (size, stride): (usize, usize)) -> Result<()> {
    let fits = (1..=MAX_TILE).contains(&tiles.size)
        && tiles.size.is_multiple_of(size)
        && (1..=tiles.size).contains(&tiles.stride)
        && tiles.stride.is_multiple_of(stride);
    if fits {
        return Ok(());
    }
    Err(Error::option(format!(
        "{key} is {}:{}, expected SIZE:STRIDE with SIZE a multiple of {size}, STRIDE a multiple of {stride} and at most \
         SIZE, SIZE at most {MAX_TILE}",
        tiles.size, tiles.stride
    )))
}
