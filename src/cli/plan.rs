//! `--dry-run`: prints the plan of each input.

use std::path::Path;

use serde_json::json;

use crate::cli::inputs::Job;
use crate::cli::report::Reporter;
use crate::error::{Result, Shown};
use crate::files::to_text;
use crate::imageio;

use crate::options::Options;
use crate::service::video::Clip;
use crate::service::{Service, Source};

/// Prints the plan of one input, read from `file`.
pub fn print(service: &Service, job: &Job, file: &Path, reporter: &Reporter) -> Result<()> {
    let header = imageio::header(file, service.config.input.decoding())?;
    let source = Source::File(file.to_owned());
    let options = service.options(&source, &service.config, reporter)?;
    let plan = service
        .engine
        .plan((header.height, header.width), &options)?;
    let record = json!({ "event": "plan", "input": to_text(&job.input), "plan": plan });
    reporter.result(&record, &format!("{}: {plan}", Shown(&job.input)))
}

/// Prints the plan of each frame of a clip, which is the same for all.
pub fn of_frames(
    service: &Service,
    clip: &Clip,
    options: &Options,
    reporter: &Reporter,
) -> Result<()> {
    let plan = service.engine.plan(clip.size, options)?;
    let record = json!({ "event": "plan", "input": to_text(&clip.path), "plan": plan });
    let (name, frames) = (Shown(&clip.path), clip.frames());
    reporter.result(&record, &format!("{name}, each of {frames} frames: {plan}"))
}
