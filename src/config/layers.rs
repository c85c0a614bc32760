//! Layers of the configuration: each is typed when read; all are merged and validated once.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::de::DeserializeOwned;
use serde_yaml::{Mapping, Value};

use super::{Config, InputLayer, OutputLayer, keys};
use crate::error::{Error, Result, Shown};
use crate::options::{GuidanceLayer, Options, RestoreLayer, SamplingLayer, SizeLayer, TilingLayer};
use crate::runtime::RuntimeLayer;
use crate::wording;
use crate::yaml;

/// `runtime.graphs.NAME.providers` is the longest key.
const MAX_PARTS: usize = 4;

/// The values of one source; fields that it does not set are `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConfigLayer {
    /// The bundle's folder.
    pub bundle: Option<PathBuf>,
    /// Task, size, colours.
    pub restore: RestoreLayer,
    /// The result's size, instead of a factor.
    pub size: SizeLayer,
    /// The sampler, its noise and its prompts.
    pub sampling: SamplingLayer,
    /// Restoration guidance.
    pub guidance: GuidanceLayer,
    /// Tiles and memory.
    pub tiling: TilingLayer,
    /// ONNX Runtime and its execution providers.
    pub runtime: RuntimeLayer,
    /// Reading pictures.
    pub input: InputLayer,
    /// Writing results.
    pub output: OutputLayer,
}

impl ConfigLayer {
    /// Deserialises a tree of keys and values.
    fn of(tree: Value) -> Result<Self> {
        let mut tree = match tree {
            Value::Null => Mapping::new(),
            Value::Mapping(mapping) => keys::check(mapping)?,
            _ => {
                return Err(Error::option(
                    "expected a mapping with sections such as `sampling`",
                ));
            }
        };
        Ok(ConfigLayer {
            bundle: section(&mut tree, "bundle")?,
            restore: section(&mut tree, "restore")?,
            size: section(&mut tree, "size")?,
            sampling: section(&mut tree, "sampling")?,
            guidance: section(&mut tree, "guidance")?,
            tiling: section(&mut tree, "tiling")?,
            runtime: section(&mut tree, "runtime")?,
            input: section(&mut tree, "input")?,
            output: section(&mut tree, "output")?,
        })
    }

    fn apply(self, config: &mut Config) {
        if let Some(bundle) = self.bundle {
            config.bundle = Some(bundle);
        }
        let (restore, size) = (&mut config.options.restore, &mut config.options.size);
        let upscale = self.restore.upscale;
        self.size.clear(upscale, size, &mut restore.upscale);
        self.restore.apply(restore);
        self.size.apply(size);
        self.sampling.apply(&mut config.options.sampling);
        self.guidance.apply(&mut config.options.guidance);
        self.tiling.apply(&mut config.options.tiling);
        self.runtime.apply(&mut config.runtime);
        self.input.apply(&mut config.input);
        self.output.apply(&mut config.output);
    }

    /// Resolves relative paths against `folder`.
    fn resolve_paths(&mut self, folder: &Path) {
        let absolute = |path: &mut PathBuf| *path = folder.join(&path);
        self.bundle.iter_mut().for_each(absolute);
        self.output
            .save_stages
            .iter_mut()
            .flatten()
            .for_each(absolute);
        self.runtime.resolve_paths(folder);
    }
}

/// Deserialises the section `name` of a tree.
fn section<T: DeserializeOwned + Default>(tree: &mut Mapping, name: &str) -> Result<T> {
    let Some(value) = tree.remove(name) else {
        return Ok(T::default());
    };
    serde_path_to_error::deserialize(value).map_err(|e| {
        let path = e.path().to_string();
        let key = match path.as_str() {
            "." => name.to_owned(),
            path => format!("{name}.{path}"),
        };
        wording::bad_value(&key, &e.into_inner().to_string())
    })
}

/// Origin of a layer, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A configuration file: its errors are of the kind [`Config`](crate::error::ErrorKind::Config).
    File(PathBuf),
    /// YAML text of a host: errors as for a file.
    Text,
    /// The environment.
    Environment,
    /// `--set`.
    Set,
    /// Flags of the command line, or a host's structure.
    Given,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path) => Shown(path).fmt(f),
            Origin::Text => f.write_str("config_yaml"),
            Origin::Environment => f.write_str("the environment"),
            Origin::Set => f.write_str("a setting"),
            Origin::Given => f.write_str("options"),
        }
    }
}

impl Origin {
    /// `error` attributed to this layer.
    fn blame(&self, error: Error) -> Error {
        match self {
            Origin::File(_) | Origin::Text => Error::config(format!("{self}: {error}")),
            Origin::Set | Origin::Environment => error.at(self),
            Origin::Given => error,
        }
    }
}

static RESOLUTIONS: AtomicUsize = AtomicUsize::new(0);

/// Number of times layers were resolved in this process: once per run or engine, and once per request with options.
pub fn resolutions() -> usize {
    RESOLUTIONS.load(Ordering::Relaxed)
}

/// Layers that override a bundle's defaults, lowest first.
#[derive(Debug, Clone, Default)]
pub struct Layers(Vec<(Origin, ConfigLayer)>);

