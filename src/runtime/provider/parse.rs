//! Parsing of an execution provider: `cpu`, or `cuda: { device_id: 0, options: { … } }`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use serde_json::{Map, Value};

use super::{Provider, ProviderKind, Settings, Untyped};
use crate::error::{Error, Result, nearest};
use crate::wording;

/// Options that are paths: `~/` is the user's home, relative paths are resolved against the configuration's folder.
const PATHS: [&str; 3] = ["library", "engine_cache", "runtime_cache"];

/// Options of every provider.
const COMMON: [&str; 2] = ["optional", "options"];

impl Provider {
    /// The provider called `name`, with default options.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option) for an unknown name, with the nearest one.
    pub fn by_name(name: &str) -> Result<Self> {
        kind(name).map(Provider::new)
    }
}

impl<'de> Deserialize<'de> for Provider {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        parse(&Value::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl Serialize for Provider {
    /// Writes the name alone if every option is at its default.
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let name = self.kind().name();
        if *self == Provider::new(self.kind()) {
            return serializer.serialize_str(name);
        }
        let mut options = self.settings.to_map().map_err(ser::Error::custom)?;
        if self.optional {
            options.insert("optional".to_owned(), Value::Bool(true));
        }
        if !self.options.is_empty() {
            let untyped = serde_json::to_value(&self.options).map_err(ser::Error::custom)?;
            options.insert("options".to_owned(), untyped);
        }
        BTreeMap::from([(name, options)]).serialize(serializer)
    }
}

impl Settings {
    fn to_map(&self) -> serde_json::Result<Map<String, Value>> {
        let value = match self {
            Settings::Cpu(options) => serde_json::to_value(options),
            Settings::Cuda(options) => serde_json::to_value(options),
            Settings::Tensorrt(options) => serde_json::to_value(options),
            Settings::TensorrtRtx(options) => serde_json::to_value(options),
            Settings::OpenVino(options) => serde_json::to_value(options),
        };
        value.and_then(serde_json::from_value)
    }

