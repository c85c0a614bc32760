//! `--dry-run`: how each input would be worked on.

use serde_json::json;

use crate::canvas::Place;
use crate::cli::inputs::Job;
use crate::cli::report::Reporter;
use crate::error::{OneLine, Result};
use crate::imageio;
use crate::memory::Bytes;
use crate::nets::segments::BandHeight;
use crate::nets::vae::DOWNSCALE;
use crate::pipeline::{CleanerPlan, Plan, Stage, VaePlan};
use crate::tiling::Layout;

use crate::service::{Service, Source};

/// Prints the plan of one input.
pub fn print(service: &Service, job: &Job, reporter: &Reporter) -> Result<()> {
    let header = imageio::header(&job.input, service.config.input.decoding())?;
    let options = Source::File(job.input.clone()).options(&service.config)?;
    let plan = service
        .engine
        .plan((header.height, header.width), &options)?;
    let record = json!({ "event": "plan", "input": job.input, "plan": plan });
    reporter.picture(
        &record,
        &format!("{}: {}", OneLine(job.input.display()), text(&plan)),
    );
    Ok(())
}

/// A plan in words.
pub fn text(plan: &Plan) -> String {
    let (height, width) = plan.output;
    let mut lines = vec![format!(
        "{width}x{height}, at most {} of {}, pictures {}",
        plan.peak(),
        plan.budget,
        match plan.pictures {
            Place::Memory => "in memory",
            Place::Disk => "on disk",
        }
    )];
    let how = |stage| match stage {
        Stage::Cleaner => cleaner(plan.cleaner),
        Stage::VaeEncoder => vae(plan.encoder, 1),
        Stage::Sampling => denoiser(plan),
        Stage::VaeDecoder => vae(plan.decoder, DOWNSCALE),
        Stage::Finish | Stage::TextEncoder => "by rows".to_owned(),
    };
    let stages = plan.stages.iter();
    lines.extend(stages.map(|(stage, bytes)| {
        let name = stage.name();
        format!("  {name:11} {:>9}  {}", bytes.to_string(), how(*stage))
    }));
    lines.join("\n")
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
    let VaePlan::Bands { height, place } = plan else {
        return "whole".to_owned();
    };
    let height = match height {
        BandHeight::Memory(bytes) => format!("in exact bands of {}", Bytes(bytes)),
        BandHeight::Rows(rows) => format!("in exact bands of {} pixels", rows * pixels),
    };
    match place {
        Place::Memory => height,
        Place::Disk => format!("{height}, activations on disk"),
    }
}
