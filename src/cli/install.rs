//! Installs ONNX Runtime into the per-user cache with pip. Only the program does this, never the library.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fs4::FileExt;

use crate::cli::args;
use crate::error::{Error, Result};
use crate::files;
use crate::runtime::library::{PINNED_CPU, PINNED_GPU, cache_dir, installed_dir};
use crate::runtime::plugin;

/// The packages with the SHA-256 of their files.
const REQUIREMENTS: &str = include_str!("install.txt");

/// Name prefix of unfinished installations.
const STAGING: &str = ".staging-";

/// A Python package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Package {
    /// `onnxruntime`.
    Cpu,
    /// `onnxruntime-gpu`, which adds the CUDA and TensorRT providers.
    Gpu,
    /// A provider plugin.
    Plugin(plugin::Package),
}

/// The packages that the flags ask for; by default ONNX Runtime.
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

    /// Completes steps that the package leaves to Python.
    fn complete(self, folder: &Path) -> std::io::Result<()> {
        match self {
            Package::Cpu | Package::Gpu => Ok(()),
            Package::Plugin(plugin) => plugin.complete(folder),
        }
    }
}

/// Installs `package` into the per-user cache unless present, and returns its folder. `say` receives progress messages.
///
/// Concurrent installations wait for a file lock; the folder appears atomically, complete.
///
/// # Errors
/// [`Runtime`](crate::error::ErrorKind::Runtime): no cache folder, no Python with pip, or pip fails.
pub fn install(package: Package, say: &mut dyn FnMut(String)) -> Result<PathBuf> {
    let cache =
        cache_dir().ok_or_else(|| Error::runtime("no per-user cache folder: set DIFFBIR_CACHE"))?;
    let (name, version) = package.name_and_version();
    let cache = std::path::absolute(&cache).unwrap_or(cache);
    let target = installed_dir(&cache, name, version);
    let parent = cache.join("runtime");
    let unwritable =
        |e| Error::runtime(format!("cannot write to {}", parent.display())).with_source(e);
    std::fs::create_dir_all(&parent).map_err(unwritable)?;
    for folder in [&cache, &parent] {
        files::expect_own(folder).map_err(|e| Error::runtime(e.to_string()))?;
    }
    let lock = files::open_lock(&parent.join(".lock")).map_err(unwritable)?;
    FileExt::lock(&lock).map_err(unwritable)?;
    remove_stale(&parent);
    if target.is_dir() {
        return Ok(target);
    }
    let staging = tempfile::Builder::new()
        .prefix(STAGING)
        .tempdir_in(&parent)
        .map_err(unwritable)?;
    say(format!(
        "installing {name} {version} into {}",
        target.display()
    ));
    pip_install(requirement(name), staging.path(), say)?;
    package.complete(staging.path()).map_err(unwritable)?;
    std::fs::rename(staging.path(), &target).map_err(unwritable)?;
    say(format!("installed {name} {version}"));
    Ok(target)
}

/// Removes leftovers of killed installations; none is in progress, since the lock is held. Files that cannot be removed
/// stay.
fn remove_stale(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(STAGING) {
            let path = entry.path();
            let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
        }
    }
}

/// The line of [`REQUIREMENTS`] for the package `name`, continued over several lines by its hashes.
fn requirement(name: &str) -> &'static str {
    let start = REQUIREMENTS
        .find(&format!("\n{name}=="))
        .map_or(0, |at| at + 1);
    let lines = REQUIREMENTS[start..].split_inclusive('\n');
    let continued = lines.map_while(|line| line.ends_with("\\\n").then_some(line.len()));
    let end = start + continued.sum::<usize>();
    let last = REQUIREMENTS[end..].find('\n').unwrap_or_default();
    &REQUIREMENTS[start..end + last]
}

/// Runs pip and forwards its output. pip runs isolated and in another folder, so that files in the working folder are
/// never used.
fn pip_install(requirement: &str, target: &Path, say: &mut dyn FnMut(String)) -> Result<()> {
    let python = python(target)?;
    let failed =
        |e| Error::runtime(format!("cannot run {} -m pip", python.display())).with_source(e);
    let mut command = pip(&python, target);
    // The hashes are checked for any index that `pip.conf` or `PIP_INDEX_URL` names.
    let mut list = tempfile::Builder::new()
        .prefix(STAGING)
        .tempfile_in(target.parent().unwrap_or(target))
        .map_err(failed)?;
    list.write_all(requirement.as_bytes()).map_err(failed)?;
    command.args(["install", "--require-hashes", "--no-deps"]);
    command.args(["--only-binary", ":all:"]);
    command.args(["--no-input", "--disable-pip-version-check"]);
    command.args(["--progress-bar", "off", "--target"]);
    command.arg(target).arg("-r").arg(list.path());
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
        "pip could not install {}: {last}. Install it by hand, or name a library: ONNX Runtime's with \
         runtime.library or ORT_DYLIB_PATH, a plugin's with its provider's option `library`",
        requirement.split(' ').next().unwrap_or_default()
    )))
}

/// `python -I -m pip` in `folder`. `-I` keeps the working folder, `PYTHONPATH` and the user's packages off Python's
/// path, so that a `pip.py` in a folder of pictures is never run.
fn pip(python: &Path, folder: &Path) -> Command {
    let mut command = Command::new(python);
    command.args(["-I", "-m", "pip"]).current_dir(folder);
    command
}

/// The first Python of `PATH` that has pip, by its absolute path.
fn python(folder: &Path) -> Result<PathBuf> {
    let has_pip = |python: &PathBuf| {
        let mut version = pip(python, folder);
        version.arg("--version");
        let status = version.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let mut found = files::programs("python3").chain(files::programs("python"));
    found.find(has_pip).ok_or_else(|| {
        Error::runtime(
            "ONNX Runtime is installed through pip, but no python3 or python in PATH has it; install Python 3.11 or newer",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_pinned_by_hash() {
        let plugins = [plugin::OPENVINO, plugin::TENSORRT_RTX].map(Package::Plugin);
        for package in [Package::Cpu, Package::Gpu].into_iter().chain(plugins) {
            let (name, version) = package.name_and_version();
            let text = requirement(name);
            assert!(text.starts_with(&format!("{name}=={version} ")), "{text}");
            assert_eq!(text.matches("==").count(), 1, "{text}");
            let hashes: Vec<&str> = text.split("--hash=sha256:").skip(1).collect();
            assert!(hashes.len() > 1, "{text}");
            let is_hash =
                |hash: &&str| hash.chars().take_while(char::is_ascii_hexdigit).count() == 64;
            assert!(hashes.iter().all(is_hash), "{text}");
        }
    }
}
