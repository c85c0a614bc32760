//! The deployment engine for DiffBIR, blind image restoration with a generative diffusion prior
//! (Lin et al., [arXiv 2308.15070](https://arxiv.org/abs/2308.15070)), on ONNX Runtime.
//!
//! Graphs come from a [`bundle`] that the exporter writes; everything between the graphs is here: picture I/O,
//! resizing, noise, the sampler's loop, guidance, colours. The results are those of the reference implementation
//! (XPixelGroup/DiffBIR at 3f8b530).
//!
//! ```text
//! low-quality picture ─ resize ─ cleaner ─ I_reg ─┬─ VAE encoder ─ c_img ─┐
//!                                                 │   noise x_T ─ loop: denoiser(x, t, c_txt, c_img) ─ sampler step
//!                                                 │                                       └─ z_0 ─ VAE decoder
//!                                                 └──── low frequencies ──── colour correction ─ resize ─ picture
//! ```
//!
//! # Where each stage is
//!
//! | stage | here | in the reference |
//! |---|---|---|
//! | reading and writing pictures | [`imageio`] | `inference/loop.py` |
//! | upscaling as Pillow does, short edge to 512 | [`resize`], [`pipeline`] | `inference/bsr_loop.py`, `pipeline.py` |
//! | stage 1: SwinIR, BSRNet, SCUNet | [`nets::cleaner`] | `SwinIRPipeline` …, `pipeline.py` |
//! | VAE encoder and decoder | [`nets::vae`] | `model/vae.py` |
//! | ControlNet and UNet | [`nets::cldm`] | `model/cldm.py` |
//! | noise schedule | [`schedule`] | `model/gaussian_diffusion.py` |
//! | prompts: CLIP tokens and embeddings | [`text`], [`prompts`] | `model/open_clip/tokenizer.py`, `model/clip.py` |
//! | samplers, classifier-free guidance | [`samplers`], [`denoise`] | `sampler/` |
//! | restoration guidance | [`guidance`] | `utils/cond_fn.py` at 858068f |
//! | tiles of cleaner and denoiser | [`tiling`] | `make_tiled_fn`, `utils/common.py` |
//! | noise, equal to torch's | [`rng`] | `torch.randn` |
//! | colour correction | [`color`] | `utils/common.py` |
//! | all of it in order | [`pipeline`] | `Pipeline.run`, `pipeline.py` |
//!
//! Around them: [`service`] has start-up and one job for every front end; [`engine`] is a bundle with its networks;
//! [`options`] are the options of a restoration and [`config`] their layers (files, `--set`, flags); [`bundle`] reads
//! and verifies exported models; [`runtime`] finds ONNX Runtime and runs graphs on it (the rest of the crate uses only
//! the traits of [`nets`]); [`capi`] is the C ABI; [`error`] classifies errors by who can fix them.
//!
//! # Use
//!
//! ```no_run
//! use std::path::Path;
//!
//! use diffbir::config::Layers;
//! use diffbir::imageio::{self, Place};
//! use diffbir::service::{Job, Opened, Silent, Source};
//!
//! # fn main() -> diffbir::error::Result<()> {
//! let mut layers = Layers::default();
//! layers.set(["bundle=onnx/diffbir-v1", "restore.upscale=4"])?;
//! let service = Opened::open(layers)?.start(false, &Silent)?;
//! let job = Job {
//!     source: &Source::File("lq.png".into()),
//!     config: &service.config,
//!     format: None,
//!     noise: Default::default(),
//!     cancel: Default::default(),
//! };
//! let done = service.run(job, &Silent, &mut |_event| Ok(()))?;
//! let place = Place { path: Path::new("restored.png"), replace: false };
//! let text = done.text(0, &service.config.output)?;
//! imageio::write(place, &done.restored.samples[0], &done.kept, Default::default(), &text)?;
//! # Ok(())
//! # }
//! ```
//!
//! The program, the C ABI and the Python package switch ONNX Runtime's telemetry off; a host in Rust calls
//! `runtime::telemetry::disable` first in its `main`, or exports `ORT_DISABLE_TELEMETRY=1`.
//!
//! # Features
//!
//! `onnx` (default): execution on ONNX Runtime, which is loaded at run time and never linked. Without it everything but
//! the sessions builds, for use with the caller's own networks. `cli` (default): the program `diffbir`. `capi`
//! (default): the C ABI of `include/diffbir.h`. `jxl` (default): pictures in JPEG XL are read.

// They panic if the stream is closed or full. The program has its own helpers; the library prints nothing.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod bundle;
pub mod cancel;
pub mod canvas;
#[cfg(feature = "capi")]
pub mod capi;
#[cfg(feature = "cli")]
pub mod cli;
pub mod color;
pub mod config;
pub mod declare;
pub mod denoise;
pub mod engine;
pub mod error;
pub mod files;
pub mod guidance;
pub mod imageio;
pub mod memory;
pub mod nets;
pub mod options;
pub mod pipeline;
pub mod prompts;
pub mod resize;
pub mod rng;
pub mod runtime;
pub mod samplers;
pub mod sandbox;
pub mod schedule;
pub mod service;
pub mod tensor;
pub mod text;
pub mod tiling;
mod wording;
pub mod yaml;
