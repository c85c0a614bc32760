//! From needs and a budget to a plan.

use std::collections::BTreeMap;

use super::need::{Needs, bands, picture};
use super::{CleanerPlan, Plan, VaePlan};
use crate::bundle::GraphMemory;
use crate::canvas::Place;
use crate::memory::Bytes;
use crate::nets::segments::{BandHeight, SegmentPlan};
use crate::nets::vae::DOWNSCALE;
use crate::pipeline::{Graph, Stage};

/// More than this a band gains nothing from.
const BAND: u64 = 1 << 30;

/// More tiles than this at once gain nothing: by then a GPU is busy, and a CPU is from the first on.
const MOST_TILES: usize = 4;

impl Needs<'_> {
    /// A plan within `budget`, which is at least [`least`](Self::least).
    pub(super) fn choose(&self, budget: u64) -> Plan {
        let pictures = match self.pictures_fit(budget) {
            true => Place::Memory,
            false => Place::Disk,
        };
        let in_memory = |stage| match pictures {
            Place::Memory => self.pictures(stage),
            Place::Disk => 0,
        };
        let held = |stage| self.held(stage, in_memory(stage));
        let graphs = &self.pipeline.graphs;
        let tiling = &self.pipeline.options.tiling;
        // What stays loaded counts all that stages work on, and fits.
        let left = |held: u64| match self.keep {
            true => u64::MAX,
            false => budget.saturating_sub(held),
        };
        let mut stages = BTreeMap::new();
        let mut note = |stage, work: u64| {
            let bytes = self.with_held(stage, in_memory(stage), work);
            stages.insert(stage, Bytes(bytes));
        };

        let (cleaner, work) = self.choose_cleaner(left(held(Stage::Cleaner)));
        note(Stage::Cleaner, work.max(self.picture_rows()));

        let room = left(held(Stage::VaeEncoder));
        let (encoder, work) =
            self.choose_vae(&graphs.encoder, self.padded(), tiling.vae_encoder, room);
        note(Stage::VaeEncoder, work);

        let taken = match self.keep {
            true => self.all_kept(),
            false => held(Stage::Sampling) + self.denoiser(1),
        };
        let tile_batch = self.tile_batch(budget.saturating_sub(taken));
        note(Stage::Sampling, self.denoiser(tile_batch));

        let rows = tiling.vae_decoder.map(|rows| rows.div_ceil(DOWNSCALE));
        let room = left(held(Stage::VaeDecoder));
        let (decoder, work) = self.choose_vae(&graphs.decoder, self.latent(), rows, room);
        note(Stage::VaeDecoder, work);

        note(Stage::Finish, self.picture_rows());
        let is_whole = encoder == VaePlan::Whole && decoder == VaePlan::Whole;
        Plan {
            output: self.sizes.output,
            budget: Bytes(budget),
            keep: self.keep,
            pictures,
            cleaner,
            encoder,
            denoiser: self.tiles,
            tile_batch,
            decoder,
            ahead: is_whole && self.fits_ahead(&stages, budget),
            stages,
        }
    }

    /// Whether there is room beside each stage for the graph of the next.
    fn fits_ahead(&self, stages: &BTreeMap<Stage, Bytes>, budget: u64) -> bool {
        let graphs = &self.pipeline.graphs;
        let next = [
            (Stage::Cleaner, &graphs.encoder),
            (Stage::VaeEncoder, &graphs.denoiser),
            (Stage::Sampling, &graphs.decoder),
        ];
        let fits = |(stage, graph): &(Stage, &Graph)| {
            // Loading takes more for a moment, which the constant of a run covers.
            let more = graph.memory.load + graph.memory.run_bytes(1, 0);
            stages
                .get(stage)
                .is_some_and(|bytes| bytes.0 + more <= budget)
        };
        self.keep || next.iter().all(fits)
    }

    /// Whether pictures may lie in memory: beside them there has to be room for every stage in its smallest form, and
    /// they should leave most of the memory to the stages.
    fn pictures_fit(&self, budget: u64) -> bool {
        let fits = |(stage, bytes): &(Stage, u64)| bytes + self.pictures(*stage) <= budget;
        let room = 3 * picture(self.sizes.cond) <= budget / 3;
        room && self.least().iter().all(fits)
    }

    /// Bytes of the 32-bit pictures that there are at a stage.
    fn pictures(&self, stage: Stage) -> u64 {
        let cond = picture(self.sizes.cond);
        match stage {
            Stage::Cleaner => cond + picture(self.sizes.network),
            Stage::VaeDecoder => 2 * cond,
            Stage::Finish => 3 * cond,
            _ => cond,
        }
    }

    fn choose_cleaner(&self, left: u64) -> (CleanerPlan, u64) {
        let pipeline = self.pipeline;
        let tiling = &pipeline.options.tiling;
        let halo = pipeline.halo();
        if let Some(tiles) = tiling.cleaner.filter(|tiles| tiles.fit(self.sizes.input)) {
            return (CleanerPlan::Tiles(tiles), self.reference_cleaner(tiles));
        }
        let whole = self.cleaner(usize::MAX);
        let multiple = pipeline.cleaner.multiple;
        let exact = |tile, halo| {
            (
                CleanerPlan::Exact { tile, halo },
                self.cleaner(tile + 2 * halo),
            )
        };
        match (tiling.cleaner_exact, halo) {
            (Some(tile), Some(halo)) => exact(tile.next_multiple_of(multiple), halo),
            (_, Some(halo)) if whole > left => {
                let fits = |tile: usize| self.cleaner(tile + 2 * halo) <= left;
                let edge = self.sizes.network.0.max(self.sizes.network.1);
                let most = last_that(edge.div_ceil(multiple), |k| fits(k * multiple));
                exact(most.max(1) * multiple, halo)
            }
            _ => (CleanerPlan::Whole { halo }, whole),
        }
    }

    /// How many tiles of the denoiser run at once where `spare` bytes are left besides what one takes.
    fn tile_batch(&self, spare: u64) -> usize {
        let one = self.denoiser(1);
        let fits = |batch: &usize| self.denoiser(*batch).saturating_sub(one) <= spare;
        let most = if self.tiles.is_some() { MOST_TILES } else { 1 };
        (1..=most).take_while(fits).last().unwrap_or(1)
    }

    fn choose_vae(
        &self,
        graph: &Graph,
        input: (usize, usize),
        rows: Option<usize>,
        left: u64,
    ) -> (VaePlan, u64) {
        let whole = self.vae_whole(&graph.memory, input);
        match &graph.segments {
            Some(plan) if rows.is_some() || whole > left => in_bands(plan, input, rows, left),
            _ => (VaePlan::Whole, whole),
        }
    }
}

