//! The `runtime` section: where ONNX Runtime is and what runs on which provider.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result, nearest};
use crate::runtime::{MemoryPolicy, Provider, ProviderKind, RuntimeOptions, Untyped};

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
    /// Whether a bundle's graphs run in the form that was made for the first of their providers. Default: true.
    pub variants: bool,
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
            variants: true,
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
                providers(
                    &graph.providers,
                    &format!("runtime.graphs.{name}.providers"),
                )?,
            ))
        };
        Ok(RuntimeOptions {
            library: self.library_path(),
            providers: providers(&self.providers, "runtime.providers")?,
            graphs: self.graphs.iter().map(of_graph).collect::<Result<_>>()?,
            options: self.options.clone(),
            memory: self.memory,
            return_memory: false,
            variants: self.variants,
        })
    }

    pub(super) fn validate(&self) -> Result<()> {
        self.options().map(drop)
    }
}

fn providers(list: &[Value], place: &str) -> Result<Vec<Provider>> {
    if list.is_empty() {
        return Err(Error::option(format!(
            "{place}: expected at least one provider, such as `cpu`"
        )));
    }
    list.iter()
        .enumerate()
        .map(|(i, value)| provider(value).map_err(|e| e.at(format!("{place}[{i}]"))))
        .collect()
}

fn provider(value: &Value) -> Result<Provider> {
    match value {
        Value::String(name) => Ok(Provider::new(kind(name)?)),
        Value::Object(map) if map.len() == 1 => {
            let (name, options) = map
                .iter()
                .next()
                .ok_or_else(|| Error::internal("an empty mapping of length 1"))?;
            match options {
                Value::Object(options) => with_options(Provider::new(kind(name)?), options),
                Value::Null => Ok(Provider::new(kind(name)?)),
                _ => Err(Error::option(format!(
                    "{name}: expected a mapping of options"
                ))),
            }
        }
        _ => Err(Error::option(
            "expected a provider's name, or one name with its options",
        )),
    }
}

fn kind(name: &str) -> Result<ProviderKind> {
    const KNOWN: [ProviderKind; 3] = [
        ProviderKind::Cpu,
        ProviderKind::Cuda,
        ProviderKind::Tensorrt,
    ];
    KNOWN
        .into_iter()
        .find(|kind| kind.to_string() == name)
        .ok_or_else(|| {
            let known = KNOWN.map(|kind| kind.to_string()).join(", ");
            Error::option(format!(
                "unknown provider `{name}`, expected one of {known}"
            ))
        })
}

/// `threads` (CPU), `device_id` (GPUs), `optional`, and `options`, which are passed through.
fn with_options(mut provider: Provider, options: &Map<String, Value>) -> Result<Provider> {
    let on_cpu = provider.kind == ProviderKind::Cpu;
    for (key, value) in options {
        let bad = |wanted: &str| {
            Error::option(format!(
                "{}.{key}: `{value}`, expected {wanted}",
                provider.kind
            ))
        };
        match key.as_str() {
            "threads" if on_cpu => {
                provider.threads = value.as_u64().ok_or_else(|| bad("a whole number"))? as usize
            }
            "device_id" if !on_cpu => {
                let id = value.as_u64().ok_or_else(|| bad("a whole number"))?;
                provider
                    .options
                    .insert(key.clone(), crate::runtime::Scalar::Int(id as i64));
            }
            "optional" => {
                provider.optional = value.as_bool().ok_or_else(|| bad("true or false"))?
            }
            "options" => {
                let map: Untyped = serde_json::from_value(value.clone())
                    .map_err(|_| bad("a mapping from ONNX Runtime's keys to values"))?;
                provider.options.extend(map);
            }
            _ => {
                let known = [
                    "optional",
                    "options",
                    if on_cpu { "threads" } else { "device_id" },
                ];
                let nearest = nearest(key, known.into_iter());
                return Err(Error::option(format!(
                    "unknown key `{}.{key}`: did you mean `{nearest}`? Known here: {}",
                    provider.kind,
                    known.join(", ")
                )));
            }
        }
    }
    Ok(provider)
}
