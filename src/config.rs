//! The configuration: YAML files, `--set` and flags over a bundle's defaults.
//!
//! Order: defaults < bundle defaults < config file < `--set` < flags. Each layer is merged as a tree and checked at
//! once, so that an error names the layer it came from. Unknown keys are errors that name the nearest known one.

mod provider;
mod providers;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::bundle::Defaults;
use crate::error::{Error, Result, nearest};
use crate::imageio::{DecodeOptions, Depth, Format};
use crate::options::{GuidanceOptions, Options, RestoreOptions, SamplingOptions, TilingOptions};

pub use providers::{GraphConfig, RuntimeConfig};

/// Everything that can be configured. Every field has a default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Config {
    /// The bundle's folder. Default: none.
    pub bundle: Option<PathBuf>,
    /// What to do to a picture.
    pub restore: RestoreOptions,
    /// How stage 2 samples.
    pub sampling: SamplingOptions,
    /// Restoration guidance.
    pub guidance: GuidanceOptions,
    /// Which stages run in tiles.
    pub tiling: TilingOptions,
    /// ONNX Runtime and its providers.
    pub runtime: RuntimeConfig,
    /// What is read.
    pub input: InputConfig,
    /// What is written.
    pub output: OutputConfig,
}

impl Config {
    /// What decides a result's pixels.
    pub fn options(&self) -> Options {
        Options {
            restore: self.restore.clone(),
            sampling: self.sampling.clone(),
            guidance: self.guidance.clone(),
            tiling: self.tiling,
        }
    }
}

/// The largest picture that is decoded unless the caller raises it, in pixels.
pub const DEFAULT_MAX_PIXELS: u64 = 100_000_000;

/// What is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputConfig {
    /// The largest picture that is decoded, in pixels. Default: 100,000,000.
    pub max_pixels: u64,
    /// Whether colours are converted to sRGB for the networks, and back, as a picture's profile says. Default: true.
    pub profiles: bool,
    /// Whether a file `NAME.txt` beside a picture is its caption, put before the prompt. Default: true.
    pub captions: bool,
}

impl InputConfig {
    /// How a picture is read.
    pub fn decoding(&self) -> DecodeOptions {
        DecodeOptions {
            max_pixels: self.max_pixels,
            profiles: self.profiles,
        }
    }
}

impl Default for InputConfig {
    fn default() -> Self {
        InputConfig {
            max_pixels: DEFAULT_MAX_PIXELS,
            profiles: true,
            captions: true,
        }
    }
}

/// What happens to a result that exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Existing {
    /// Refuse before any work.
    #[default]
    Refuse,
    /// Replace it.
    Overwrite,
    /// Leave it and go on with the next.
    Skip,
}

/// The kind of file that results are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// As the result's name says; PNG in a folder.
    #[default]
    Auto,
    /// As the input's.
    Input,
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
    /// WebP, lossless.
    Webp,
    /// TIFF.
    Tiff,
    /// BMP.
    Bmp,
}

impl OutputFormat {
    /// The kind, where it does not depend on a name.
    pub fn fixed(self) -> Option<Format> {
        match self {
            OutputFormat::Auto | OutputFormat::Input => None,
            OutputFormat::Png => Some(Format::Png),
            OutputFormat::Jpeg => Some(Format::Jpeg),
            OutputFormat::Webp => Some(Format::Webp),
            OutputFormat::Tiff => Some(Format::Tiff),
            OutputFormat::Bmp => Some(Format::Bmp),
        }
    }
}

/// What is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputConfig {
    /// The kind of file. Default: as the result's name says, PNG in a folder.
    pub format: OutputFormat,
    /// Quality of JPEG, 1 to 100. Default: 95.
    pub quality: u8,
    /// Bits per channel: auto, 8 or 16. Default: auto, as the input's where the kind of file can.
    pub depth: Depth,
    /// Whether the result of a grey picture is grey. Default: false.
    pub keep_grey: bool,
    /// What happens to a result that exists already. Default: refuse.
    pub existing: Existing,
    /// Whether the PNG carries how it was made. Default: true.
    pub metadata: bool,
    /// A folder for stage 1, the raw decode and the colour-corrected picture. Default: none.
    pub save_stages: Option<PathBuf>,
}

