//! `diffbir restore`: restores every input; a failed one is reported and the others continue.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use tempfile::NamedTempFile;

use crate::cancel::Cancel;
use crate::cli::args::Restore;
use crate::cli::inputs::{self, Job};
use crate::cli::report::Reporter;
use crate::cli::tally::Tally;
use crate::cli::{defect, frames, plan, standard};
use crate::config::Existing;
use crate::engine::Noise;
use crate::error::{Error, ErrorKind, Result, Shown};
use crate::imageio;
use crate::pipeline::{Canvas, Event, Intermediate};
use crate::service::ledger::{Begun, Ledger, Planned, Standing};
use crate::service::{self, Done, Opened, Service, Source, settings};

/// Runs the command.
pub fn run(args: &Restore, cancel: &Cancel, reporter: &Reporter) -> anyhow::Result<Tally> {
    let noise = noise(args)?;
    let mut opened = Opened::open_or_demo(args.layers()?, reporter)?;
    let output = &mut opened.config.output;
    if args.frames && output.existing != Existing::Overwrite {
        output.existing = Existing::Resume;
    }
    let named: Vec<PathBuf> = args.inputs.iter().chain(&args.input).cloned().collect();
    let existing = output.existing;
    let samples = opened.config.options.sampling.samples;
    standard::check(&named, &args.output, samples, args.frames)?;
    let found = inputs::plan(&named, args.recursive, &args.output, &opened.config)?;
    reporter.left_out(found.left_out);
    let (mut jobs, mut refused) = (found.jobs, found.refused);
    if !refused.is_empty() && (args.frames || jobs.is_empty()) {
        let (input, error) = refused.remove(0);
        let others = refused.iter();
        others.for_each(|(input, error)| reporter.failure(input, error));
        return Err(error.at(Shown(&input)).into());
    }
    if args.frames {
        frames::order(&mut jobs, &opened.config.input, reporter)?;
    }
    let max_pixels = opened.config.input.max_pixels;
    let is_read = jobs.iter().any(|job| standard::is(&job.input));
    let stdin = is_read.then(|| standard::input(max_pixels)).transpose()?;
    let service = opened.start(args.bundle.verify, reporter)?;
    reporter.start(&service, jobs.len() + refused.len());
    let mut run = Run {
        service: &service,
        reporter,
        noise,
        cancel,
        in_order: args.frames,
        refused,
        ledger: None,
        stdin,
    };
    if found.is_folder {
        run.open_ledger(&mut jobs, args, &args.output, existing)?;
    }
    if args.dry_run {
        let plan = |job: &Job| plan::print(&service, job, run.source(job), reporter);
        let tally = run.each(&jobs, 1, plan)?;
        reporter.end(&tally, &service.skipped);
        return Ok(tally);
    }
    run.all(&jobs)
}

/// The noise of every picture.
pub fn noise(args: &Restore) -> Result<Noise> {
    match &args.replay_noise {
        Some(path) => Noise::read(path),
        None => Ok(Noise::Seed),
    }
}

/// A run over several pictures.
pub struct Run<'a> {
    /// The engine.
    pub service: &'a Service,
    /// Receives progress and results.
    pub reporter: &'a Reporter,
    /// The noise of every picture.
    pub noise: Noise,
    /// Stops the run.
    pub cancel: &'a Cancel,
    /// Whether results must be finished in the order of the jobs.
    pub in_order: bool,
    /// Inputs that are not restored, with the reason.
    pub refused: Vec<(PathBuf, Error)>,
    /// The ledger, if the output is a folder.
    pub ledger: Option<Ledger>,
    /// What was on standard input, if it is an input.
    pub stdin: Option<NamedTempFile>,
}

