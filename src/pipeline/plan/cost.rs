//! Cost model: memory of each stage of a restoration.

use std::collections::BTreeMap;

use super::super::graphs::Graph;
use super::super::{Pipeline, Sizes, Stage, Stage2};
use crate::bundle::GraphMemory;
use crate::error::Result;
use crate::memory::MAX_COUNTED;
use crate::nets::segments::{Bands, MOST_KEYS, SegmentPlan};
use crate::nets::vae::DOWNSCALE;
use crate::tensor::round_up;
use crate::tiling::{Layout, Tiles};

// Constants that no bundle states. Measured with `diffbir bench --memory` at 512 to 4096 pixels on ONNX Runtime's CPU
// provider (docs/large-pictures.md), each rounded up; `tests/large.rs` compares plans with the memory of real runs.

/// Bytes of the program and ONNX Runtime before a graph is loaded, and of memory that allocators do not return.
const PROCESS: u64 = 112 << 20;
/// Maximum working memory for picture rows outside of graphs: eight copies of a block of 32 MiB.
const ROW_BLOCKS: u64 = 256 << 20;
/// Copies of a picture during the work on its rows, if they are smaller than the blocks.
const ROW_COPIES: u64 = 8;
/// Bytes per latent pixel of a sampler, 16 values of 32 bits: `x_t`, predictions, their history, noise, condition.
const SAMPLER: u64 = 4 * 16;
/// One part in this many of a budget stays free for memory that the model does not cover.
pub(super) const MARGIN: u64 = 16;
/// Size of a strip in bytes above which a higher one is no faster.
pub(super) const LARGEST_STRIP: u64 = 1 << 30;
/// Number of tiles per call above which more are no faster: a GPU is saturated by then, a CPU by the first.
pub(super) const MOST_TILES: usize = 4;

/// One picture's sizes and costs.
pub(super) struct Costs<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) sizes: Sizes,
    lq: (usize, usize),
    /// Whether graphs stay loaded after their stage, with the memory of their last run.
    pub(super) keep: bool,
    /// The denoiser's tiles.
    pub(super) tiles: Option<Layout>,
    /// Number of cached values of a denoiser call for each batch row and latent pixel.
    pub(super) cache_per_pixel: usize,
}

pub(super) fn area((height, width): (usize, usize)) -> usize {
    height * width
}

/// Bytes of a picture of 32-bit floats.
pub(super) fn picture(size: (usize, usize)) -> u64 {
    12 * area(size) as u64
}

impl<'a> Costs<'a> {
    pub(super) fn of(pipeline: &'a Pipeline, lq: (usize, usize)) -> Result<Self> {
        let sizes = pipeline.sizes(lq)?;
        let latent = pipeline.latent_size(sizes.cond);
        Ok(Costs {
            pipeline,
            sizes,
            lq,
            keep: false,
            tiles: pipeline.latent_tiles(latent),
            cache_per_pixel: 0,
        })
    }

    /// Size of the encoder's input.
    pub(super) fn padded(&self) -> (usize, usize) {
        let (h, w) = self.latent();
        (h * DOWNSCALE, w * DOWNSCALE)
    }

    /// Size of the latent.
    pub(super) fn latent(&self) -> (usize, usize) {
        self.pipeline.latent_size(self.sizes.cond)
    }

    /// Resident bytes during a stage, without its working memory: the [overhead](Self::overhead) with `pictures` bytes
    /// of pictures, and the loaded graphs.
    pub(super) fn resident_bytes(&self, stage: Stage, pictures: u64) -> u64 {
        let loaded = match self.keep {
            true => self.all_loaded(),
            false => load_bytes(self.graphs_of(stage).into_iter()),
        };
        self.overhead(pictures) + loaded
    }

