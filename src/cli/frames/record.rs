//! The file in the results' folder that says how they are made: `.diffbir-frame_#.png.json` for `frame_0001.png`,
//! `frame_0002.png` …
//!
//! It is written before the first result, and never while there is a result that was made in another way. So what lies
//! beside it is finished and good, whatever its kind of file can carry.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::names::Naming;
use super::settings;
use crate::cli::inputs::Job;
use crate::cli::report::Reporter;
use crate::error::{Error, Result};
use crate::imageio;

/// A sequence's file.
pub struct Record<'a> {
    naming: &'a Naming,
    folder: &'a Path,
    /// Of the results.
    ending: String,
    path: PathBuf,
}

/// How a run begins.
pub struct Start<'a> {
    /// What decides its results.
    pub settings: Value,
    /// Its frames.
    pub jobs: &'a [Job],
    /// Whether results that exist may be replaced.
    pub overwrite: bool,
    /// Whether nothing may be changed.
    pub dry: bool,
    /// Told what is removed.
    pub reporter: &'a Reporter,
}

impl<'a> Record<'a> {
    /// That of the sequence which `job` is of.
    pub fn of(job: &'a Job, naming: &'a Naming) -> Self {
        let folder = job.output.parent().unwrap_or(Path::new(""));
        let ending = job.output.extension().unwrap_or_default();
        let ending = ending.to_string_lossy().into_owned();
        Record {
            naming,
            folder,
            path: folder.join(format!(".diffbir-{}.json", naming.with_ending(&ending))),
            ending,
        }
    }

    /// Holds the results that are there against what `start` would make, and writes its settings down.
    pub fn begin(&self, start: &Start<'_>) -> Result<()> {
        let then = self.read()?;
        if then.as_ref() == Some(&start.settings) {
            return Ok(());
        }
        let results = self.results(start.jobs)?;
        if let (Some(result), false) = (results.first(), start.overwrite) {
            return Err(refusal(result, then.as_ref(), &start.settings));
        }
        if start.dry {
            return Ok(());
        }
        self.remove(&results, start)?;
        let text = format!("{:#}\n", start.settings);
        imageio::write_atomic(&self.path, text.as_bytes(), true)
    }

    /// What it says; nothing where there is none, or it is damaged.
    fn read(&self) -> Result<Option<Value>> {
        match std::fs::read(&self.path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(unreadable(&self.path)(e)),
        }
    }

    /// The sequence's results that are there, those of frames outside this run among them.
    fn results(&self, jobs: &[Job]) -> Result<Vec<PathBuf>> {
        let samples = jobs.first().map_or(1, |job| job.samples);
        let folder = if self.folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            self.folder
        };
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut results = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
            let name = entry.map_err(unreadable(folder))?.file_name();
            let ours = |name: &str| self.naming.is_result(name, &self.ending, samples);
            if name.to_str().is_some_and(ours) {
                results.push(self.folder.join(name));
            }
        }
        results.sort();
        Ok(results)
    }

    /// Removes `results`, which are to be made in another way. Left where they are, they would pass for finished ones
    /// once this run is stopped.
    fn remove(&self, results: &[PathBuf], start: &Start<'_>) -> Result<()> {
        let planned: std::collections::BTreeSet<PathBuf> =
            start.jobs.iter().flat_map(Job::files).collect();
        if let Some(other) = results.iter().find(|result| !planned.contains(*result)) {
            return Err(Error::option(format!(
                "{} is of the same sequence, was made in another way, and its frame is not among the inputs: give all \
                 frames, or choose another folder",
                other.display()
            )));
        }
        for result in results {
            let failed =
                |e| Error::input(format!("cannot remove {}", result.display())).with_source(e);
            std::fs::remove_file(result).map_err(failed)?;
        }
        if !results.is_empty() {
            let message = format!("{} results made in another way are removed", results.len());
            start.reporter.note(&message);
        }
        Ok(())
    }
}

fn unreadable(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |e| Error::input(format!("cannot read {}", path.display())).with_source(e)
}

fn refusal(result: &Path, then: Option<&Value>, now: &Value) -> Error {
    let why = match then.and_then(|then| settings::difference(then, now)) {
        Some(difference) => format!("was made with other settings: {difference}"),
        None => "exists, and nothing beside it says how it was made".to_owned(),
    };
    Error::option(format!(
        "{} {why}. Choose --overwrite to make all frames anew, or another folder",
        result.display()
    ))
}
