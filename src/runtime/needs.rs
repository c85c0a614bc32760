//! Shared libraries that NVIDIA's providers need, and which of them are missing.
//!
//! A library is searched for by the system's loader, then in the folders of NVIDIA's Python packages in the active
//! Python environment. One found there is loaded, so that the provider finds it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::provider::ProviderKind;
use super::{library, python};

/// A library that a provider cannot run without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its file name.
    pub library: String,
    /// The product that contains it.
    pub from: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.library, self.from)
    }
}

const DRIVER: (&str, &str) = ("libcuda.so.1", "the NVIDIA driver");

/// Libraries that the provider library of onnxruntime-gpu 1.31 is linked with, and cuDNN, which it opens on first use.
/// In dependency order.
const CUDA: &[(&str, &str)] = &[
    DRIVER,
    ("libcudart.so.13", "CUDA 13"),
    ("libcublasLt.so.13", "CUDA 13"),
    ("libcublas.so.13", "CUDA 13"),
    ("libcurand.so.10", "CUDA 13"),
    ("libcudnn.so.9", "cuDNN 9"),
];

const TENSORRT: &[(&str, &str)] = &[
    ("libnvinfer.so.10", "TensorRT 10"),
    ("libnvonnxparser.so.10", "TensorRT 10"),
];

const RTX: &[(&str, &str)] = &[DRIVER, ("libnvidia-ml.so.1", "the NVIDIA driver")];

/// The system libraries that `kind` needs; known for Linux alone.
fn libraries(kind: ProviderKind) -> Vec<(&'static str, &'static str)> {
    if !cfg!(target_os = "linux") {
        return Vec::new();
    }
    match kind {
        ProviderKind::Cpu | ProviderKind::OpenVino => Vec::new(),
        ProviderKind::Cuda => CUDA.to_vec(),
        ProviderKind::Tensorrt => [CUDA, TENSORRT].concat(),
        ProviderKind::TensorrtRtx => RTX.to_vec(),
    }
}

/// The provider's own library, in the folder of `libonnxruntime`.
fn own_library(kind: ProviderKind) -> Option<&'static str> {
    match (kind, cfg!(windows)) {
        (ProviderKind::Cuda, false) => Some("libonnxruntime_providers_cuda.so"),
        (ProviderKind::Cuda, true) => Some("onnxruntime_providers_cuda.dll"),
        (ProviderKind::Tensorrt, false) => Some("libonnxruntime_providers_tensorrt.so"),
        (ProviderKind::Tensorrt, true) => Some("onnxruntime_providers_tensorrt.dll"),
        _ => None,
    }
}

/// Whether the needs of ONNX Runtime `version` are known. Later versions may be linked with other libraries.
pub fn are_known_of(version: &str) -> bool {
    ["1.31.", "1.32."]
        .iter()
        .any(|known| version.starts_with(known))
}

/// The libraries that `kind` needs and does not find. `runtime` is the path of `libonnxruntime`.
pub fn missing(kind: ProviderKind, runtime: &Path) -> Vec<Missing> {
    let own = own_library(kind).filter(|name| !runtime.with_file_name(name).is_file());
    let own = own.map(|library| Missing {
        library: library.to_owned(),
        from: "onnxruntime-gpu",
    });
    let folders = package_folders();
    let absent = |(name, _): &(&str, &str)| !is_loadable(name, &folders);
    let others = libraries(kind).into_iter().filter(absent);
    own.into_iter()
        .chain(others.map(|(library, from)| Missing {
            library: library.to_owned(),
            from,
        }))
        .collect()
}

/// The library folders of NVIDIA's Python packages.
fn package_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for packages in python::packages() {
        folders.push(packages.join("tensorrt_libs"));
        let nvidia = std::fs::read_dir(packages.join("nvidia"));
        let mut found: Vec<PathBuf> = nvidia
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join("lib"))
            .collect();
        found.sort();
        folders.extend(found);
    }
    folders
}

fn is_loadable(name: &str, folders: &[PathBuf]) -> bool {
    let packaged = folders.iter().map(|folder| folder.join(name));
    let places = [PathBuf::from(name)]
        .into_iter()
        .chain(packaged.filter(|path| path.is_file()));
    places.into_iter().any(|place| keep_loaded(&place).is_ok())
}

/// Loads a library for the rest of the process, so that libraries linked with it find it by name.
///
/// # Errors
/// The loader's message.
pub(super) fn keep_loaded(path: &Path) -> Result<(), String> {
    // The loader searches the system's libraries for a bare name.
    if path.is_absolute() {
        library::expect_own(path).map_err(|e| e.to_string())?;
    }
    ort::util::preload_dylib(path).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_the_provider_lacks_its_library() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = dir.path().join("libonnxruntime.so.1.32.0");
        for (kind, name) in [
            (ProviderKind::Cuda, "onnxruntime_providers_cuda"),
            (ProviderKind::Tensorrt, "onnxruntime_providers_tensorrt"),
        ] {
            let found = missing(kind, &runtime);
            assert!(found[0].library.contains(name), "{found:?}");
            assert_eq!(found[0].from, "onnxruntime-gpu");
            std::fs::write(dir.path().join(&found[0].library), b"").unwrap();
            assert!(!missing(kind, &runtime).contains(&found[0]));
        }
        assert_eq!(missing(ProviderKind::Cpu, &runtime), []);
        assert_eq!(missing(ProviderKind::OpenVino, &runtime), []);
    }

    #[test]
    fn a_library_that_the_loader_does_not_know_is_missing() {
        assert!(!is_loadable("libdiffbir-no-such.so.1", &[]));
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        assert!(is_loadable("libc.so.6", &[]));
    }

    #[test]
    fn a_missing_library_says_what_has_it() {
        let missing = Missing {
            library: "libcudnn.so.9".to_owned(),
            from: "cuDNN 9",
        };
        assert_eq!(missing.to_string(), "libcudnn.so.9 (cuDNN 9)");
    }
}
