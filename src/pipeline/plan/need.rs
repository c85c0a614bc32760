//! What the stages of a picture take, by the cost model.

use super::super::{Graph, Pipeline, Sizes, Stage};
use crate::bundle::GraphMemory;
use crate::error::Result;
use crate::memory::MAX_COUNTED;
use crate::nets::segments::{Bands, MOST_KEYS, SegmentPlan};
use crate::nets::vae::DOWNSCALE;
use crate::tensor::round_up;
use crate::tiling::{Layout, Tiles};

/// Bytes that the program and ONNX Runtime take before anything is loaded, and what allocators do not give back.
const BASE: u64 = 112 << 20;
/// The most that the work on picture rows outside of graphs takes.
const ROWS: u64 = 256 << 20;
/// Values per latent cell that samplers hold: `x_t`, predictions, their history, noise, condition.
const LATENTS: u64 = 4 * 16;

/// One picture's sizes and costs.
pub(super) struct Needs<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) sizes: Sizes,
    lq: (usize, usize),
    /// Whether graphs stay loaded after their stage, with what their last run took.
    pub(super) keep: bool,
    /// The denoiser's tiles.
    pub(super) tiles: Option<Layout>,
    /// Values that one evaluation of the denoiser leaves for the next, for each row and latent cell.
    pub(super) left: usize,
}

pub(super) fn area((height, width): (usize, usize)) -> usize {
    height * width
}

/// Bytes of a picture of 32-bit floats.
pub(super) fn picture(size: (usize, usize)) -> u64 {
    12 * area(size) as u64
}

impl<'a> Needs<'a> {
    pub(super) fn of(pipeline: &'a Pipeline, lq: (usize, usize)) -> Result<Self> {
        let sizes = pipeline.sizes(lq)?;
        let latent = pipeline.latent_size(sizes.cond);
        Ok(Needs {
            pipeline,
            sizes,
            lq,
            keep: false,
            tiles: pipeline.latent_tiles(latent),
            left: 0,
        })
    }

    /// The picture that the encoder sees, and the latent.
    pub(super) fn padded(&self) -> (usize, usize) {
        let (h, w) = self.latent();
        (h * DOWNSCALE, w * DOWNSCALE)
    }

    pub(super) fn latent(&self) -> (usize, usize) {
        self.pipeline.latent_size(self.sizes.cond)
    }

    /// What is held at a stage besides what it works on: what it needs [besides](Self::besides) graphs, and graphs.
    pub(super) fn held(&self, stage: Stage, pictures: u64) -> u64 {
        let graphs = &self.pipeline.graphs;
        let denoiser = [
            Some(&graphs.denoiser),
            graphs.vjp.as_ref(),
            graphs.vjp.as_ref().map(|_| &graphs.decoder),
        ];
        let of_stage: Vec<&Graph> = match stage {
            Stage::Cleaner => graphs.cleaner.iter().collect(),
            Stage::VaeEncoder => vec![&graphs.encoder],
            Stage::Sampling => denoiser.into_iter().flatten().collect(),
            Stage::VaeDecoder => vec![&graphs.decoder],
            Stage::Finish | Stage::TextEncoder => Vec::new(),
        };
        let loaded = of_stage.iter().map(|graph| graph.memory.load).sum::<u64>();
        let loaded = if self.keep { self.kept() } else { loaded };
        self.besides(pictures) + loaded
    }

    /// What is held besides graphs: the program, 8-bit pictures, latents, and `pictures` bytes of other pictures.
    fn besides(&self, pictures: u64) -> u64 {
        let samples = self.pipeline.options.sampling.samples as u64;
        let eight_bit = 3 * area(self.lq) as u64 + 3 * samples * area(self.sizes.output) as u64;
        let latents = LATENTS * area(self.latent()) as u64;
        BASE + eight_bit + latents + pictures
    }

    /// What all graphs take that stay loaded, each with what its run on the whole took, since allocators keep it.
    fn kept(&self) -> u64 {
        let graphs = &self.pipeline.graphs;
        let loaded = graphs.all().map(|graph| graph.memory.load).sum::<u64>();
        loaded
            + self.cleaner(usize::MAX)
            + self.vae_whole(&graphs.encoder.memory, self.padded())
            + self.denoiser(1)
            + self.vae_whole(&graphs.decoder.memory, self.latent())
    }

    /// What a picture takes with everything whole, in memory and kept.
    pub(super) fn all_kept(&self) -> u64 {
        self.besides(4 * picture(self.sizes.cond)) + self.kept()
    }

