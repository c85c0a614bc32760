//! One job: read a picture, restore it, and keep what is needed to write the results.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::startup::Service;
use super::{Host, Level, pictures};
use crate::cancel::Cancel;
use crate::config::{Config, Grey, OutputOptions};
use crate::engine::{Noise, Request, Restored};
use crate::error::{Result, Shown};
use crate::imageio::{EncodeOptions, Format, Kept, Picture, Pixels};
use crate::options::Options;
use crate::pipeline::{Event, Observer};
use crate::prompts;
use crate::schedule::Fidelity;

/// A low-quality picture.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file, with an optional caption file `NAME.txt`.
    File(PathBuf),
    /// A frame of the video at this path, with an optional caption file `NAME.txt`.
    Frame(PathBuf, Arc<Picture>),
    /// The bytes of a file.
    Bytes(Arc<[u8]>),
    /// Pixels.
    Picture(Arc<Picture>),
}

impl Source {
    fn read(&self, config: &Config, cancel: &Cancel) -> Result<Picture> {
        match self {
            Source::File(path) => pictures::read(path, &config.input, cancel),
            Source::Bytes(bytes) => pictures::decode(bytes, &config.input, cancel),
            Source::Picture(picture) | Source::Frame(_, picture) => Ok(Picture::clone(picture)),
        }
    }
}

/// The caption of the picture at `path` (its sidecar `NAME.txt`) on one line, empty without one that can be read.
pub fn caption(path: &Path) -> String {
    let mut caption = String::new();
    match prompts::put_caption(path, &mut caption) {
        Ok(()) => caption,
        Err(_) => String::new(),
    }
}

/// What to restore, and how.
pub struct Job<'a> {
    /// The picture.
    pub source: &'a Source,
    /// The configuration of this request.
    pub config: &'a Config,
    /// The file format of the results; `None` if not known yet.
    pub format: Option<Format>,
    /// The noise.
    pub noise: Noise,
    /// Stops the job.
    pub cancel: Cancel,
}

/// A finished job.
pub struct Done {
    /// The samples, the plan, and how they were made.
    pub restored: Restored,
    /// Properties of the input to restore in the results: alpha, profile, metadata.
    pub kept: Kept,
    /// Properties of the input that are lost.
    pub dropped: Vec<&'static str>,
    /// Seconds of reading, of each stage and of each stage's loading (`load.STAGE`).
    pub seconds: BTreeMap<String, f64>,
}

impl Done {
    /// How sample `k` was made, by keyword, if the results are to say so.
    ///
    /// # Errors
    /// [`Internal`](crate::error::ErrorKind::Internal) only.
    pub fn text(&self, k: usize, output: &OutputOptions) -> Result<BTreeMap<String, String>> {
        match output.metadata {
            true => self.restored.provenance.text(k),
            false => Ok(BTreeMap::new()),
        }
    }
}

impl Service {
    /// The options of a picture: its caption is put before the prompt. One that cannot be used is said and left out.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): a prompt that the bundle does not serve.
    pub fn options(&self, source: &Source, config: &Config, host: &dyn Host) -> Result<Options> {
        let mut options = config.options.clone();
        if let (Source::File(path) | Source::Frame(path, _), true) = (source, config.input.captions)
        {
            let tried = prompts::put_caption(path, &mut options.sampling.prompt);
            let differs = options.sampling.prompt != config.options.sampling.prompt;
            let tried = tried.and_then(|()| match differs {
                true => self.engine.check(&options).map(drop),
                false => Ok(()),
            });
            if let Err(error) = tried {
                self.engine.check(&config.options)?;
                let message = format!("{}: its caption is ignored: {error}", Shown(path));
                host.note(Level::Warning, &message);
                options = config.options.clone();
            }
        }
        self.warn_of_prompts(&options, host)?;
        Ok(options)
    }

    /// Runs a job on the calling thread.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input) for the picture; those of
    /// [`Engine::restore`](crate::engine::Engine::restore).
    pub fn run(&self, job: Job<'_>, host: &dyn Host, observe: &mut Observer<'_>) -> Result<Done> {
        let start = Instant::now();
        let picture = job.source.read(job.config, &job.cancel)?;
        let mut seconds = BTreeMap::from([("read".to_owned(), start.elapsed().as_secs_f64())]);
        let options = self.options(job.source, job.config, host)?;
        let Picture {
            pixels,
            mut kept,
            mut dropped,
        } = picture;
        let frame = options.target()?.frame(pixels.size());
        kept.crop(frame.origin, frame.part);
        settle(&mut kept, job.config);
        dropped.extend(
            job.format
                .into_iter()
                .flat_map(|format| kept.lost_in(format)),
        );
        let mut request = Request::new(pixels, options);
        request.depth = encoding(&job).result_depth(&kept);
        request.noise = job.noise;
        request.cancel = job.cancel;
        let mut restored = self.engine.restore(&request, &mut |event: Event<'_>| {
            count(&mut seconds, &event);
            observe(event)
        })?;
        if kept.grey {
            restored.samples.iter_mut().for_each(Pixels::remove_colour);
        }
        Ok(Done {
            restored,
            kept,
            dropped,
            seconds,
        })
    }
}

/// What of the input's results are to have.
fn settle(kept: &mut Kept, config: &Config) {
    let output = &config.output;
    let is_reference = config.options.restore.fidelity == Fidelity::Reference;
    kept.grey &= output.grey == Grey::Auto && !is_reference;
    if output.strip_metadata {
        kept.strip();
    } else if output.strip_gps {
        kept.strip_place();
    }
}

/// An unknown format is treated as PNG, which supports 16 bits.
fn encoding(job: &Job<'_>) -> EncodeOptions {
    job.config.output.encoding(job.format.unwrap_or_default())
}

/// Adds up times; loading, which a stage's time includes, is counted separately.
fn count(seconds: &mut BTreeMap<String, f64>, event: &Event<'_>) {
    let mut add = |name: String, time: f64| *seconds.entry(name).or_insert(0.0) += time;
    match event {
        Event::Loaded(stage, time) => {
            add(format!("load.{}", stage.name()), *time);
            add(stage.name().to_owned(), -time);
        }
        Event::Finished(stage, time) => add(stage.name().to_owned(), *time),
        _ => {}
    }
}
