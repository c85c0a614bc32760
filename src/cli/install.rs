//! Putting ONNX Runtime into the per-user cache, through pip. Only the program does this, never the library.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fs4::FileExt;

use crate::cli::args;
use crate::error::{Error, Result};
use crate::runtime::library::{PINNED_CPU, PINNED_GPU, cache_dir, installed_dir};
use crate::runtime::plugin;

/// Which Python package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Package {
    /// `onnxruntime`.
    Cpu,
    /// `onnxruntime-gpu`: the CUDA and TensorRT providers besides.
    Gpu,
    /// A provider that is a library of its own.
    Plugin(plugin::Package),
}

/// What the flags ask for: ONNX Runtime where they ask for nothing.
pub fn packages(args: args::Install) -> Vec<Package> {
    let asked = [
        (args.gpu, Package::Gpu),
        (args.openvino, Package::Plugin(plugin::OPENVINO)),
        (args.tensorrt_rtx, Package::Plugin(plugin::TENSORRT_RTX)),
    ];
    let mut packages: Vec<Package> = asked
        .into_iter()
        .filter_map(|(asked, package)| asked.then_some(package))
        .collect();
    if packages.is_empty() {
        packages.push(Package::Cpu);
    }
    packages
}

impl Package {
    fn name_and_version(self) -> (&'static str, &'static str) {
        match self {
            Package::Cpu => ("onnxruntime", PINNED_CPU),
            Package::Gpu => ("onnxruntime-gpu", PINNED_GPU),
            Package::Plugin(plugin) => (plugin.name, plugin.version),
        }
    }

    /// Does what the package leaves to Python.
    fn complete(self, folder: &Path) -> std::io::Result<()> {
        match self {
            Package::Cpu | Package::Gpu => Ok(()),
            Package::Plugin(plugin) => plugin.complete(folder),
        }
    }
}

/// Installs `package` into the per-user cache unless it is there, and returns its folder. `say` is told of progress.
///
/// Two processes that install at once wait for each other by a file lock; the folder appears at once, complete.
///
/// # Errors
/// [`Runtime`](crate::error::ErrorKind::Runtime): no cache folder, no Python with pip, or pip fails.
pub fn install(package: Package, say: &mut dyn FnMut(String)) -> Result<PathBuf> {
    let cache =
        cache_dir().ok_or_else(|| Error::runtime("no per-user cache folder: set DIFFBIR_CACHE"))?;
    let (name, version) = package.name_and_version();
    let target = installed_dir(&cache, name, version);
    let parent = cache.join("runtime");
    let unwritable =
        |e| Error::runtime(format!("cannot write to {}", parent.display())).with_source(e);
    std::fs::create_dir_all(&parent).map_err(unwritable)?;
    let lock = File::create(parent.join(".lock")).map_err(unwritable)?;
    FileExt::lock(&lock).map_err(unwritable)?;
    if target.is_dir() {
        return Ok(target);
    }
    let staging = tempfile::Builder::new()
        .prefix(".staging-")
        .tempdir_in(&parent)
        .map_err(unwritable)?;
    say(format!(
        "installing {name} {version} into {}",
        target.display()
    ));
    pip_install(&format!("{name}=={version}"), staging.path(), say)?;
    package.complete(staging.path()).map_err(unwritable)?;
    std::fs::rename(staging.path(), &target).map_err(unwritable)?;
    say(format!("installed {name} {version}"));
    Ok(target)
}

/// Runs pip and passes its lines on.
fn pip_install(requirement: &str, target: &Path, say: &mut dyn FnMut(String)) -> Result<()> {
    let python = python()?;
    let mut command = Command::new(python);
    command.args([
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--no-input",
    ]);
    command
        .args([
            "--disable-pip-version-check",
            "--progress-bar",
            "off",
            "--target",
        ])
        .arg(target)
        .arg(requirement);
    let failed = |e| Error::runtime(format!("cannot run {python} -m pip")).with_source(e);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output)
            .lines()
            .map_while(std::io::Result::ok)
        {
            say(format!("pip: {}", line.trim()));
        }
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = errors
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("no message");
    Err(Error::runtime(format!(
        "pip could not install {requirement}: {last}. Install it by hand, or name a library: ONNX Runtime's with \
         runtime.library or ORT_DYLIB_PATH, a plugin's with its provider's option `library`"
    )))
}

fn python() -> Result<&'static str> {
    let runs = |name: &&&str| {
        let pip = Command::new(name)
            .args(["-m", "pip", "--version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        pip.is_ok_and(|status| status.success())
    };
    ["python3", "python"].iter().find(runs).copied().ok_or_else(|| {
        Error::runtime("ONNX Runtime is installed through pip, but neither python3 nor python has it; install Python 3.11 or newer")
    })
}
