//! What an observer of the pipeline is told.

use std::time::Instant;

use ndarray::Array4;

use super::Plan;
use crate::canvas::Canvas;
use crate::error::Result;
use crate::samplers::StepInfo;

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

/// A batch of a picture's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Samples {
    /// The first one, from 0.
    pub first: usize,
    /// How many.
    pub count: usize,
}

/// What an observer is told.
pub enum Event<'a> {
    /// How the picture will be worked on; the first event.
    Planned(&'a Plan),
    /// A stage begins: its graph is loaded now, then run. The last two stages begin anew for each sample.
    Started(Stage),
    /// A stage's graph is loaded; seconds since the stage began.
    Loaded(Stage, f64),
    /// A tile of a stage, or of one evaluation of the denoiser, begins: its number from 0, and how many there are.
    Tile(Stage, usize, usize),
    /// A sampling step of these samples is done.
    Step(Samples, &'a StepInfo<'a>),
    /// A latent is there; what stands before sampling serves all samples.
    Tensor(Intermediate, Samples, &'a Array4<f32>),
    /// A picture is there, which may lie on disk; what stands before sampling serves all samples.
    Picture(Intermediate, Samples, &'a Canvas),
    /// A stage is done; seconds since it began, loading included.
    Finished(Stage, f64),
}

/// Told of progress; an error stops the work between stages and steps.
pub type Observer<'a> = dyn FnMut(Event<'_>) -> Result<()> + 'a;

/// Times one stage and tells the observer.
pub(super) struct Timer {
    stage: Stage,
    start: Instant,
}

impl Timer {
    pub(super) fn start(stage: Stage, observe: &mut Observer<'_>) -> Result<Self> {
        observe(Event::Started(stage))?;
        Ok(Timer {
            stage,
            start: Instant::now(),
        })
    }

    pub(super) fn loaded(&self, observe: &mut Observer<'_>) -> Result<()> {
        observe(Event::Loaded(
            self.stage,
            self.start.elapsed().as_secs_f64(),
        ))
    }

    pub(super) fn finish(self, observe: &mut Observer<'_>) -> Result<()> {
        observe(Event::Finished(
            self.stage,
            self.start.elapsed().as_secs_f64(),
        ))
    }
}