    /// The graphs that a stage runs.
    fn graphs_of(&self, stage: Stage) -> Vec<&Graph> {
        if stage == Stage::Cleaner {
            return self.pipeline.module.iter().collect();
        }
        let Some(Stage2 { graphs, .. }) = &self.pipeline.stage2 else {
            return Vec::new();
        };
        match stage {
            Stage::VaeEncoder => vec![&graphs.encoder],
            Stage::Sampling => match &graphs.vjp {
                Some(vjp) => vec![&graphs.denoiser, vjp, &graphs.decoder],
                None => vec![&graphs.denoiser],
            },
            Stage::VaeDecoder => vec![&graphs.decoder],
            Stage::Cleaner | Stage::Finish | Stage::TextEncoder => Vec::new(),
        }
    }

    /// Bytes outside of graphs: the program, 8-bit pictures, latents, and `pictures` bytes of other pictures.
    fn overhead(&self, pictures: u64) -> u64 {
        let samples = self.pipeline.options.sampling.samples as u64;
        let eight_bit = 3 * area(self.lq) as u64 + 3 * samples * area(self.sizes.output) as u64;
        let latents = match self.pipeline.stage2 {
            Some(_) => SAMPLER * area(self.latent()) as u64,
            None => 0,
        };
        PROCESS + eight_bit + latents + pictures
    }

    /// Bytes of all graphs, each with the working memory of its run on the whole picture, since allocators keep it.
    fn all_loaded(&self) -> u64 {
        let stage2 = self.pipeline.stage2.as_ref().map_or(0, |stage2| {
            self.vae_whole(&stage2.graphs.encoder.memory, self.padded())
                + self.denoiser(1)
                + self.vae_whole(&stage2.graphs.decoder.memory, self.latent())
        });
        load_bytes(self.pipeline.graphs()) + self.cleaner(usize::MAX) + stage2
    }

    /// Peak if every stage runs on the whole picture, pictures are in memory and graphs stay loaded.
    pub(super) fn peak_if_all_loaded(&self) -> u64 {
        self.overhead(4 * picture(self.sizes.cond)) + self.all_loaded()
    }

    /// Peak of a stage with `work` bytes of working memory. If graphs stay loaded, all working memory is counted
    /// already.
    pub(super) fn stage_peak(&self, stage: Stage, pictures: u64, work: u64) -> u64 {
        self.resident_bytes(stage, pictures) + if self.keep { 0 } else { work }
    }

    /// Bytes of the restoration module's run on a square tile of `edge` pixels, halo included, or on the whole picture
    /// if that is smaller.
    pub(super) fn cleaner(&self, edge: usize) -> u64 {
        let Some(graph) = &self.pipeline.module else {
            return 0;
        };
        let spec = self.pipeline.cleaner;
        let seen = |length| round_up(length, spec.multiple).min(edge);
        let (h, w) = (seen(self.sizes.network.0), seen(self.sizes.network.1));
        graph.memory.run_bytes(1, h * w)
            + picture((h, w))
            + picture((h * spec.scale, w * spec.scale))
    }

    /// Bytes of the restoration module's run in the reference's tiles, which also needs arrays of the whole picture.
    pub(super) fn reference_cleaner(&self, tiles: Tiles) -> u64 {
        let scale = self.pipeline.cleaner.scale;
        let (h, w) = self.sizes.input;
        self.cleaner(tiles.size) + picture((h, w)) + 2 * picture((h * scale, w * scale))
    }

    /// Bytes of a VAE graph's run on the whole picture.
    pub(super) fn vae_whole(&self, memory: &GraphMemory, input: (usize, usize)) -> u64 {
        memory.run_bytes(1, area(input)) + picture(self.padded())
    }

    /// Bytes of a denoiser call on all branches of a batch, `tile_batch` tiles at once, and of its feature cache.
    pub(super) fn denoiser(&self, tile_batch: usize) -> u64 {
        let pipeline = self.pipeline;
        let Some(Stage2 { graphs, .. }) = &pipeline.stage2 else {
            return 0;
        };
        let batch = self.rows();
        let whole = area(pipeline.padded_latent_size(self.latent()));
        let (tiles, pixels) = match self.tiles {
            Some(layout) => (tile_batch, area(layout.tile(self.latent()))),
            None => (1, whole),
        };
        let guidance = graphs.vjp.as_ref();
        let guidance = guidance.map_or(0, |vjp| vjp.memory.run_bytes(batch, whole));
        let call = graphs.denoiser.memory.run_bytes(tiles * batch, pixels);
        // The cached values of the tiles in the current call exist twice.
        let cached = self.tiled_pixels().saturating_add(tiles * pixels);
        let cache = (4 * self.cache_per_pixel * batch).saturating_mul(cached) as u64;
        call.max(guidance) + cache.min(MAX_COUNTED)
    }

