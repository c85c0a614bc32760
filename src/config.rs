//! The configuration: a bundle's defaults, overridden by YAML files, `--set`, flags and a host's values.
//!
//! Order, lowest first: defaults < bundle < file < environment < `--set` < flags. Each layer is typed when read
//! ([`Layers`]); all are merged and validated once, when the bundle is known ([`Layers::resolve`]).

mod files;
mod keys;
mod layers;
mod name_pattern;

use std::path::PathBuf;

use serde::Serialize;

use crate::declare::Section;
use crate::error::{Error, Result};
use crate::options::{
    GuidanceOptions, Options, RestoreOptions, SamplingOptions, SizeOptions, TilingOptions,
};
use crate::runtime::RuntimeOptions;

pub use crate::declare::Key;
pub use files::{
    Colour, DEFAULT_MAX_PIXELS, Existing, Grey, InputLayer, InputOptions, OutputFormat,
    OutputLayer, OutputOptions, VideoCodec,
};
pub use layers::{ConfigLayer, Layers, Origin, resolutions};
pub use name_pattern::{Field, NamePattern, short};

/// Every option of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Config {
    /// The bundle's folder. Default: none.
    pub bundle: Option<PathBuf>,
    /// The options that affect the pixels of a result.
    #[serde(flatten)]
    pub options: Options,
    /// ONNX Runtime and its execution providers.
    pub runtime: RuntimeOptions,
    /// Reading pictures.
    pub input: InputOptions,
    /// Writing results.
    pub output: OutputOptions,
}

impl Config {
    /// Checks every value that can be checked without opening the bundle's files.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option), naming the key, its value and what is accepted.
    pub fn validate(&self) -> Result<()> {
        self.options.validate()?;
        self.runtime.validate()?;
        self.input.check_ranges()?;
        self.output.check_ranges()
    }

    /// The configuration as the YAML of a configuration file.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): a path that is not UTF-8, which YAML cannot hold.
    pub fn to_yaml(&self) -> Result<String> {
        serde_yaml::to_string(self).map_err(|e| {
            Error::option("the configuration cannot be written as YAML: rename files and folders whose names are not UTF-8")
                .with_source(e)
        })
    }
}

/// Every key except `bundle`, by section.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    [
        RestoreOptions::KEYS,
        SizeOptions::KEYS,
        SamplingOptions::KEYS,
        GuidanceOptions::KEYS,
        TilingOptions::KEYS,
        RuntimeOptions::KEYS,
        InputOptions::KEYS,
        OutputOptions::KEYS,
    ]
    .into_iter()
    .flatten()
}
