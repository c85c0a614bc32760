//! The plan of a restoration: which stages run whole and which in tiles, so that a picture fits into memory.
//!
//! Restoration module, VAE encoder and VAE decoder have lossless tiles (identical to untiled), so available memory
//! decides how they run. The denoiser's tiles change pixels; they depend only on the picture's size and the options,
//! and too little memory for them refuses the picture.

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

/// How one picture is restored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Height and width of the result.
    pub output: (usize, usize),
    /// Maximum memory of the whole process.
    pub budget: Bytes,
    /// Whether graphs may stay loaded after their stage.
    pub keep: bool,
    /// Where 32-bit pictures are stored between the stages.
    pub pictures: Place,
    /// Stage 1.
    pub cleaner: CleanerPlan,
    /// The VAE encoder. If stage 1 is all, this and the plans below stand for nothing.
    pub encoder: VaePlan,
    /// The denoiser's tiles, in latent pixels; `None`: it runs on the whole latent.
    pub denoiser: Option<Layout>,
    /// Number of tiles per denoiser call, reduced during the run if memory is short; it changes the result by rounding
    /// alone.
    pub tile_batch: usize,
    /// The VAE decoder.
    pub decoder: VaePlan,
    /// Whether a stage's graphs are loaded during the stage before, since memory suffices for both.
    pub ahead: bool,
    /// Expected peak of the process in each stage.
    pub stages: BTreeMap<Stage, Bytes>,
}

/// How stage 1 runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CleanerPlan {
    /// On the whole picture; with a halo, in lossless tiles if that runs out of memory.
    Whole {
        /// See [`Exact`](Self::Exact).
        halo: Option<usize>,
    },
    /// In the reference's tiles.
    Tiles(Tiles),
    /// In lossless tiles.
    Exact {
        /// A tile's edge in input pixels.
        tile: usize,
        /// Additional pixels on each side of a tile.
        halo: usize,
    },
    /// In horizontal strips, segment by segment, losslessly.
    Bands(Strips),
}

/// Strips of a graph with segments.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Strips {
    /// Height of the strips.
    pub height: BandHeight,
    /// Where activations are stored.
    pub place: Place,
}

/// How the VAE encoder or decoder runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VaePlan {
    /// On the whole picture; in strips if that runs out of memory.
    Whole,
    /// In horizontal strips, segment by segment, losslessly.
    Bands(Strips),
}

impl Plan {
    /// Whether no stage runs in lossless tiles or strips, and pictures are in memory.
    pub fn is_whole(&self) -> bool {
        let vae = [self.encoder, self.decoder];
        use CleanerPlan::{Bands, Exact};
        let cleaner = !matches!(self.cleaner, Exact { .. } | Bands(_));
        cleaner && vae == [VaePlan::Whole; 2] && self.pictures == Place::Memory
    }

    /// The highest expected peak of all stages.
    pub fn peak(&self) -> Bytes {
        self.stages.values().copied().max().unwrap_or(Bytes(0))
    }
}

impl Pipeline {
    /// The sizes during the restoration of a picture of `lq` (height, width) pixels.
    ///
    /// # Errors
    /// [`Resources`](ErrorKind::Resources) if one of them has more than [`MAX_PIXELS`](super::MAX_PIXELS).
    pub fn sizes(&self, lq: (usize, usize)) -> Result<Sizes> {
        let tiles = self.options.tiling.cleaner;
        let mut sizes = Sizes::of(
            lq,
            self.options.target()?,
            self.cleaner,
            self.min_short_edge,
            |size| tiles.is_some_and(|tiles| tiles.fit(size)),
        )?;
        if self.stage2.is_none() {
            // The shortest edge is the diffusion model's.
            sizes.cond = sizes.padded_output;
        }
        Ok(sizes)
    }

    /// The plan for a picture of `lq` (height, width) pixels within [`TilingOptions::memory_budget`], by default
    /// within the memory that is free, less a tenth. If `networks` run on a device (not [on the
    /// host](crate::nets::NetworkInfo::on_host)), whose memory is unknown, the default is no bound: a stage that runs
    /// out of memory is then split while it runs.
    ///
    /// # Errors
    /// [`Resources`](ErrorKind::Resources) if no plan fits, with the smallest sufficient budget, or if the picture
    /// would become larger than [`MAX_PIXELS`](super::MAX_PIXELS); [`Option`](ErrorKind::Option) if `networks` do not
    /// support the options.
    ///
    /// [`TilingOptions::memory_budget`]: crate::options::TilingOptions::memory_budget
    pub fn plan(&self, lq: (usize, usize), networks: &dyn Networks) -> Result<Plan> {
        let info = networks.info();
        let mut pipeline = self.clone();
        let stage2 = pipeline.stage2.iter_mut().flat_map(|s| s.graphs.all_mut());
        let graphs = pipeline.module.iter_mut().chain(stage2);
        graphs.for_each(|graph| graph.take_cost_of(&info));
        let budget = self.budget(&info);
        let usable = budget / MARGIN * (MARGIN - 1);
        let mut costs = Costs::of(&pipeline, lq)?;
        if let Some(stage2) = &self.stage2 {
            let name = &stage2.graphs.denoiser.name;
            let (denoiser, policy) = (info.graph(name), self.options.sampling.reuse()?);
            policy.networks(name, &denoiser)?;
            costs.cache_per_pixel = policy.values_per_pixel(&denoiser);
        }
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

    /// Maximum memory of the process: the budget option, else the free memory of the host, shared with other sets of
    /// networks.
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
                "; this bundle has no segments to run the VAE in strips: export it again"
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
        self.stage2.as_ref().is_some_and(|stage2| match stage {
            Stage::VaeEncoder => stage2.graphs.encoder.segments.is_some(),
            _ => stage2.graphs.decoder.segments.is_some(),
        })
    }
}

/// Default maximum memory of this process: a tenth of the free memory stays for others. No bound if the system reports
/// no figures.
fn free_memory() -> u64 {
    let held = memory::resident().unwrap_or(0);
    memory::available().map_or(u64::MAX, |free| (held + free) / 10 * 9)
}
