//! `diffbir restore`: every input in turn; a bad one is reported and the rest goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ndarray::Axis;
use serde_json::json;

use crate::cancel::Cancel;
use crate::canvas::Canvas;
use crate::cli::args::{Common, Restore};
use crate::cli::frames::{self, Sequence};
use crate::cli::inputs::{self, Job, Results};
use crate::cli::report::Reporter;
use crate::cli::setup::{self, Setup};
use crate::cli::{plan, replay, workers};
use crate::config::{Config, Existing};
use crate::engine::{Engine, Noise, Provenance, Request};
use crate::error::{Error, ErrorKind, Result};
use crate::imageio::{self, DecodeOptions, EncodeOptions, Kept, Picture, Pixels, Place};
use crate::options::Options;
use crate::pipeline::{Event, Intermediate};
use crate::runtime::PassedOver;
use crate::{prompts, resize, tensor};

/// How a run over several pictures ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Restored and written.
    pub done: usize,
    /// Left out because the result exists.
    pub skipped: usize,
    /// Failed, each reported.
    pub failed: usize,
    /// Those of them that did not fit the memory or the disk.
    pub too_large: usize,
}

/// Runs the command.
pub fn run(args: &Restore, cancel: &Cancel, reporter: &Reporter) -> Result<Tally> {
    let common = frames::flags(args)?;
    let config = setup::without_bundle(&common)?;
    let noise = args.replay_noise.as_deref().map(replay::read).transpose()?;
    let named: Vec<String> = args.inputs.iter().chain(&args.input).cloned().collect();
    let mut jobs = inputs::plan(
        &named,
        &args.output,
        args.recursive,
        Results {
            samples: config.sampling.samples,
            format: config.output.format,
            existing: config.output.existing,
        },
    )?;
    let sequence = match args.frames {
        true => Some(Sequence::of(&mut jobs, &config.input, reporter)?),
        false => None,
    };
    let session = Session::open(&common, None, jobs.len(), reporter)?;
    if let Some(sequence) = sequence {
        sequence.settle(&jobs, &session, args, reporter)?;
    }
    if args.dry_run {
        return session.each(&jobs, 1, reporter, |job| {
            plan::print(&session, job, reporter)
        });
    }
    session.run(
        (&jobs, args.frames),
        noise.map_or(Noise::Seed, Noise::Replay),
        cancel,
        reporter,
    )
}

/// An engine that is ready, with its configuration.
pub struct Session {
    config: Config,
    engine: Engine,
    /// Optional providers that do not load here.
    passed_over: Vec<PassedOver>,
    /// Prompts that were said to be too long.
    warned: Mutex<BTreeSet<String>>,
}

