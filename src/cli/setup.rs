//! From the command line to a configuration, a verified bundle, and a runtime that is there.

use std::path::{Path, PathBuf};

use crate::bundle::Bundle;
use crate::cli::args::Common;
use crate::cli::install;
use crate::config::{Builder, Config};
use crate::error::{Error, Result};
use crate::runtime::{self, Loaded, PassedOver, RuntimeOptions, engine_cache, library};

/// The effective configuration and the bundle it names, whose files are not verified yet.
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// The bundle.
    pub bundle: Bundle,
}

/// Reads configuration and bundle. `fallback` is the bundle's folder where none is named.
pub fn prepare(common: &Common, fallback: Option<PathBuf>) -> Result<Setup> {
    let named = without_bundle(common)?.bundle.or(fallback);
    let dir = named.ok_or_else(|| {
        Error::bundle("no bundle: give --bundle DIR, or `bundle:` in the configuration. README tells how to export one")
    })?;
    let bundle = Bundle::open(&dir)?;
    let mut builder = Builder::new()?;
    builder.bundle_defaults(&bundle.manifest().defaults);
    common.lay_file(&mut builder)?;
    common.lay_flags(&mut builder)?;
    Ok(Setup {
        config: builder.build()?,
        bundle,
    })
}

/// The configuration as far as it can be known without a bundle.
pub fn without_bundle(common: &Common) -> Result<Config> {
    let mut builder = Builder::new()?;
    common.lay_file(&mut builder)?;
    common.lay_flags(&mut builder)?;
    builder.build()
}

/// Verifies the bundle's files; `say` is told which file is read.
pub fn verify(bundle: &Bundle, force: bool, say: &mut dyn FnMut(String)) -> Result<()> {
    let cache = library::cache_dir();
    bundle.verify(cache.as_deref(), force, &mut |path: &Path, bytes: u64| {
        if bytes > 1 << 28 {
            say(format!(
                "verifying {} ({:.1} GB)",
                path.display(),
                bytes as f64 / 1e9
            ));
        }
    })
}

/// What sessions are made with. The process is the program's own.
pub fn runtime_options(config: &Config) -> Result<RuntimeOptions> {
    Ok(RuntimeOptions {
        return_memory: true,
        ..config.runtime.options()?
    })
}

/// Tries the providers before any work, and says which optional ones a run goes without, and whether TensorRT will take
/// minutes to build engines.
///
/// # Errors
/// As [`runtime::check`].
pub fn try_providers(
    bundle: &Bundle,
    options: &RuntimeOptions,
    say: &mut dyn FnMut(String),
) -> Result<Vec<PassedOver>> {
    let graphs = bundle.graph_files();
    let passed_over = runtime::check(&graphs, options)?;
    for provider in &passed_over {
        say(provider.to_string());
    }
    if let Some(note) = engine_cache::building_note(&graphs, options)? {
        say(note);
    }
    Ok(passed_over)
}

/// Loads ONNX Runtime, installing the pinned one where none is found and `config` allows it.
pub fn ensure_runtime(config: &Config, say: &mut dyn FnMut(String)) -> Result<&'static Loaded> {
    let named = config.runtime.library_path();
    let loaded = match runtime::load(named.as_deref()) {
        Ok(loaded) => loaded,
        Err(error) if named.is_some() || std::env::var_os("ORT_DYLIB_PATH").is_some() => {
            return Err(error);
        }
        Err(error) if config.runtime.offline => {
            return Err(Error::runtime(format!(
                "{error}; --offline forbids to install one"
            )));
        }
        Err(error) => {
            say(error.to_string());
            install::install(install::Package::Cpu, say)?;
            runtime::load(None)?
        }
    };
    for note in &loaded.skipped {
        say(note.clone());
    }
    Ok(loaded)
}
