//! From the stage-1 picture's latent to the latents of the samples.

use ndarray::{Array4, Axis, concatenate};

use super::prompts::Contexts;
use super::run::Run;
use super::{Event, Intermediate, Pipeline, Samples, Stage, Stage2};
use crate::cancel::Checkpoint;
use crate::canvas::Canvas;
use crate::denoise::{Branch, Guide, NoiseModel};
use crate::error::{Error, ErrorKind, Result};
use crate::guidance::{Guidance, Rule, Space, Target, Weights};
use crate::nets::cldm::{CallOptions, Condition, Denoiser, LatentTiles};
use crate::nets::vae::{DOWNSCALE, GuidingDecoder};
use crate::options::StartPoint;
use crate::rng::{Draws, NoiseSource};
use crate::samplers::{self, Sampling, StepInfo};
use crate::tensor::{Latent, crop, expect_finite, pad_to, shape, size};
use crate::tiling::Layout;

impl Pipeline {
    /// The denoiser's tiles for a latent of this size, if any.
    pub(super) fn latent_tiles(&self, size: (usize, usize)) -> Option<Layout> {
        self.options.tiling.cldm.layout(size)
    }
}

impl Run<'_> {
    /// The latents of all samples, `[1, 4, h, w]` each, batch by batch.
    pub(super) fn sample(
        &self,
        stage2: &Stage2,
        cond_img: &Canvas,
        c_img: &Latent,
        contexts: &Contexts,
        draws: &mut Draws,
    ) -> Result<Vec<Latent>> {
        let options = &self.pipeline.options.sampling;
        let all = Samples {
            first: 0,
            count: options.samples,
        };
        self.stage(Stage::Sampling, all, |timer| {
            self.load_denoiser(stage2)?;
            timer.loaded()?;
            let (height, width) = size(c_img);
            let sampler = Sampler {
                run: self,
                stage2,
                tiles: self.pipeline.latent_tiles((height, width)),
                c_img: &pad_to(c_img, self.sizes.sampled, self.pipeline.padding()),
                cond_img,
                contexts,
            };
            let mut latents = Vec::with_capacity(options.samples);
            for first in (0..options.samples).step_by(options.batch_size) {
                let count = options.batch_size.min(options.samples - first);
                let samples = Samples { first, count };
                let z = sampler.sample(samples, draws.batch(first, count))?;
                let z = crop(&z, height, width);
                self.events
                    .notify(Event::Tensor(Intermediate::Z, samples, &z))?;
                latents.extend(z.axis_chunks_iter(Axis(0), 1).map(|z| z.to_owned()));
            }
            Ok(latents)
        })
    }

    /// Loads the networks of every step.
    fn load_denoiser(&self, stage2: &Stage2) -> Result<()> {
        let graphs = &stage2.graphs;
        let denoisers = self.denoisers(stage2)?;
        let mut used: Vec<&str> = denoisers.iter().map(String::as_str).collect();
        if let Some(vjp) = &graphs.vjp {
            used.extend([graphs.decoder.name.as_str(), &vjp.name]);
        }
        self.networks.lock()?.stage(&used, self.plan.keep);
        for denoiser in &denoisers {
            self.networks.with(denoiser, |_| Ok(()))?;
        }
        self.prepare(&[&graphs.decoder.name])
    }

    /// The networks of denoiser calls.
    pub(super) fn denoisers(&self, stage2: &Stage2) -> Result<Vec<String>> {
        let graph = &stage2.graphs.denoiser.name;
        let info = self.networks.lock()?.info().graph(graph);
        let policy = self.pipeline.options.sampling.reuse()?;
        policy.networks(graph, &info)
    }
}

/// State that all batches of a picture's samples share.
struct Sampler<'a, 'r> {
    run: &'a Run<'r>,
    stage2: &'a Stage2,
    tiles: Option<Layout>,
    /// The condition, with the padding that the denoiser needs.
    c_img: &'a Latent,
    cond_img: &'a Canvas,
    contexts: &'a Contexts,
}

