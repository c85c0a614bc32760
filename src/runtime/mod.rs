//! ONNX Runtime: finding its library, choosing providers, running graphs. The crate `ort` is named in this folder
//! alone.

#[cfg(feature = "onnx")]
mod assignment;
#[cfg(feature = "onnx")]
mod binding;
#[cfg(feature = "onnx")]
mod builder;
#[cfg(feature = "onnx")]
mod copies;
#[cfg(feature = "onnx")]
pub mod engine_cache;
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
mod values;
mod variants;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::nets::contract::GraphKind;

#[cfg(feature = "onnx")]
pub use library::{Loaded, load};
pub use provider::{Provider, ProviderKind, Scalar, Settings, Untyped};
#[cfg(feature = "onnx")]
pub use registration::{PassedOver, check, check_providers, probe};
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
    /// The `.onnx` file; its external data lies beside it.
    pub path: PathBuf,
    /// The file with its segments, where it has some; their weights lie in the graph's external data.
    pub segments: Option<PathBuf>,
    /// Bytes of the file and its external data.
    pub bytes: u64,
    /// Other forms of it.
    pub variants: Vec<VariantFile>,
    /// SHA-256 of each of its files, in the order of their names.
    pub hashes: Vec<String>,
}

/// When sessions that are not in use are released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryPolicy {
    /// `keep` where the memory of this machine has room for all of them, else `sequential`; on other devices `keep`.
    #[default]
    Auto,
    /// Every session stays loaded, so that the next picture does not wait.
    Keep,
    /// One session at a time, so that the peak is one stage's.
    Sequential,
    /// As sequential, and the denoiser in parts that are loaded anew in every evaluation, where the bundle has such.
    Least,
}

/// Whether a session's inputs and outputs keep their place from run to run, on the device that it works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IoBinding {
    /// On CUDA and TensorRT.
    #[default]
    Auto,
    /// Everywhere; on the CPU that costs a copy.
    Always,
    /// Nowhere.
    Never,
}

/// What sessions are made with.
#[derive(Debug, Clone, PartialEq)]
pub struct RuntimeOptions {
    /// The library; `None` looks for one. Default: `None`.
    pub library: Option<PathBuf>,
    /// Execution providers in order of preference. Default: the CPU.
    pub providers: Vec<Provider>,
    /// Providers of single graphs, instead of [`providers`](Self::providers). Default: none.
    pub graphs: BTreeMap<String, Vec<Provider>>,
    /// Session configuration entries, passed through as they are. Default: none.
    pub options: Untyped,
    /// When sessions are released. Default: [`MemoryPolicy::Auto`].
    pub memory: MemoryPolicy,
    /// Whether the process's allocator is told, once memory is short, to give large blocks back at once. For programs
    /// whose process is their own: it costs a few percent of the time and holds for everybody in the process. Default:
    /// false.
    pub return_memory: bool,
    /// Devices that requests are served on at once, by their numbers: each has its sessions, whose providers stand on it.
    /// Default: none, one set of sessions on the devices that providers name.
    pub devices: Vec<u32>,
    /// How many sets of sessions share the machine's memory. Default: 1.
    pub sharing: usize,
    /// Whether a graph's variant for the first of its providers is taken, where the bundle has one. Default: true.
    pub variants: bool,
    /// Whether inputs and outputs stay on the device. Default: auto.
    pub io_binding: IoBinding,
    /// Whether that is the one in 8 bits for the CPU, where the bundle has one: faster, and an approximation. Default: false.
    pub int8: bool,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        RuntimeOptions {
            library: None,
            providers: vec![Provider::new(ProviderKind::Cpu)],
            graphs: BTreeMap::new(),
            options: Untyped::new(),
            memory: MemoryPolicy::Auto,
            return_memory: false,
            devices: Vec::new(),
            sharing: 1,
            variants: true,
            io_binding: IoBinding::Auto,
            int8: false,
        }
    }
}

impl RuntimeOptions {
    /// The providers that `graph` is given.
    pub fn providers_of(&self, graph: &str) -> &[Provider] {
        self.graphs.get(graph).unwrap_or(&self.providers)
    }

    /// The options of each set of sessions: one for each of [`devices`](Self::devices), or these.
    pub fn sets(&self) -> Vec<RuntimeOptions> {
        if self.devices.is_empty() {
            return vec![self.clone()];
        }
        let on = |device: &u32| {
            let mut options = self.clone();
            let graphs = options.graphs.values_mut().flatten();
            for provider in options.providers.iter_mut().chain(graphs) {
                provider.settings.stand_on(*device);
            }
            options.sharing = self.devices.len();
            options
        };
        self.devices.iter().map(on).collect()
    }

    /// All providers that some graph may be given.
    pub fn all_providers(&self) -> impl Iterator<Item = &Provider> {
        self.providers.iter().chain(self.graphs.values().flatten())
    }

    /// The threads that `graph` runs on where it runs on the CPU.
    pub fn threads_of(&self, graph: &str) -> usize {
        let providers = self.providers_of(graph);
        let cpu = providers.iter().find(|p| p.kind() == ProviderKind::Cpu);
        match cpu.map_or(0, Provider::threads) {
            // ONNX Runtime's own default counts the machine's physical cores: too few where two virtual ones share one, too
            // many in a container that may use a few of them.
            0 => std::thread::available_parallelism().map_or(0, usize::from),
            threads => threads,
        }
    }
}
