//! From the cleaned picture to samples of the restored one.

use std::cell::RefCell;

use ndarray::{Array4, Axis, concatenate};

use super::plan::Work;
use super::vae::Vae;
use super::{Event, Intermediate, Lq, Observer, Pipeline, Samples, Stage, Timer, stage1};
use crate::canvas::Canvas;
use crate::denoise::Guide;
use crate::error::{Error, Result};
use crate::guidance::{Guidance, Rule, Space, Target, Weights};
use crate::nets::cldm::{Condition, Context, Denoiser, Evaluation, LatentTiles};
use crate::nets::vae::{self, DOWNSCALE, GuidingDecoder};
use crate::nets::{Network, Networks, Shared};
use crate::options::{DenoiserTiles, StartPoint};
use crate::rng::{Draws, NoiseSource};
use crate::samplers::{Run, Sampling, StepInfo};
use crate::tensor::{Latent, crop, pad_to, round_up, shape, size};
use crate::tiling::Layout;

/// The condition is padded to multiples of this many pixels; where the denoiser runs in the reference's tiles, of
/// [`DOWNSCALE`].
const MULTIPLE: usize = 64;

/// Sample `k` alone.
pub(super) fn one(k: usize) -> Samples {
    Samples { first: k, count: 1 }
}

impl Pipeline {
    pub(super) fn clean(
        &self,
        lq: Lq<'_>,
        work: &Work<'_>,
        networks: &mut dyn Networks,
        observe: &mut Observer<'_>,
    ) -> Result<Canvas> {
        let timer = Timer::start(Stage::Cleaner, observe)?;
        let net = match &self.graphs.cleaner {
            Some(graph) => {
                networks.stage(&[&graph.name], work.plan.keep);
                networks.get(&graph.name)?;
                work.prepare(&[&self.graphs.encoder.name], networks);
                Some(networks.get(&graph.name)?)
            }
            None => None,
        };
        timer.loaded(observe)?;
        let lq = stage1::prepare(lq, self.cleaner.scale, work)?;
        let observer = RefCell::new(&mut *observe);
        let on_tile = |k, count| observer.borrow_mut()(Event::Tile(Stage::Cleaner, k, count));
        let cond_img = stage1::clean(net, self.cleaner, lq, work, &on_tile)?;
        observe(Event::Picture(Intermediate::Stage1, one(0), &cond_img))?;
        timer.finish(observe)?;
        Ok(cond_img)
    }

    /// Height and width of the latent of a cleaned picture, which is padded with black.
    pub(super) fn latent_size(&self, (height, width): (usize, usize)) -> (usize, usize) {
        let multiple = match self.options.tiling.cldm {
            DenoiserTiles::Reference(_) => DOWNSCALE,
            _ => MULTIPLE,
        };
        let cells = |length| round_up(length, multiple) / DOWNSCALE;
        (cells(height), cells(width))
    }

    /// The latent of the cleaned picture. Encoded once: the reference encodes the same picture for cond and uncond and
    /// for every sample.
    pub(super) fn encode(
        &self,
        cond_img: &Canvas,
        work: &Work<'_>,
        networks: &mut dyn Networks,
        observe: &mut Observer<'_>,
    ) -> Result<Latent> {
        let timer = Timer::start(Stage::VaeEncoder, observe)?;
        let (height, width) = self.latent_size(cond_img.size());
        let padded = (height * DOWNSCALE, width * DOWNSCALE);
        let read = |rows| {
            let rows = cond_img.window(rows, 0..padded.1)?;
            Ok(rows.mapv_into(|x| x * 2.0 - 1.0))
        };
        let next = self.denoisers(networks)?;
        let next: Vec<&str> = next.iter().map(String::as_str).collect();
        let vae = Vae {
            stage: Stage::VaeEncoder,
            graph: &self.graphs.encoder,
            how: work.plan.encoder,
            work,
            next: &next,
        };
        let whole = |net: &mut dyn Network| vae::encode(net, &read(0..padded.0)?);
        let c_img = vae
            .run(padded, &read, &whole, &timer, networks, observe)?
            .into_array()?;
        observe(Event::Tensor(Intermediate::CImg, one(0), &c_img))?;
        timer.finish(observe)?;
        Ok(c_img)
    }

