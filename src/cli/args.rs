//! The command line exactly as typed. Nothing here touches a file; [`Common::config`] turns it into a [`Builder`].

mod bench;
mod sampling;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::config::Builder;
use crate::error::Result;

pub use bench::{Bench, Size};
use sampling::{GuidanceArgs, SamplingArgs, TileArgs};

/// Blind image restoration with DiffBIR on ONNX Runtime.
#[derive(Debug, Parser)]
#[command(name = "diffbir", version, about, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 all done; 1 some inputs failed (each named, the rest done); 2 usage; 3 configuration or \
bundle not valid; 4 ONNX Runtime or a provider unavailable; 5 not enough memory; 70 internal; 130 interrupted.";

/// The program's commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Restore pictures
    Restore(Restore),
    /// Restore the pictures that ship with the repository and write a before/after sheet
    Demo(Demo),
    /// Show what a bundle holds, and verify it
    Inspect(Inspect),
    /// Show which ONNX Runtime is found, its providers, and what each graph would run on
    Doctor(Doctor),
    /// Print the effective configuration as YAML
    Config(ConfigCommand),
    /// Time each stage and the whole, or measure what runs and graphs take of memory
    Bench(Bench),
    /// Manage the ONNX Runtime library
    Runtime(Runtime),
}

/// `diffbir restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// Files, folders and globs
    #[arg(required_unless_present = "input")]
    pub inputs: Vec<String>,
    /// The reference's spelling of an input.
    #[arg(long, hide = true)]
    pub input: Option<String>,
    /// A picture file (png, jpg, webp, tif, bmp) for one input, else a folder
    #[arg(short, long)]
    pub output: PathBuf,
    /// Search folders recursively
    #[arg(long)]
    pub recursive: bool,
    /// The inputs are the frames of one sequence, numbered in their names: restored in that order with the same noise.
    /// A run that was stopped goes on when it is given again, with the same settings; --overwrite makes all anew
    #[arg(long)]
    pub frames: bool,
    /// Print how each input would be worked on, and what memory that takes, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Replay recorded noise instead of drawing it from the seed: a safetensors file with noise.0, noise.1 …
    #[arg(long, value_name = "FILE")]
    pub replay_noise: Option<PathBuf>,
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub reporting: Reporting,
}

/// `diffbir demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Where results and the sheet go
    #[arg(short, long, default_value = "restored")]
    pub output: PathBuf,
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub reporting: Reporting,
}