/// The largest of `1..=most` for which `holds` is true, which is so up to some number; else 0.
fn last_that(most: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut known, mut beyond) = (0, most + 1);
    while beyond - known > 1 {
        let middle = known + (beyond - known) / 2;
        match holds(middle) {
            true => known = middle,
            false => beyond = middle,
        }
    }
    known
}

fn in_bands(
    plan: &SegmentPlan,
    input: (usize, usize),
    rows: Option<usize>,
    left: u64,
) -> (VaePlan, u64) {
    let least = bands(plan, input);
    let canvases = 4 * plan.most_values(input) as u64;
    // On disk where no band of a useful height would be left.
    let (place, held) = match canvases + 4 * least > left {
        true => (Place::Disk, 0),
        false => (Place::Memory, canvases),
    };
    let work = (left - held.min(left)).clamp(least, BAND.max(least));
    let height = rows.map_or(BandHeight::Memory(work), BandHeight::Rows);
    (VaePlan::Bands { height, place }, held + work)
}

/// The bands of an end of the VAE whose whole ran out of memory: half of what the whole was thought to take.
pub(in crate::pipeline) fn after_failure(
    memory: &GraphMemory,
    plan: &SegmentPlan,
    input: (usize, usize),
) -> VaePlan {
    let left = memory.run_bytes(1, input.0 * input.1) / 2;
    in_bands(plan, input, None, left).0
}