impl Default for OutputConfig {
    fn default() -> Self {
        OutputConfig {
            format: OutputFormat::Auto,
            quality: 95,
            depth: Depth::Auto,
            keep_grey: false,
            existing: Existing::Refuse,
            metadata: true,
            save_stages: None,
        }
    }
}

/// A configuration under construction.
#[derive(Debug, Clone)]
pub struct Builder {
    tree: Value,
}

impl Builder {
    /// The defaults alone.
    ///
    /// # Errors
    /// [`Internal`](crate::error::ErrorKind::Internal) only.
    pub fn new() -> Result<Self> {
        let tree = serde_json::to_value(Config::default()).map_err(|e| {
            Error::internal("the default configuration cannot be written").with_source(e)
        })?;
        Ok(Builder { tree })
    }

    /// Lays a bundle's defaults under what is to come.
    pub fn bundle_defaults(&mut self, defaults: &Defaults) {
        let sampling = serde_json::json!({
            "sampler": defaults.sampler, "steps": defaults.steps, "cfg_scale": defaults.cfg_scale,
            "prompt": defaults.prompt, "negative_prompt": defaults.negative_prompt,
        });
        merge(
            &mut self.tree,
            serde_json::json!({ "sampling": sampling }),
            &[],
        );
    }

    /// Lays a YAML file over what is there. Relative paths in it are taken from its folder.
    ///
    /// # Errors
    /// [`Config`](crate::error::ErrorKind::Config), naming the file and the key.
    pub fn file(&mut self, path: &Path) -> Result<()> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::config(format!("cannot read the configuration {}", path.display()))
                .with_source(e)
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let in_file = |e: Error| Error::config(format!("{}: {e}", path.display()));
        let was_sound = self.build().is_ok();
        self.yaml(&text, folder).map_err(in_file)?;
        // What the layers below broke may yet be mended by those above; what this file broke is its own fault.
        if was_sound {
            self.build().map(drop).map_err(in_file)
        } else {
            Ok(())
        }
    }

    /// Lays YAML text over what is there; relative paths are taken from `folder`.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): no YAML, or an unknown key.
    pub fn yaml(&mut self, text: &str, folder: &Path) -> Result<()> {
        let mut layer: Value = serde_yaml::from_str(text)
            .map_err(|e| Error::option("not valid YAML").with_source(e))?;
        if layer.is_null() {
            layer = Value::Object(Map::new());
        }
        resolve_paths(&mut layer, folder);
        self.layer(layer)
    }

    /// Lays `key=value` over what is there: a dotted key and a YAML value.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): no assignment, or an unknown key.
    pub fn set(&mut self, assignment: &str) -> Result<()> {
        let Some((key, text)) = assignment.split_once('=') else {
            return Err(Error::option(format!("`{assignment}`: expected key=value")));
        };
        let value: Value = serde_yaml::from_str(text).map_err(|e| {
            Error::option(format!("{key}: not a YAML value: `{text}`")).with_source(e)
        })?;
        self.put(key, value)
    }

    /// Lays one value over what is there, under a dotted key.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): an unknown key.
    pub fn put(&mut self, key: &str, value: Value) -> Result<()> {
        let nest = |inner, part: &str| Value::Object(Map::from_iter([(part.to_owned(), inner)]));
        self.layer(key.rsplit('.').fold(value, nest))
    }

    fn layer(&mut self, layer: Value) -> Result<()> {
        check_keys(&layer, &self.tree, &mut Vec::new())?;
        merge(&mut self.tree, layer, &[]);
        Ok(())
    }

    /// The configuration so far.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): a value that does not fit.
    pub fn build(&self) -> Result<Config> {
        let config: Config = parse(&self.tree)?;
        config.options().validate()?;
        config.runtime.validate()?;
        if !(1..=100).contains(&config.output.quality) {
            return Err(Error::option(format!(
                "output.quality is {}, expected 1 to 100",
                config.output.quality
            )));
        }
        Ok(config)
    }
}