impl Sampler<'_, '_> {
    /// Samples one batch: `[count, 4, h, w]`.
    fn sample(&self, samples: Samples, noise: &mut dyn NoiseSource) -> Result<Latent> {
        let (pipeline, events) = (self.run.pipeline, &self.run.events);
        let options = &pipeline.options.sampling;
        let c_img = repeated(self.c_img, samples.count)?;
        let x_t = self.x_t(&c_img, noise)?;
        events.notify(Event::Tensor(Intermediate::XT, samples, &x_t))?;
        let target = c_img.clone();
        let on_tile = |k, count| events.notify(Event::Tile(Stage::Sampling, k, count));
        let checkpoint = || events.checkpoint();
        let mut model = Placed {
            model: Denoiser::new(
                &self.run.networks,
                &self.stage2.graphs.denoiser.name,
                self.condition(c_img, noise)?,
                self.call_options()?,
                &on_tile,
            )?,
            checkpoint: &checkpoint,
        };
        let mut guidance = match self.stage2.rule {
            Some(rule) => Some(self.guidance(rule, target)?.with_checkpoint(&checkpoint)),
            None => None,
        };
        let sampling = Sampling {
            diffusion: &self.stage2.diffusion,
            steps: options.steps,
            cfg: options.cfg(),
            parameters: options.parameters(),
            fidelity: pipeline.options.restore.fidelity,
        };
        let mut run = samplers::Run {
            model: &mut model,
            noise,
            guide: guidance.as_mut().map(|guide| guide as &mut dyn Guide),
            observe: &mut |step: &StepInfo<'_>| {
                let what = || format!("the latent after step {} of {}", step.index + 1, step.total);
                expect_finite(what, step.x)?;
                events.notify(Event::Step(samples, step))
            },
        };
        (options.sampler()?.sample)(&sampling, &mut run, x_t)
    }

    /// The latent that sampling starts from.
    fn x_t(&self, c_img: &Latent, noise: &mut dyn NoiseSource) -> Result<Latent> {
        let x_t = noise.randn(shape(c_img))?;
        let pipeline = self.run.pipeline;
        match pipeline.options.sampling.start_point {
            StartPoint::Noise => Ok(x_t),
            StartPoint::Cond => {
                let diffusion = &self.stage2.diffusion;
                diffusion.q_sample(c_img, diffusion.timesteps() - 1, &x_t)
            }
        }
    }

    /// The denoiser's condition, the same for cond and uncond, with noise added if that option is set.
    fn condition(&self, c_img: Latent, noise: &mut dyn NoiseSource) -> Result<Condition> {
        let pipeline = self.run.pipeline;
        let c_img = match pipeline.options.sampling.noise_aug {
            0 => c_img,
            timestep => {
                let noise = noise.randn(shape(&c_img))?;
                self.stage2.diffusion.q_sample(&c_img, timestep, &noise)?
            }
        };
        Ok(Condition {
            c_img,
            c_txt: self.contexts.cond.clone(),
            uncond_txt: self.contexts.uncond.clone(),
            strength: self.stage2.strength,
        })
    }

    fn call_options(&self) -> Result<CallOptions> {
        let batch = self.run.plan.tile_batch;
        Ok(CallOptions {
            tiles: self.tiles.map(|layout| LatentTiles { layout, batch }),
            cache: self.run.pipeline.options.sampling.reuse()?,
        })
    }

    /// Guidance towards the stage-1 picture, with the condition's padding.
    fn guidance(&self, rule: Rule, target: Latent) -> Result<Guidance<'_>> {
        let pipeline = self.run.pipeline;
        let options = &pipeline.options.guidance;
        if options.space == Space::Latent {
            let target = Target::Latent {
                target,
                discard_draws: true,
            };
            return Ok(Guidance::new(rule, target));
        }
        let (height, width) = self.run.sizes.sampled;
        let (rows, columns) = (0..height * DOWNSCALE, 0..width * DOWNSCALE);
        let image = self.cond_img.padded(rows, columns, pipeline.padding())?;
        let target = repeated(&image.mapv_into(|x| x * 2.0 - 1.0), target.dim().0)?;
        let vjp = self.stage2.graphs.vjp.as_ref();
        let vjp = vjp.ok_or_else(|| Error::internal("guidance lacks the decoder's derivative"))?;
        let decoder = GuidingDecoder {
            networks: &self.run.networks,
            decoder: &self.stage2.graphs.decoder.name,
            vjp: &vjp.name,
        };
        let target = Target::Rgb {
            weights: Weights::of(options.loss, &target),
            target,
            decoder: Box::new(decoder),
        };
        Ok(Guidance::new(rule, target))
    }
}

/// A noise model that can be stopped before each call, and whose errors name the timestep.
struct Placed<'a, M> {
    model: M,
    checkpoint: &'a Checkpoint<'a>,
}

impl<M: NoiseModel> NoiseModel for Placed<'_, M> {
    fn predict(&mut self, x_t: &Latent, timestep: f32, branches: &[Branch]) -> Result<Vec<Latent>> {
        (self.checkpoint)()?;
        let predicted = self.model.predict(x_t, timestep, branches);
        predicted.map_err(|e| match e.kind() {
            ErrorKind::NotFinite => e.at(format!("timestep {timestep}")),
            _ => e,
        })
    }
}

/// `x` `[1, C, H, W]`, repeated `n` times.
fn repeated(x: &Array4<f32>, n: usize) -> Result<Array4<f32>> {
    concatenate(Axis(0), &vec![x.view(); n])
        .map_err(|e| Error::internal("a batch cannot be made").with_source(e))
}
