//! The events of a run, and its observer.

use std::cell::RefCell;
use std::time::Instant;

use ndarray::{Array3, Array4, Axis, s};

use super::Plan;
use super::sizes::rows_at_once;
use crate::canvas::{Canvas, bands};
use crate::error::{Error, Result};
use crate::resize;
use crate::samplers::StepInfo;
use crate::tensor::to_hwc;

/// A part of the pipeline that runs one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The text encoder, for prompts without a precomputed embedding.
    TextEncoder,
    /// Stage 1, the restoration module.
    Cleaner,
    /// The VAE encoder, on the stage-1 picture.
    VaeEncoder,
    /// The sampler's loop.
    Sampling,
    /// The VAE decoder.
    VaeDecoder,
    /// Colour correction, resize and quantisation; no graph.
    Finish,
}

impl Stage {
    /// The name in JSON output.
    pub fn name(self) -> &'static str {
        match self {
            Stage::TextEncoder => "text_encoder",
            Stage::Cleaner => "cleaner",
            Stage::VaeEncoder => "vae_encoder",
            Stage::Sampling => "sampling",
            Stage::VaeDecoder => "vae_decoder",
            Stage::Finish => "finish",
        }
    }
}

/// An intermediate result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Intermediate {
    /// The stage-1 picture, `[3, H, W]`, nominally in `[0, 1]`, not clamped.
    Stage1,
    /// Its latent.
    CImg,
    /// The latent that sampling starts from.
    XT,
    /// The sampled latent, without padding.
    Z,
    /// The decoded picture, nominally in `[-1, 1]`, cropped to the stage-1 picture's size.
    Decoded,
    /// The colour-corrected picture, nominally in `[0, 1]`, before the last resize.
    ColorFixed,
}

impl Intermediate {
    /// Converts the intermediate picture `picture` to 8 bits, `[H, W, 3]`, block by block of rows.
    ///
    /// # Errors
    /// Errors of reading `picture`.
    pub fn to_rgb(self, picture: &Canvas) -> Result<Array3<u8>> {
        let size = picture.size();
        let mut rgb = Array3::zeros((size.0, size.1, 3));
        for rows in bands(size.0, rows_at_once(size)) {
            let part = picture.rows(rows.clone())?;
            let unit = match self {
                Intermediate::Decoded => part.mapv_into(|x| (x + 1.0) / 2.0),
                _ => part,
            };
            let part = to_hwc(resize::quantise(&unit));
            rgb.slice_mut(s![rows, .., ..])
                .assign(&part.index_axis(Axis(0), 0));
        }
        Ok(rgb)
    }
}

/// A batch of a picture's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Samples {
    /// Index of the first sample, from 0.
    pub first: usize,
    /// Number of samples.
    pub count: usize,
}

impl Samples {
    /// A batch of sample `k` alone.
    pub(super) fn one(k: usize) -> Self {
        Samples { first: k, count: 1 }
    }
}

/// An event of a run.
pub enum Event<'a> {
    /// The plan for the picture; the first event.
    Planned(&'a Plan),
    /// A stage begins; its graph is loaded, then run. The last two stages repeat for each sample.
    Started(Stage),
    /// A stage's graph is loaded; seconds since the stage began.
    Loaded(Stage, f64),
    /// A tile of a stage, or of one denoiser call, begins: its index from 0, and the number of tiles.
    Tile(Stage, usize, usize),
    /// A sampling step of these samples is complete.
    Step(Samples, &'a StepInfo<'a>),
    /// A latent is available; those from before sampling belong to all samples.
    Tensor(Intermediate, Samples, &'a Array4<f32>),
    /// A picture is available, possibly on disk; those from before sampling belong to all samples.
    Picture(Intermediate, Samples, &'a Canvas),
    /// A stage is complete; seconds since it began, loading included.
    Finished(Stage, f64),
    /// A point at which an observer may stop the work, with nothing to report: between blocks of rows, denoiser calls
    /// and guidance iterations.
    Checkpoint,
}

/// Receives events; an error stops the work there.
pub type Observer<'a> = dyn FnMut(Event<'_>) -> Result<()> + 'a;

/// A run's observer, shared by its parts.
pub(super) struct Events<'a>(RefCell<&'a mut Observer<'a>>);

impl<'a> Events<'a> {
    pub(super) fn new(observe: &'a mut Observer<'a>) -> Self {
        Events(RefCell::new(observe))
    }

    /// Passes `event` to the observer.
    pub(super) fn notify(&self, event: Event<'_>) -> Result<()> {
        let observe = self.0.try_borrow_mut();
        let mut observe = observe.map_err(|e| {
            Error::internal("an observer runs the pipeline that it observes").with_source(e)
        })?;
        observe(event)
    }

    /// Lets the observer stop the work between two events.
    pub(super) fn checkpoint(&self) -> Result<()> {
        self.notify(Event::Checkpoint)
    }

    /// Reports that `stage` begins.
    pub(super) fn start(&self, stage: Stage) -> Result<Timer<'_, 'a>> {
        self.notify(Event::Started(stage))?;
        Ok(Timer {
            events: self,
            stage,
            start: Instant::now(),
        })
    }
}

/// Times one stage.
pub(super) struct Timer<'e, 'a> {
    events: &'e Events<'a>,
    stage: Stage,
    start: Instant,
}

impl Timer<'_, '_> {
    /// Reports that the stage's graph is loaded.
    pub(super) fn loaded(&self) -> Result<()> {
        let seconds = self.start.elapsed().as_secs_f64();
        self.events.notify(Event::Loaded(self.stage, seconds))
    }

    /// Reports that the stage is done.
    pub(super) fn finish(self) -> Result<()> {
        let seconds = self.start.elapsed().as_secs_f64();
        self.events.notify(Event::Finished(self.stage, seconds))
    }

    /// Reports that tile `k` of `count` begins.
    pub(super) fn tile(&self, k: usize, count: usize) -> Result<()> {
        self.events.notify(Event::Tile(self.stage, k, count))
    }
}
