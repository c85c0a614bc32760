//! The command line as typed. Flags of configuration keys are generated with the layers ([`declare`](crate::declare));
//! a command includes the groups that apply to it, and refuses all other flags.

mod bench;
mod groups;
mod help;
mod table;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{ConfigLayer, Grey, InputLayer, Layers, OutputLayer};
use crate::error::Result;
use crate::options::SizeLayer;

pub use bench::Bench;
use groups::{BundleArgs, EngineArgs, ExistingArgs, ModelArgs, RuntimeArgs};
pub use help::{command, parse};
pub use table::{flags, option_table};

/// Blind image restoration with DiffBIR on ONNX Runtime.
#[derive(Debug, Parser)]
#[command(name = "diffbir", version, about, max_term_width = 100, args_override_self = true, after_help = help::ENVIRONMENT)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The program's commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Restore pictures
    #[command(after_help = help::RESTORE)]
    Restore(Box<Restore>),
    /// Restore the pictures that ship with the repository and write a before/after sheet
    Demo(Box<Demo>),
    /// Verify a bundle and show its contents
    Inspect(Inspect),
    /// Show which ONNX Runtime is found, its providers, and the provider of each graph
    Doctor(Box<Doctor>),
    /// Print the effective configuration as YAML
    Config(Box<ConfigCommand>),
    /// Time each stage and the whole, or measure the memory of runs and graphs
    Bench(Box<Bench>),
    /// Manage the ONNX Runtime library
    Runtime(Runtime),
    /// Write man pages
    Man {
        /// Folder for the pages
        dir: PathBuf,
    },
    /// Print a completion script
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
}

/// `diffbir restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// Files, folders and globs; - for a picture on standard input
    #[arg(required_unless_present = "input")]
    pub inputs: Vec<PathBuf>,
    /// The reference's spelling of an input.
    #[arg(long, hide = true)]
    pub input: Option<PathBuf>,
    /// A picture file (png, jpg, webp, tif, bmp) or - (standard output) for one input, a video (mp4, m4v, mov, mkv) for one
    /// video, else a folder
    #[arg(short, long)]
    pub output: PathBuf,
    /// Search folders recursively
    #[arg(long)]
    pub recursive: bool,
    /// Restore the inputs as the frames of one sequence, numbered in their names: same size, same noise, same prompt. Implies
    /// --resume unless --overwrite is given
    #[arg(long)]
    pub frames: bool,
    /// Print the plan and the memory of each input, and restore nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Replay recorded noise instead of the seed's: a safetensors file with noise.0, noise.1 …
    #[arg(long, value_name = "FILE")]
    pub replay_noise: Option<PathBuf>,
    #[command(flatten)]
    pub bundle: BundleArgs,
    #[command(flatten)]
    pub options: RestoreArgs,
    #[command(flatten)]
    pub reporting: Reporting,
}

/// Every configuration key that has a flag.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    #[command(flatten, next_help_heading = "Input and output")]
    input: InputLayer,
    #[command(flatten)]
    output: OutputLayer,
    /// What `--grey auto` does, by its former name.
    #[arg(long, hide = true, conflicts_with = "grey")]
    keep_grey: bool,
    #[command(flatten)]
    size: SizeLayer,
    #[command(flatten)]
    existing: ExistingArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

impl RestoreArgs {
    fn layer(&self) -> Result<ConfigLayer> {
        let mut output = self.output.clone();
        output.existing = self.existing.choice();
        output.grey = output.grey.or(self.keep_grey.then_some(Grey::Auto));
        Ok(ConfigLayer {
            input: self.input.clone(),
            output,
            size: self.size.clone(),
            runtime: self.runtime.layer()?,
            ..self.model.layer()?
        })
    }
}

impl Restore {
    /// The configuration's layers.
    ///
    /// # Errors
    /// A file that cannot be read, a value that is not accepted.
    pub fn layers(&self) -> Result<Layers> {
        self.bundle
            .layers("restore", groups::ALL, self.options.layer()?)
    }
}

/// `diffbir demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Folder for the results and the sheet
    #[arg(short, long, default_value = "restored")]
    pub output: PathBuf,
    /// Folder for the stage-1, decoded and colour-corrected images [default: stages in the output folder]
    #[arg(long, value_name = "DIR")]
    pub save_stages: Option<PathBuf>,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub reporting: Reporting,
}

impl Demo {
    /// As [`Restore::layers`].
    ///
    /// # Errors
    /// As [`Restore::layers`].
    pub fn layers(&self) -> Result<Layers> {
        self.engine.layers("demo")
    }
}

/// `diffbir inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// Folder of the bundle [default: as for restore]
    pub bundle: Option<PathBuf>,
    /// Hash every file, including those verified before
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
    bundle: BundleArgs,
    #[command(flatten)]
    runtime: RuntimeArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Doctor {
    /// As [`Restore::layers`].
    ///
    /// # Errors
    /// As [`Restore::layers`].
    pub fn layers(&self) -> Result<Layers> {
        let layer = ConfigLayer {
            runtime: self.runtime.layer()?,
            ..ConfigLayer::default()
        };
        self.bundle.layers("doctor", groups::RUNTIME, layer)
    }
}

/// `diffbir config`.
#[derive(Debug, Args)]
pub struct ConfigCommand {
    #[command(flatten)]
    bundle: BundleArgs,
    #[command(flatten)]
    options: RestoreArgs,
}

impl ConfigCommand {
    /// As [`Restore::layers`].
    ///
    /// # Errors
    /// As [`Restore::layers`].
    pub fn layers(&self) -> Result<Layers> {
        self.bundle
            .layers("config", groups::ALL, self.options.layer()?)
    }
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
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Reporting")]
pub struct Reporting {
    /// Print JSON lines on standard output (with --output - on standard error)
    #[arg(long)]
    pub json: bool,
    /// Print errors only
    #[arg(long, conflicts_with = "json")]
    pub quiet: bool,
}