impl Session {
    /// Reads configuration and bundle, verifies the bundle and loads the runtime. `fallback` is the bundle where none
    /// is named.
    pub fn open(
        common: &Common,
        fallback: Option<&Path>,
        inputs: usize,
        reporter: &Reporter,
    ) -> Result<Self> {
        let Setup { config, bundle } = setup::prepare(common, fallback.map(Path::to_owned))?;
        let options = setup::runtime_options(&config)?;
        let engine = Engine::open(bundle, options.clone());
        // What the options ask of the bundle is checked before its files are hashed.
        engine.check(&config.options())?;
        let bundle = engine.bundle();
        let mut say = |message: String| reporter.note(&message);
        setup::verify(bundle, common.verify, &mut say)?;
        let loaded = setup::ensure_runtime(&config, &mut say)?;
        let passed_over = setup::try_providers(bundle, &options, &mut say)?;
        if let Some([width, height]) = config.runtime.warm_up {
            reporter.note(&format!("warming up on {width}x{height} pixels"));
            engine.warm_up((height, width), &config.options())?;
        }
        reporter.start(json!({
            "version": env!("CARGO_PKG_VERSION"), "bundle": bundle.dir(), "bundle_sha256": bundle.hash(),
            "family": bundle.manifest().family, "inputs": inputs,
            "runtime": { "library": loaded.candidate.path, "version": loaded.version },
        }));
        Ok(Session {
            config,
            engine,
            passed_over,
            warned: Mutex::default(),
        })
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The effective configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How pictures are read.
    pub fn decoding(&self) -> DecodeOptions {
        self.config.input.decoding()
    }

    /// How many pictures are in work at once: one on each set of networks, and one that is read or written meanwhile,
    /// unless memory is counted or the pictures are to be ready `in_order`.
    fn workers(&self, in_order: bool) -> usize {
        let is_counted = self.config.tiling.memory_budget.is_some();
        self.engine.width() + usize::from(!is_counted && !in_order)
    }

    /// Works through jobs, one after the other where they are to be ready in their order.
    ///
    /// # Errors
    /// What ends the whole run: a request to stop, a bundle or runtime that fails. A picture's own failure is counted.
    pub fn run(
        &self,
        (jobs, in_order): (&[Job], bool),
        noise: Noise,
        cancel: &Cancel,
        reporter: &Reporter,
    ) -> Result<Tally> {
        check_writable(jobs)?;
        self.each(jobs, self.workers(in_order), reporter, |job| {
            self.one(job, noise.clone(), cancel, reporter)
        })
    }

    /// Does `work` for each of `jobs` whose result is not there yet, and counts.
    fn each(
        &self,
        jobs: &[Job],
        workers: usize,
        reporter: &Reporter,
        work: impl Fn(&Job) -> Result<()> + Sync,
    ) -> Result<Tally> {
        let tally = Mutex::new(Tally::default());
        let count = |add: &dyn Fn(&mut Tally)| {
            add(&mut tally.lock().unwrap_or_else(PoisonError::into_inner));
        };
        workers::each(jobs, workers, |job| {
            if job.skip {
                count(&|tally| tally.skipped += 1);
                let record = json!({
                    "event": "picture", "status": "skipped", "input": job.input, "outputs": files(job)
                });
                reporter.picture(
                    &record,
                    &format!("{} exists, left out", job.file(0).display()),
                );
                return Ok(());
            }
            match work(job) {
                Ok(()) => count(&|tally| tally.done += 1),
                Err(error) if is_of_one_picture(&error) => {
                    count(&|tally| {
                        tally.failed += 1;
                        tally.too_large += usize::from(error.kind() == ErrorKind::Resources);
                    });
                    reporter.failure(&job.input, &error);
                }
                Err(error) => return Err(error.at(job.input.display())),
            }
            Ok(())
        })?;
        let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        reporter.end((tally.done, tally.skipped, tally.failed), &self.passed_over);
        Ok(tally)
    }

    fn one(&self, job: &Job, noise: Noise, cancel: &Cancel, reporter: &Reporter) -> Result<()> {
        let start = Instant::now();
        let Picture {
            rgb,
            deep,
            kept,
            mut dropped,
        } = imageio::read(&job.input, self.decoding())?;
        dropped.extend(kept.lost_in(job.format));
        let mut request = Request::new(rgb, self.options(job, reporter)?);
        request.deep = deep;
        request.deep_results = self.encoding(job).is_deep(&kept);
        request.noise = noise;
        request.cancel = cancel.clone();
        let mut seconds = BTreeMap::new();
        let mut observe = |event: Event<'_>| {
            reporter.progress(&job.input, &event);
            match event {
                // Where all fits there is nothing to tell.
                Event::Planned(plan) if !plan.is_whole() => {
                    reporter.note(&format!("{}: {}", job.input.display(), plan::text(plan)));
                }
                Event::Loaded(stage, time) => {
                    *seconds
                        .entry(format!("load.{}", stage.name()))
                        .or_insert(0.0) += time;
                }
                Event::Finished(stage, time) => {
                    *seconds.entry(stage.name().to_owned()).or_insert(0.0) += time;
                }
                Event::Picture(what, samples, picture) => {
                    self.save_stage(job, what, samples.first, picture)?
                }
                Event::Planned(_)
                | Event::Tensor(..)
                | Event::Started(_)
                | Event::Step(..)
                | Event::Tile(..) => {}
            }
            Ok(())
        };
        let restored = self.engine.restore(&request, &mut observe)?;
        let provenance = serde_json::to_value(&restored.provenance)
            .map_err(|e| Error::internal("the provenance cannot be written").with_source(e))?;
        for (k, rgb) in restored.samples.iter().enumerate() {
            let pixels = restored.deep.get(k).map_or(Pixels::U8(rgb), Pixels::U16);
            self.write(job, k, pixels, &kept, &restored.provenance)?;
        }
        seconds.insert("total".to_owned(), start.elapsed().as_secs_f64());
        let (height, width, _) = restored.samples.first().map_or((0, 0, 0), |rgb| rgb.dim());
        let record = json!({
            "event": "picture", "status": "done", "input": job.input, "outputs": files(job), "width": width,
            "height": height, "dropped": dropped, "seconds": seconds, "plan": restored.plan, "provenance": provenance,
        });
        reporter.picture(&record, &summary(job, (width, height), start, &dropped));
        Ok(())
    }

