//! From the cleaned picture to samples of the restored one.

use std::cell::RefCell;

use ndarray::{Array3, Array4, Axis, concatenate};

use super::{Event, Intermediate, Observer, Pipeline, Samples, Sizes, Stage, Timer, stage1};
use crate::color;
use crate::denoise::Guide;
use crate::error::{Error, Result};
use crate::guidance::{Guidance, Rule, Space, Target, Weights};
use crate::nets::cldm::{Condition, Context, Denoiser};
use crate::nets::vae::{self, DOWNSCALE, GuidingDecoder};
use crate::nets::{Networks, Shared};
use crate::options::{ColorFix, StartPoint};
use crate::resize;
use crate::rng::{Draws, NoiseSource};
use crate::samplers::{Run, Sampling, StepInfo};
use crate::tensor::{Image, Latent, crop, pad_to_multiple, shape, size, to_hwc};
use crate::tiling::{OnTile, Tiles};

/// The condition is padded to multiples of this many pixels; where the denoiser runs in tiles, of [`DOWNSCALE`].
const MULTIPLE: usize = 64;

/// Sample `k` alone.
fn one(k: usize) -> Samples {
    Samples { first: k, count: 1 }
}

impl Pipeline {
    pub(super) fn clean(
        &self,
        lq: Image,
        sizes: &Sizes,
        networks: &mut dyn Networks,
        observe: &mut Observer<'_>,
    ) -> Result<Image> {
        let timer = Timer::start(Stage::Cleaner, observe)?;
        let net = match &self.graphs.cleaner {
            Some(graph) => {
                networks.stage(&[graph]);
                Some(networks.get(graph)?)
            }
            None => None,
        };
        timer.loaded(observe)?;
        let observer = RefCell::new(&mut *observe);
        let on_tile = |k, count| observer.borrow_mut()(Event::Tile(Stage::Cleaner, k, count));
        let tiles = (self.options.tiling.cleaner, &on_tile as &OnTile<'_>);
        let cond_img = stage1::clean(net, self.cleaner, lq, sizes, self.min_short_edge, tiles)?;
        observe(Event::Tensor(Intermediate::Stage1, one(0), &cond_img))?;
        timer.finish(observe)?;
        Ok(cond_img)
    }

    /// The latent of the cleaned picture, padded with black. Encoded once: the reference encodes the same picture for
    /// cond and uncond and for every sample.
    pub(super) fn encode(
        &self,
        cond_img: &Image,
        networks: &mut dyn Networks,
        observe: &mut Observer<'_>,
    ) -> Result<Latent> {
        let timer = Timer::start(Stage::VaeEncoder, observe)?;
        networks.stage(&[&self.graphs.encoder]);
        let net = networks.get(&self.graphs.encoder)?;
        timer.loaded(observe)?;
        let multiple = match self.options.tiling.cldm {
            Some(_) => DOWNSCALE,
            None => MULTIPLE,
        };
        let c_img = vae::encode(net, &pad_to_multiple(cond_img, multiple))?;
        observe(Event::Tensor(Intermediate::CImg, one(0), &c_img))?;
        timer.finish(observe)?;
        Ok(c_img)
    }

    /// The latents of all samples, batch by batch.
    pub(super) fn sample(
        &self,
        c_img: &Latent,
        cond_img: &Image,
        contexts: (Context, Context),
        networks: &mut dyn Networks,
        draws: &mut Draws,
        observe: &mut Observer<'_>,
    ) -> Result<Vec<Latent>> {
        let timer = Timer::start(Stage::Sampling, observe)?;
        let graphs = &self.graphs;
        match &graphs.vjp {
            Some(vjp) => networks.stage(&[&graphs.denoiser, &graphs.decoder, vjp]),
            None => networks.stage(&[&graphs.denoiser]),
        }
        networks.get(&graphs.denoiser)?;
        timer.loaded(observe)?;
        let batch = Batch {
            pipeline: self,
            networks: &Shared::new(networks),
            tiles: self.latent_tiles(size(c_img)),
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

    /// The denoiser's tiles in latent cells, where they fit into a latent of this size.
    fn latent_tiles(&self, size: (usize, usize)) -> Option<Tiles> {
        let tiles = self.options.tiling.cldm?;
        let tiles = Tiles {
            size: tiles.size / DOWNSCALE,
            stride: tiles.stride / DOWNSCALE,
        };
        tiles.fit(size).then_some(tiles)
    }

    /// `c_img` with as many cells as the denoiser needs.
    fn padded_latent(&self, c_img: &Latent) -> Latent {
        match self.latent_tiles(size(c_img)) {
            Some(_) => c_img.clone(),
            None => pad_to_multiple(c_img, MULTIPLE / DOWNSCALE),
        }
    }

    /// The picture of sample `k`, as large as `cond_img`.
    pub(super) fn decode(
        &self,
        k: usize,
        z: Latent,
        cond_img: &Image,
        networks: &mut dyn Networks,
        observe: &mut Observer<'_>,
    ) -> Result<Image> {
        let timer = Timer::start(Stage::VaeDecoder, observe)?;
        let net = networks.get(&self.graphs.decoder)?;
        timer.loaded(observe)?;
        let (height, width) = size(cond_img);
        let decoded = crop(&vae::decode(net, &z)?, height, width);
        observe(Event::Tensor(Intermediate::Decoded, one(k), &decoded))?;
        timer.finish(observe)?;
        Ok(decoded)
    }

    /// Colours, size and 8 bits: `[H, W, 3]`.
    pub(super) fn finish(
        &self,
        k: usize,
        decoded: Image,
        cond_img: &Image,
        sizes: &Sizes,
        observe: &mut Observer<'_>,
    ) -> Result<Array3<u8>> {
        let timer = Timer::start(Stage::Finish, observe)?;
        let fixed = self.fix_colors(decoded, cond_img)?;
        observe(Event::Tensor(Intermediate::ColorFixed, one(k), &fixed))?;
        let (height, width) = sizes.padded_output;
        let resized = resize::torch_bicubic(&fixed, height, width);
        drop(fixed);
        let (height, width) = sizes.output;
        let picture = to_hwc(resize::quantise(&crop(&resized, height, width)));
        timer.finish(observe)?;
        Ok(picture.index_axis_move(Axis(0), 0))
    }

    /// `decoded` in `[-1, 1]` to `[0, 1]`, with its colours from `cond_img`.
    fn fix_colors(&self, decoded: Image, cond_img: &Image) -> Result<Image> {
        let sample = decoded.mapv_into(|x| (x + 1.0) / 2.0);
        match self.options.restore.color_fix {
            ColorFix::Wavelet => color::wavelet_reconstruction(sample, cond_img),
            ColorFix::Adain => color::adaptive_instance_normalization(sample, cond_img),
            ColorFix::None => Ok(sample),
        }
    }
}

/// What all batches of a picture's samples share.
struct Batch<'a> {
    pipeline: &'a Pipeline,
    networks: &'a Shared<'a>,
    tiles: Option<Tiles>,
    c_img: &'a Latent,
    cond_img: &'a Image,
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
        let denoiser = &self.pipeline.graphs.denoiser;
        // Steps are told between the evaluations of the denoiser, tiles within one: never both at once.
        let observe = RefCell::new(observe);
        let on_tile = |k, count| observe.borrow_mut()(Event::Tile(Stage::Sampling, k, count));
        let mut model = Denoiser::new(self.networks, denoiser, condition, self.tiles, &on_tile);
        let mut guidance = match self.pipeline.rule {
            Some(rule) => Some(self.guidance(rule, target)?),
            None => None,
        };
        let sampling = Sampling {
            diffusion: &self.pipeline.diffusion,
            steps: options.steps,
            cfg: options.cfg(),
            knobs: options.knobs(),
            fidelity: options.fidelity,
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
        let multiple = match self.tiles {
            Some(_) => DOWNSCALE,
            None => MULTIPLE,
        };
        let image = pad_to_multiple(self.cond_img, multiple);
        let target = repeated(&image.mapv_into(|x| x * 2.0 - 1.0), target.dim().0)?;
        let vjp = graphs.vjp.as_deref();
        let decoder = GuidingDecoder {
            networks: self.networks,
            decoder: &graphs.decoder,
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

/// `x` `[1, C, H, W]`, `n` times.
fn repeated(x: &Array4<f32>, n: usize) -> Result<Array4<f32>> {
    concatenate(Axis(0), &vec![x.view(); n])
        .map_err(|e| Error::internal("a batch cannot be made").with_source(e))
}
