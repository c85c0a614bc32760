//! Providers that are libraries of their own: finding the library, plugging it into ONNX Runtime, choosing a device.
//!
//! Where a library is looked for, in this order: the provider's option `library`, the per-user cache, the active Python
//! environment, and the one that the ONNX Runtime in use belongs to. Nothing here ever installs one.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ort::AsPointer;
use ort::device::Device;
use ort::environment::Environment;
use ort::memory::DeviceType;
use ort::session::builder::SessionBuilder;

use super::library::{self, cache_dir, installed_dir};
use super::needs;
use super::provider::{Provider, ProviderKind, Settings};
use super::python;

/// A Python package that holds a plugin with everything that it is linked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// The version that the program installs.
    pub version: &'static str,
    /// The folder that it fills.
    folder: &'static str,
    /// The plugin's name between `lib` and the ending.
    library: &'static str,
    /// Whether its libraries find each other only by names that the package leaves out, and only once they are loaded.
    needs_links: bool,
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

/// What a plugin of TensorRT for RTX is linked with, in the order in which they need each other.
const RTX_LIBRARIES: [&str; 3] = [
    "libcudart.so.",
    "libtensorrt_rtx.so.",
    "libtensorrt_onnxparser_rtx.so.",
];

/// The plugins in use: ONNX Runtime takes each once per process.
static PLUGGED: Mutex<BTreeMap<ProviderKind, PathBuf>> = Mutex::new(BTreeMap::new());

/// The package of `kind`, where that is a plugin.
pub fn package(kind: ProviderKind) -> Option<&'static Package> {
    match kind {
        ProviderKind::OpenVino => Some(&OPENVINO),
        ProviderKind::TensorrtRtx => Some(&TENSORRT_RTX),
        ProviderKind::Cpu | ProviderKind::Cuda | ProviderKind::Tensorrt => None,
    }
}

impl Package {
    fn file_name(&self) -> String {
        let (before, after) = match () {
            () if cfg!(windows) => ("", ".dll"),
            () if cfg!(target_os = "macos") => ("lib", ".dylib"),
            () => ("lib", ".so"),
        };
        format!("{before}{}{after}", self.library)
    }