    /// The latents of all samples, batch by batch.
    pub(super) fn sample(
        &self,
        (cond_img, c_img): (&Canvas, &Latent),
        contexts: (Context, Context),
        work: &Work<'_>,
        networks: &mut dyn Networks,
        draws: &mut Draws,
        observe: &mut Observer<'_>,
    ) -> Result<Vec<Latent>> {
        let timer = Timer::start(Stage::Sampling, observe)?;
        let graphs = &self.graphs;
        let denoisers = self.denoisers(networks)?;
        let mut used: Vec<&str> = denoisers.iter().map(String::as_str).collect();
        if let Some(vjp) = &graphs.vjp {
            used.extend([graphs.decoder.name.as_str(), &vjp.name]);
        }
        networks.stage(&used, work.plan.keep);
        for denoiser in &denoisers {
            networks.get(denoiser)?;
        }
        work.prepare(&[&graphs.decoder.name], networks);
        timer.loaded(observe)?;
        let batch = Batch {
            pipeline: self,
            networks: &Shared::new(networks),
            tiles: self.latent_tiles(size(c_img)),
            tile_batch: work.plan.tile_batch,
            c_img: &self.padded_latent(c_img),
            cond_img,
            contexts: &contexts,
        };
        let (total, size) = (
            self.options.sampling.samples,
            self.options.sampling.batch_size,
        );
        let mut latents = Vec::with_capacity(total);
        for first in (0..total).step_by(size) {
            let samples = Samples {
                first,
                count: size.min(total - first),
            };
            let z = batch.sample(samples, draws.batch(first, samples.count), observe)?;
            let (_, _, h, w) = c_img.dim();
            let z = crop(&z, h, w);
            observe(Event::Tensor(Intermediate::Z, samples, &z))?;
            latents.extend(z.axis_chunks_iter(Axis(0), 1).map(|z| z.to_owned()));
        }
        timer.finish(observe)?;
        Ok(latents)
    }

    /// The networks that the denoiser's evaluations run on.
    fn denoisers(&self, networks: &dyn Networks) -> Result<Vec<String>> {
        let graph = &self.graphs.denoiser.name;
        let reuse = self.options.sampling.reuse()?;
        reuse.networks(graph, &networks.form(graph))
    }

    /// The denoiser's tiles for a latent of this size, if any.
    pub(super) fn latent_tiles(&self, size: (usize, usize)) -> Option<Layout> {
        self.options.tiling.cldm.layout(size)
    }

    /// The size of a latent with as many cells as the denoiser needs.
    pub(super) fn padded_latent_size(&self, (height, width): (usize, usize)) -> (usize, usize) {
        let multiple = padding(self.latent_tiles((height, width))) / DOWNSCALE;
        (round_up(height, multiple), round_up(width, multiple))
    }

    fn padded_latent(&self, c_img: &Latent) -> Latent {
        let (height, width) = self.padded_latent_size(size(c_img));
        pad_to(c_img, height, width)
    }
}

/// What all batches of a picture's samples share.
struct Batch<'a> {
    pipeline: &'a Pipeline,
    networks: &'a Shared<'a>,
    tiles: Option<Layout>,
    /// How many tiles run at once.
    tile_batch: usize,
    c_img: &'a Latent,
    cond_img: &'a Canvas,
    contexts: &'a (Context, Context),
}

