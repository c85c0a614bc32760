//! Chooses a plan by costs and budget.

use std::collections::BTreeMap;

use super::cost::{Costs, LARGEST_STRIP, MOST_TILES, picture, smallest_strip};
use super::{CleanerPlan, Plan, Strips, VaePlan};
use crate::bundle::GraphMemory;
use crate::canvas::Place;
use crate::memory::Bytes;
use crate::nets::segments::{BandHeight, SegmentPlan};
use crate::nets::vae::DOWNSCALE;
use crate::pipeline::graphs::{Graph, Graphs};
use crate::pipeline::{Stage, Stage2};

impl Costs<'_> {
    /// A plan within `budget`, which is at least the [minimum](Self::minimum).
    pub(super) fn choose(&self, budget: u64) -> Plan {
        let pictures = match self.pictures_fit(budget) {
            true => Place::Memory,
            false => Place::Disk,
        };
        let in_memory = |stage| match pictures {
            Place::Memory => self.pictures(stage),
            Place::Disk => 0,
        };
        let resident = |stage| self.resident_bytes(stage, in_memory(stage));
        // If graphs stay loaded, all working memory is counted already, and fits.
        let available = |stage| match self.keep {
            true => u64::MAX,
            false => budget.saturating_sub(resident(stage)),
        };
        let (cleaner, cleaner_work) = self.choose_cleaner(available(Stage::Cleaner));
        let mut plan = Plan {
            output: self.sizes.output,
            budget: Bytes(budget),
            keep: self.keep,
            pictures,
            cleaner,
            encoder: VaePlan::Whole,
            denoiser: None,
            tile_batch: 1,
            decoder: VaePlan::Whole,
            ahead: false,
            stages: BTreeMap::new(),
        };
        let mut work = vec![
            (Stage::Cleaner, cleaner_work.max(self.picture_rows())),
            (Stage::Finish, self.picture_rows()),
        ];
        if let Some(Stage2 { graphs, .. }) = &self.pipeline.stage2 {
            let taken = match self.keep {
                true => self.peak_if_all_loaded(),
                false => resident(Stage::Sampling) + self.denoiser(1),
            };
            plan.tile_batch = self.choose_tile_batch(budget.saturating_sub(taken));
            work.extend(self.choose_stage2(graphs, &mut plan, available));
        }
        let peak = |(stage, work)| (stage, Bytes(self.stage_peak(stage, in_memory(stage), work)));
        plan.stages = work.into_iter().map(peak).collect();
        let is_whole = plan.encoder == VaePlan::Whole && plan.decoder == VaePlan::Whole;
        plan.ahead = is_whole && self.fits_ahead(&plan.stages, budget);
        plan
    }

    /// Chooses how stage 2 runs, and returns the working memory of its stages.
    fn choose_stage2(
        &self,
        graphs: &Graphs,
        plan: &mut Plan,
        available: impl Fn(Stage) -> u64,
    ) -> [(Stage, u64); 3] {
        let tiling = &self.pipeline.options.tiling;
        let (encoder, encoder_work) = self.choose_vae(
            &graphs.encoder,
            self.padded(),
            tiling.vae_encoder,
            available(Stage::VaeEncoder),
        );
        let (decoder, decoder_work) = self.choose_vae(
            &graphs.decoder,
            self.latent(),
            tiling.vae_decoder.map(|rows| rows.div_ceil(DOWNSCALE)),
            available(Stage::VaeDecoder),
        );
        (plan.encoder, plan.decoder, plan.denoiser) = (encoder, decoder, self.tiles);
        [
            (Stage::VaeEncoder, encoder_work),
            (Stage::Sampling, self.denoiser(plan.tile_batch)),
            (Stage::VaeDecoder, decoder_work),
        ]
    }

    /// Whether each stage leaves room for the graph of the next.
    fn fits_ahead(&self, stages: &BTreeMap<Stage, Bytes>, budget: u64) -> bool {
        let Some(Stage2 { graphs, .. }) = &self.pipeline.stage2 else {
            return false;
        };
        let next = [
            (Stage::Cleaner, &graphs.encoder),
            (Stage::VaeEncoder, &graphs.denoiser),
            (Stage::Sampling, &graphs.decoder),
        ];
        let fits = |(stage, graph): &(Stage, &Graph)| {
            // Loading takes more memory for a moment; the constant term of a run's cost covers it.
            let more = graph.memory.load + graph.memory.run_bytes(1, 0);
            let peak = stages.get(stage);
            peak.is_some_and(|bytes| bytes.0 + more <= budget)
        };
        self.keep || next.iter().all(fits)
    }

    /// Whether pictures can stay in memory: with them, every stage must fit with its smallest working memory, and most
    /// of the budget should remain for the stages.
    fn pictures_fit(&self, budget: u64) -> bool {
        let fits = |(stage, bytes): (Stage, u64)| bytes + self.pictures(stage) <= budget;
        let are_small = 3 * picture(self.sizes.cond) <= budget / 3;
        are_small && self.minimum().into_iter().all(fits)
    }

    fn choose_cleaner(&self, available: u64) -> (CleanerPlan, u64) {
        let pipeline = self.pipeline;
        let tiling = &pipeline.options.tiling;
        if let Some(tiles) = tiling.cleaner.filter(|tiles| tiles.fit(self.sizes.input)) {
            return (CleanerPlan::Tiles(tiles), self.reference_cleaner(tiles));
        }
        let whole = self.cleaner(usize::MAX);
        let multiple = pipeline.cleaner.multiple;
        let exact = |tile, halo| {
            let plan = CleanerPlan::Exact { tile, halo };
            (plan, self.cleaner(tile + 2 * halo))
        };
        match (tiling.cleaner_exact, pipeline.halo()) {
            (Some(tile), Some(halo)) => exact(tile.next_multiple_of(multiple), halo),
            _ if whole > available
                && let Some(plan) = pipeline.strips() =>
            {
                let (strips, work) = in_strips(plan, self.sizes.network, None, available);
                (CleanerPlan::Bands(strips), work)
            }
            (_, Some(halo)) if whole > available => {
                let fits = |tile: usize| self.cleaner(tile + 2 * halo) <= available;
                let edge = self.sizes.network.0.max(self.sizes.network.1);
                let most = last_that(edge.div_ceil(multiple), |k| fits(k * multiple));
                exact(most.max(1) * multiple, halo)
            }
            (_, halo) => (CleanerPlan::Whole { halo }, whole),
        }
    }

    /// Number of denoiser tiles per call, if `spare` bytes are left next to one tile.
    fn choose_tile_batch(&self, spare: u64) -> usize {
        let one = self.denoiser(1);
        let fits = |batch| self.denoiser(batch).saturating_sub(one) <= spare;
        let most = if self.tiles.is_some() { MOST_TILES } else { 1 };
        last_that(most, fits).max(1)
    }

    fn choose_vae(
        &self,
        graph: &Graph,
        input: (usize, usize),
        rows: Option<usize>,
        available: u64,
    ) -> (VaePlan, u64) {
        let whole = self.vae_whole(&graph.memory, input);
        match &graph.segments {
            Some(plan) if rows.is_some() || whole > available => {
                let (strips, work) = in_strips(plan, input, rows, available);
                (VaePlan::Bands(strips), work)
            }
            _ => (VaePlan::Whole, whole),
        }
    }
}

/// The largest `k` of `1..=most` with `holds(k)`, which must be monotonic; 0 if there is none.
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

fn in_strips(
    plan: &SegmentPlan,
    input: (usize, usize),
    rows: Option<usize>,
    available: u64,
) -> (Strips, u64) {
    let smallest = smallest_strip(plan, input);
    let canvases = 4 * plan.most_values(input) as u64;
    // On disk if the canvases would leave no room for strips of a useful height.
    let (place, held) = match canvases + 4 * smallest > available {
        true => (Place::Disk, 0),
        false => (Place::Memory, canvases),
    };
    let work = (available - held.min(available)).clamp(smallest, LARGEST_STRIP.max(smallest));
    let height = rows.map_or(BandHeight::Memory(work), BandHeight::Rows);
    (Strips { height, place }, held + work)
}

/// The strips for a graph that ran out of memory on the whole picture: with half of its estimated working memory.
pub(in crate::pipeline) fn after_failure(
    memory: &GraphMemory,
    plan: &SegmentPlan,
    input: (usize, usize),
) -> Strips {
    let available = memory.run_bytes(1, input.0 * input.1) / 2;
    in_strips(plan, input, None, available).0
}
