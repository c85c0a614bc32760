//! A plan as text.

use std::fmt;

use super::super::Stage;
use super::{CleanerPlan, Plan, Strips, VaePlan};
use crate::canvas::Place;
use crate::memory::Bytes;
use crate::nets::segments::BandHeight;
use crate::nets::vae::DOWNSCALE;
use crate::tiling::Layout;

impl fmt::Display for Plan {
    /// One line for the picture and one for each stage.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (height, width) = self.output;
        let pictures = match self.pictures {
            Place::Memory => "in memory",
            Place::Disk => "on disk",
        };
        let (peak, budget) = (self.peak(), self.budget);
        write!(
            f,
            "{width}x{height}, at most {peak} of {budget}, pictures {pictures}"
        )?;
        for (stage, bytes) in &self.stages {
            let how = match stage {
                Stage::Cleaner => cleaner(self.cleaner),
                Stage::VaeEncoder => vae(self.encoder, 1),
                Stage::Sampling => denoiser(self),
                Stage::VaeDecoder => vae(self.decoder, DOWNSCALE),
                Stage::Finish | Stage::TextEncoder => "by rows".to_owned(),
            };
            let (name, bytes) = (stage.name(), bytes.to_string());
            write!(f, "\n  {name:11} {bytes:>9}  {how}")?;
        }
        Ok(())
    }
}

fn cleaner(plan: CleanerPlan) -> String {
    match plan {
        CleanerPlan::Whole { .. } => "whole".to_owned(),
        CleanerPlan::Tiles(tiles) => {
            format!(
                "in the reference's tiles of {} pixels, {} apart",
                tiles.size, tiles.stride
            )
        }
        CleanerPlan::Exact { tile, halo } => {
            format!("in exact tiles of {tile} pixels and {halo} around")
        }
        CleanerPlan::Bands(strips) => bands(strips, 1),
    }
}

fn denoiser(plan: &Plan) -> String {
    let pixels = |cells: usize| cells * DOWNSCALE;
    let at_once = plan.tile_batch;
    match plan.denoiser {
        None => "whole".to_owned(),
        Some(Layout::Reference(tiles)) => format!(
            "in the reference's tiles of {} pixels, {} apart, {at_once} at once",
            pixels(tiles.size),
            pixels(tiles.stride)
        ),
        Some(Layout::Even(tiles)) => format!(
            "in tiles of {} pixels that share {} or more, {at_once} at once",
            pixels(tiles.size),
            pixels(tiles.overlap)
        ),
    }
}

fn vae(plan: VaePlan, pixels: usize) -> String {
    match plan {
        VaePlan::Whole => "whole".to_owned(),
        VaePlan::Bands(strips) => bands(strips, pixels),
    }
}

fn bands(Strips { height, place }: Strips, pixels: usize) -> String {
    let height = match height {
        BandHeight::Memory(bytes) => format!("in exact bands of {}", Bytes(bytes)),
        BandHeight::Rows(rows) => format!("in exact bands of {} pixels", rows * pixels),
    };
    match place {
        Place::Memory => height,
        Place::Disk => format!("{height}, activations on disk"),
    }
}
