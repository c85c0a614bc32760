//! ONNX Runtime: finding its library, choosing providers, running graphs. The crate `ort` is named in this folder
//! alone.

#[cfg(feature = "onnx")]
mod assignment;
#[cfg(feature = "onnx")]
mod binding;
#[cfg(feature = "onnx")]
mod builder;
#[cfg(feature = "onnx")]
mod check;
#[cfg(feature = "onnx")]
mod copies;
#[cfg(feature = "onnx")]
mod devices;
#[cfg(feature = "onnx")]
pub mod engine_cache;
#[cfg(feature = "onnx")]
pub mod exit;
#[cfg(feature = "onnx")]
mod failures;
#[cfg(feature = "onnx")]
mod heap;
#[cfg(feature = "onnx")]
pub mod library;
#[cfg(feature = "onnx")]
mod loaded;
#[cfg(feature = "onnx")]
pub mod needs;
#[cfg(feature = "onnx")]
mod nvidia;
#[cfg(feature = "onnx")]
mod parts;
#[cfg(feature = "onnx")]
pub mod plugin;
pub mod provider;
#[cfg(feature = "onnx")]
mod python;
#[cfg(feature = "onnx")]
pub mod registration;
#[cfg(feature = "onnx")]
pub mod session;
#[cfg(feature = "onnx")]
pub mod sessions;
#[cfg(feature = "onnx")]
mod stopping;
#[cfg(feature = "onnx")]
pub mod telemetry;
#[cfg(feature = "onnx")]
mod values;
mod variants;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::declare::options;
use crate::error::{Error, Result};
use crate::nets::contract::GraphKind;

#[cfg(feature = "onnx")]
pub use check::check;
#[cfg(feature = "onnx")]
pub use heap::own_process;
#[cfg(feature = "onnx")]
pub use library::{Loaded, load};
pub use provider::{Provider, ProviderKind, Scalar, Settings, Untyped};
#[cfg(feature = "onnx")]
pub use registration::{SkippedProvider, check_providers, probe};
#[cfg(feature = "onnx")]
pub use session::{Session, first_run};
#[cfg(feature = "onnx")]
pub use sessions::Sessions;
pub use variants::{Role, VariantFile};

/// A graph on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphFile {
    /// Its name in the bundle.
    pub name: String,
    /// Its contract.
    pub kind: GraphKind,
    /// The `.onnx` file; its external data is in the same folder.
    pub path: PathBuf,
    /// The file with its segments (strip-streamed VAE), if any; their weights are in the graph's external data.
    pub segments: Option<PathBuf>,
    /// Size of the file and its external data in bytes.
    pub bytes: u64,
    /// Variants of the graph.
    pub variants: Vec<VariantFile>,
    /// SHA-256 of each of its files, ordered by file name.
    pub hashes: Vec<String>,
}

/// When idle sessions are released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryPolicy {
    /// `keep` if all sessions fit the memory of this machine, else `sequential`; on other devices `keep`.
    #[default]
    Auto,
    /// Resident: every session stays loaded, so that the next picture does not wait.
    Keep,
    /// Sequential: one session at a time; the peak is that of one stage.
    Sequential,
    /// Streamed: as sequential, and the denoiser's weights are loaded part by part in every call, if the bundle has
    /// the parts.
    Least,
}

/// Whether a session's inputs and outputs stay on its device from run to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IoBinding {
    /// With CUDA and TensorRT.
    #[default]
    Auto,
    /// Always; on the CPU this costs a copy.
    Always,
    /// Never.
    Never,
}

/// Selects the libonnxruntime to load.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(from = "PathBuf", into = "PathBuf")]
pub enum LibraryChoice {
    /// The first one found that fits.
    #[default]
    Auto,
    /// This file.
    Path(PathBuf),
}

impl LibraryChoice {
    /// The file, if one is named.
    pub fn path(&self) -> Option<&Path> {
        match self {
            LibraryChoice::Auto => None,
            LibraryChoice::Path(path) => Some(path),
        }
    }
}

impl From<PathBuf> for LibraryChoice {
    fn from(path: PathBuf) -> Self {
        match path.as_os_str() == "auto" {
            true => LibraryChoice::Auto,
            false => LibraryChoice::Path(path),
        }
    }
}

impl From<LibraryChoice> for PathBuf {
    fn from(choice: LibraryChoice) -> Self {
        choice.path().unwrap_or(Path::new("auto")).to_owned()
    }
}

/// Overrides for one graph.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphOptions {
    /// Its execution providers in order of preference.
    pub providers: Vec<Provider>,
}