impl Layers {
    /// Adds a YAML file as the highest layer. Relative paths in it are resolved against its folder.
    ///
    /// # Errors
    /// [`Config`](crate::error::ErrorKind::Config), naming the file and the key.
    pub fn file(&mut self, path: &Path) -> Result<()> {
        let text = read(path)?;
        let origin = Origin::File(path.to_owned());
        let folder = path.parent().unwrap_or(Path::new("."));
        self.text(origin, &text, folder)
    }

    /// Adds YAML text as the highest layer; relative paths are resolved against the working folder.
    ///
    /// # Errors
    /// [`Config`](crate::error::ErrorKind::Config), naming the key.
    pub fn yaml(&mut self, text: &str) -> Result<()> {
        self.text(Origin::Text, text, Path::new(""))
    }

    fn text(&mut self, origin: Origin, text: &str, folder: &Path) -> Result<()> {
        let layer = parse(text).and_then(ConfigLayer::of);
        let mut layer = layer.map_err(|e| origin.blame(e))?;
        layer.resolve_paths(folder);
        self.push(origin, layer);
        Ok(())
    }

    /// Adds `assignments` as the highest layer: `key=value` with dotted keys and YAML values. For duplicate keys the
    /// last wins.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): not an assignment, an unknown key, a value of another type.
    pub fn set<'a>(&mut self, assignments: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let mut tree = Mapping::new();
        for assignment in assignments {
            assign(&mut tree, assignment).map_err(|e| Origin::Set.blame(e))?;
        }
        let layer = ConfigLayer::of(Value::Mapping(tree)).map_err(|e| Origin::Set.blame(e))?;
        self.push(Origin::Set, layer);
        Ok(())
    }

    /// Adds `layer` as the highest.
    pub fn push(&mut self, origin: Origin, layer: ConfigLayer) {
        self.0.push((origin, layer));
    }

    /// The bundle named by the highest layer that names one.
    pub fn bundle(&self) -> Option<&Path> {
        self.0
            .iter()
            .rev()
            .find_map(|(_, layer)| layer.bundle.as_deref())
    }

    /// Merges the layers onto `base`, the bundle's [options](crate::bundle::Bundle::options), and validates the result.
    ///
    /// # Errors
    /// Those of [`Config::validate`], attributed to the faulty layer: [`Config`](crate::error::ErrorKind::Config) for a
    /// file, [`Bundle`](crate::error::ErrorKind::Bundle) for the bundle, else
    /// [`Option`](crate::error::ErrorKind::Option).
    pub fn resolve(&self, base: &Options) -> Result<Config> {
        RESOLUTIONS.fetch_add(1, Ordering::Relaxed);
        for (origin, layer) in &self.0 {
            let checked = layer.size.check(layer.restore.upscale);
            checked.map_err(|e| origin.blame(e))?;
        }
        let config = self.merged(base, self.0.len());
        match config.validate() {
            Ok(()) => Ok(config),
            Err(error) => Err(self.blame(base, error)),
        }
    }

    fn merged(&self, base: &Options, layers: usize) -> Config {
        let mut config = Config {
            options: base.clone(),
            ..Config::default()
        };
        for (_, layer) in &self.0[..layers] {
            layer.clone().apply(&mut config);
        }
        config
    }

    /// The faulty layer is the first from which on validation keeps failing: a fault below it was overridden by a
    /// higher layer.
    fn blame(&self, base: &Options, error: Error) -> Error {
        let fails = |layers: &usize| self.merged(base, *layers).validate().is_err();
        let first = (0..=self.0.len()).rev().take_while(fails).last();
        match first.and_then(|first| first.checked_sub(1)) {
            Some(at_fault) => self.0[at_fault].0.blame(error),
            None => Error::bundle(format!("the bundle's defaults are not usable: {error}")),
        }
    }
}

/// Reads a configuration: a file, or a pipe.
fn read(path: &Path) -> Result<String> {
    use std::io::Read;
    let unreadable = |e| {
        Error::config(format!("cannot read the configuration {}", path.display())).with_source(e)
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(yaml::MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > yaml::MAX_BYTES {
        return Err(Error::config(format!(
            "{}: a configuration has at most {} bytes",
            path.display(),
            yaml::MAX_BYTES
        )));
    }
    Ok(text)
}

/// Parses YAML into a tree; see [`yaml::parse`].
fn parse(text: &str) -> Result<Value> {
    yaml::parse(text).map_err(|e| Error::option(e.to_string()))
}

/// Puts `key=value` into `tree`.
fn assign(tree: &mut Mapping, assignment: &str) -> Result<()> {
    let Some((key, text)) = assignment.split_once('=') else {
        return Err(Error::option(format!("`{assignment}`: expected key=value")));
    };
    let value = yaml::parse(text)
        .map_err(|e| Error::option(format!("{key}: not a YAML value: `{text}`")).with_source(e))?;
    // Keys of ONNX Runtime's session options contain dots.
    let parts: Vec<&str> = match key.strip_prefix("runtime.options.") {
        Some(option) => vec!["runtime", "options", option],
        None => key.splitn(MAX_PARTS, '.').collect(),
    };
    let Some((last, path)) = parts.split_last() else {
        return Err(keys::unknown(key));
    };
    let mut place = tree;
    for part in path {
        let below = place
            .entry((*part).into())
            .or_insert_with(|| Value::Mapping(Mapping::new()));
        place = below
            .as_mapping_mut()
            .ok_or_else(|| Error::option(format!("{key}: {part} is given a value as well")))?;
    }
    place.insert((*last).into(), value);
    Ok(())
}
