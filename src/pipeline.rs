//! The restoration of one batch: clean, encode, sample, decode, colours, size.
//!
//! Source: `Pipeline.run`, diffbir/pipeline.py at 3f8b530 (Lin et al., arXiv 2308.15070). What differs is said where
//! it differs.

mod stage1;

use std::time::Instant;

use ndarray::Array4;

use crate::bundle::Bundle;
use crate::color;
use crate::error::{Error, Result};
use crate::nets::Networks;
use crate::nets::cldm::{Condition, Denoiser};
use crate::nets::contract::GraphKind;
use crate::nets::{cleaner::CleanerSpec, vae};
use crate::options::{ColorFix, RestoreOptions, SamplingOptions};
use crate::resize;
use crate::rng::NoiseSource;
use crate::samplers::{Sampling, StepInfo};
use crate::schedule::Diffusion;
use crate::tensor::{Image, Latent, crop, pad_to_multiple, size, to_hwc};

pub use stage1::{MAX_ASPECT, Sizes};

/// A part of the pipeline that runs one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
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
    /// The cleaned picture, `[N, 3, H, W]`, nominally in `[0, 1]`, not clamped.
    Stage1,
    /// Its latent.
    CImg,
    /// The noise that sampling starts from.
    XT,
    /// The sampled latent, without padding.
    Z,
    /// The decoded picture, nominally in `[-1, 1]`, cropped to the cleaned picture's size.
    Decoded,
    /// The colour-corrected picture, nominally in `[0, 1]`, before the last resize.
    ColorFixed,
}

/// What an observer is told.
pub enum Event<'a> {
    /// A stage begins: its graph is loaded now, then run.
    Started(Stage),
    /// A stage's graph is loaded; seconds since the stage began.
    Loaded(Stage, f64),
    /// A sampling step is done.
    Step(&'a StepInfo<'a>),
    /// An intermediate result is there.
    Tensor(Intermediate, &'a Array4<f32>),
    /// A stage is done; seconds since it began, loading included.
    Finished(Stage, f64),
}

/// Told of progress; an error stops the work between stages and steps.
pub type Observer<'a> = dyn FnMut(Event<'_>) -> Result<()> + 'a;

/// What the pipeline takes from a bundle and from the options, checked before anything runs.
#[derive(Debug, Clone)]
pub struct Pipeline {
    cleaner: (String, CleanerSpec),
    encoder: String,
    denoiser: String,
    decoder: String,
    min_short_edge: usize,
    diffusion: Diffusion,
    restore: RestoreOptions,
    sampling: SamplingOptions,
    c_txt: crate::nets::cldm::Context,
    uncond_txt: crate::nets::cldm::Context,
}

impl Pipeline {
    /// Checks `restore` and `sampling` and finds their graphs and contexts in `bundle`.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): a value that is not accepted, a task or prompt that the bundle
    /// does not serve. [`Bundle`](crate::error::ErrorKind::Bundle): a graph that is missing.
    pub fn new(
        bundle: &Bundle,
        restore: &RestoreOptions,
        sampling: &SamplingOptions,
    ) -> Result<Self> {
        restore.validate()?;
        sampling.validate()?;
        let (cleaner, _, spec) = bundle.cleaner(&restore.task)?;
        let diffusion = Diffusion::new(&bundle.manifest().diffusion)?;
        if sampling.steps > diffusion.timesteps() {
            return Err(Error::option(format!(
                "sampling.steps is {}, expected at most {}, the timesteps of the bundle's schedule",
                sampling.steps,
                diffusion.timesteps()
            )));
        }
        let c_txt = bundle.context(&sampling.prompt)?;
        // Without guidance no uncond branch runs, so its prompt need not be known.
        let uncond_txt = match sampling.cfg_scale {
            1.0 => c_txt.clone(),
            _ => bundle.context(&sampling.negative_prompt)?,
        };
        Ok(Pipeline {
            cleaner: (cleaner.to_owned(), spec),
            encoder: bundle.graph_of(GraphKind::VaeEncoder)?.to_owned(),
            denoiser: bundle.graph_of(GraphKind::Denoiser)?.to_owned(),
            decoder: bundle.graph_of(GraphKind::VaeDecoder)?.to_owned(),
            min_short_edge: bundle.manifest().min_short_edge,
            diffusion,
            restore: restore.clone(),
            sampling: sampling.clone(),
            c_txt,
            uncond_txt,
        })
    }

    /// Whether a run uses `graph`.
    pub fn uses(&self, graph: &str) -> bool {
        [
            &self.cleaner.0,
            &self.encoder,
            &self.denoiser,
            &self.decoder,
        ]
        .into_iter()
        .any(|name| name == graph)
    }

