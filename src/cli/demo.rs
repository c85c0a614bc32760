//! `diffbir demo`: the pictures that ship with the repository, restored with the demo bundle, and a sheet of them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cancel::Cancel;
use crate::cli::args::Demo;
use crate::cli::inputs::{self, Job, STAGE1};
use crate::cli::report::Reporter;
use crate::cli::restore::Run;
use crate::cli::sheet;
use crate::cli::tally::Tally;
use crate::config::{DEFAULT_MAX_PIXELS, Existing, OutputFormat};
use crate::engine::Noise;
use crate::error::Result;
use crate::imageio::{self, DecodeOptions};
use crate::service::{Opened, bundles};

/// Runs the command.
pub fn run(args: &Demo, cancel: &Cancel, reporter: &Reporter) -> anyhow::Result<Tally> {
    let stages = args
        .save_stages
        .clone()
        .unwrap_or_else(|| args.output.join("stages"));
    let mut opened = Opened::open_or_demo(args.layers()?, reporter)?;
    let output = &mut opened.config.output;
    output.existing = Existing::Overwrite;
    output.save_stages = Some(stages.clone());
    output.format = OutputFormat::Png;
    output.name = None;
    let pictures = bundles::demo()?.join("pictures");
    let jobs = inputs::plan(&[pictures], false, &args.output, &opened.config)?.jobs;
    let service = opened.start(args.engine.bundle.verify, reporter)?;
    reporter.start(&service, jobs.len());
    if service.engine.bundle().manifest().weights.source == "random" {
        reporter.note(
            "note: this bundle has random weights: it shows that the pipeline runs, and its results are noise. Give --bundle to \
             restore with real weights",
        );
    }
    let run = Run {
        service: &service,
        reporter,
        noise: Noise::Seed,
        cancel,
        in_order: false,
        refused: Vec::new(),
        ledger: None,
        stdin: None,
    };
    let tally = run.all(&jobs)?;
    if tally.failed == 0 {
        let path = args.output.join("sheet.png");
        write_sheet(&jobs, &stages, &path)?;
        let message = format!(
            "before, stage 1 and after, side by side: {}",
            path.display()
        );
        reporter.note(&message);
    }
    Ok(tally)
}

fn write_sheet(jobs: &[Job], stages: &Path, path: &Path) -> Result<()> {
    let mut rows = Vec::with_capacity(jobs.len());
    for job in jobs {
        let stem = job.stem.to_string_lossy().into_owned();
        let stage1 = job.stage(stages, STAGE1, 0);
        let read = |path: &Path| {
            imageio::read(path, DecodeOptions::up_to(DEFAULT_MAX_PIXELS))
                .map(|picture| picture.pixels.into_u8())
                .map_err(|e| e.at(path.display()))
        };
        rows.push(sheet::Row {
            name: stem,
            pictures: vec![
                ("before".to_owned(), read(&job.input)?),
                ("stage 1".to_owned(), read(&stage1)?),
                ("after".to_owned(), read(&job.outputs[0])?),
            ],
        });
    }
    let sheet = sheet::compose(&rows);
    imageio::write_atomic(
        path,
        &imageio::encode_png(&sheet.into(), &BTreeMap::new())?,
        true,
    )
}
