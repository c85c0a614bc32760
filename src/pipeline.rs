//! The restoration of one picture: clean, encode, sample, decode, colour correction, resize.
//!
//! Source: `Pipeline.run`, diffbir/pipeline.py at 3f8b530 (Lin et al., arXiv 2308.15070). Each stage has its own file,
//! which documents differences from the reference.

mod clean;
mod decode;
mod encode;
mod event;
mod graphs;
mod plan;
mod postprocess;
mod prompts;
mod run;
mod sample;
mod sizes;
mod vae;

use std::iter;

use crate::bundle::Bundle;
pub use crate::canvas::Canvas;
use crate::canvas::Store;
use crate::error::{Error, Result};
use crate::guidance::Rule;
use crate::imageio::{BitDepth, Pixels};
use crate::nets::cleaner::CleanerSpec;
use crate::nets::contract::CONTROLS;
use crate::nets::segments::SegmentPlan;
use crate::nets::{Networks, Shared};
use crate::options::{Cleaner, Options};
use crate::prompts::{Prompt, Prompts};
use crate::rng::Draws;
pub use crate::samplers::StepInfo;
use crate::schedule::Diffusion;

use event::Events;
pub use event::{Event, Intermediate, Observer, Samples, Stage};
use graphs::{Graph, Graphs};
pub use plan::{CleanerPlan, Plan, Strips, VaePlan};
use run::Run;
pub use sizes::{MAX_ASPECT, MAX_PIXELS, Sizes};

/// A low-quality picture and the bit depth of its results.
#[derive(Debug, Clone, Copy)]
pub struct Lq<'a> {
    /// Its pixels. Stage 1 uses their full depth.
    pub pixels: &'a Pixels,
    /// Bits per channel of the results.
    pub depth: BitDepth,
}

impl<'a> From<&'a Pixels> for Lq<'a> {
    /// With results of 8 bits.
    fn from(pixels: &'a Pixels) -> Self {
        Lq {
            pixels,
            depth: BitDepth::default(),
        }
    }
}

/// A bundle's graphs and the options, validated before anything runs.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The restoration module, if any.
    module: Option<Graph>,
    cleaner: CleanerSpec,
    min_short_edge: usize,
    options: Options,
    /// `None` if stage 1 is all.
    stage2: Option<Stage2>,
}

/// The diffusion model, and what the options make of it.
#[derive(Debug, Clone)]
struct Stage2 {
    graphs: Graphs,
    diffusion: Diffusion,
    strength: [f32; CONTROLS],
    rule: Option<Rule>,
    prompt: Prompt,
    /// Unresolved if no uncond branch runs.
    negative_prompt: Option<Prompt>,
}

impl Pipeline {
    /// Validates `options` and finds their graphs and prompt embeddings in `bundle`.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): an invalid value, or a task or prompt that the bundle does not
    /// support. [`Bundle`](crate::error::ErrorKind::Bundle): a missing graph.
    pub fn new(bundle: &Bundle, options: &Options, prompts: &Prompts) -> Result<Self> {
        options.validate()?;
        let (cleaner, _, spec) = bundle.cleaner(&options.restore.task)?;
        let (cleaner, spec) = match options.restore.cleaner {
            Cleaner::Task => (Some(cleaner), spec),
            Cleaner::None => (None, clean::NO_CLEANER),
        };
        check_tiles(options, spec)?;
        let stage2 = match options.restore.stage1_only {
            true => None,
            false => Some(Stage2::new(bundle, options, prompts)?),
        };
        Ok(Pipeline {
            module: cleaner.map(|name| Graph::of(bundle, name)).transpose()?,
            cleaner: spec,
            min_short_edge: bundle.manifest().min_short_edge,
            options: options.clone(),
            stage2,
        })
    }

    /// Whether a run uses `graph`.
    pub fn uses(&self, graph: &str) -> bool {
        let encoder = self
            .stage2
            .as_ref()
            .and_then(|s| s.graphs.text_encoder.as_deref());
        let encodes = self.prompts().any(Prompt::needs_encoder) && encoder == Some(graph);
        encodes || self.graphs().any(|used| used.name == graph)
    }

