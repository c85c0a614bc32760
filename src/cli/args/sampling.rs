//! Flags of stage 2: sampler, prompts, seeds, guidance, tiles. Each is also a configuration key.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{Setting, named, number};
use crate::error::{Error, Result};

/// What sampling starts from, as typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum StartPointArg {
    /// Noise
    Noise,
    /// Stage 1, noised to the last timestep
    Cond,
}

/// How the seed becomes the noise of several samples, as typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SeedModeArg {
    /// Sample k starts from seed + k, whatever runs beside it
    PerSample,
    /// One stream for all, a batch drawn at once
    Stream,
}

/// What to do where the reference's result is of no use, as typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FidelityArg {
    /// A sound result
    Sound,
    /// The reference's
    Reference,
}

/// What may be given up for speed, as typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SpeedArg {
    /// Nothing
    Exact,
    /// Every second evaluation of the denoiser computes its last layers alone
    Balanced,
    /// Two of three evaluations do
    Fast,
}

/// The loss of guidance, as typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LossArg {
    /// Mean square
    Mse,
    /// Mean square with less weight on edges, in rgb only
    #[value(alias = "w_mse")]
    WMse,
}

/// The space of guidance, as typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SpaceArg {
    /// Between latents
    Latent,
    /// Between pictures, through the VAE decoder
    Rgb,
}

/// How stage 2 samples.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// The sampler, by the reference's name
    #[arg(long)]
    sampler: Option<String>,
    /// Sampling steps
    #[arg(long)]
    steps: Option<u64>,
    /// Scale of classifier-free guidance; 1 leaves it out
    #[arg(long, alias = "cfg_scale", allow_negative_numbers = true)]
    cfg_scale: Option<f64>,
    /// Raise the scale from 1 to cfg-scale + 1 over the steps
    #[arg(long, alias = "rescale_cfg")]
    rescale_cfg: bool,
    /// The positive prompt
    #[arg(long, alias = "pos_prompt")]
    prompt: Option<String>,
    /// The negative prompt
    #[arg(long, alias = "neg_prompt")]
    negative_prompt: Option<String>,
    /// Do not read NAME.txt beside a picture as its caption
    #[arg(long)]
    no_captions: bool,
    /// Weight of the control module: one number, or 13 with commas between
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true)]
    strength: Vec<f64>,
    /// What sampling starts from
    #[arg(long, alias = "start_point_type", alias = "start_point", value_enum)]
    start_point: Option<StartPointArg>,
    /// Noise the condition up to this timestep
    #[arg(long, alias = "noise_aug", value_name = "TIMESTEP")]
    noise_aug: Option<u64>,
    /// Noise added before each step (edm_euler, edm_heun, edm_dpm_2)
    #[arg(long, alias = "s_churn", allow_negative_numbers = true)]
    s_churn: Option<f64>,
    /// The lowest sigma at which s-churn acts
    #[arg(long, alias = "s_tmin", allow_negative_numbers = true)]
    s_tmin: Option<f64>,
    /// The highest sigma at which s-churn acts
    #[arg(long, alias = "s_tmax", allow_negative_numbers = true)]
    s_tmax: Option<f64>,
    /// Factor on every noise added (edm samplers)
    #[arg(long, alias = "s_noise", allow_negative_numbers = true)]
    s_noise: Option<f64>,
    /// How much of a step is noise (ddim, ancestral and SDE samplers)
    #[arg(long, allow_negative_numbers = true)]
    eta: Option<f64>,
    /// Order of the solver (edm_lms 1 to 4, unipc 2 or 3)
    #[arg(long)]
    order: Option<u64>,
    /// Where the reference's result is of no use: a sound one, or the reference's
    #[arg(long, value_enum)]
    fidelity: Option<FidelityArg>,
    /// Seed of the noise
    #[arg(long)]
    seed: Option<u64>,
    /// How the seed becomes the noise of several samples
    #[arg(long, value_enum)]
    seed_mode: Option<SeedModeArg>,
    /// torch-cpu, or torch-cuda[:MULTIPROCESSORS[xTHREADS]] for what torch draws on such a device
    #[arg(long)]
    rng: Option<String>,
    /// Samples of each picture, written as NAME_0.png, NAME_1.png …
    #[arg(long, alias = "n_samples", value_name = "N")]
    samples: Option<u64>,
    /// How many samples run at once
    #[arg(long, alias = "batch_size", value_name = "N")]
    batch_size: Option<u64>,
    /// What may be given up for speed: exact, nothing; what the others lose is measured in docs/speed.md
    #[arg(long, value_enum)]
    speed: Option<SpeedArg>,
}

