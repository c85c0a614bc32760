//! `diffbir bench` as typed.

use std::path::PathBuf;

use clap::Args;

use super::groups::EngineArgs;
use crate::config::Layers;
use crate::error::Result;
use crate::options::PixelSize;

/// `diffbir bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// The result's size in pixels: an edge, or WIDTHxHEIGHT [default: the bundle's short edge squared]
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["memory", "graphs"])]
    pub size: Option<PixelSize>,
    /// Timed runs, after one that is not timed
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..),
        conflicts_with_all = ["memory", "graphs"])]
    pub runs: u16,
    /// Run once for each line on standard input instead, until it ends, and report each run: for interleaved runs with other
    /// programs
    #[arg(long, requires = "json", conflicts_with = "runs")]
    pub paced: bool,
    /// Write the input and the stages' results as safetensors, for comparison with other programs
    #[arg(long, value_name = "FILE", conflicts_with_all = ["memory", "graphs"])]
    pub tensors: Option<PathBuf>,
    /// Measure the memory of restorations of several sizes instead, each in its own process
    #[arg(long)]
    pub memory: bool,
    /// With --memory: sizes of the results in pixels, edges or WIDTHxHEIGHT
    #[arg(
        long,
        value_name = "SIZE,…",
        value_delimiter = ',',
        default_value = "512,1024,2048",
        requires = "memory"
    )]
    pub sizes: Vec<PixelSize>,
    /// Measure the memory of each graph instead
    #[arg(long)]
    pub graphs: bool,
    /// With --graphs: write the figures into the bundle as memory.yaml, the planner's cost model
    #[arg(long, requires = "graphs")]
    pub write: bool,
    /// Internal: one measurement in a child process
    #[arg(long, hide = true)]
    pub measure: Option<String>,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
}

impl Bench {
    /// As [`Restore::layers`](super::Restore::layers).
    ///
    /// # Errors
    /// As [`Restore::layers`](super::Restore::layers).
    pub fn layers(&self) -> Result<Layers> {
        self.engine.layers("bench")
    }
}
