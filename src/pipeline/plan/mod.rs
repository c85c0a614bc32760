//! Which stages run whole and which in tiles, so that a picture fits the memory there is.
//!
//! The exact stages (cleaner, VAE encoder, VAE decoder) give the same values whole and in tiles, so memory decides about
//! them. The denoiser's tiles change pixels; they follow from the picture's size and the options alone, and memory decides
//! at most that the picture is refused.

mod choose;
mod cost;
mod text;

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Pipeline, Sizes, Stage};
use crate::canvas::Place;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::{self, Bytes};
use crate::nets::segments::BandHeight;
use crate::nets::{NetworkInfo, Networks};
use crate::tiling::{Layout, Tiles};

pub(super) use choose::after_failure;
use cost::{Costs, MARGIN};

/// How one picture is worked on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Height and width of the result.
    pub output: (usize, usize),
    /// Bytes that the whole process may hold.
    pub budget: Bytes,
    /// Whether graphs may stay loaded when their stage is over.
    pub keep: bool,
    /// Where pictures of 32-bit floats are held between the stages.
    pub pictures: Place,
    /// Stage 1.
    pub cleaner: CleanerPlan,
    /// The VAE encoder.
    pub encoder: VaePlan,
    /// The denoiser's tiles, in latent pixels; none where it sees the whole.
    pub denoiser: Option<Layout>,
    /// How many of them run at once, where memory allows it to the end: the result is the same but for rounding.
    pub tile_batch: usize,
    /// The VAE decoder.
    pub decoder: VaePlan,
    /// Whether a stage's graphs are loaded while the stage before runs: where memory suffices for both.
    pub ahead: bool,
    /// Bytes that the process is expected to hold at most in each stage.
    pub stages: BTreeMap<Stage, Bytes>,
}

/// How stage 1 runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CleanerPlan {
    /// On the whole picture. Where that runs out of memory after all and there is a halo, in tiles.
    Whole {
        /// See [`Exact`](Self::Exact).
        halo: Option<usize>,
    },
    /// In the reference's tiles.
    Tiles(Tiles),
    /// In tiles that give the whole's result.
    Exact {
        /// A tile's edge in pixels of the input.
        tile: usize,
        /// Pixels that a tile sees beyond it on each side.
        halo: usize,
    },
}

/// How an end of the VAE runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VaePlan {
    /// On the whole picture. Where that runs out of memory after all, in bands.
    Whole,
    /// In bands of rows, segment by segment, with the whole's result.
    Bands {
        /// How high they are.
        height: BandHeight,
        /// Where activations are held.
        place: Place,
    },
}

impl Plan {
    /// Whether memory suffices for every stage as a whole, pictures included.
    pub fn is_whole(&self) -> bool {
        let vae = [self.encoder, self.decoder];
        let cleaner = !matches!(self.cleaner, CleanerPlan::Exact { .. });
        cleaner && vae == [VaePlan::Whole; 2] && self.pictures == Place::Memory
    }

    /// The most that any stage is expected to take.
    pub fn peak(&self) -> Bytes {
        self.stages.values().copied().max().unwrap_or(Bytes(0))
    }
}

impl Pipeline {
    /// The sizes on the way of a picture of `lq` (height, width) pixels.
    ///
    /// # Errors
    /// [`Resources`](ErrorKind::Resources) where one of them has more than [`MAX_PIXELS`](super::MAX_PIXELS).
    pub fn sizes(&self, lq: (usize, usize)) -> Result<Sizes> {
        let tiles = self.options.tiling.cleaner;
        Sizes::of(
            lq,
            self.options.restore.upscale,
            self.cleaner,
            self.min_short_edge,
            |size| tiles.is_some_and(|tiles| tiles.fit(size)),
        )
    }

