//! Groups of flags, and the configuration sections of each command.

use std::path::PathBuf;

use clap::Args;

use crate::config::{ConfigLayer, Existing, Layers, Origin};
use crate::error::{Error, Result};
use crate::options::{
    DenoiserTiles, GuidanceLayer, RestoreLayer, SamplingLayer, Tiles, TilingLayer,
};
use crate::runtime::{MemoryPolicy, Provider, RuntimeLayer};
use crate::service::bundles;

/// Sections that apply to `doctor`.
pub(super) const RUNTIME: &[&str] = &["bundle", "runtime"];
/// Sections that apply to commands that run a model.
pub(super) const MODEL: &[&str] = &[
    "bundle", "runtime", "restore", "sampling", "guidance", "tiling",
];
/// All sections.
pub(super) const ALL: &[&str] = &[
    "bundle", "runtime", "restore", "size", "sampling", "guidance", "tiling", "input", "output",
];

/// The bundle and the configuration.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Bundle and configuration")]
pub struct BundleArgs {
    /// YAML configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the exported bundle [default: DIFFBIR_BUNDLE, the configuration's, the user's data folder, the demo's]
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Set any configuration key, such as runtime.memory=sequential; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Hash every file of the bundle, including those verified before
    #[arg(long)]
    pub verify: bool,
}

impl BundleArgs {
    /// The layers of the file, the environment, `--set` and `flags`. `--set` accepts only keys of `sections`, which
    /// apply to `command`.
    pub(super) fn layers(
        &self,
        command: &str,
        sections: &[&str],
        mut flags: ConfigLayer,
    ) -> Result<Layers> {
        let mut layers = Layers::default();
        if let Some(path) = &self.config {
            layers.file(path)?;
        }
        bundles::environment(&mut layers);
        for assignment in &self.set {
            let section = assignment.split(['.', '=']).next().unwrap_or_default();
            if ALL.contains(&section) && !sections.contains(&section) {
                return Err(Error::option(format!(
                    "--set {assignment}: keys of `{section}` have no effect on `diffbir {command}`"
                )));
            }
        }
        layers.set(self.set.iter().map(String::as_str))?;
        flags.bundle = self.bundle.clone();
        layers.push(Origin::Given, flags);
        Ok(layers)
    }
}

/// ONNX Runtime.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Execution")]
pub struct RuntimeArgs {
    /// Execution provider instead of the configured ones: cpu, cuda, tensorrt, tensorrt-rtx, openvino
    #[arg(long, value_name = "PROVIDER")]
    device: Option<String>,
    /// Lowest memory: one model loaded at a time, denoiser weights streamed every step (about 3x slower)
    #[arg(long)]
    low_memory: bool,
    #[command(flatten)]
    runtime: RuntimeLayer,
}

impl RuntimeArgs {
    pub(super) fn layer(&self) -> Result<RuntimeLayer> {
        let mut layer = self.runtime.clone();
        if let Some(name) = &self.device {
            layer.providers = Some(vec![Provider::by_name(name).map_err(|e| e.at("--device"))?]);
        }
        if self.low_memory {
            layer.memory = Some(MemoryPolicy::Least);
        }
        Ok(layer)
    }
}

/// The options that affect a result's pixels.
#[derive(Debug, Clone, Args)]
pub struct ModelArgs {
    #[command(flatten, next_help_heading = "Restoration")]
    restore: RestoreLayer,
    #[command(flatten, next_help_heading = "Sampling")]
    sampling: SamplingLayer,
    #[command(flatten, next_help_heading = "Guidance")]
    guidance: GuidanceLayer,
    #[command(flatten)]
    tiles: TileArgs,
}

impl ModelArgs {
    /// The layer of these sections.
    pub(super) fn layer(&self) -> Result<ConfigLayer> {
        Ok(ConfigLayer {
            restore: self.restore.clone(),
            sampling: self.sampling.clone(),
            guidance: self.guidance.clone(),
            tiling: self.tiles.layer()?,
            ..ConfigLayer::default()
        })
    }
}

