//! `diffbir bench` as typed.

use std::path::PathBuf;

use clap::Args;

use super::Common;

/// Height and width, as typed: `WIDTHxHEIGHT`, or the edge of a square.
#[derive(Debug, Clone, Copy)]
pub struct Size(pub usize, pub usize);

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (width, height) = text.split_once('x').unwrap_or((text, text));
        match (height.parse(), width.parse()) {
            (Ok(height), Ok(width)) if height > 0 && width > 0 => Ok(Size(height, width)),
            _ => Err("expected an edge or WIDTHxHEIGHT, in pixels".to_owned()),
        }
    }
}

/// `diffbir bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// The result's size in pixels: an edge, or WIDTHxHEIGHT; else the bundle's short edge squared
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["memory", "graphs"])]
    pub size: Option<Size>,
    /// How many runs are timed, after one that is not
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..),
        conflicts_with_all = ["memory", "graphs"])]
    pub runs: u16,
    /// Run once for each line on standard input instead, until that ends, and tell each run: for scripts that let several
    /// programs take turns
    #[arg(long, requires = "json", conflicts_with = "runs")]
    pub paced: bool,
    /// Write the picture of the runs and what the stages make of it, as safetensors: for other programs to be compared with
    #[arg(long, value_name = "FILE", conflicts_with_all = ["memory", "graphs"])]
    pub tensors: Option<PathBuf>,
    /// Measure what restorations of several sizes take of memory instead, each in a process of its own
    #[arg(long)]
    pub memory: bool,
    /// With --memory: the sizes of the results, in pixels: edges, or WIDTHxHEIGHT
    #[arg(
        long,
        value_name = "SIZE,…",
        value_delimiter = ',',
        default_value = "512,1024,2048",
        requires = "memory"
    )]
    pub sizes: Vec<Size>,
    /// Measure what each graph takes of memory instead
    #[arg(long)]
    pub graphs: bool,
    /// With --graphs: write the figures into the bundle as memory.yaml, which plans are made from
    #[arg(long, requires = "graphs")]
    pub write: bool,
    /// In a child process: measure one thing
    #[arg(long, hide = true)]
    pub measure: Option<String>,
    #[command(flatten)]
    pub common: Common,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
}