    /// The options of one picture: its caption stands before the prompt.
    pub fn options(&self, job: &Job, reporter: &Reporter) -> Result<Options> {
        let mut options = self.config.options();
        if self.config.input.captions {
            prompts::put_caption(&job.input, &mut options.sampling.prompt)?;
        }
        for prompt in self.engine.check(&options)?.prompts() {
            let left_out = prompt.truncated();
            let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
            if left_out > 0 && warned.insert(prompt.text().to_owned()) {
                reporter.note(&format!(
                    "the prompt {:?} is too long for the text encoder: its last {left_out} tokens are left out",
                    prompt.text()
                ));
            }
        }
        Ok(options)
    }

    fn write(
        &self,
        job: &Job,
        k: usize,
        pixels: Pixels<'_>,
        kept: &Kept,
        provenance: &Provenance,
    ) -> Result<()> {
        let text = match self.config.output.metadata {
            true => provenance.text(k)?,
            false => BTreeMap::new(),
        };
        // Of several samples that are to be left out, one alone may be there; then all are made again.
        let replace = self.config.output.existing != Existing::Refuse;
        let path = &job.file(k);
        imageio::write(
            Place { path, replace },
            pixels,
            kept,
            self.encoding(job),
            &text,
        )
    }

    /// How a result is written.
    fn encoding(&self, job: &Job) -> EncodeOptions {
        let output = &self.config.output;
        EncodeOptions {
            format: job.format,
            quality: output.quality,
            depth: output.depth,
            keep_grey: output.keep_grey,
        }
    }

    /// Writes an intermediate picture to the folder of `output.save_stages`, where there is one.
    fn save_stage(
        &self,
        job: &Job,
        what: Intermediate,
        sample: usize,
        picture: &Canvas,
    ) -> Result<()> {
        let Some(folder) = &self.config.output.save_stages else {
            return Ok(());
        };
        let array = picture.to_array()?;
        let (name, picture) = match what {
            Intermediate::Decoded => (
                "decoded",
                resize::quantise(&array.mapv_into(|x| (x + 1.0) / 2.0)),
            ),
            Intermediate::ColorFixed => ("color_fixed", resize::quantise(&array)),
            _ => ("stage1", resize::quantise(&array)),
        };
        let file = match what {
            Intermediate::Stage1 => job.output.clone(),
            _ => job.file(sample),
        };
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let path = folder.join(format!("{stem}_{name}.png"));
        let rgb = tensor::to_hwc(picture).index_axis_move(Axis(0), 0);
        imageio::write_atomic(&path, &imageio::encode_png(&rgb, &BTreeMap::new())?, true)
    }
}

fn files(job: &Job) -> Vec<PathBuf> {
    job.files().collect()
}

/// Whether another picture may do better.
fn is_of_one_picture(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Input | ErrorKind::Option | ErrorKind::Resources
    )
}

/// Finds out before the long work that its results could not be written.
fn check_writable(jobs: &[Job]) -> Result<()> {
    let folders: BTreeSet<&Path> = jobs.iter().filter_map(|job| job.output.parent()).collect();
    folders.into_iter().try_for_each(imageio::check_writable)
}

fn summary(job: &Job, (width, height): (usize, usize), start: Instant, dropped: &[&str]) -> String {
    let mut line = format!(
        "{} -> {} ({width}x{height}, {:.1} s)",
        job.input.display(),
        match job.samples {
            1 => job.file(0).display().to_string(),
            n => format!("{} … {}", job.file(0).display(), job.file(n - 1).display()),
        },
        start.elapsed().as_secs_f64()
    );
    if !dropped.is_empty() {
        line.push_str(&format!("; not carried over: {}", dropped.join(", ")));
    }
    line
}
