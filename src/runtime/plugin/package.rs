//! The Python packages that contain plugins.

use std::path::{Path, PathBuf};

use crate::runtime::library::{cache_dir, installed_dir};
use crate::runtime::provider::ProviderKind;
use crate::runtime::python;

/// A Python package that contains a plugin and the libraries it is linked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// The version that `diffbir runtime install` installs.
    pub version: &'static str,
    /// The folder it installs into.
    pub(super) folder: &'static str,
    /// The plugin's file name without prefix and extension.
    pub(super) library: &'static str,
    /// Whether its libraries refer to each other by names that the package does not contain (symbolic links, see
    /// [`complete`](Self::complete)), and need to be loaded first.
    pub(super) needs_links: bool,
}

/// OpenVINO: 53 MB to fetch, MIT; any ONNX Runtime from 1.23.
pub const OPENVINO: Package = Package {
    name: "onnxruntime-ep-openvino",
    version: "1.8.1",
    folder: "onnxruntime_ep_openvino",
    library: "onnxruntime_providers_openvino_plugin",
    needs_links: false,
};

/// TensorRT for RTX: 147 MB to fetch; any ONNX Runtime from 1.24.
pub const TENSORRT_RTX: Package = Package {
    name: "onnxruntime-ep-nv-tensorrt-rtx-cu13",
    version: "0.5.0",
    folder: "onnxruntime_ep_nv_tensorrt_rtx",
    library: "onnxruntime_providers_nv_tensorrt_rtx",
    needs_links: true,
};

/// The package of `kind`, if it is a plugin.
pub fn package(kind: ProviderKind) -> Option<&'static Package> {
    match kind {
        ProviderKind::OpenVino => Some(&OPENVINO),
        ProviderKind::TensorrtRtx => Some(&TENSORRT_RTX),
        ProviderKind::Cpu | ProviderKind::Cuda | ProviderKind::Tensorrt => None,
    }
}

impl Package {
    pub(super) fn file_name(&self) -> String {
        let (before, after) = match () {
            () if cfg!(windows) => ("", ".dll"),
            () if cfg!(target_os = "macos") => ("lib", ".dylib"),
            () => ("lib", ".so"),
        };
        format!("{before}{}{after}", self.library)
    }

    /// Possible paths of the library.
    pub(super) fn places(&self, runtime: &Path) -> Vec<PathBuf> {
        let cached = cache_dir().map(|cache| installed_dir(&cache, self.name, self.version));
        // `…/site-packages/onnxruntime/capi/libonnxruntime.so…`
        let folder = runtime
            .parent()
            .filter(|folder| folder.ends_with("onnxruntime/capi"));
        let beside = folder
            .and_then(|folder| folder.ancestors().nth(2))
            .map(Path::to_owned);
        let packages = cached.into_iter().chain(python::packages()).chain(beside);
        packages
            .map(|packages| packages.join(self.folder).join(self.file_name()))
            .collect()
    }

    /// Completes an installation in the folder `target`: creates the symbolic links by which the libraries refer to
    /// each other, which the package leaves to Python.
    ///
    /// # Errors
    /// Errors of the file system.
    #[cfg(unix)]
    pub fn complete(&self, target: &Path) -> std::io::Result<()> {
        if !self.needs_links {
            return Ok(());
        }
        let folder = target.join(self.folder);
        for entry in std::fs::read_dir(&folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            for alias in aliases(&name) {
                if !folder.join(alias).exists() {
                    std::os::unix::fs::symlink(&name, folder.join(alias))?;
                }
            }
        }
        Ok(())
    }

    /// Completes an installation: nothing to do on this system.
    ///
    /// # Errors
    /// None.
    #[cfg(not(unix))]
    pub fn complete(&self, _: &Path) -> std::io::Result<()> {
        Ok(())
    }
}

/// `libx.so.1.7.1` is searched for as `libx.so.1` and `libx.so`.
fn aliases(name: &str) -> Vec<&str> {
    let Some((stem, version)) = name.split_once(".so.") else {
        return Vec::new();
    };
    let major = version.split('.').next().unwrap_or_default();
    if major.len() == version.len() {
        return Vec::new();
    }
    vec![
        &name[..stem.len() + ".so.".len() + major.len()],
        &name[..stem.len() + ".so".len()],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_left_out_of_names() {
        assert_eq!(aliases("liba.so.1.7.1"), ["liba.so.1", "liba.so"]);
        for name in ["liba.so", "liba.so.1", "README.txt"] {
            assert!(aliases(name).is_empty(), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn libraries_get_the_names_they_are_looked_for_by() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(TENSORRT_RTX.folder);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("liba.so.1.7.1"), b"x").unwrap();
        TENSORRT_RTX.complete(dir.path()).unwrap();
        TENSORRT_RTX.complete(dir.path()).unwrap();
        for alias in ["liba.so.1", "liba.so"] {
            assert_eq!(std::fs::read(folder.join(alias)).unwrap(), b"x");
        }
    }
}