    /// Where the library may be.
    fn places(&self, runtime: &Path) -> Vec<PathBuf> {
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

    /// What the package leaves to Python: its libraries get the names by which they look for each other. `target` is
    /// the folder that it was installed into.
    ///
    /// # Errors
    /// What the file system says.
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

    /// What the package leaves to Python: nothing, here.
    ///
    /// # Errors
    /// None.
    #[cfg(not(unix))]
    pub fn complete(&self, _: &Path) -> std::io::Result<()> {
        Ok(())
    }
}

/// `libx.so.1.7.1` is looked for as `libx.so.1` and `libx.so`.
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

/// Gives a session the device that `provider`, a plugin, asks for.
///
/// # Errors
/// Why it does not load, in words.
pub(super) fn append(
    provider: &Provider,
    package: &Package,
    environment: &Environment,
    builder: SessionBuilder,
) -> Result<SessionBuilder, String> {
    plug(provider, package, environment)?;
    let kind = provider.kind();
    let own: Vec<Device<'_>> = environment
        .devices()
        .filter(|device| device.ep().is_ok_and(|name| name == kind.ort_name()))
        .collect();
    let names: Vec<String> = own.iter().map(describe).collect();
    let device = choose(provider, own).ok_or_else(|| match names.as_slice() {
        [] if kind == ProviderKind::OpenVino => {
            "it offers no device here, its CPU device being offered on Intel's processors alone"
                .to_owned()
        }
        [] => "it offers no device here".to_owned(),
        names => format!("it has no such device here, only {}", names.join(", ")),
    })?;
    // ONNX Runtime takes the options of several providers at once, told apart by their names.
    let options: Vec<(String, String)> = provider
        .ort_options()
        .into_iter()
        .map(|(key, value)| (format!("{}.{key}", kind.ort_name()), value))
        .collect();
    builder
        .with_devices([device], Some(&options))
        .map_err(|e| e.message().to_owned())
}

/// Plugs the library in, unless that was done before.
fn plug(provider: &Provider, package: &Package, environment: &Environment) -> Result<(), String> {
    let named = match &provider.settings {
        Settings::OpenVino(options) => options.library.as_deref(),
        Settings::TensorrtRtx(options) => options.library.as_deref(),
        Settings::Cpu(_) | Settings::Cuda(_) | Settings::Tensorrt(_) => None,
    };
    let kind = provider.kind();
    let mut plugged = PLUGGED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(path) = plugged.get(&kind) {
        return match named {
            Some(named) if named != path => Err(format!(
                "this process already uses {}; it cannot change to {}",
                path.display(),
                named.display()
            )),
            _ => Ok(()),
        };
    }
    let path = find(package, named)?;
    if package.needs_links {
        load_companions(&path);
    }
    environment
        .register_ep_library(format!("diffbir-{kind}"), &path)
        .map_err(|e| format!("{}: {}", path.display(), e.message()))?;
    plugged.insert(kind, path);
    Ok(())
}

fn find(package: &Package, named: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(path) = named {
        return match path.is_file() {
            true => Ok(path.to_owned()),
            false => Err(format!("{}: no such file", path.display())),
        };
    }
    let runtime = library::in_use().unwrap_or_default();
    let places = package.places(&runtime);
    let found = places.iter().find(|path| path.is_file()).cloned();
    found.ok_or_else(|| {
        let places: Vec<String> = places
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        format!(
            "missing {} of the Python package {}; looked for {}",
            package.file_name(),
            package.name,
            places.join(", ")
        )
    })
}

/// Loads what stands beside the plugin at `path` and is linked with it. One that cannot be loaded is named by ONNX
/// Runtime when the plugin is.
fn load_companions(path: &Path) {
    let folder = path.parent().unwrap_or(Path::new("."));
    let names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    for start in RTX_LIBRARIES {
        if let Some(name) = names.iter().find(|name| name.starts_with(start)) {
            let _ = needs::keep_loaded(&folder.join(name));
        }
    }
}

fn choose<'e>(provider: &Provider, devices: Vec<Device<'e>>) -> Option<Device<'e>> {
    match &provider.settings {
        Settings::OpenVino(options) => devices
            .into_iter()
            .find(|device| describe(device) == options.device),
        Settings::TensorrtRtx(options) => devices.into_iter().nth(options.device_id as usize),
        Settings::Cpu(_) | Settings::Cuda(_) | Settings::Tensorrt(_) => None,
    }
}

/// OpenVINO's name of a device where it has one, else its kind.
pub(super) fn describe(device: &Device<'_>) -> String {
    metadata(device, "ov_device").unwrap_or_else(|| kind_of(device).to_owned())
}

/// `CPU`, `GPU` or `NPU`.
pub(super) fn kind_of(device: &Device<'_>) -> &'static str {
    match device.hardware_device().ty() {
        DeviceType::CPU => "CPU",
        DeviceType::GPU => "GPU",
        DeviceType::FPGA => "FPGA",
        DeviceType::NPU => "NPU",
    }
}

/// What a provider says of a device under `key`.
fn metadata(device: &Device<'_>, key: &str) -> Option<String> {
    let key = CString::new(key).ok()?;
    let api = ort::api();
    // SAFETY: the device comes from the environment, which lives as long as the process.
    let pairs = unsafe { (api.EpDevice_EpMetadata)(device.ptr()) };
    if pairs.is_null() {
        return None;
    }
    // SAFETY: the pairs belong to the device, and the key is a C string.
    let value = unsafe { (api.GetKeyValue)(pairs, key.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: a value that is there is a C string that lives as long as the device.
    let value = unsafe { CStr::from_ptr(value) };
    Some(value.to_string_lossy().into_owned())
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

    #[test]
    fn a_plugin_that_is_nowhere_is_named() {
        let named = Path::new("/nowhere/plugin.so");
        let error = find(&OPENVINO, Some(named)).unwrap_err();
        assert_eq!(error, "/nowhere/plugin.so: no such file");
        let nowhere = Package {
            folder: "no_such_package",
            ..OPENVINO
        };
        let error = find(&nowhere, None).unwrap_err();
        assert!(
            error.contains("onnxruntime_providers_openvino_plugin"),
            "{error}"
        );
        assert!(error.contains("onnxruntime-ep-openvino"), "{error}");
    }
}