    /// Resolves relative paths against `folder`.
    pub(in crate::runtime) fn resolve_paths(&mut self, folder: &Path) {
        let paths = match self {
            Settings::Tensorrt(options) => vec![&mut options.engine_cache],
            Settings::TensorrtRtx(options) => {
                vec![&mut options.library, &mut options.runtime_cache]
            }
            Settings::OpenVino(options) => vec![&mut options.library],
            Settings::Cpu(_) | Settings::Cuda(_) => Vec::new(),
        };
        for path in paths.into_iter().flatten() {
            *path = folder.join(&path);
        }
    }
}

fn parse(value: &Value) -> Result<Provider> {
    match value {
        Value::String(name) => Provider::by_name(name),
        Value::Object(map) if map.len() == 1 => {
            let (name, options) = map
                .iter()
                .next()
                .ok_or_else(|| Error::internal("an empty mapping of length 1"))?;
            match options {
                Value::Object(options) => with_options(kind(name)?, options),
                Value::Null => Provider::by_name(name),
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
    ProviderKind::by_name(name).ok_or_else(|| {
        let known = ProviderKind::ALL.map(ProviderKind::name);
        let nearest = nearest(name, known.into_iter());
        Error::option(format!(
            "unknown provider `{name}`: did you mean `{nearest}`? Known are {}",
            known.join(", ")
        ))
    })
}

fn with_options(kind: ProviderKind, options: &Map<String, Value>) -> Result<Provider> {
    let mut typed = options.clone();
    let mut provider = Provider::new(kind);
    let bad = |key: &str, value: &Value, wanted: &str| {
        Error::option(format!("{kind}.{key}: `{value}`, expected {wanted}"))
    };
    if let Some(value) = typed.remove("optional") {
        let optional = value.as_bool();
        provider.optional = optional.ok_or_else(|| bad("optional", &value, "true or false"))?;
    }
    if let Some(value) = typed.remove("options") {
        let wanted = "a mapping from ONNX Runtime's keys to values";
        let map: Option<Untyped> = serde_json::from_value(value.clone()).ok();
        provider.options = map.ok_or_else(|| bad("options", &value, wanted))?;
    }
    provider.settings = settings(kind, typed)?;
    refuse_without_effect(&provider)?;
    Ok(provider)
}

fn settings(kind: ProviderKind, options: Map<String, Value>) -> Result<Settings> {
    Ok(match kind {
        ProviderKind::Cpu => Settings::Cpu(typed(kind, options)?),
        ProviderKind::Cuda => Settings::Cuda(typed(kind, options)?),
        ProviderKind::Tensorrt => Settings::Tensorrt(typed(kind, options)?),
        ProviderKind::TensorrtRtx => Settings::TensorrtRtx(typed(kind, options)?),
        ProviderKind::OpenVino => Settings::OpenVino(typed(kind, options)?),
    })
}

/// A provider's options; the known keys are those of the defaults.
fn typed<T: Default + Serialize + DeserializeOwned>(
    kind: ProviderKind,
    mut options: Map<String, Value>,
) -> Result<T> {
    let defaults = serde_json::to_value(T::default())
        .map_err(|e| Error::internal("options cannot be written").with_source(e))?;
    let keys = defaults.as_object().into_iter().flat_map(Map::keys);
    let known: Vec<&str> = keys.map(String::as_str).chain(COMMON).collect();
    if let Some(key) = options.keys().find(|key| !known.contains(&key.as_str())) {
        let nearest = nearest(key, known.iter().copied());
        return Err(Error::option(format!(
            "unknown key `{kind}.{key}`: did you mean `{nearest}`? Known here: {}. Other keys of ONNX Runtime go under \
             `{kind}.options`",
            known.join(", ")
        )));
    }
    for key in PATHS {
        if let Some(Value::String(path)) = options.get_mut(key) {
            *path = at_home(path);
        }
    }
    serde_path_to_error::deserialize(Value::Object(options)).map_err(|e| {
        let key = e.path().to_string();
        wording::bad_value(&format!("{kind}.{key}"), &e.into_inner().to_string())
    })
}

/// Refuses options that OpenVINO's plugin ignores, with the key to use instead.
fn refuse_without_effect(provider: &Provider) -> Result<()> {
    const INSTEAD: [(&str, &str); 6] = [
        ("device_type", "openvino.device"),
        ("device_id", "openvino.device"),
        ("num_of_threads", "openvino.threads"),
        ("precision", "openvino.precision"),
        ("num_streams", "NUM_STREAMS in `load_config`"),
        ("cache_dir", "CACHE_DIR in `load_config`"),
    ];
    if provider.kind() != ProviderKind::OpenVino {
        return Ok(());
    }
    let given = |(key, _): &&(&str, &str)| provider.options.contains_key(*key);
    match INSTEAD.iter().find(given) {
        Some((key, instead)) => Err(Error::option(format!(
            "openvino.options.{key}: the plugin ignores it; set {instead}"
        ))),
        None => Ok(()),
    }
}

/// Expands `~/` to the user's home.
fn at_home(path: &str) -> String {
    match (path.strip_prefix("~/"), dirs::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest).to_string_lossy().into_owned(),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::memory::Bytes;
    use crate::runtime::provider::{
        CudaOptions, OpenVinoOptions, Precision, TensorrtOptions, TensorrtRtxOptions,
    };

    fn read(value: Value) -> Provider {
        parse(&value).unwrap()
    }

    #[test]
    fn options_are_typed() {
        let cuda = read(json!({ "cuda": {
            "device_id": 1, "memory_limit": "20GiB", "tf32": true, "optional": true, "options": { "prefer_nhwc": true }
        }}));
        let expected = CudaOptions {
            device_id: 1,
            memory_limit: Some(Bytes(20 << 30)),
            tf32: true,
            ..CudaOptions::default()
        };
        assert_eq!(cuda.settings, Settings::Cuda(expected));
        assert!(cuda.optional);
        assert_eq!(cuda.ort_options()["prefer_nhwc"], "1");
        let tensorrt = read(json!({ "tensorrt": { "fp16": true, "engine_cache": "~/trt" } }));
        let expected = TensorrtOptions {
            fp16: true,
            engine_cache: Some(dirs::home_dir().unwrap().join("trt")),
            ..TensorrtOptions::default()
        };
        assert_eq!(tensorrt.settings, Settings::Tensorrt(expected));
        let openvino = read(json!({ "openvino": { "device": "GPU", "precision": "f16" } }));
        let expected = OpenVinoOptions {
            device: "GPU".to_owned(),
            precision: Precision::F16,
            ..OpenVinoOptions::default()
        };
        assert_eq!(openvino.settings, Settings::OpenVino(expected));
        let rtx = read(json!({ "tensorrt-rtx": { "memory_limit": "4096B" } }));
        let expected = TensorrtRtxOptions {
            memory_limit: Some(Bytes(4096)),
            ..TensorrtRtxOptions::default()
        };
        assert_eq!(rtx.settings, Settings::TensorrtRtx(expected));
    }

    #[test]
    fn every_provider_has_a_plain_name() {
        for kind in ProviderKind::ALL {
            let provider = Provider::new(kind);
            assert_eq!(read(json!(kind.name())), provider);
            assert_eq!(read(json!({ kind.name(): null })), provider);
            assert_eq!(read(json!({ kind.name(): {} })), provider);
        }
    }

    #[test]
    fn mistakes_name_what_was_meant() {
        let wrong = [
            (json!("opnvino"), "did you mean `openvino`"),
            (json!({ "cpu": { "thread": 2 } }), "did you mean `threads`"),
            (
                json!({ "cpu": { "device_id": 0 } }),
                "unknown key `cpu.device_id`",
            ),
            (
                json!({ "cuda": { "fp16": true } }),
                "go under `cuda.options`",
            ),
            (
                json!({ "cuda": { "memory_limit": "lots" } }),
                "cuda.memory_limit: `lots` is no size",
            ),
            (
                json!({ "cuda": { "device_id": "first" } }),
                "cuda.device_id: string \"first\", expected a whole number from 0",
            ),
            (
                json!({ "cuda": { "conv_search": "best" } }),
                "cuda.conv_search: unknown value",
            ),
            (
                json!({ "openvino": { "precision": "f64" } }),
                "openvino.precision: unknown value",
            ),
            (
                json!({ "cuda": { "optional": "yes" } }),
                "cuda.optional: `\"yes\"`, expected true or false",
            ),
            (
                json!({ "cuda": { "options": 3 } }),
                "cuda.options: `3`, expected a mapping",
            ),
            (json!({ "cuda": 3 }), "cuda: expected a mapping"),
            (json!(["cuda"]), "expected a provider's name"),
            (
                json!({ "openvino": { "options": { "num_of_threads": 2 } } }),
                "set openvino.threads",
            ),
        ];
        for (value, says) in wrong {
            let error = parse(&value).unwrap_err().to_string();
            assert!(error.contains(says), "{value}: {error}");
        }
    }

    #[test]
    fn relative_paths_are_taken_from_the_files_folder() {
        let resolved = |value| {
            let mut provider = read(value);
            provider.settings.resolve_paths(Path::new("/conf"));
            serde_json::to_value(provider).unwrap()
        };
        let tensorrt = resolved(json!({ "tensorrt": { "engine_cache": "trt" } }));
        assert_eq!(tensorrt["tensorrt"]["engine_cache"], "/conf/trt");
        let openvino = resolved(json!({ "openvino": { "library": "/a/b.so" } }));
        assert_eq!(openvino["openvino"]["library"], "/a/b.so");
    }

    #[test]
    fn what_is_written_is_read_back() {
        for value in [
            json!("cuda"),
            json!({ "cuda": { "device_id": 1, "optional": true, "options": { "a": 1 } } }),
            json!({ "tensorrt": { "fp16": true, "engine_cache": "/trt" } }),
            json!({ "tensorrt-rtx": { "memory_limit": 4096000 } }),
            json!({ "openvino": { "device": "GPU" } }),
        ] {
            let provider = read(value);
            assert_eq!(read(serde_json::to_value(&provider).unwrap()), provider);
        }
    }
}
