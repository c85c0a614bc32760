//! The restoration of one picture: clean, encode, sample, decode, colours, size.
//!
//! Source: `Pipeline.run`, diffbir/pipeline.py at 3f8b530 (Lin et al., arXiv 2308.15070). What differs is said where
//! it differs.

mod event;
mod finish;
mod plan;
mod stage1;
mod stage2;
mod vae;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bundle::{Bundle, GraphMemory, Variant};
use crate::canvas::Store;
use crate::error::{Error, Result};
use crate::guidance::{Rule, Space};
use crate::imageio::{BitDepth, Pixels};
use crate::nets::Networks;
use crate::nets::cldm::Context;
use crate::nets::cleaner::CleanerSpec;
use crate::nets::contract::{CONTROLS, GraphKind};
use crate::nets::segments::SegmentPlan;
use crate::options::{Cleaner, Options};
use crate::prompts::{Prompt, Prompts};
use crate::rng::Draws;
use crate::schedule::Diffusion;

use event::Timer;
pub use event::{Event, Intermediate, Observer, Samples, Stage};
use plan::Work;
pub use plan::{CleanerPlan, Plan, VaePlan};
pub use stage1::{MAX_ASPECT, Sizes};

/// A low-quality picture, and what is wanted of it.
#[derive(Debug, Clone, Copy)]
pub struct Lq<'a> {
    /// Its colours. Stage 1 starts from all their bits.
    pub pixels: &'a Pixels,
    /// Bits per channel of the results.
    pub depth: BitDepth,
}

impl<'a> From<&'a Pixels> for Lq<'a> {
    /// To be restored to 8 bits.
    fn from(pixels: &'a Pixels) -> Self {
        Lq {
            pixels,
            depth: BitDepth::default(),
        }
    }
}

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

/// The graphs that a run uses.
#[derive(Debug, Clone)]
struct Graphs {
    text_encoder: Option<String>,
    cleaner: Option<Graph>,
    encoder: Graph,
    denoiser: Graph,
    decoder: Graph,
    /// The decoder's derivative, where guidance needs it.
    vjp: Option<Graph>,
}

/// One graph, and what a plan has to know of it.
#[derive(Debug, Clone)]
struct Graph {
    /// Its name in the bundle.
    name: String,
    memory: GraphMemory,
    /// The same of its variants, by their names.
    variants: BTreeMap<String, GraphMemory>,
    halo: Option<usize>,
    segments: Option<Arc<SegmentPlan>>,
}

impl Graph {
    fn of(bundle: &Bundle, name: &str) -> Result<Self> {
        let listed = bundle.manifest().graphs.get(name);
        let variants = listed.iter().flat_map(|graph| &graph.variants);
        let of_variant = |variant: &Variant| {
            let memory = bundle.memory_of(name, Some(&variant.name))?;
            Ok((variant.name.clone(), memory))
        };
        Ok(Graph {
            name: name.to_owned(),
            memory: bundle.memory_of(name, None)?,
            variants: variants.map(of_variant).collect::<Result<_>>()?,
            halo: listed.and_then(|graph| graph.halo),
            segments: bundle.segments(name)?,
        })
    }
}

impl Graphs {
    /// Takes up what the variants take that run on `networks`.
    fn measure_on(&mut self, networks: &dyn Networks) {
        let always = [&mut self.encoder, &mut self.denoiser, &mut self.decoder];
        let all = always.into_iter().chain(&mut self.cleaner);
        for graph in all.chain(&mut self.vjp) {
            let variant = networks.form(&graph.name).variant;
            let memory = variant.and_then(|variant| graph.variants.get(&variant));
            graph.memory = memory.copied().unwrap_or(graph.memory);
        }
    }

    /// All that run on pictures and latents.
    fn all(&self) -> impl Iterator<Item = &Graph> {
        let always = [&self.encoder, &self.denoiser, &self.decoder];
        always.into_iter().chain(&self.cleaner).chain(&self.vjp)
    }
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
        let graph = |kind| Graph::of(bundle, bundle.graph_of(kind)?);
        let pipeline = Pipeline {
            graphs: Graphs {
                text_encoder: bundle
                    .graph_of(GraphKind::TextEncoder)
                    .ok()
                    .map(str::to_owned),
                cleaner: cleaner.map(|name| Graph::of(bundle, &name)).transpose()?,
                encoder: graph(GraphKind::VaeEncoder)?,
                denoiser: graph(GraphKind::Denoiser)?,
                decoder: graph(GraphKind::VaeDecoder)?,
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
        let encoder = self.graphs.text_encoder.as_deref();
        let encodes = self.prompts().any(Prompt::needs_encoder) && encoder == Some(graph);
        encodes || self.graphs.all().any(|used| used.name == graph)
    }

    /// Pixels that an exact tile of the cleaner is given besides, where it can run in such tiles.
    fn halo(&self) -> Option<usize> {
        let halo = self.graphs.cleaner.as_ref()?.halo?;
        Some(halo.next_multiple_of(self.cleaner.multiple))
    }

    /// The prompts of a run.
    pub fn prompts(&self) -> impl Iterator<Item = &Prompt> {
        [Some(&self.prompt), self.negative_prompt.as_ref()]
            .into_iter()
            .flatten()
    }

    /// Restores `lq` to as many samples `[upscale * H, upscale * W, 3]` as asked, as `plan` (see [`plan`](Self::plan)) says.
    ///
    /// Draws, for each batch of samples in order: `x_T`; the noise on the condition, where that is asked for; then what
    /// the sampler and guidance document. Stage 1 and the encoding are the same for all samples and run once.
    ///
    /// # Errors
    /// What `networks`, `draws` and `observe` report.
    pub fn run(
        &self,
        lq: Lq<'_>,
        plan: &Plan,
        prompts: &Prompts,
        networks: &mut dyn Networks,
        draws: &mut Draws,
        observe: &mut Observer<'_>,
    ) -> Result<Vec<Pixels>> {
        let work = Work {
            plan,
            store: &Store::default(),
            sizes: self.sizes(lq.pixels.size()),
        };
        let contexts = self.contexts(plan, prompts, networks, observe)?;
        let cond_img = self.clean(lq, &work, networks, observe)?;
        let c_img = self.encode(&cond_img, &work, networks, observe)?;
        let latents = self.sample(
            (&cond_img, &c_img),
            contexts,
            &work,
            networks,
            draws,
            observe,
        )?;
        let samples = latents.into_iter().enumerate();
        samples
            .map(|(k, z)| {
                let decoded = self.decode(k, z, &cond_img, &work, networks, observe)?;
                self.finish(k, decoded, &cond_img, lq.depth, &work, observe)
            })
            .collect()
    }

    /// The contexts of the prompt and, where an uncond branch runs, of the negative one (else the same again).
    fn contexts(
        &self,
        plan: &Plan,
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
            networks.stage(&[graph], plan.keep);
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
fn derivative(bundle: &Bundle, options: &Options, rule: Option<Rule>) -> Result<Option<Graph>> {
    if rule.is_none() || options.guidance.space == Space::Latent {
        return Ok(None);
    }
    let found = bundle.graph_of(GraphKind::VaeDecoderVjp);
    let found = found.and_then(|name| Graph::of(bundle, name));
    found.map(Some).map_err(|_| {
        Error::option(
            "guidance.space is rgb, but this bundle has no graph of the VAE decoder's derivative: export it with \
             --guidance-graph, or use guidance.space=latent",
        )
    })
}