/// Restoration guidance.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Guidance")]
pub struct GuidanceArgs {
    /// How strongly to draw the result to stage 1; 0 does not
    #[arg(long, alias = "g_scale", allow_negative_numbers = true)]
    guidance_scale: Option<f64>,
    /// The loss
    #[arg(long, alias = "g_loss", value_enum)]
    guidance_loss: Option<LossArg>,
    /// Where the loss is computed
    #[arg(long, alias = "g_space", value_enum)]
    guidance_space: Option<SpaceArg>,
    /// Guide timesteps below this, 1 to 1001
    #[arg(
        long,
        alias = "g_start",
        value_name = "TIMESTEP",
        allow_negative_numbers = true
    )]
    guidance_start: Option<i64>,
    /// Guide timesteps above this
    #[arg(
        long,
        alias = "g_stop",
        value_name = "TIMESTEP",
        allow_negative_numbers = true
    )]
    guidance_stop: Option<i64>,
    /// How often in each step
    #[arg(long, alias = "g_repeat", value_name = "N")]
    guidance_repeat: Option<u64>,
    /// The reference's switch: here the scale alone decides.
    #[arg(long, hide = true)]
    guidance: bool,
}

/// Tiles.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Tiles")]
pub struct TileArgs {
    /// Run a stage in tiles, sizes in pixels: cleaner or cldm in the reference's (the stride is half the size unless
    /// given), cleaner_exact, vae_encoder or vae_decoder in tiles that change nothing. cldm also takes auto (the
    /// default: tiles above 1024x1024 pixels) and none (always the whole picture)
    #[arg(long, value_name = "STAGE=SIZE[:STRIDE]")]
    tile: Vec<String>,
    /// What the process may hold in memory, such as 8GiB; decides which of the exact stages run in tiles
    #[arg(long, value_name = "SIZE")]
    memory_budget: Option<String>,
    #[arg(long = "cleaner_tiled", hide = true)]
    cleaner_tiled: bool,
    #[arg(long = "cleaner_tile_size", hide = true, default_value_t = 512)]
    cleaner_tile_size: u64,
    #[arg(long = "cleaner_tile_stride", hide = true, default_value_t = 256)]
    cleaner_tile_stride: u64,
    #[arg(long = "cldm_tiled", hide = true)]
    cldm_tiled: bool,
    #[arg(long = "cldm_tile_size", hide = true, default_value_t = 512)]
    cldm_tile_size: u64,
    #[arg(long = "cldm_tile_stride", hide = true, default_value_t = 256)]
    cldm_tile_stride: u64,
    #[arg(long = "vae_encoder_tiled", hide = true)]
    vae_encoder_tiled: bool,
    #[arg(long = "vae_encoder_tile_size", hide = true, default_value_t = 256)]
    vae_encoder_tile_size: u64,
    #[arg(long = "vae_decoder_tiled", hide = true)]
    vae_decoder_tiled: bool,
    #[arg(long = "vae_decoder_tile_size", hide = true, default_value_t = 256)]
    vae_decoder_tile_size: u64,
}