options! {
    /// ONNX Runtime and its execution providers.
    struct RuntimeOptions, layer RuntimeLayer, section "runtime";
    /// Path of libonnxruntime, or auto to search for one.
    library: LibraryChoice = LibraryChoice::Auto, (skip);
    /// Never install anything.
    offline: bool = false, (long = "offline", num_args = 0, default_missing_value = "true");
    /// When models are unloaded: auto (keep where all fit the memory, else sequential), keep, sequential (one model at a
    /// time) or least (as sequential, denoiser weights streamed in every step).
    memory: MemoryPolicy = MemoryPolicy::Auto, (skip);
    /// Execution providers in order of preference, each a name (cpu) or a name with options (cuda: { device_id: 0 }).
    providers: Vec<Provider> = vec![Provider::new(ProviderKind::Cpu)], (skip);
    /// Overrides for single graphs: NAME: { providers: [...] }.
    graphs: BTreeMap<String, GraphOptions> = BTreeMap::new(), (skip);
    /// Session configuration entries, passed to ONNX Runtime unchanged.
    options: Untyped = Untyped::new(), (skip);
    /// Device numbers on which pictures are restored at once, each with its own sessions. Empty: the providers' devices.
    devices: Vec<u32> = Vec::new(), (skip);
    /// Run a bundle's graphs in the variant made for the first of their providers.
    variants: bool = true, (skip);
    /// Keep inputs and outputs on the device between runs: auto (on CUDA and TensorRT), always, never.
    io_binding: IoBinding = IoBinding::Auto, (skip);
    /// Run the int8 variants on the CPU, where the bundle has them: faster, an approximation.
    int8: bool = false, (skip);
    optional:
    /// Warm up before the first picture: restore one of this size in pixels, [WIDTH, HEIGHT].
    warm_up: [usize; 2], (skip);
}

/// The longest side of a picture to warm up with, in pixels, and the largest number of devices.
const MAX_WARM_UP: usize = 1 << 16;
const MAX_DEVICES: usize = 256;

impl RuntimeLayer {
    /// Resolves relative paths against `folder`.
    pub(crate) fn resolve_paths(&mut self, folder: &Path) {
        if let Some(LibraryChoice::Path(path)) = &mut self.library {
            *path = folder.join(&path);
        }
        let graphs = self.graphs.iter_mut().flat_map(BTreeMap::values_mut);
        let lists = graphs.map(|graph| &mut graph.providers);
        for provider in lists.chain(&mut self.providers).flatten() {
            provider.settings.resolve_paths(folder);
        }
    }
}

impl RuntimeOptions {
    pub(crate) fn validate(&self) -> Result<()> {
        if let Some(size) = self.warm_up
            && size.iter().any(|side| !(1..=MAX_WARM_UP).contains(side))
        {
            return Err(Error::option(format!(
                "runtime.warm_up is {size:?}, expected a width and a height of 1 to {MAX_WARM_UP} pixels"
            )));
        }
        if self.devices.len() > MAX_DEVICES {
            return Err(Error::option(format!(
                "runtime.devices: expected at most {MAX_DEVICES}"
            )));
        }
        let graphs = self.graphs.iter();
        let lists =
            graphs.map(|(name, graph)| (format!("graphs.{name}.providers"), &graph.providers));
        let mut lists = lists.chain([("providers".to_owned(), &self.providers)]);
        match lists.find(|(_, list)| list.is_empty()) {
            Some((key, _)) => Err(Error::option(format!(
                "runtime.{key}: expected at least one provider, such as `cpu`"
            ))),
            None => Ok(()),
        }
    }

    /// The providers of `graph`.
    pub fn providers_of(&self, graph: &str) -> &[Provider] {
        self.graphs
            .get(graph)
            .map_or(&self.providers, |graph| &graph.providers)
    }

    /// The options of each set of sessions: one set for each of [`devices`](Self::devices), or a single one.
    pub fn sets(&self) -> Vec<RuntimeOptions> {
        if self.devices.is_empty() {
            return vec![self.clone()];
        }
        let on = |device: &u32| {
            let mut options = self.clone();
            let graphs = options
                .graphs
                .values_mut()
                .flat_map(|graph| &mut graph.providers);
            for provider in options.providers.iter_mut().chain(graphs) {
                provider.settings.stand_on(*device);
            }
            options
        };
        self.devices.iter().map(on).collect()
    }

    /// Number of sets of sessions that share the machine's memory.
    pub fn sharing(&self) -> usize {
        self.devices.len().max(1)
    }

    /// The providers of all graphs.
    pub fn all_providers(&self) -> impl Iterator<Item = &Provider> {
        let graphs = self.graphs.values().flat_map(|graph| &graph.providers);
        self.providers.iter().chain(graphs)
    }

    /// Number of threads of `graph` on the CPU.
    pub fn threads_of(&self, graph: &str) -> usize {
        let providers = self.providers_of(graph);
        let cpu = providers.iter().find(|p| p.kind() == ProviderKind::Cpu);
        match cpu.map_or(0, Provider::threads) {
            // ONNX Runtime's default is the number of physical cores: too few if two virtual cores share one, too many
            // in a container that may use only some of them.
            0 => std::thread::available_parallelism().map_or(0, usize::from),
            threads => threads,
        }
    }
}
