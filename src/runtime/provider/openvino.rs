//! Options of OpenVINO.
//!
//! The plugin (1.8.1) is given the device directly and everything else as OpenVINO properties in the option
//! `load_config`: JSON, a mapping of properties for each device family. It ignores, with a warning, the separate
//! options of older builds of the provider (`num_of_threads`, `precision` …).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Precision of the networks' computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats, as in the graphs.
    #[default]
    F32,
    /// 16-bit floats, if the device supports them.
    F16,
    /// bfloat16, if the device supports it.
    Bf16,
    /// OpenVINO's default for the device: often not 32 bits.
    Auto,
}

/// Options of OpenVINO.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OpenVinoOptions {
    /// The plugin's library. Default: none, search in the per-user cache and in Python environments.
    pub library: Option<PathBuf>,
    /// OpenVINO's device name: `CPU`, `GPU`, `GPU.1`, `NPU`. Default: `CPU`.
    pub device: String,
    /// Threads on the CPU. Default: 0, OpenVINO's choice.
    pub threads: usize,
    /// Precision of the networks' computation. Default: f32.
    pub precision: Precision,
}

impl Default for OpenVinoOptions {
    fn default() -> Self {
        OpenVinoOptions {
            library: None,
            device: "CPU".to_owned(),
            threads: 0,
            precision: Precision::F32,
        }
    }
}

impl OpenVinoOptions {
    pub(super) fn ort_options(&self) -> Vec<(&'static str, String)> {
        let precision = match self.precision {
            Precision::F32 => Some("f32"),
            Precision::F16 => Some("f16"),
            Precision::Bf16 => Some("bf16"),
            Precision::Auto => None,
        };
        let threads = (self.threads > 0).then(|| self.threads.to_string());
        let properties = [
            ("INFERENCE_NUM_THREADS", threads),
            ("INFERENCE_PRECISION_HINT", precision.map(str::to_owned)),
        ];
        let given: Map<String, Value> = properties
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?.into())))
            .collect();
        if given.is_empty() {
            return Vec::new();
        }
        // `GPU.1` is of the family `GPU`.
        let family = self.device.split('.').next().unwrap_or_default();
        let config = Map::from_iter([(family.to_owned(), Value::Object(given))]);
        vec![("load_config", Value::Object(config).to_string())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(options: &OpenVinoOptions) -> Option<String> {
        let options = options.ort_options();
        assert!(options.iter().all(|(key, _)| *key == "load_config"));
        options.into_iter().next().map(|(_, value)| value)
    }

    #[test]
    fn properties_stand_under_the_devices_family() {
        let mut options = OpenVinoOptions::default();
        let found = config(&options);
        assert_eq!(
            found.as_deref(),
            Some(r#"{"CPU":{"INFERENCE_PRECISION_HINT":"f32"}}"#)
        );
        (options.threads, options.precision) = (3, Precision::Auto);
        let found = config(&options);
        assert_eq!(
            found.as_deref(),
            Some(r#"{"CPU":{"INFERENCE_NUM_THREADS":"3"}}"#)
        );
        options = OpenVinoOptions {
            device: "GPU.1".to_owned(),
            precision: Precision::F16,
            ..OpenVinoOptions::default()
        };
        let found = config(&options);
        assert_eq!(
            found.as_deref(),
            Some(r#"{"GPU":{"INFERENCE_PRECISION_HINT":"f16"}}"#)
        );
        options.precision = Precision::Auto;
        assert_eq!(config(&options), None);
    }
}