    /// How a picture of `lq` (height, width) pixels is worked on within [`TilingOptions::memory_budget`], else within what
    /// the system has left, less a tenth. On a device of unknown memory (`networks` are not
    /// [on the host](crate::nets::NetworkInfo::on_host)) there is no bound without a budget: a stage that runs out of memory
    /// is then made smaller while it runs.
    ///
    /// # Errors
    /// [`Resources`](ErrorKind::Resources) where no plan fits, naming the smallest budget that would do, or where the picture
    /// would become larger than [`MAX_PIXELS`](super::MAX_PIXELS); [`Option`](ErrorKind::Option) where `networks` do not
    /// offer what the options ask for.
    ///
    /// [`TilingOptions::memory_budget`]: crate::options::TilingOptions::memory_budget
    pub fn plan(&self, lq: (usize, usize), networks: &dyn Networks) -> Result<Plan> {
        let info = networks.info();
        let denoiser = info.graph(&self.graphs.denoiser.name);
        let policy = self.options.sampling.reuse()?;
        policy.networks(&self.graphs.denoiser.name, &denoiser)?;
        let mut pipeline = self.clone();
        pipeline.graphs.take_costs_of(&info);
        let budget = self.budget(&info);
        let usable = budget / MARGIN * (MARGIN - 1);
        let mut costs = Costs::of(&pipeline, lq)?;
        costs.cache_per_pixel = policy.values_per_pixel(&denoiser);
        costs.keep = info.keeps && costs.peak_if_all_loaded() <= usable;
        let with_margin = |bytes: u64| (bytes / (MARGIN - 1) + 1) * MARGIN;
        let minimum = costs.minimum();
        let highest = minimum.iter().max_by_key(|(_, bytes)| **bytes);
        match highest.map(|(stage, bytes)| (*stage, with_margin(*bytes))) {
            Some((stage, bytes)) if bytes > budget => Err(self.refusal(stage, budget, bytes)),
            _ => Ok(Plan {
                budget: Bytes(budget),
                ..costs.choose(usable)
            }),
        }
    }

    /// Bytes that the process may hold: the budget given, else what is free on the host, shared with other sets of networks.
    fn budget(&self, info: &NetworkInfo) -> u64 {
        let budget = match self.options.tiling.memory_budget {
            Some(bytes) => bytes.0,
            None if info.on_host => free_memory(),
            None => u64::MAX,
        };
        match budget {
            u64::MAX => budget,
            bytes => bytes / info.sharing as u64,
        }
    }

    /// The error for a picture whose `stage` takes at least `smallest` bytes.
    fn refusal(&self, stage: Stage, budget: u64, smallest: u64) -> Error {
        let source = match self.options.tiling.memory_budget {
            Some(_) => "tiling.memory_budget",
            None => "what is free",
        };
        let smaller = match stage {
            Stage::Sampling => {
                "; --low-memory loads the denoiser in parts; smaller tiles of it (--tile cldm=512) take less and change the picture a \
                 little"
            }
            Stage::VaeEncoder | Stage::VaeDecoder if !self.has_segments(stage) => {
                "; this bundle has no segments to run the VAE in bands: `python -m diffbir_export.segments BUNDLE` adds them"
            }
            _ => "",
        };
        let message = format!(
            "the picture does not fit into {} ({source}): the stage {} takes more in its smallest form. The smallest \
             budget that would do is {}{smaller}",
            Bytes(budget),
            stage.name(),
            Bytes(smallest),
        );
        Error::new(ErrorKind::Resources, message).with_smallest_budget(smallest)
    }

    fn has_segments(&self, stage: Stage) -> bool {
        match stage {
            Stage::VaeEncoder => self.graphs.encoder.segments.is_some(),
            _ => self.graphs.decoder.segments.is_some(),
        }
    }
}

/// What this process may hold in all if no budget is given: a tenth stays for others. Without figures of the system's,
/// memory is taken to be without bound.
fn free_memory() -> u64 {
    let held = memory::resident().unwrap_or(0);
    memory::available().map_or(u64::MAX, |free| (held + free) / 10 * 9)
}