    /// What the cleaner takes on a square tile of `edge` pixels, halo included, or on the whole of it where `edge` is
    /// larger.
    pub(super) fn cleaner(&self, edge: usize) -> u64 {
        let Some(graph) = &self.pipeline.graphs.cleaner else {
            return 0;
        };
        let spec = self.pipeline.cleaner;
        let (h, w) = self.sizes.network;
        let (h, w) = (
            round_up(h, spec.multiple).min(edge),
            round_up(w, spec.multiple).min(edge),
        );
        graph.memory.run_bytes(1, h * w)
            + picture((h, w))
            + picture((h * spec.scale, w * spec.scale))
    }

    /// What an end of the VAE takes on the whole.
    pub(super) fn vae_whole(&self, memory: &GraphMemory, input: (usize, usize)) -> u64 {
        memory.run_bytes(1, area(input)) + picture(self.padded())
    }

    /// What the denoiser takes on all branches of a batch, up to `tile_batch` tiles at once.
    pub(super) fn denoiser(&self, tile_batch: usize) -> u64 {
        let pipeline = self.pipeline;
        let batch = self.rows();
        let whole = area(pipeline.padded_latent_size(self.latent()));
        let (tiles, cells) = match self.tiles {
            Some(layout) => (tile_batch, area(layout.tile(self.latent()))),
            None => (1, whole),
        };
        let graphs = &pipeline.graphs;
        let guidance = graphs.vjp.as_ref();
        let guidance = guidance.map_or(0, |vjp| vjp.memory.run_bytes(batch, whole));
        let denoiser = &graphs.denoiser.memory;
        // What is left once more, for the tiles that run.
        let cells_kept = self.tiled_cells().saturating_add(tiles * cells);
        let left = (4 * self.left * batch).saturating_mul(cells_kept) as u64;
        let left = left.min(MAX_COUNTED);
        denoiser.run_bytes(tiles * batch, cells).max(guidance) + left
    }

    /// Rows of a batch of all branches.
    fn rows(&self) -> usize {
        let sampling = &self.pipeline.options.sampling;
        let branches = if sampling.cfg_scale == 1.0 { 1 } else { 2 };
        branches * sampling.batch_size.min(sampling.samples)
    }

    /// Latent cells of all of the denoiser's tiles together, or of the whole.
    fn tiled_cells(&self) -> usize {
        let whole = self.pipeline.padded_latent_size(self.latent());
        match self.tiles.map(|layout| layout.grid(self.latent())) {
            Some(Ok(grid)) => grid.count().saturating_mul(area(grid.tile())),
            _ => area(whole),
        }
    }

    /// What the work on picture rows takes: several copies of a band, or of the picture where that is less.
    pub(super) fn picture_rows(&self) -> u64 {
        ROWS.min(8 * picture(self.sizes.cond))
    }

    /// The least that each stage takes, everything on disk that may be there.
    pub(super) fn least(&self) -> Vec<(Stage, u64)> {
        let pipeline = self.pipeline;
        let halo = pipeline.halo();
        let cleaner = match (pipeline.options.tiling.cleaner, halo) {
            (Some(tiles), _) if tiles.fit(self.sizes.input) => self.reference_cleaner(tiles),
            (_, Some(halo)) => self.cleaner(2 * halo + pipeline.cleaner.multiple),
            _ => self.cleaner(usize::MAX),
        };
        let vae = |graph: &Graph, input| match &graph.segments {
            Some(plan) => bands(plan, input).min(self.vae_whole(&graph.memory, input)),
            None => self.vae_whole(&graph.memory, input),
        };
        let graphs = &pipeline.graphs;
        let need = [
            (Stage::Cleaner, cleaner.max(self.picture_rows())),
            (Stage::VaeEncoder, vae(&graphs.encoder, self.padded())),
            (Stage::Sampling, self.denoiser(1)),
            (Stage::VaeDecoder, vae(&graphs.decoder, self.latent())),
            (Stage::Finish, self.picture_rows()),
        ];
        need.into_iter()
            .map(|(stage, bytes)| (stage, self.with_held(stage, 0, bytes)))
            .collect()
    }

    /// What a stage takes that works on `work` bytes, with what is [held](Self::held) besides. What stays loaded counts all
    /// that stages work on.
    pub(super) fn with_held(&self, stage: Stage, pictures: u64, work: u64) -> u64 {
        self.held(stage, pictures) + if self.keep { 0 } else { work }
    }

    /// What the reference's tiles take: arrays of the whole besides.
    pub(super) fn reference_cleaner(&self, tiles: Tiles) -> u64 {
        let scale = self.pipeline.cleaner.scale;
        let (h, w) = self.sizes.input;
        self.cleaner(tiles.size) + picture((h, w)) + 2 * picture((h * scale, w * scale))
    }
}

/// The least that a graph in bands takes: the widest row, and what attention is given whole.
pub(super) fn bands(plan: &SegmentPlan, input: (usize, usize)) -> u64 {
    Bands::least_bytes(plan, input, MOST_KEYS)
}