impl Batch<'_> {
    /// One batch: `[count, 4, h, w]`.
    fn sample(
        &self,
        samples: Samples,
        noise: &mut dyn NoiseSource,
        observe: &mut Observer<'_>,
    ) -> Result<Latent> {
        let options = &self.pipeline.options.sampling;
        let c_img = repeated(self.c_img, samples.count)?;
        let x_t = self.start(&c_img, noise)?;
        observe(Event::Tensor(Intermediate::XT, samples, &x_t))?;
        let target = c_img.clone();
        let condition = Condition {
            c_img: self.noised(c_img, noise)?,
            c_txt: self.contexts.0.clone(),
            uncond_txt: self.contexts.1.clone(),
            strength: self.pipeline.strength,
        };
        let denoiser = &self.pipeline.graphs.denoiser.name;
        // Steps are told between the evaluations of the denoiser, tiles within one: never both at once.
        let observe = RefCell::new(observe);
        let on_tile = |k, count| observe.borrow_mut()(Event::Tile(Stage::Sampling, k, count));
        let batch = self.tile_batch;
        let tiles = self.tiles.map(|layout| LatentTiles { layout, batch });
        let how = Evaluation {
            tiles,
            reuse: options.reuse()?,
        };
        let mut model = Denoiser::new(self.networks, denoiser, condition, how, &on_tile)?;
        let mut guidance = match self.pipeline.rule {
            Some(rule) => Some(self.guidance(rule, target)?),
            None => None,
        };
        let sampling = Sampling {
            diffusion: &self.pipeline.diffusion,
            steps: options.steps,
            cfg: options.cfg(),
            knobs: options.knobs(),
            fidelity: self.pipeline.options.restore.fidelity,
        };
        let mut run = Run {
            model: &mut model,
            noise,
            guide: guidance.as_mut().map(|guide| guide as &mut dyn Guide),
            observe: &mut |step: &StepInfo<'_>| observe.borrow_mut()(Event::Step(samples, step)),
        };
        (options.sampler()?.sample)(&sampling, &mut run, x_t)
    }

    /// What sampling starts from.
    fn start(&self, c_img: &Latent, noise: &mut dyn NoiseSource) -> Result<Latent> {
        let x_t = noise.randn(shape(c_img))?;
        match self.pipeline.options.sampling.start_point {
            StartPoint::Noise => Ok(x_t),
            StartPoint::Cond => {
                let diffusion = &self.pipeline.diffusion;
                diffusion.q_sample(c_img, diffusion.timesteps() - 1, &x_t)
            }
        }
    }

    /// The condition with noise on it, where that is asked for; the same for cond and uncond.
    fn noised(&self, c_img: Latent, noise: &mut dyn NoiseSource) -> Result<Latent> {
        match self.pipeline.options.sampling.noise_aug {
            0 => Ok(c_img),
            timestep => {
                let noise = noise.randn(shape(&c_img))?;
                self.pipeline.diffusion.q_sample(&c_img, timestep, &noise)
            }
        }
    }

    /// Guidance towards the stage-1 picture, padded as the condition is.
    fn guidance(&self, rule: Rule, target: Latent) -> Result<Guidance<'_>> {
        let options = &self.pipeline.options.guidance;
        let graphs = &self.pipeline.graphs;
        if options.space == Space::Latent {
            let discard_draws = true;
            return Ok(Guidance::new(
                rule,
                Target::Latent {
                    target,
                    discard_draws,
                },
            ));
        }
        let multiple = padding(self.tiles);
        let (height, width) = self.cond_img.size();
        let padded = (round_up(height, multiple), round_up(width, multiple));
        let image = self.cond_img.window(0..padded.0, 0..padded.1)?;
        let target = repeated(&image.mapv_into(|x| x * 2.0 - 1.0), target.dim().0)?;
        let vjp = graphs.vjp.as_ref().map(|graph| graph.name.as_str());
        let decoder = GuidingDecoder {
            networks: self.networks,
            decoder: &graphs.decoder.name,
            vjp: vjp.ok_or_else(|| Error::internal("guidance lacks the decoder's derivative"))?,
        };
        Ok(Guidance::new(
            rule,
            Target::Rgb {
                weights: Weights::of(options.loss, &target),
                target,
                decoder: Box::new(decoder),
            },
        ))
    }
}

/// The multiple of pixels that the denoiser's picture is padded to.
fn padding(tiles: Option<Layout>) -> usize {
    match tiles {
        Some(Layout::Reference(_)) => DOWNSCALE,
        _ => MULTIPLE,
    }
}

/// `x` `[1, C, H, W]`, `n` times.
fn repeated(x: &Array4<f32>, n: usize) -> Result<Array4<f32>> {
    concatenate(Axis(0), &vec![x.view(); n])
        .map_err(|e| Error::internal("a batch cannot be made").with_source(e))
}
