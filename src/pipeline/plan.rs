//! Which stages run whole and which in tiles, so that a picture fits the memory there is.
//!
//! The exact stages (cleaner, VAE encoder, VAE decoder) give the same values whole and in tiles, so memory decides about
//! them. The denoiser's tiles change pixels; they follow from the picture's size and the options alone, and memory decides
//! at most that the picture is refused.

mod choose;
mod need;

use std::collections::BTreeMap;

use serde::Serialize;

pub(super) use choose::after_failure;

use super::{Pipeline, Sizes, Stage};
use crate::canvas::{Canvas, Place, Store, bands};
use crate::error::{Error, ErrorKind, Result};
use crate::memory::{self, Bytes};
use crate::nets::Networks;
use crate::nets::segments::BandHeight;
use crate::tiling::{Layout, Tiles};

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
    /// The denoiser's tiles, in latent cells; none where it sees the whole.
    pub denoiser: Option<Layout>,
    /// How many of them run at once, where memory allows it to the end: the result is the same but for rounding.
    pub tile_batch: usize,
    /// The VAE decoder.
    pub decoder: VaePlan,
    /// Whether a stage's graphs are loaded while the stage before runs: where memory suffices for both.
    pub ahead: bool,
    /// Bytes that each stage is expected to take at most, with what is held besides.
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
        /// Pixels that a tile is given besides on each side.
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
    /// the system has left, less a tenth. On a device whose memory nobody tells (`networks` are not
    /// [on the host](Networks::on_host)) there is no bound without a budget: what does not fit is found out and made
    /// smaller then.
    ///
    /// # Errors
    /// [`Resources`](ErrorKind::Resources) where no plan fits, naming the smallest budget that would do;
    /// [`Option`](ErrorKind::Option) where `networks` do not offer what the options ask for.
    ///
    /// [`TilingOptions::memory_budget`]: crate::options::TilingOptions::memory_budget
    pub fn plan(&self, lq: (usize, usize), networks: &dyn Networks) -> Result<Plan> {
        let form = networks.form(&self.graphs.denoiser.name);
        let reuse = self.options.sampling.reuse()?;
        reuse.networks(&self.graphs.denoiser.name, &form)?;
        let given = self.options.tiling.memory_budget;
        let budget = match given {
            Some(bytes) => bytes.0,
            None if networks.on_host() => free_memory(),
            None => u64::MAX,
        };
        let budget = match budget {
            u64::MAX => budget,
            bytes => bytes / networks.sharing() as u64,
        };
        let mut pipeline = self.clone();
        pipeline.graphs.measure_on(networks);
        let mut needs = need::Needs::of(&pipeline, lq)?;
        needs.left = reuse.left(&form);
        let usable = budget / MARGIN * (MARGIN - 1);
        needs.keep = networks.keeps() && needs.all_kept() <= usable;
        let with_margin =
            |(stage, bytes): (Stage, u64)| (stage, (bytes / (MARGIN - 1) + 1) * MARGIN);
        let least: Vec<_> = needs.least().into_iter().map(with_margin).collect();
        let least_of =
            |(stage, bytes): &(Stage, u64)| (*bytes > budget).then_some((*stage, *bytes));
        if let Some((stage, _)) = least
            .iter()
            .filter_map(least_of)
            .max_by_key(|(_, bytes)| *bytes)
        {
            return Err(self.refusal(stage, budget, &least, given.is_some()));
        }
        Ok(Plan {
            budget: Bytes(budget),
            ..needs.choose(usable)
        })
    }

    fn refusal(&self, stage: Stage, budget: u64, least: &[(Stage, u64)], given: bool) -> Error {
        let smallest = least.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
        let source = if given {
            "tiling.memory_budget"
        } else {
            "what is free"
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
        Error::new(ErrorKind::Resources, message)
    }

    fn has_segments(&self, stage: Stage) -> bool {
        match stage {
            Stage::VaeEncoder => self.graphs.encoder.segments.is_some(),
            _ => self.graphs.decoder.segments.is_some(),
        }
    }
}

/// What this process may hold in all where nobody says: a tenth stays for others. Without figures of the system's,
/// memory is taken to be without bound.
fn free_memory() -> u64 {
    let held = memory::resident().unwrap_or(0);
    memory::available().map_or(u64::MAX, |free| (held + free) / 10 * 9)
}

/// One part of so many of a budget is left for what a model of costs does not know.
const MARGIN: u64 = 16;

/// Bytes of a band of picture rows that is worked on outside of graphs.
const BAND: usize = 32 << 20;

/// What the stages work with.
pub(super) struct Work<'a> {
    pub(super) plan: &'a Plan,
    pub(super) store: &'a Store,
    pub(super) sizes: Sizes,
}

impl Work<'_> {
    /// Has `graphs` loaded while others run, where the plan allows it.
    pub(super) fn prepare(&self, graphs: &[&str], networks: &mut dyn Networks) {
        if self.plan.ahead {
            graphs.iter().for_each(|graph| networks.prepare(graph));
        }
    }

    /// An empty picture where the plan holds pictures.
    pub(super) fn picture(&self, size: (usize, usize)) -> Result<Canvas> {
        self.store.canvas(self.plan.pictures, 3, size)
    }

    /// Rows of a picture that are worked on at once.
    pub(super) fn rows_at_once(&self, (_, width): (usize, usize)) -> usize {
        (BAND / (12 * width.max(1))).max(64)
    }

    /// All rows of a picture in bands that are worked on at once.
    pub(super) fn bands(
        &self,
        size: (usize, usize),
    ) -> impl Iterator<Item = std::ops::Range<usize>> {
        bands(size.0, self.rows_at_once(size))
    }

    /// The top left of `picture`, where the plan holds pictures; itself where that is so already.
    pub(super) fn placed(
        &self,
        picture: Canvas,
        (height, width): (usize, usize),
    ) -> Result<Canvas> {
        if picture.size() == (height, width) && picture.place() == self.plan.pictures {
            return Ok(picture);
        }
        let mut placed = self.picture((height, width))?;
        for rows in self.bands((height, width)) {
            placed.put(
                rows.start,
                0,
                picture.window(rows.clone(), 0..width)?.view(),
            )?;
        }
        Ok(placed)
    }
}