/// `diffbir inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// The bundle's folder
    pub bundle: PathBuf,
    /// Read and hash every file even where it is known to be sound
    #[arg(long)]
    pub verify: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `diffbir doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    #[command(flatten)]
    pub common: Common,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `diffbir config`.
#[derive(Debug, Args)]
pub struct ConfigCommand {
    #[command(flatten)]
    pub common: Common,
}

/// `diffbir runtime`.
#[derive(Debug, Args)]
pub struct Runtime {
    #[command(subcommand)]
    pub command: RuntimeCommand,
}

/// `diffbir runtime …`.
#[derive(Debug, Subcommand)]
pub enum RuntimeCommand {
    /// Put the pinned ONNX Runtime, or plugins for it, into the per-user cache, through pip
    Install(Install),
}

/// `diffbir runtime install`.
#[derive(Debug, Clone, Copy, Args)]
pub struct Install {
    /// The build with the CUDA and TensorRT providers (255 MB)
    #[arg(long)]
    pub gpu: bool,
    /// The OpenVINO provider, a plugin (53 MB)
    #[arg(long)]
    pub openvino: bool,
    /// The TensorRT provider for RTX cards, a plugin (147 MB)
    #[arg(long)]
    pub tensorrt_rtx: bool,
}

/// How a command reports.
#[derive(Debug, Clone, Args)]
pub struct Reporting {
    /// Print JSON lines on standard output
    #[arg(long)]
    pub json: bool,
    /// Print errors only
    #[arg(long, conflicts_with = "json")]
    pub quiet: bool,
}

/// Sources of colour, as typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ColorFixArg {
    /// Low frequencies of stage 1 by wavelets
    Wavelet,
    /// Mean and deviation of stage 1
    Adain,
    /// The decoder's own
    None,
}

/// Stage 1, as typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum CleanerArg {
    /// The task's network
    Task,
    /// The enlarged picture itself
    None,
}

/// Kinds of files, as typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FormatArg {
    /// As the input
    Input,
    /// PNG
    Png,
    /// JPEG
    Jpeg,
    /// WebP, lossless
    Webp,
    /// TIFF
    Tiff,
    /// BMP
    Bmp,
}

/// Bits per channel of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DepthArg {
    /// As the input's, where the kind of file can
    Auto,
    /// 8
    #[value(name = "8")]
    Eight,
    /// 16
    #[value(name = "16")]
    Sixteen,
}

/// Flags that several commands share. Each is also a configuration key.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// A YAML configuration
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The folder of the exported bundle
    #[arg(long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Set any configuration key, such as runtime.memory=sequential
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// sr, face (aligned) or denoise, as far as the bundle serves them
    #[arg(long)]
    pub task: Option<String>,
    /// Output size over input size
    #[arg(long)]
    pub upscale: Option<f64>,
    /// task: its network; none: the enlarged picture itself is stage 1
    #[arg(long, value_enum)]
    pub cleaner: Option<CleanerArg>,
    /// Where the colours come from
    #[arg(long, value_enum)]
    pub color_fix: Option<ColorFixArg>,
    /// The largest input that is decoded
    #[arg(long, value_name = "N")]
    pub max_pixels: Option<u64>,
    /// Never install anything
    #[arg(long)]
    pub offline: bool,
    /// Read and hash every file of the bundle even where it is known to be sound
    #[arg(long)]
    pub verify: bool,
    /// Replace results that exist
    #[arg(long, conflicts_with = "skip_existing")]
    pub overwrite: bool,
    /// Leave out inputs whose results exist
    #[arg(long)]
    pub skip_existing: bool,
    /// Keep stage 1, the raw decode and the colour-corrected picture as PNG
    #[arg(long, value_name = "DIR")]
    pub save_stages: Option<PathBuf>,
    /// The kind of file that results are; else as the output's name says, PNG in a folder
    #[arg(long, value_enum)]
    pub format: Option<FormatArg>,
    /// Quality of JPEG, 1 to 100
    #[arg(long)]
    pub quality: Option<u64>,
    /// Bits per channel of PNG and TIFF; else as the input's
    #[arg(long, value_enum)]
    pub depth: Option<DepthArg>,
    /// Write a grey picture's result grey
    #[arg(long)]
    pub keep_grey: bool,
    /// Take colours as they are, whatever a picture's profile says
    #[arg(long)]
    pub ignore_profiles: bool,
    /// Write PNG without the chunk that says how it was made
    #[arg(long)]
    pub no_metadata: bool,
    /// Execution provider instead of the configured ones
    #[arg(long, value_name = "PROVIDER")]
    pub device: Option<String>,
    /// Hold as little as possible: one graph at a time, the denoiser in parts that are loaded anew in every evaluation
    #[arg(long)]
    pub low_memory: bool,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub guidance: GuidanceArgs,
    #[command(flatten)]
    pub tiles: TileArgs,
}

/// A configuration key and the value that a flag gives it, if it was given.
type Setting = (&'static str, Option<Value>);

impl Common {
    /// The flags that were given, as configuration keys and values.
    fn settings(&self) -> Result<Vec<(&'static str, Value)>> {
        let existing = match (self.overwrite, self.skip_existing) {
            (true, _) => Some("overwrite"),
            (_, true) => Some("skip"),
            _ => None,
        };
        let given = [
            ("bundle", self.bundle.as_ref().map(|x| json!(x))),
            ("restore.task", self.task.as_ref().map(|x| json!(x))),
            ("restore.upscale", self.upscale.map(number)),
            ("restore.cleaner", named(self.cleaner)),
            ("restore.color_fix", named(self.color_fix)),
            ("output.format", named(self.format)),
            ("output.quality", self.quality.map(|x| json!(x))),
            ("output.depth", named(self.depth)),
            ("output.keep_grey", self.keep_grey.then_some(json!(true))),
            (
                "input.profiles",
                self.ignore_profiles.then_some(json!(false)),
            ),
            ("input.max_pixels", self.max_pixels.map(|x| json!(x))),
            (
                "runtime.providers",
                self.device.as_ref().map(|x| json!([x])),
            ),
            ("runtime.memory", self.low_memory.then_some(json!("least"))),
            ("runtime.offline", self.offline.then_some(json!(true))),
            ("output.existing", existing.map(|x| json!(x))),
            (
                "output.save_stages",
                self.save_stages.as_ref().map(|x| json!(x)),
            ),
            ("output.metadata", self.no_metadata.then_some(json!(false))),
        ];
        let given = given
            .into_iter()
            .chain(self.sampling.settings())
            .chain(self.guidance.settings())
            .chain(self.tiles.settings()?);
        Ok(given
            .filter_map(|(key, value)| Some((key, value?)))
            .collect())
    }

    /// Lays the config file over `builder`.
    ///
    /// # Errors
    /// A file that cannot be read or holds what is not accepted.
    pub fn lay_file(&self, builder: &mut Builder) -> Result<()> {
        self.config
            .as_deref()
            .map_or(Ok(()), |path| builder.file(path))
    }

    /// Lays `--set` and the other flags over `builder`.
    ///
    /// # Errors
    /// A value that is not accepted.
    pub fn lay_flags(&self, builder: &mut Builder) -> Result<()> {
        for assignment in &self.set {
            builder.set(assignment).map_err(|e| e.at("--set"))?;
        }
        for (key, value) in self.settings()? {
            builder.put(key, value)?;
        }
        Ok(())
    }
}

/// JSON has no NaN or infinity; their names are refused with a message where they arrive.
fn number(x: f64) -> Value {
    serde_json::Number::from_f64(x).map_or_else(|| Value::String(x.to_string()), Value::Number)
}

/// The name that a value has on the command line and in the configuration.
fn named<T: ValueEnum>(value: Option<T>) -> Option<Value> {
    let value = value?.to_possible_value()?;
    Some(json!(value.get_name()))
}