    /// Restores `lq` `[N, H, W, 3]`, N low-quality pictures of one size, to `[N, upscale * H, upscale * W, 3]`.
    ///
    /// Draws from `noise`, in order: `x_T`, then what the sampler documents.
    ///
    /// # Errors
    /// What `networks`, `noise` and `observe` report.
    pub fn run(
        &self,
        lq: &Array4<u8>,
        networks: &mut dyn Networks,
        noise: &mut dyn NoiseSource,
        observe: &mut Observer<'_>,
    ) -> Result<Array4<u8>> {
        let (lq, sizes) = stage1::prepare(lq, self.restore.upscale, self.cleaner.1);
        let cond_img = self.clean(lq, &sizes, networks, observe)?;
        let c_img = self.encode(&cond_img, networks, observe)?;
        let z = self.sample(c_img, networks, noise, observe)?;
        let decoded = self.decode(z, size(&cond_img), networks, observe)?;
        self.finish(decoded, &cond_img, &sizes, observe)
    }

    fn clean(
        &self,
        lq: Image,
        sizes: &Sizes,
        networks: &mut dyn Networks,
        observe: &mut Observer<'_>,
    ) -> Result<Image> {
        let (graph, spec) = &self.cleaner;
        let timer = Timer::start(Stage::Cleaner, observe)?;
        let net = networks.get(graph)?;
        timer.loaded(observe)?;
        let cond_img = stage1::clean(net, *spec, lq, sizes, self.min_short_edge)?;
        observe(Event::Tensor(Intermediate::Stage1, &cond_img))?;
        timer.finish(observe)?;
        Ok(cond_img)
    }

    /// The latent of the cleaned picture, padded with black to multiples of 64 pixels. Encoded once: the reference
    /// encodes the same picture for cond and uncond.
    fn encode(
        &self,
        cond_img: &Image,
        networks: &mut dyn Networks,
        observe: &mut Observer<'_>,
    ) -> Result<Latent> {
        let timer = Timer::start(Stage::VaeEncoder, observe)?;
        let net = networks.get(&self.encoder)?;
        timer.loaded(observe)?;
        let c_img = vae::encode(net, &pad_to_multiple(cond_img, 64))?;
        observe(Event::Tensor(Intermediate::CImg, &c_img))?;
        timer.finish(observe)?;
        Ok(c_img)
    }

    fn sample(
        &self,
        c_img: Latent,
        networks: &mut dyn Networks,
        noise: &mut dyn NoiseSource,
        observe: &mut Observer<'_>,
    ) -> Result<Latent> {
        let timer = Timer::start(Stage::Sampling, observe)?;
        let (n, c, h, w) = c_img.dim();
        let x_t = noise.randn([n, c, h, w])?;
        observe(Event::Tensor(Intermediate::XT, &x_t))?;
        let condition = Condition {
            c_img,
            c_txt: self.c_txt.clone(),
            uncond_txt: self.uncond_txt.clone(),
            strength: self.sampling.strengths(),
        };
        let net = networks.get(&self.denoiser)?;
        timer.loaded(observe)?;
        let mut model = Denoiser::new(net, &condition);
        let mut on_step = |step: &StepInfo<'_>| observe(Event::Step(step));
        let sampling = Sampling {
            diffusion: &self.diffusion,
            steps: self.sampling.steps,
            cfg: self.sampling.cfg(),
        };
        let z = (self.sampling.sampler()?.sample)(&sampling, &mut model, x_t, noise, &mut on_step)?;
        observe(Event::Tensor(Intermediate::Z, &z))?;
        timer.finish(observe)?;
        Ok(z)
    }

    fn decode(
        &self,
        z: Latent,
        (height, width): (usize, usize),
        networks: &mut dyn Networks,
        observe: &mut Observer<'_>,
    ) -> Result<Image> {
        let timer = Timer::start(Stage::VaeDecoder, observe)?;
        let net = networks.get(&self.decoder)?;
        timer.loaded(observe)?;
        let decoded = crop(&vae::decode(net, &z)?, height, width);
        observe(Event::Tensor(Intermediate::Decoded, &decoded))?;
        timer.finish(observe)?;
        Ok(decoded)
    }

    fn finish(
        &self,
        decoded: Image,
        cond_img: &Image,
        sizes: &Sizes,
        observe: &mut Observer<'_>,
    ) -> Result<Array4<u8>> {
        let timer = Timer::start(Stage::Finish, observe)?;
        let sample = decoded.mapv_into(|x| (x + 1.0) / 2.0);
        let fixed = match self.restore.color_fix {
            ColorFix::Wavelet => color::wavelet_reconstruction(sample, cond_img)?,
            ColorFix::Adain => color::adaptive_instance_normalization(sample, cond_img)?,
            ColorFix::None => sample,
        };
        observe(Event::Tensor(Intermediate::ColorFixed, &fixed))?;
        let (height, width) = sizes.padded_output;
        let resized = resize::torch_bicubic(&fixed, height, width);
        drop(fixed);
        let (height, width) = sizes.output;
        let result = to_hwc(resize::quantise(&crop(&resized, height, width)));
        timer.finish(observe)?;
        Ok(result)
    }
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