/// Parses the tree, naming the key of a value that does not fit.
fn parse(tree: &Value) -> Result<Config> {
    fn section<T: serde::de::DeserializeOwned>(tree: &Value, name: &str) -> Result<T> {
        let value = tree.get(name).cloned().unwrap_or_default();
        serde_path_to_error::deserialize(value).map_err(|e| {
            let path = e.path().to_string();
            let key = if path == "." {
                name.to_owned()
            } else {
                format!("{name}.{path}")
            };
            Error::option(format!("{key}: {}", e.into_inner()))
        })
    }
    Ok(Config {
        bundle: section(tree, "bundle")?,
        restore: section(tree, "restore")?,
        sampling: section(tree, "sampling")?,
        guidance: section(tree, "guidance")?,
        tiling: section(tree, "tiling")?,
        runtime: section(tree, "runtime")?,
        input: section(tree, "input")?,
        output: section(tree, "output")?,
    })
}

/// Keys below these hold names of the user's own.
const FREE: &[&str] = &[
    "runtime.options",
    "runtime.graphs",
    "runtime.providers",
    "tiling.cleaner",
    "tiling.cldm",
];

/// Refuses a key that the defaults do not have.
fn check_keys(layer: &Value, known: &Value, path: &mut Vec<String>) -> Result<()> {
    if FREE.contains(&path.join(".").as_str()) {
        return Ok(());
    }
    match (layer, known) {
        (Value::Object(layer), Value::Object(known)) => {
            for (key, value) in layer {
                let Some(below) = known.get(key) else {
                    return Err(unknown_key(path, key, known));
                };
                path.push(key.clone());
                check_keys(value, below, path)?;
                path.pop();
            }
            Ok(())
        }
        (_, Value::Object(known)) => {
            let place = if path.is_empty() {
                "the configuration".to_owned()
            } else {
                path.join(".")
            };
            let keys: Vec<&str> = known.keys().map(String::as_str).collect();
            Err(Error::option(format!(
                "{place}: expected a mapping with the keys {}",
                keys.join(", ")
            )))
        }
        _ => Ok(()),
    }
}

fn unknown_key(path: &[String], key: &str, known: &Map<String, Value>) -> Error {
    let full = path
        .iter()
        .map(String::as_str)
        .chain([key])
        .collect::<Vec<_>>()
        .join(".");
    let nearest = nearest(key, known.keys().map(String::as_str));
    let keys: Vec<&str> = known.keys().map(String::as_str).collect();
    Error::option(format!(
        "unknown key `{full}`: did you mean `{nearest}`? Known here: {}",
        keys.join(", ")
    ))
}

fn merge(base: &mut Value, layer: Value, path: &[&str]) {
    match (base, layer) {
        (Value::Object(base), Value::Object(layer)) if !FREE.contains(&path.join(".").as_str()) => {
            for (key, value) in layer {
                let below = [path, &[key.as_str()]].concat();
                merge(
                    base.entry(key.clone()).or_insert(Value::Null),
                    value,
                    &below,
                );
            }
        }
        (base, layer) => *base = layer,
    }
}

/// Takes the relative paths of a config file from the file's folder.
fn resolve_paths(layer: &mut Value, folder: &Path) {
    for pointer in ["/bundle", "/runtime/library", "/output/save_stages"] {
        if let Some(Value::String(path)) = layer.pointer_mut(pointer)
            && path != "auto"
        {
            *path = folder.join(&path).to_string_lossy().into_owned();
        }
    }
    if let Some(runtime) = layer.get_mut("runtime") {
        providers::resolve_paths(runtime, folder);
    }
}