impl SamplingArgs {
    pub(super) fn settings(&self) -> Vec<Setting> {
        let integer = |x: u64| json!(x);
        let strength = match self.strength.as_slice() {
            [] => None,
            [one] => Some(number(*one)),
            list => Some(list.iter().map(|&x| number(x)).collect()),
        };
        vec![
            ("sampling.sampler", self.sampler.as_ref().map(|x| json!(x))),
            ("sampling.steps", self.steps.map(integer)),
            ("sampling.cfg_scale", self.cfg_scale.map(number)),
            (
                "sampling.rescale_cfg",
                self.rescale_cfg.then_some(json!(true)),
            ),
            ("sampling.prompt", self.prompt.as_ref().map(|x| json!(x))),
            (
                "sampling.negative_prompt",
                self.negative_prompt.as_ref().map(|x| json!(x)),
            ),
            ("input.captions", self.no_captions.then_some(json!(false))),
            ("sampling.strength", strength),
            ("sampling.start_point", named(self.start_point)),
            ("sampling.noise_aug", self.noise_aug.map(integer)),
            ("sampling.s_churn", self.s_churn.map(number)),
            ("sampling.s_tmin", self.s_tmin.map(number)),
            ("sampling.s_tmax", self.s_tmax.map(number)),
            ("sampling.s_noise", self.s_noise.map(number)),
            ("sampling.eta", self.eta.map(number)),
            ("sampling.order", self.order.map(integer)),
            ("sampling.fidelity", named(self.fidelity)),
            ("sampling.seed", self.seed.map(integer)),
            ("sampling.seed_mode", named(self.seed_mode)),
            ("sampling.rng", self.rng.as_ref().map(|x| json!(x))),
            ("sampling.samples", self.samples.map(integer)),
            ("sampling.speed", named(self.speed)),
            ("sampling.batch_size", self.batch_size.map(integer)),
        ]
    }
}

impl GuidanceArgs {
    pub(super) fn settings(&self) -> Vec<Setting> {
        vec![
            ("guidance.scale", self.guidance_scale.map(number)),
            ("guidance.loss", named(self.guidance_loss)),
            ("guidance.space", named(self.guidance_space)),
            ("guidance.start", self.guidance_start.map(|x| json!(x))),
            ("guidance.stop", self.guidance_stop.map(|x| json!(x))),
            ("guidance.repeat", self.guidance_repeat.map(|x| json!(x))),
        ]
    }
}

impl TileArgs {
    /// # Errors
    /// A stage that does not run in tiles, or no size.
    pub(super) fn settings(&self) -> Result<Vec<Setting>> {
        let budget = self.memory_budget.as_ref();
        let mut settings = vec![("tiling.memory_budget", budget.map(|x| json!(x)))];
        if self.vae_encoder_tiled {
            settings.push((
                "tiling.vae_encoder",
                Some(json!(self.vae_encoder_tile_size)),
            ));
        }
        if self.vae_decoder_tiled {
            settings.push((
                "tiling.vae_decoder",
                Some(json!(self.vae_decoder_tile_size)),
            ));
        }
        if self.cleaner_tiled {
            let value = tiles(self.cleaner_tile_size, self.cleaner_tile_stride);
            settings.push(("tiling.cleaner", Some(value)));
        }
        if self.cldm_tiled {
            let value = tiles(self.cldm_tile_size, self.cldm_tile_stride);
            settings.push(("tiling.cldm", Some(value)));
        }
        for text in &self.tile {
            settings.push(stage_tiles(text)?);
        }
        Ok(settings)
    }
}

fn stage_tiles(text: &str) -> Result<Setting> {
    let wrong = || {
        Error::option(format!(
            "--tile {text}: expected cleaner or cldm =SIZE or =SIZE:STRIDE, cldm=auto or cldm=none, or cleaner_exact, \
             vae_encoder or vae_decoder =SIZE"
        ))
    };
    let (stage, sizes) = text.split_once('=').ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    let exact = match stage {
        "cleaner_exact" => Some("tiling.cleaner_exact"),
        "vae_encoder" => Some("tiling.vae_encoder"),
        "vae_decoder" => Some("tiling.vae_decoder"),
        _ => None,
    };
    if let Some(key) = exact {
        return Ok((key, Some(json!(number(sizes)?))));
    }
    let key = match stage {
        "cleaner" => "tiling.cleaner",
        "cldm" => "tiling.cldm",
        _ => return Err(wrong()),
    };
    if stage == "cldm" && ["auto", "none"].contains(&sizes) {
        return Ok((key, Some(json!(sizes))));
    }
    let (size, stride) = match sizes.split_once(':') {
        Some((size, stride)) => (number(size)?, number(stride)?),
        None => number(sizes).map(|size| (size, size / 2))?,
    };
    Ok((key, Some(tiles(size, stride))))
}

fn tiles(size: u64, stride: u64) -> Value {
    json!({ "size": size, "stride": stride })
}