/// The flags of a command that runs a model and takes no flags of input and output.
#[derive(Debug, Clone, Args)]
pub struct EngineArgs {
    #[command(flatten)]
    pub bundle: BundleArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

impl EngineArgs {
    /// The configuration's layers for `command`.
    pub(super) fn layers(&self, command: &str) -> Result<Layers> {
        let layer = ConfigLayer {
            runtime: self.runtime.layer()?,
            ..self.model.layer()?
        };
        self.bundle.layers(command, MODEL, layer)
    }
}

/// Existing results.
#[derive(Debug, Clone, Copy, Args)]
pub struct ExistingArgs {
    /// Replace results that exist
    #[arg(long, conflicts_with = "skip_existing")]
    overwrite: bool,
    /// Skip inputs whose results exist
    #[arg(long)]
    skip_existing: bool,
    /// Resume an interrupted run into a folder: keep finished results, make the others. Other settings are refused
    #[arg(long, conflicts_with_all = ["overwrite", "skip_existing"])]
    resume: bool,
}

impl ExistingArgs {
    pub(super) fn choice(self) -> Option<Existing> {
        let choices = [
            (self.overwrite, Existing::Overwrite),
            (self.skip_existing, Existing::Skip),
            (self.resume, Existing::Resume),
        ];
        choices
            .into_iter()
            .find_map(|(given, choice)| given.then_some(choice))
    }
}

/// Tiles, and the reference's spellings of them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Tiles and memory")]
pub struct TileArgs {
    /// Tile a stage, sizes in pixels: cleaner or cldm (ControlNet and UNet) in the reference's tiles, whose stride is half the
    /// size by default; cldm=auto (tiles above 1024x1024 pixels) or cldm=none; cleaner_exact, vae_encoder or vae_decoder in
    /// lossless tiles (identical to untiled). May be given for several stages [default: cldm=auto]
    #[arg(long, value_name = "STAGE=SIZE[:STRIDE]")]
    tile: Vec<String>,
    #[command(flatten)]
    tiling: TilingLayer,
    /// The reference's guidance switch; the scale alone decides here.
    #[arg(long, hide = true)]
    guidance: bool,
    #[arg(long = "cleaner_tiled", hide = true)]
    cleaner_tiled: bool,
    #[arg(long = "cleaner_tile_size", hide = true, default_value_t = 512)]
    cleaner_tile_size: usize,
    #[arg(long = "cleaner_tile_stride", hide = true, default_value_t = 256)]
    cleaner_tile_stride: usize,
    #[arg(long = "cldm_tiled", hide = true)]
    cldm_tiled: bool,
    #[arg(long = "cldm_tile_size", hide = true, default_value_t = 512)]
    cldm_tile_size: usize,
    #[arg(long = "cldm_tile_stride", hide = true, default_value_t = 256)]
    cldm_tile_stride: usize,
    #[arg(long = "vae_encoder_tiled", hide = true)]
    vae_encoder_tiled: bool,
    #[arg(long = "vae_encoder_tile_size", hide = true, default_value_t = 256)]
    vae_encoder_tile_size: usize,
    #[arg(long = "vae_decoder_tiled", hide = true)]
    vae_decoder_tiled: bool,
    #[arg(long = "vae_decoder_tile_size", hide = true, default_value_t = 256)]
    vae_decoder_tile_size: usize,
}

impl TileArgs {
    fn layer(&self) -> Result<TilingLayer> {
        let mut layer = self.tiling.clone();
        if self.vae_encoder_tiled {
            layer.vae_encoder = Some(Some(self.vae_encoder_tile_size));
        }
        if self.vae_decoder_tiled {
            layer.vae_decoder = Some(Some(self.vae_decoder_tile_size));
        }
        if self.cleaner_tiled {
            layer.cleaner = Some(Some(Tiles {
                size: self.cleaner_tile_size,
                stride: self.cleaner_tile_stride,
            }));
        }
        if self.cldm_tiled {
            layer.cldm = Some(DenoiserTiles::Reference(Tiles {
                size: self.cldm_tile_size,
                stride: self.cldm_tile_stride,
            }));
        }
        for text in &self.tile {
            set_tiles(&mut layer, text).map_err(|e| e.at(format!("--tile {text}")))?;
        }
        Ok(layer)
    }
}

/// Adds `STAGE=TILES` to `layer`.
fn set_tiles(layer: &mut TilingLayer, text: &str) -> Result<()> {
    let wrong = || {
        Error::option(
            "expected STAGE=SIZE[:STRIDE], such as cldm=512:256; stages: cleaner, cldm (also cldm=auto, cldm=none), \
             cleaner_exact, vae_encoder, vae_decoder (SIZE alone)",
        )
    };
    let (stage, tiles) = text.split_once('=').ok_or_else(wrong)?;
    let pixels = || {
        tiles
            .parse()
            .map(|pixels| Some(Some(pixels)))
            .map_err(|_| wrong())
    };
    match (stage, tiles) {
        ("cleaner", tiles) => layer.cleaner = Some(Some(tiles.parse().map_err(|_| wrong())?)),
        ("cldm", "auto") => layer.cldm = Some(DenoiserTiles::Auto),
        ("cldm", "none") => layer.cldm = Some(DenoiserTiles::None),
        ("cldm", tiles) => {
            layer.cldm = Some(DenoiserTiles::Reference(
                tiles.parse().map_err(|_| wrong())?,
            ));
        }
        ("cleaner_exact", _) => layer.cleaner_exact = pixels()?,
        ("vae_encoder", _) => layer.vae_encoder = pixels()?,
        ("vae_decoder", _) => layer.vae_decoder = pixels()?,
        _ => return Err(wrong()),
    }
    Ok(())
}
