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
    /// The text encoder, for prompts without a precomputed context.
    TextEncoder,
    /// Stage 1, the cleaner.
    Cleaner,
    /// The VAE encoder, on the cleaned picture.
    VaeEncoder,
    /// The sampler's loop.
    Sampling,
    /// The VAE decoder.
    VaeDecoder,
    /// Colour correction, resize and quantisation; no graph.
    Finish,
}

impl Stage {
    /// The name as it stands in `--json`.
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
    /// The cleaned picture, `[3, H, W]`, nominally in `[0, 1]`, not clamped.
    Stage1,
    /// Its latent.
    CImg,
    /// What sampling starts from.
    XT,
    /// The sampled latent, without padding.
    Z,
    /// The decoded picture, nominally in `[-1, 1]`, cropped to the cleaned picture's size.
    Decoded,
    /// The colour-corrected picture, nominally in `[0, 1]`, before the last resize.
    ColorFixed,
}

impl Intermediate {
    /// The intermediate picture `picture` in 8 bits, `[H, W, 3]`, read in blocks of rows.
    ///
    /// # Errors
    /// What reading `picture` reports.
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
    /// The first one, from 0.
    pub first: usize,
    /// How many.
    pub count: usize,
}

impl Samples {
    /// Sample `k` alone.
    pub(super) fn one(k: usize) -> Self {
        Samples { first: k, count: 1 }
    }
}

/// An event of a run.
pub enum Event<'a> {
    /// How the picture will be worked on; the first event.
    Planned(&'a Plan),
    /// A stage begins: its graph is loaded now, then run. The last two stages begin anew for each sample.
    Started(Stage),
    /// A stage's graph is loaded; seconds since the stage began.
    Loaded(Stage, f64),
    /// A tile of a stage, or of one denoiser call, begins: its number from 0, and how many there are.
    Tile(Stage, usize, usize),
    /// A sampling step of these samples is done.
    Step(Samples, &'a StepInfo<'a>),
    /// A latent is there; what stands before sampling serves all samples.
    Tensor(Intermediate, Samples, &'a Array4<f32>),
    /// A picture is there, which may lie on disk; what stands before sampling serves all samples.
    Picture(Intermediate, Samples, &'a Canvas),
    /// A stage is done; seconds since it began, loading included.
    Finished(Stage, f64),
    /// Work goes on within a stage: between blocks of rows, denoiser calls and repeats of guidance. Nothing to report, but
    /// the work may be stopped here.
    Checkpoint,
}

/// Receives events; an error stops the work there.
pub type Observer<'a> = dyn FnMut(Event<'_>) -> Result<()> + 'a;

/// The observer of a run, for all parts of it.
pub(super) struct Events<'a>(RefCell<&'a mut Observer<'a>>);

impl<'a> Events<'a> {
    pub(super) fn new(observe: &'a mut Observer<'a>) -> Self {
        Events(RefCell::new(observe))
    }

    /// Hands `event` to the observer.
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
