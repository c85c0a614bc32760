//! `diffbir demo`: the pictures that ship with the repository, restored with the demo bundle, and a sheet of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::bundle::MANIFEST;
use crate::cancel::Cancel;
use crate::cli::args::Demo;
use crate::cli::inputs::{self, Job, Results};
use crate::cli::report::Reporter;
use crate::cli::restore::{Session, Tally};
use crate::cli::sheet;
use crate::config::{DEFAULT_MAX_PIXELS, Existing, OutputFormat};
use crate::engine::Noise;
use crate::error::{Error, Result};
use crate::imageio::{self, DecodeOptions};

/// The demo bundle, relative to the repository.
const BUNDLE: &str = "onnx/demo";

/// Runs the command.
pub fn run(args: &Demo, cancel: &Cancel, reporter: &Reporter) -> Result<Tally> {
    let folder = find_demo()?;
    let stages = args.output.join("stages");
    let mut common = args.common.clone();
    common.overwrite = true;
    common.save_stages.get_or_insert_with(|| stages.clone());
    let stages = common.save_stages.clone().unwrap_or(stages);
    let pictures = folder.join("pictures").to_string_lossy().into_owned();
    let results = Results {
        samples: 1,
        format: OutputFormat::Png,
        existing: Existing::Overwrite,
    };
    let jobs = inputs::plan(&[pictures], &args.output, false, results)?;
    let session = Session::open(&common, Some(&folder), jobs.len(), reporter)?;
    if session.engine().bundle().manifest().weights.source == "random" {
        reporter.note(
            "note: this bundle has random weights: it shows that the pipeline runs, and what comes out is noise. Give --bundle \
             to restore with real weights",
        );
    }
    let tally = session.run((&jobs, false), Noise::Seed, cancel, reporter)?;
    if tally.failed == 0 {
        let path = args.output.join("sheet.png");
        write_sheet(&jobs, &stages, &path)?;
        reporter.note(&format!(
            "before, stage 1 and after, side by side: {}",
            path.display()
        ));
    }
    Ok(tally)
}

/// `onnx/demo` in the working folder or in one above the executable.
fn find_demo() -> Result<PathBuf> {
    let executable = std::env::current_exe().unwrap_or_default();
    let above = executable.ancestors().skip(1).take(4).map(Path::to_owned);
    let places: Vec<PathBuf> = [PathBuf::from(".")]
        .into_iter()
        .chain(above)
        .map(|dir| dir.join(BUNDLE))
        .collect();
    places
        .iter()
        .find(|dir| dir.join(MANIFEST).is_file())
        .cloned()
        .ok_or_else(|| {
            let list: Vec<String> = places.iter().map(|dir| dir.display().to_string()).collect();
            Error::bundle(format!(
                "the demo bundle is not there; looked for {}",
                list.join(", ")
            ))
        })
}

fn write_sheet(jobs: &[Job], stages: &Path, path: &Path) -> Result<()> {
    let mut rows = Vec::with_capacity(jobs.len());
    for job in jobs {
        let stem = job
            .output
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let stage1 = stages.join(format!("{stem}_stage1.png"));
        let read = |path: &Path| {
            imageio::read(path, DecodeOptions::up_to(DEFAULT_MAX_PIXELS))
                .map_err(|e| e.at(path.display()))
        };
        rows.push(sheet::Row {
            name: stem,
            pictures: vec![
                ("before".to_owned(), read(&job.input)?.rgb),
                ("stage 1".to_owned(), read(&stage1)?.rgb),
                ("after".to_owned(), read(&job.output)?.rgb),
            ],
        });
    }
    let sheet = sheet::compose(&rows);
    imageio::write_atomic(path, &imageio::encode_png(&sheet, &BTreeMap::new())?, true)
}
