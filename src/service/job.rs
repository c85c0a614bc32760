//! One job: read a picture, restore it, and keep what is needed to write the results.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::Host;
use super::startup::Service;
use crate::cancel::Cancel;
use crate::config::{Config, OutputOptions};
use crate::engine::{Noise, Request, Restored};
use crate::error::Result;
use crate::imageio::{self, EncodeOptions, Format, Kept, Picture};
use crate::options::Options;
use crate::pipeline::{Event, Observer};
use crate::prompts;

/// A low-quality picture.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file, with an optional caption file `NAME.txt`.
    File(PathBuf),
    /// The bytes of a file.
    Bytes(Arc<[u8]>),
    /// Pixels.
    Picture(Arc<Picture>),
}

impl Source {
    fn read(&self, config: &Config) -> Result<Picture> {
        let decoding = config.input.decoding();
        match self {
            Source::File(path) => imageio::read(path, decoding),
            Source::Bytes(bytes) => imageio::decode(bytes, decoding),
            Source::Picture(picture) => Ok(Picture::clone(picture)),
        }
    }

    /// The options of this picture: its caption is prepended to the prompt.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input) if the caption cannot be read.
    pub fn options(&self, config: &Config) -> Result<Options> {
        let mut options = config.options.clone();
        if let (Source::File(path), true) = (self, config.input.captions) {
            prompts::put_caption(path, &mut options.sampling.prompt)?;
        }
        Ok(options)
    }
}

/// The caption of the picture at `path` (its sidecar `NAME.txt`) on one line, empty without one.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input) if the caption cannot be read.
pub fn caption(path: &Path) -> Result<String> {
    let mut caption = String::new();
    prompts::put_caption(path, &mut caption)?;
    Ok(caption)
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
    /// The text chunks of sample `k`'s PNG.
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
    /// Runs a job on the calling thread.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input) for the picture; those of
    /// [`Engine::restore`](crate::engine::Engine::restore).
    pub fn run(&self, job: Job<'_>, host: &dyn Host, observe: &mut Observer<'_>) -> Result<Done> {
        let start = Instant::now();
        let picture = job.source.read(job.config)?;
        let mut seconds = BTreeMap::from([("read".to_owned(), start.elapsed().as_secs_f64())]);
        let options = job.source.options(job.config)?;
        self.warn_of_prompts(&options, host)?;
        let Picture {
            pixels,
            mut kept,
            mut dropped,
        } = picture;
        let frame = options.target()?.frame(pixels.size());
        kept.crop(frame.origin, frame.part);
        dropped.extend(
            job.format
                .into_iter()
                .flat_map(|format| kept.lost_in(format)),
        );
        let mut request = Request::new(pixels, options);
        request.depth = encoding(&job).result_depth(&kept);
        request.noise = job.noise;
        request.cancel = job.cancel;
        let restored = self.engine.restore(&request, &mut |event: Event<'_>| {
            count(&mut seconds, &event);
            observe(event)
        })?;
        Ok(Done {
            restored,
            kept,
            dropped,
            seconds,
        })
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