    /// Number of batch rows, over all branches.
    fn rows(&self) -> usize {
        let sampling = &self.pipeline.options.sampling;
        let branches = if sampling.cfg_scale == 1.0 { 1 } else { 2 };
        branches * sampling.batch_size.min(sampling.samples)
    }

    /// Number of latent pixels in all denoiser tiles together, or in the whole latent.
    fn tiled_pixels(&self) -> usize {
        let whole = self.pipeline.padded_latent_size(self.latent());
        match self.tiles.map(|layout| layout.grid(self.latent())) {
            Some(Ok(grid)) => grid.count().saturating_mul(area(grid.tile())),
            _ => area(whole),
        }
    }

    /// Working memory for picture rows: several copies of a block, or of the picture if that is smaller.
    pub(super) fn picture_rows(&self) -> u64 {
        ROW_BLOCKS.min(ROW_COPIES * picture(self.sizes.cond))
    }

    /// Bytes of the 32-bit pictures that exist during a stage.
    pub(super) fn pictures(&self, stage: Stage) -> u64 {
        let cond = picture(self.sizes.cond);
        match stage {
            Stage::Cleaner => cond + picture(self.sizes.network),
            _ if self.pipeline.stage2.is_none() => cond,
            Stage::VaeDecoder => 2 * cond,
            Stage::Finish => 3 * cond,
            _ => cond,
        }
    }

    /// The smallest peak of each stage, with everything on disk that can be.
    pub(super) fn minimum(&self) -> BTreeMap<Stage, u64> {
        let pipeline = self.pipeline;
        let cleaner = match (pipeline.options.tiling.cleaner, pipeline.halo()) {
            (Some(tiles), _) if tiles.fit(self.sizes.input) => self.reference_cleaner(tiles),
            (_, halo) => match (pipeline.strips(), halo) {
                (Some(plan), _) => in_strips(plan, self.sizes.network, self.cleaner(usize::MAX)),
                (None, Some(halo)) => self.cleaner(2 * halo + pipeline.cleaner.multiple),
                (None, None) => self.cleaner(usize::MAX),
            },
        };
        let vae = |graph: &Graph, input| {
            let whole = self.vae_whole(&graph.memory, input);
            let strips = graph.segments.as_ref();
            strips.map_or(whole, |plan| in_strips(plan, input, whole))
        };
        let mut work = vec![
            (Stage::Cleaner, cleaner.max(self.picture_rows())),
            (Stage::Finish, self.picture_rows()),
        ];
        if let Some(Stage2 { graphs, .. }) = &pipeline.stage2 {
            work.extend([
                (Stage::VaeEncoder, vae(&graphs.encoder, self.padded())),
                (Stage::Sampling, self.denoiser(1)),
                (Stage::VaeDecoder, vae(&graphs.decoder, self.latent())),
            ]);
        }
        let peak = |(stage, bytes)| (stage, self.stage_peak(stage, 0, bytes));
        work.into_iter().map(peak).collect()
    }
}

/// Least working memory of a graph that takes `whole` bytes on the whole picture.
fn in_strips(plan: &SegmentPlan, input: (usize, usize), whole: u64) -> u64 {
    smallest_strip(plan, input).min(whole)
}

fn load_bytes<'a>(graphs: impl Iterator<Item = &'a Graph>) -> u64 {
    graphs.map(|graph| graph.memory.load).sum()
}

/// Working memory of the smallest strips of a graph: the widest row, and the keys and values of attention.
pub(super) fn smallest_strip(plan: &SegmentPlan, input: (usize, usize)) -> u64 {
    Bands::least_bytes(plan, input, MOST_KEYS)
}
