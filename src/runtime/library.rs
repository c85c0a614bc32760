//! Finding and loading `libonnxruntime`.
//!
//! Search order: the configuration, `ORT_DYLIB_PATH`, next to the executable, the per-user cache, the active Python
//! environment. A library that the user named and that does not fit is an error; one that was only found is skipped
//! with a note. Nothing here installs a library.

use std::ffi::CStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use ort::environment::Environment;

use super::{devices, python};
use crate::error::{Error, Result};
use crate::files;

/// Version of the `onnxruntime` Python package that `diffbir runtime install` installs.
pub const PINNED_CPU: &str = "1.32.0";

/// Version of the `onnxruntime-gpu` Python package that `diffbir runtime install --gpu` installs.
pub const PINNED_GPU: &str = "1.31.1";

/// The oldest supported minor version of ONNX Runtime (1.x).
pub const OLDEST_MINOR: u32 = ort::MINOR_VERSION;

/// Why a path is a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `runtime.library` of the configuration.
    Config,
    /// The environment variable `ORT_DYLIB_PATH`.
    Environment,
    /// The folder of the executable, or `lib` in it.
    Executable,
    /// The per-user cache.
    Cache,
    /// `VIRTUAL_ENV` or `CONDA_PREFIX`.
    Python,
}

impl Origin {
    /// Whether the user named this library, so that it must not be skipped.
    fn is_named(self) -> bool {
        matches!(self, Origin::Config | Origin::Environment)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Config => "runtime.library",
            Origin::Environment => "ORT_DYLIB_PATH",
            Origin::Executable => "beside the executable",
            Origin::Cache => "per-user cache",
            Origin::Python => "Python environment",
        })
    }
}

/// A file that may be the library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Why it is a candidate.
    pub origin: Origin,
    /// Its path.
    pub path: PathBuf,
}

/// The library in use, and the candidates skipped before it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The library.
    pub candidate: Candidate,
    /// Its version, such as `1.32.0`.
    pub version: String,
    /// The build information it reports.
    pub build: String,
    /// One note for each library that was found and does not fit.
    pub skipped: Vec<String>,
}

/// The environment and library of the process: ONNX Runtime allows only one.
struct Active {
    environment: Environment,
    loaded: Loaded,
}

static ACTIVE: OnceLock<Active> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

/// The folder of the per-user cache: `$DIFFBIR_CACHE`, else `diffbir` in the user's cache folder.
pub fn cache_dir() -> Option<PathBuf> {
    match std::env::var_os("DIFFBIR_CACHE") {
        Some(dir) if !dir.is_empty() => Some(PathBuf::from(dir)),
        _ => dirs::cache_dir().map(|dir| dir.join("diffbir")),
    }
}

/// The folder of the cache that holds the installed library of `package` (`onnxruntime` or `onnxruntime-gpu`).
pub fn installed_dir(cache: &Path, package: &str, version: &str) -> PathBuf {
    cache.join("runtime").join(format!("{package}-{version}"))
}

/// All candidates in search order, as absolute paths: the loader would search elsewhere for a bare name. `named` is
/// `runtime.library`.
pub fn candidates(named: Option<&Path>) -> Vec<Candidate> {
    let one = |origin, path| {
        let path = absolute(path);
        vec![Candidate { origin, path }]
    };
    if let Some(path) = named {
        return one(Origin::Config, path);
    }
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return one(Origin::Environment, Path::new(&path));
    }
    let mut found = Vec::new();
    let mut look = |origin, dir: PathBuf| {
        found.extend(
            libraries_in(&dir)
                .into_iter()
                .map(|path| Candidate { origin, path }),
        );
    };
    if let Some(dir) = std::env::current_exe()
        .ok()
        .as_deref()
        .and_then(Path::parent)
    {
        look(Origin::Executable, dir.to_owned());
        look(Origin::Executable, dir.join("lib"));
    }
    if let Some(cache) = cache_dir() {
        // A GPU build does everything a CPU build does.
        look(
            Origin::Cache,
            installed_dir(&cache, "onnxruntime-gpu", PINNED_GPU).join("onnxruntime/capi"),
        );
        look(
            Origin::Cache,
            installed_dir(&cache, "onnxruntime", PINNED_CPU).join("onnxruntime/capi"),
        );
    }
    for packages in python::packages() {
        look(Origin::Python, packages.join("onnxruntime/capi"));
    }
    found
}

/// `path` as an absolute path, so that the loader opens this file and no other.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::env::current_dir().unwrap_or_default().join(path)
}

/// ONNX Runtime's libraries in `dir`, by file name, without the provider libraries next to them.
fn libraries_in(dir: &Path) -> Vec<PathBuf> {
    let is_library = |name: &str| name.starts_with("libonnxruntime.") || name == "onnxruntime.dll";
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| is_library(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// Loads the library, once per process, and returns what is in use.
///
/// # Errors
/// [`Runtime`](crate::error::ErrorKind::Runtime): `named` does not fit (the message states the version found and the
/// version needed), no library was found, or another library is already in use.
pub fn load(named: Option<&Path>) -> Result<&'static Loaded> {
    Ok(&activate(named)?.loaded)
}

/// The path of the library in use, if one is loaded.
pub(super) fn in_use() -> Option<PathBuf> {
    let active = ACTIVE.get();
    active.map(|active| active.loaded.candidate.path.clone())
}

/// A device that ONNX Runtime offers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DeviceInfo {
    /// ONNX Runtime's name of the execution provider.
    pub provider: String,
    /// The provider's name of the device, where it has one (OpenVINO: `GPU.1`), else `CPU`, `GPU` or `NPU`.
    pub name: String,
    /// Kind of hardware: `CPU`, `GPU` or `NPU`.
    pub kind: String,
    /// Hardware vendor, as reported by the system.
    pub vendor: String,
    /// Hardware id, as assigned by the vendor.
    pub id: u32,
}