    /// All graphs that run on pictures and latents.
    fn graphs(&self) -> impl Iterator<Item = &Graph> {
        let stage2 = self.stage2.iter().flat_map(|stage2| stage2.graphs.all());
        self.module.iter().chain(stage2)
    }

    /// Halo in pixels of lossless tiles, if the restoration module can run in such tiles.
    fn halo(&self) -> Option<usize> {
        let halo = self.module.as_ref()?.halo?;
        Some(halo.next_multiple_of(self.cleaner.multiple))
    }

    /// The segments of the restoration module, if it can run in strips.
    fn strips(&self) -> Option<&SegmentPlan> {
        let segments = self.module.as_ref()?.segments.as_deref();
        segments.filter(|_| self.cleaner.multiple == 1)
    }

    /// The prompts of a run.
    pub fn prompts(&self) -> impl Iterator<Item = &Prompt> {
        self.stage2.iter().flat_map(Stage2::prompts)
    }

    /// Restores `lq` to the requested number of samples of the requested size, according to `plan` (see
    /// [`plan`](Self::plan)).
    ///
    /// Draws, for each batch of samples in order: `x_T`; the noise on the condition, if enabled; then the draws
    /// documented by the sampler and guidance. Stage 1 and the encoding are the same for all samples and run once.
    ///
    /// # Errors
    /// Errors of `networks`, `draws` and `observe`.
    pub fn run(
        &self,
        lq: Lq<'_>,
        plan: &Plan,
        prompts: &Prompts,
        networks: &mut dyn Networks,
        draws: &mut Draws,
        observe: &mut Observer<'_>,
    ) -> Result<Vec<Pixels>> {
        let run = Run {
            pipeline: self,
            plan,
            sizes: self.sizes(lq.pixels.size())?,
            store: Store::default(),
            networks: Shared::new(networks),
            events: Events::new(observe),
        };
        let Some(stage2) = &self.stage2 else {
            return Ok(vec![run.finish_stage1(&run.clean(lq)?, lq.depth)?]);
        };
        // 1. Encode the prompts whose embeddings are not in the bundle.
        let prompts = run.encode_prompts(stage2, prompts)?;
        // 2. Run stage 1; its picture is the condition.
        let cond_img = run.clean(lq)?;
        // 3. Encode the condition, once for cond, uncond and all samples.
        let c_img = run.encode(stage2, &cond_img)?;
        // 4. Sample the latents, batch by batch.
        let latents = run.sample(stage2, &cond_img, &c_img, &prompts, draws)?;
        // 5. Decode each sample, 6. correct colours, resize and quantise.
        let finish = |(k, z)| {
            let decoded = run.decode(stage2, k, z, &cond_img)?;
            run.postprocess(k, decoded, &cond_img, lq.depth)
        };
        latents.into_iter().enumerate().map(finish).collect()
    }
}

impl Stage2 {
    /// As [`Pipeline::new`].
    fn new(bundle: &Bundle, options: &Options, prompts: &Prompts) -> Result<Self> {
        let (sampling, manifest) = (&options.sampling, bundle.manifest());
        let Some(diffusion) = &manifest.diffusion else {
            return Err(Error::option(format!(
                "the bundle {} has no diffusion model: set restore.stage1_only (--stage1-only) to run its restoration \
                 module alone, or choose another bundle",
                bundle.dir().display()
            )));
        };
        let diffusion = Diffusion::new(diffusion)?;
        check_timesteps(options, &diffusion)?;
        let prompt = prompts.find(bundle, &sampling.prompt)?;
        let negative_prompt = match sampling.cfg_scale {
            1.0 => None,
            _ => Some(prompts.find(bundle, &sampling.negative_prompt)?),
        };
        Ok(Stage2 {
            graphs: Graphs::find(bundle, options)?,
            diffusion,
            strength: sampling.strengths()?,
            rule: options.guidance.rule(&manifest.family),
            prompt,
            negative_prompt,
        })
    }

    fn prompts(&self) -> impl Iterator<Item = &Prompt> {
        iter::once(&self.prompt).chain(&self.negative_prompt)
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