impl Run<'_> {
    /// The file that the job reads.
    fn source<'a>(&'a self, job: &'a Job) -> &'a Path {
        let stdin = self.stdin.as_ref().filter(|_| standard::is(&job.input));
        stdin.map_or(&job.input, NamedTempFile::path)
    }

    /// Checks before any work that the output folders are writable.
    fn check_writable(&self, jobs: &[Job]) -> Result<()> {
        let stages = self.service.config.output.save_stages.as_deref();
        let stages = |job: &Job| stages.map(|stages| stages.join(&job.folder));
        let mut folders: BTreeSet<PathBuf> = jobs.iter().filter_map(stages).collect();
        let outputs = jobs.iter().flat_map(|job| &job.outputs);
        let outputs = outputs.filter(|output| !standard::is(output));
        let outputs = outputs.filter_map(|output| output.parent());
        folders.extend(outputs.map(Path::to_owned));
        let mut folders = folders.iter();
        folders.try_for_each(|folder| imageio::check_writable(folder))
    }

    /// Opens the ledger of `folder`, and decides which results are kept.
    pub fn open_ledger(
        &mut self,
        jobs: &mut [Job],
        args: &Restore,
        folder: &Path,
        existing: Existing,
    ) -> Result<()> {
        let config = &self.service.config;
        let bundle = self.service.engine.bundle().hash();
        let settings = settings::of(config, bundle, args.replay_noise.as_deref())?;
        let planned = jobs
            .iter()
            .map(|job| job.planned(folder, config.input.captions));
        let planned: Vec<Planned> = planned.collect();
        let standings = if args.dry_run {
            Ledger::preview(folder, &settings, &planned, existing)?
        } else {
            let ledger = Ledger::open(folder, &settings, &planned, existing)?;
            self.ledger.insert(ledger).standings().clone()
        };
        let is_finished = |result| standings.get(result) == Some(&Standing::Finished);
        for (job, planned) in jobs.iter_mut().zip(&planned) {
            job.skip = planned.results.iter().all(is_finished);
        }
        Ok(())
    }

    /// Restores every picture of `jobs`.
    ///
    /// # Errors
    /// Errors that end the whole run: cancellation, a failing bundle or runtime, a missing output folder. The failure
    /// of a single picture is only counted.
    pub fn all(&self, jobs: &[Job]) -> anyhow::Result<Tally> {
        let tally = self.frames(jobs, |job| Ok(Source::File(self.source(job).to_owned())))?;
        self.reporter.end(&tally, &self.service.skipped);
        Ok(tally)
    }

    /// As [`all`](Self::all), with the pictures that `source` returns, and without the report of the end.
    ///
    /// # Errors
    /// As [`all`](Self::all).
    pub fn frames(
        &self,
        jobs: &[Job],
        source: impl Fn(&Job) -> Result<Source> + Sync,
    ) -> anyhow::Result<Tally> {
        self.check_writable(jobs)?;
        let to_make = jobs.iter().filter(|job| !job.skip).count();
        let refused = self.refused.len();
        self.reporter.batch(jobs.len() + refused, to_make + refused);
        self.each(jobs, self.workers(), |job| self.one(job, &source))
    }

    /// Number of pictures in progress: one per set of networks, and one that is read or written concurrently, unless a
    /// memory budget is set or the order matters.
    fn workers(&self) -> usize {
        let is_counted = self.service.config.options.tiling.memory_budget.is_some();
        self.service.engine.width() + usize::from(!is_counted && !self.in_order)
    }

    /// Runs `work` for each of `jobs` whose result is missing, and counts the outcomes.
    fn each(
        &self,
        jobs: &[Job],
        workers: usize,
        work: impl Fn(&Job) -> Result<()> + Sync,
    ) -> anyhow::Result<Tally> {
        for (input, error) in &self.refused {
            self.reporter.failure(input, error);
        }
        let tally = Mutex::new(Tally {
            failed: self.refused.len(),
            ..Tally::default()
        });
        service::queue::each(jobs, workers, |job| self.counted(job, &tally, &work))?;
        self.ledger.as_ref().map_or(Ok(()), Ledger::close)?;
        Ok(tally.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn counted(
        &self,
        job: &Job,
        tally: &Mutex<Tally>,
        work: &impl Fn(&Job) -> Result<()>,
    ) -> anyhow::Result<()> {
        let count = |add: &dyn Fn(&mut Tally)| {
            add(&mut tally.lock().unwrap_or_else(PoisonError::into_inner));
        };
        if job.skip {
            count(&|tally| tally.skipped += 1);
            self.reporter.skipped(job);
            return Ok(());
        }
        self.ledger.as_ref().map_or(Ok(()), Ledger::check)?;
        match defect::caught(|| work(job)) {
            Ok(()) => count(&|tally| tally.done += 1),
            Err(error) if is_of_one_picture(&error) => {
                count(&|tally| {
                    tally.failed += 1;
                    tally.too_large += usize::from(error.kind() == ErrorKind::Resources);
                    tally.defects += usize::from(error.kind() == ErrorKind::Internal);
                });
                self.reporter.failure(&job.input, &reason(job, error));
            }
            Err(error) => return Err(error).with_context(|| Shown(&job.input).to_string()),
        }
        Ok(())
    }

    fn one(&self, job: &Job, source: impl Fn(&Job) -> Result<Source>) -> Result<()> {
        let start = Instant::now();
        let captions = self.service.config.input.captions;
        let begin = |ledger: &Ledger| ledger.begin(job.planned(ledger.folder(), captions));
        let begun = self.ledger.as_ref().map(begin);
        let hashed = start.elapsed().as_secs_f64();
        let source = source(job)?;
        let request = service::Job {
            source: &source,
            config: &self.service.config,
            format: Some(job.format),
            noise: self.noise.clone(),
            cancel: self.cancel.clone(),
        };
        let mut observe = |event: Event<'_>| {
            self.reporter.progress(&job.input, &event);
            match event {
                Event::Picture(what, samples, picture) => {
                    self.save_stage(job, what, samples.first, picture)
                }
                _ => Ok(()),
            }
        };
        let mut done = self.service.run(request, self.reporter, &mut observe)?;
        let (writing, begun) = (Instant::now(), begun.transpose()?);
        for k in 0..done.restored.samples.len() {
            self.write(job, k, &done, begun.as_ref())?;
        }
        let seconds = &mut done.seconds;
        *seconds.entry("read".to_owned()).or_default() += hashed;
        seconds.insert("write".to_owned(), writing.elapsed().as_secs_f64());
        let total = start.elapsed().as_secs_f64();
        // Planning, and waiting for networks in use by another picture.
        let other = total - seconds.values().sum::<f64>();
        seconds.insert("other".to_owned(), other.max(0.0));
        seconds.insert("total".to_owned(), total);
        self.reporter.done(job, &done)
    }

    fn write(&self, job: &Job, k: usize, done: &Done, begun: Option<&Begun>) -> Result<()> {
        let output = &self.service.config.output;
        let Some(path) = job.outputs.get(k) else {
            return Err(Error::internal("a sample that was not planned"));
        };
        let pixels = &done.restored.samples[k];
        let encoding = output.encoding(job.format);
        let text = done.text(k, output)?;
        if standard::is(path) {
            let path = std::env::temp_dir().join(path);
            let file = imageio::prepare(&path, pixels, &done.kept, encoding, &text)?;
            return standard::output(file.temporary());
        }
        if output.existing == Existing::Skip && path.exists() {
            return Ok(());
        }
        let file = imageio::prepare(path, pixels, &done.kept, encoding, &text)?;
        match self.ledger.as_ref().zip(begun) {
            Some((ledger, begun)) => ledger.finish(begun, k, file),
            None => file.place(output.existing == Existing::Overwrite),
        }
    }

    /// Writes an intermediate picture to the folder of `output.save_stages`, if set.
    fn save_stage(
        &self,
        job: &Job,
        what: Intermediate,
        sample: usize,
        picture: &Canvas,
    ) -> Result<()> {
        let Some(folder) = &self.service.config.output.save_stages else {
            return Ok(());
        };
        let name = match what {
            Intermediate::Decoded => inputs::DECODED,
            Intermediate::ColorFixed => inputs::COLOR_FIXED,
            _ => inputs::STAGE1,
        };
        let path = job.stage(folder, name, sample);
        let replace = self.service.config.output.existing == Existing::Overwrite;
        // A leftover of an interrupted run.
        if !replace && path.exists() {
            return Ok(());
        }
        let rgb = what.to_rgb(picture)?;
        imageio::write_atomic(
            &path,
            &imageio::encode_png(&rgb.into(), &BTreeMap::new())?,
            replace,
        )
    }
}

/// `error`, or why the input is no file at all.
fn reason(job: &Job, error: Error) -> Error {
    match inputs::address(&job.input) {
        Some(why) => Error::input(why),
        None => error,
    }
}

/// Whether the error concerns this picture only, so that others may succeed.
fn is_of_one_picture(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Input
            | ErrorKind::Option
            | ErrorKind::Resources
            | ErrorKind::NotFinite
            | ErrorKind::Internal
    )
}
