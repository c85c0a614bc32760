//! The restoration of one picture: clean, encode, sample, decode, colours, size.
//!
//! Source: `Pipeline.run`, diffbir/pipeline.py at 3f8b530 (Lin et al., arXiv 2308.15070). What differs is said where
//! it differs.

mod stage1;
mod stage2;

use std::time::Instant;

use ndarray::{Array3, Array4, ArrayView3, Axis};

use crate::bundle::Bundle;
use crate::error::{Error, Result};
use crate::guidance::{Rule, Space};
use crate::nets::Networks;
use crate::nets::cldm::Context;
use crate::nets::cleaner::CleanerSpec;
use crate::nets::contract::{CONTROLS, GraphKind};
use crate::options::{Cleaner, Options};
use crate::prompts::{Prompt, Prompts};
use crate::rng::Draws;
use crate::samplers::StepInfo;
use crate::schedule::Diffusion;

pub use stage1::{MAX_ASPECT, Sizes};

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
    /// The cleaned picture, `[1, 3, H, W]`, nominally in `[0, 1]`, not clamped.
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
    /// A stage begins: its graph is loaded now, then run. The last two stages begin anew for each sample.
    Started(Stage),
    /// A stage's graph is loaded; seconds since the stage began.
    Loaded(Stage, f64),
    /// A tile of a stage, or of one evaluation of the denoiser, begins: its number from 0, and how many there are.
    Tile(Stage, usize, usize),
    /// A sampling step of these samples is done.
    Step(Samples, &'a StepInfo<'a>),
    /// An intermediate result is there; what stands before sampling serves all samples.
    Tensor(Intermediate, Samples, &'a Array4<f32>),
    /// A stage is done; seconds since it began, loading included.
    Finished(Stage, f64),
}

/// Told of progress; an error stops the work between stages and steps.
pub type Observer<'a> = dyn FnMut(Event<'_>) -> Result<()> + 'a;

/// What the pipeline takes from a bundle and from the options, checked before anything runs.
#[derive(Debug, Clone)]
pub struct Pipeline {
    graphs: Graphs,
    cleaner: CleanerSpec,
    min_short_edge: usize,
    diffusion: Diffusion,
    options: Options,
    strength: [f32; CONTROLS],
    rule: Option<Rule>,
    prompt: Prompt,
    /// Where no uncond branch runs, its prompt need not be known.
    negative_prompt: Option<Prompt>,
}

/// The graphs that a run uses, by their names in the bundle.
#[derive(Debug, Clone)]
struct Graphs {
    text_encoder: Option<String>,
    cleaner: Option<String>,
    encoder: String,
    denoiser: String,
    decoder: String,
    /// The decoder's derivative, where guidance needs it.
    vjp: Option<String>,
}

impl Pipeline {
    /// Checks `options` and finds their graphs and contexts in `bundle`.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): a value that is not accepted, a task or prompt that the bundle
    /// does not serve. [`Bundle`](crate::error::ErrorKind::Bundle): a graph that is missing.
    pub fn new(bundle: &Bundle, options: &Options, prompts: &Prompts) -> Result<Self> {
        options.validate()?;
        let sampling = &options.sampling;
        let (cleaner, _, spec) = bundle.cleaner(&options.restore.task)?;
        let (cleaner, spec) = match options.restore.cleaner {
            Cleaner::Task => (Some(cleaner.to_owned()), spec),
            Cleaner::None => (None, stage1::NO_CLEANER),
        };
        let diffusion = Diffusion::new(&bundle.manifest().diffusion)?;
        check_timesteps(options, &diffusion)?;
        check_tiles(options, spec)?;
        let prompt = prompts.find(bundle, &sampling.prompt)?;
        let negative_prompt = match sampling.cfg_scale {
            1.0 => None,
            _ => Some(prompts.find(bundle, &sampling.negative_prompt)?),
        };
        let rule = options.guidance.rule(&bundle.manifest().family);
        let pipeline = Pipeline {
            graphs: Graphs {
                text_encoder: bundle
                    .graph_of(GraphKind::TextEncoder)
                    .ok()
                    .map(str::to_owned),
                cleaner,
                encoder: bundle.graph_of(GraphKind::VaeEncoder)?.to_owned(),
                denoiser: bundle.graph_of(GraphKind::Denoiser)?.to_owned(),
                decoder: bundle.graph_of(GraphKind::VaeDecoder)?.to_owned(),
                vjp: derivative(bundle, options, rule)?,
            },
            cleaner: spec,
            min_short_edge: bundle.manifest().min_short_edge,
            diffusion,
            options: options.clone(),
            strength: sampling.strengths()?,
            rule,
            prompt,
            negative_prompt,
        };
        Ok(pipeline)
    }

    /// Whether a run uses `graph`.
    pub fn uses(&self, graph: &str) -> bool {
        let graphs = &self.graphs;
        let encoder = graphs.text_encoder.as_ref();
        let always = [&graphs.encoder, &graphs.denoiser, &graphs.decoder];
        let sometimes = [
            encoder.filter(|_| self.prompts().any(Prompt::needs_encoder)),
            graphs.cleaner.as_ref(),
            graphs.vjp.as_ref(),
        ];
        let mut used = always.into_iter().chain(sometimes.into_iter().flatten());
        used.any(|name| name == graph)
    }

