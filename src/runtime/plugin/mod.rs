//! Plugin providers: finding the library, registering it with ONNX Runtime, choosing a device.
//!
//! Search order: the provider's option `library`, the per-user cache, the active Python environment, the environment
//! of the ONNX Runtime in use. Nothing here installs a library.

mod package;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ort::device::Device;
use ort::environment::Environment;
use ort::session::builder::SessionBuilder;

use super::provider::{Provider, ProviderKind, Settings};
use super::{devices, library, needs};

pub use package::{OPENVINO, Package, TENSORRT_RTX, package};

/// Libraries that the TensorRT for RTX plugin is linked with, in dependency order.
const RTX_LIBRARIES: [&str; 3] = [
    "libcudart.so.",
    "libtensorrt_rtx.so.",
    "libtensorrt_onnxparser_rtx.so.",
];

/// The registered plugins: ONNX Runtime accepts each once per process.
static PLUGGED: Mutex<BTreeMap<ProviderKind, PathBuf>> = Mutex::new(BTreeMap::new());

/// Adds the device selected by `provider`, a plugin, to a session.
///
/// # Errors
/// Why the provider does not load.
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
    let names: Vec<String> = own.iter().map(devices::name_of).collect();
    let device = choose(provider, own).ok_or_else(|| match names.as_slice() {
        [] if kind == ProviderKind::OpenVino => {
            "it offers no device here, its CPU device being offered on Intel's processors alone"
                .to_owned()
        }
        [] => "it offers no device here".to_owned(),
        names => format!("it has no such device here, only {}", names.join(", ")),
    })?;
    // ONNX Runtime expects the options of all providers in one list, with the provider's name as prefix.
    let options: Vec<(String, String)> = provider
        .ort_options()
        .into_iter()
        .map(|(key, value)| (format!("{}.{key}", kind.ort_name()), value))
        .collect();
    builder
        .with_devices([device], Some(&options))
        .map_err(|e| e.message().to_owned())
}

/// Registers the library, unless it is registered already.
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
            Some(named) if library::absolute(named) != *path => Err(format!(
                "this process already uses {}; it cannot change to {}",
                path.display(),
                named.display()
            )),
            _ => Ok(()),
        };
    }
    let path = find(package, named)?;
    library::expect_own(&path).map_err(|e| e.to_string())?;
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
            true => Ok(library::absolute(path)),
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

/// Loads the libraries next to the plugin at `path` that it is linked with. If one does not load, ONNX Runtime names
/// it when the plugin is registered.
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
            .find(|device| devices::name_of(device) == options.device),
        Settings::TensorrtRtx(options) => devices.into_iter().nth(options.device_id as usize),
        Settings::Cpu(_) | Settings::Cuda(_) | Settings::Tensorrt(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
