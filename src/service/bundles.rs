//! Search order for the bundle: the highest configuration layer that names one (flag, `--set`, `DIFFBIR_BUNDLE`,
//! configuration file), the user's default folder, then, for some commands only, the demo bundle.

use std::path::{Path, PathBuf};

use super::{Host, Level};
use crate::bundle::MANIFEST;
use crate::config::{ConfigLayer, Layers, Origin};
use crate::error::{Error, Result};

/// The environment variable that names a bundle.
pub const VARIABLE: &str = "DIFFBIR_BUNDLE";

/// The demo bundle, relative to the checkout or to the folder of the program.
const DEMO: &str = "onnx/demo";

/// Adds the environment to `layers`.
pub fn environment(layers: &mut Layers) {
    if let Some(bundle) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        let layer = ConfigLayer {
            bundle: Some(bundle.into()),
            ..ConfigLayer::default()
        };
        layers.push(Origin::Environment, layer);
    }
}

/// Path of the user's default bundle, which need not exist: `diffbir/bundle` in the user's data folder.
pub fn default_folder() -> Option<PathBuf> {
    Some(dirs::data_dir()?.join("diffbir").join("bundle"))
}

/// The folder of the bundle for `layers`.
///
/// # Errors
/// [`Bundle`](crate::error::ErrorKind::Bundle) if no bundle is named and the default folder has none.
pub fn find(layers: &Layers) -> Result<PathBuf> {
    if let Some(named) = layers.bundle() {
        return Ok(named.to_owned());
    }
    let default = default_folder();
    if let Some(folder) = default.as_deref().filter(|folder| is_bundle(folder)) {
        return Ok(folder.to_owned());
    }
    let default = default.unwrap_or_default();
    Err(Error::bundle(format!(
        "no bundle: give `bundle=DIR`, set {VARIABLE}, name `bundle:` in the configuration, or put one into {}. README shows how \
         to export one",
        default.display()
    )))
}

/// As [`find`], falling back to the demo bundle with a note to `host`.
///
/// # Errors
/// As [`find`], if the demo bundle is missing as well.
pub fn find_or_demo(layers: &Layers, host: &dyn Host) -> Result<PathBuf> {
    let error = match find(layers) {
        Ok(folder) => return Ok(folder),
        Err(error) => error,
    };
    let Ok(demo) = demo() else {
        return Err(error);
    };
    let message = format!(
        "no bundle is named: using the demo model in {}; give `bundle=DIR` for your own",
        demo.display()
    );
    host.note(Level::Info, &message);
    Ok(demo)
}

/// Finds the demo bundle in the working folder or in a parent folder of the program.
///
/// # Errors
/// [`Bundle`](crate::error::ErrorKind::Bundle), naming the searched places.
pub fn demo() -> Result<PathBuf> {
    let executable = std::env::current_exe().unwrap_or_default();
    let above = executable.ancestors().skip(1).take(4).map(Path::to_owned);
    let places: Vec<PathBuf> = [PathBuf::from(".")]
        .into_iter()
        .chain(above)
        .map(|dir| dir.join(DEMO))
        .collect();
    if let Some(found) = places.iter().find(|dir| is_bundle(dir)) {
        return Ok(found.clone());
    }
    let list: Vec<String> = places.iter().map(|dir| dir.display().to_string()).collect();
    Err(Error::bundle(format!(
        "the demo bundle is missing; searched {}",
        list.join(", ")
    )))
}

fn is_bundle(folder: &Path) -> bool {
    folder.join(MANIFEST).is_file()
}