    /// The prompts of a run.
    pub fn prompts(&self) -> impl Iterator<Item = &Prompt> {
        [Some(&self.prompt), self.negative_prompt.as_ref()]
            .into_iter()
            .flatten()
    }

    /// Restores `lq` `[H, W, 3]`, a low-quality picture, to as many samples `[upscale * H, upscale * W, 3]` as asked.
    ///
    /// Draws, for each batch of samples in order: `x_T`; the noise on the condition, where that is asked for; then what
    /// the sampler and guidance document. Stage 1 and the encoding are the same for all samples and run once.
    ///
    /// # Errors
    /// What `networks`, `draws` and `observe` report.
    pub fn run(
        &self,
        lq: ArrayView3<'_, u8>,
        prompts: &Prompts,
        networks: &mut dyn Networks,
        draws: &mut Draws,
        observe: &mut Observer<'_>,
    ) -> Result<Vec<Array3<u8>>> {
        let contexts = self.contexts(prompts, networks, observe)?;
        let lq = lq.insert_axis(Axis(0)).to_owned();
        let (lq, sizes) = stage1::prepare(&lq, self.options.restore.upscale, self.cleaner);
        let cond_img = self.clean(lq, &sizes, networks, observe)?;
        let c_img = self.encode(&cond_img, networks, observe)?;
        let latents = self.sample(&c_img, &cond_img, contexts, networks, draws, observe)?;
        networks.stage(&[&self.graphs.decoder]);
        let samples = latents.into_iter().enumerate();
        samples
            .map(|(k, z)| {
                let decoded = self.decode(k, z, &cond_img, networks, observe)?;
                self.finish(k, decoded, &cond_img, &sizes, observe)
            })
            .collect()
    }

    /// The contexts of the prompt and, where an uncond branch runs, of the negative one (else the same again).
    fn contexts(
        &self,
        prompts: &Prompts,
        networks: &mut dyn Networks,
        observe: &mut Observer<'_>,
    ) -> Result<(Context, Context)> {
        let graph = self.graphs.text_encoder.as_deref().unwrap_or_default();
        let timer = match self.prompts().any(Prompt::needs_encoder) {
            true => Some(Timer::start(Stage::TextEncoder, observe)?),
            false => None,
        };
        if timer.is_some() {
            networks.stage(&[graph]);
        }
        let cond = prompts.context(&self.prompt, networks, graph)?;
        let uncond = match &self.negative_prompt {
            Some(prompt) => prompts.context(prompt, networks, graph)?,
            None => cond.clone(),
        };
        timer.map_or(Ok(()), |timer| timer.finish(observe))?;
        Ok((cond, uncond))
    }
}

fn check_timesteps(options: &Options, diffusion: &Diffusion) -> Result<()> {
    let (sampling, timesteps) = (&options.sampling, diffusion.timesteps());
    if sampling.steps > timesteps {
        return Err(Error::option(format!(
            "sampling.steps is {}, expected at most {timesteps}, the timesteps of the bundle's schedule",
            sampling.steps
        )));
    }
    if sampling.noise_aug >= timesteps {
        return Err(Error::option(format!(
            "sampling.noise_aug is {}, expected at most {}, the last timestep of the bundle's schedule",
            sampling.noise_aug,
            timesteps - 1
        )));
    }
    Ok(())
}

fn check_tiles(options: &Options, cleaner: CleanerSpec) -> Result<()> {
    match options.tiling.cleaner {
        Some(tiles) if !tiles.size.is_multiple_of(cleaner.multiple) => Err(Error::option(format!(
            "tiling.cleaner.size is {}, expected a multiple of {} for this task's cleaner",
            tiles.size, cleaner.multiple
        ))),
        _ => Ok(()),
    }
}

/// The graph of the decoder's derivative, where `rule` works between pictures.
fn derivative(bundle: &Bundle, options: &Options, rule: Option<Rule>) -> Result<Option<String>> {
    if rule.is_none() || options.guidance.space == Space::Latent {
        return Ok(None);
    }
    let found = bundle.graph_of(GraphKind::VaeDecoderVjp);
    found.map(|name| Some(name.to_owned())).map_err(|_| {
        Error::option(
            "guidance.space is rgb, but this bundle has no graph of the VAE decoder's derivative: export it with \
             --guidance-graph, or use guidance.space=latent",
        )
    })
}

/// Times one stage and tells the observer.
struct Timer {
    stage: Stage,
    start: Instant,
}

impl Timer {
    fn start(stage: Stage, observe: &mut Observer<'_>) -> Result<Self> {
        observe(Event::Started(stage))?;
        Ok(Timer {
            stage,
            start: Instant::now(),
        })
    }

    fn loaded(&self, observe: &mut Observer<'_>) -> Result<()> {
        observe(Event::Loaded(
            self.stage,
            self.start.elapsed().as_secs_f64(),
        ))
    }

    fn finish(self, observe: &mut Observer<'_>) -> Result<()> {
        observe(Event::Finished(
            self.stage,
            self.start.elapsed().as_secs_f64(),
        ))
    }
}
