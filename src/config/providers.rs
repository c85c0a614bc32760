//! The `runtime` section: where ONNX Runtime is and what runs on which provider.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::provider;
use crate::error::{Error, Result};
use crate::runtime::{IoBinding, MemoryPolicy, RuntimeOptions, Untyped};

/// ONNX Runtime and its providers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuntimeConfig {
    /// `auto`, or a path to `libonnxruntime`. Default: auto.
    pub library: String,
    /// Forbids the program to install a library. Default: false.
    pub offline: bool,
    /// When sessions are released. Default: auto.
    pub memory: MemoryPolicy,
    /// In order of preference, each a name (`cpu`) or a name with options (`cuda: { device_id: 0 }`).
    /// Default: the CPU.
    pub providers: Vec<Value>,
    /// Overrides for single graphs.
    pub graphs: BTreeMap<String, GraphConfig>,
    /// Session configuration entries, passed to ONNX Runtime as they are.
    pub options: Untyped,
    /// Devices that pictures are restored on at once, by their numbers; each has its own sessions. Default: none, one set of
    /// sessions on the devices that the providers name.
    pub devices: Vec<u32>,
    /// Whether a bundle's graphs run in the form that was made for the first of their providers. Default: true.
    pub variants: bool,
    /// Whether a graph's inputs and outputs stay on the device from run to run: auto (on CUDA and TensorRT), always or never.
    /// Default: auto.
    pub io_binding: IoBinding,
    /// Width and height of a result in pixels: an engine restores such a picture before the first one that it is asked for, so
    /// that all is loaded, chosen, built and recorded for the shapes of it. Default: none.
    pub warm_up: Option<[usize; 2]>,
    /// Whether they run in 8 bits on the CPU, where the bundle has them so: faster, and an approximation. Default: false.
    pub int8: bool,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        RuntimeConfig {
            library: "auto".to_owned(),
            offline: false,
            memory: MemoryPolicy::Auto,
            providers: vec![Value::String("cpu".to_owned())],
            graphs: BTreeMap::new(),
            options: Untyped::new(),
            devices: Vec::new(),
            variants: true,
            io_binding: IoBinding::Auto,
            warm_up: None,
            int8: false,
        }
    }
}

/// Overrides for one graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphConfig {
    /// As `runtime.providers`.
    pub providers: Vec<Value>,
}

impl RuntimeConfig {
    /// The library's path, where one is named.
    pub fn library_path(&self) -> Option<PathBuf> {
        (self.library != "auto").then(|| PathBuf::from(&self.library))
    }

    /// The section as the runtime takes it.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): an unknown provider or provider option.
    pub fn options(&self) -> Result<RuntimeOptions> {
        let of_graph = |(name, graph): (&String, &GraphConfig)| {
            Ok((
                name.clone(),
                provider::parse_all(
                    &graph.providers,
                    &format!("runtime.graphs.{name}.providers"),
                )?,
            ))
        };
        Ok(RuntimeOptions {
            library: self.library_path(),
            providers: provider::parse_all(&self.providers, "runtime.providers")?,
            graphs: self.graphs.iter().map(of_graph).collect::<Result<_>>()?,
            options: self.options.clone(),
            memory: self.memory,
            return_memory: false,
            devices: self.devices.clone(),
            sharing: 1,
            variants: self.variants,
            io_binding: self.io_binding,
            int8: self.int8,
        })
    }

    pub(super) fn validate(&self) -> Result<()> {
        if self.warm_up.is_some_and(|size| size.contains(&0)) {
            return Err(Error::option(
                "runtime.warm_up: expected a width and a height in pixels",
            ));
        }
        self.options().map(drop)
    }
}

/// Takes the relative paths of a configuration's providers from the folder of its file.
pub(super) fn resolve_paths(runtime: &mut Value, folder: &Path) {
    if let Some(list) = runtime.get_mut("providers") {
        provider::resolve_paths(list, folder);
    }
    let graphs = runtime.get_mut("graphs").and_then(Value::as_object_mut);
    for graph in graphs.into_iter().flat_map(|graphs| graphs.values_mut()) {
        if let Some(list) = graph.get_mut("providers") {
            provider::resolve_paths(list, folder);
        }
    }
}