/// The devices that ONNX Runtime offers; those of a plugin provider only after it has been [probed](super::probe).
///
/// # Errors
/// As [`load`].
pub fn devices(named: Option<&Path>) -> Result<Vec<DeviceInfo>> {
    let info = |device: ort::device::Device<'_>| {
        let hardware = device.hardware_device();
        DeviceInfo {
            provider: device.ep().unwrap_or("unnamed").to_owned(),
            name: devices::name_of(&device),
            kind: devices::kind_of(&device).to_owned(),
            vendor: hardware.vendor().unwrap_or("unnamed").to_owned(),
            id: hardware.id(),
        }
    };
    Ok(environment(named)?.devices().map(info).collect())
}

/// The process's ONNX Runtime environment, for sessions.
pub(super) fn environment(named: Option<&Path>) -> Result<&'static Environment> {
    Ok(&activate(named)?.environment)
}

fn activate(named: Option<&Path>) -> Result<&'static Active> {
    let _one_at_a_time = LOADING
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(active) = ACTIVE.get() {
        return match named {
            Some(path) if absolute(path) != active.loaded.candidate.path => {
                Err(Error::runtime(format!(
                    "this process already uses the ONNX Runtime library {}; it cannot change to {}",
                    active.loaded.candidate.path.display(),
                    path.display()
                )))
            }
            _ => Ok(active),
        };
    }
    let active = first_that_fits(candidates(named))?;
    Ok(ACTIVE.get_or_init(|| active))
}

fn first_that_fits(candidates: Vec<Candidate>) -> Result<Active> {
    let mut skipped = Vec::new();
    for candidate in candidates {
        match open(&candidate.path) {
            Ok(environment) => {
                let (version, build) = (version(&candidate.path)?, ort::info().to_owned());
                return Ok(Active {
                    environment,
                    loaded: Loaded {
                        candidate,
                        version,
                        build,
                        skipped,
                    },
                });
            }
            Err(error) if candidate.origin.is_named() => {
                let origin = candidate.origin;
                return Err(error.at(origin).with_hint(format_args!(
                    "let {origin} name libonnxruntime 1.{OLDEST_MINOR} or newer, or unset it and run `diffbir runtime install`"
                )));
            }
            Err(error) => skipped.push(format!("skipped ({}): {error}", candidate.origin)),
        }
    }
    let mut message = format!(
        "no ONNX Runtime library found (wanted: 1.{OLDEST_MINOR} or newer). Run `diffbir runtime install`, or name one with \
         runtime.library or ORT_DYLIB_PATH"
    );
    for note in skipped {
        message.push_str("; ");
        message.push_str(&note);
    }
    Err(Error::runtime(message))
}

/// The version of the library at `path`, which is already loaded: `ort` checks the version but does not expose it.
fn version(path: &Path) -> Result<String> {
    let failed = |e| {
        Error::runtime(format!("{} does not report its version", path.display())).with_source(e)
    };
    // SAFETY: the library was loaded and checked just before, so loading it again runs no initialiser.
    let library = unsafe { libloading::Library::new(path) }.map_err(failed)?;
    type GetBase = unsafe extern "C" fn() -> *const ort::sys::OrtApiBase;
    // SAFETY: the symbol has this type in every version of ONNX Runtime (onnxruntime_c_api.h).
    let base = unsafe { library.get::<GetBase>(b"OrtGetApiBase\0") }.map_err(failed)?;
    // SAFETY: it returns a pointer to a static table, and the table's function a static C string.
    let text = unsafe { CStr::from_ptr(((*base()).GetVersionString)()) };
    Ok(text.to_string_lossy().into_owned())
}

/// Refuses a library that other users may have written or may replace.
pub(super) fn expect_own(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    for place in [path, folder] {
        files::expect_own(place).map_err(|e| Error::runtime(e.to_string()))?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<Environment> {
    if !path.is_file() {
        return Err(Error::runtime(format!("{}: no such file", path.display())));
    }
    expect_own(path)?;
    let unfit = |error: ort::LoadDynamicError| match error {
        ort::LoadDynamicError::BadVersion { version_str, path } => Error::runtime(format!(
            "{} is ONNX Runtime {version_str}, wanted: 1.{OLDEST_MINOR} or newer",
            path.display()
        )),
        ort::LoadDynamicError::MissingApi { path } => Error::runtime(format!(
            "{} is not an ONNX Runtime library (it has no OrtGetApiBase)",
            path.display()
        )),
        other => Error::runtime(other.to_string()),
    };
    let builder = ort::init_from(path)
        .map_err(unfit)?
        .with_name("diffbir")
        .with_telemetry(false);
    builder.build().map_err(|e| {
        Error::runtime(format!("{}: ONNX Runtime does not start", path.display())).with_source(e)
    })
}
