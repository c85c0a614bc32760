//! Start-up: open the bundle, resolve the configuration, verify, load ONNX Runtime, try the providers, warm up.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::{Host, Level, bundles};
use crate::bundle::Bundle;
use crate::config::{Config, Layers};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::runtime::{self, Loaded, RuntimeOptions, SkippedProvider, engine_cache, library};

/// Files above this many bytes are announced before they are read.
pub const LARGE_FILE: u64 = 1 << 28;

/// An opened bundle and the resolved configuration; nothing is loaded yet.
pub struct Opened {
    /// The bundle; its files are not verified yet.
    pub bundle: Bundle,
    /// The effective configuration.
    pub config: Config,
    layers: Layers,
}

impl Opened {
    /// Opens the bundle that `layers` name, and merges them onto its defaults.
    ///
    /// # Errors
    /// [`Bundle`](crate::error::ErrorKind::Bundle): none is named, or it is damaged. Those of [`Layers::resolve`].
    pub fn open(layers: Layers) -> Result<Self> {
        let folder = bundles::find(&layers)?;
        Opened::at(layers, &folder)
    }

    /// As [`open`](Self::open), falling back to the demo bundle with a note to `host`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_or_demo(layers: Layers, host: &dyn Host) -> Result<Self> {
        let folder = bundles::find_or_demo(&layers, host)?;
        Opened::at(layers, &folder)
    }

    fn at(layers: Layers, folder: &Path) -> Result<Self> {
        let bundle = Bundle::open(folder)?;
        let config = layers.resolve(&bundle.options())?;
        Ok(Opened {
            bundle,
            config,
            layers,
        })
    }

    /// Starts the engine: checks the options, verifies the bundle's files (with `force` also those verified before),
    /// loads ONNX Runtime, tries every provider, and warms up if configured.
    ///
    /// # Errors
    /// Those of each step; see [`Engine::check`], [`Bundle::verify`], [`runtime::load`] and [`runtime::check`].
    pub fn start(self, force: bool, host: &dyn Host) -> Result<Service> {
        let Opened {
            bundle,
            config,
            layers,
        } = self;
        let engine = Engine::open(bundle, config.runtime.clone());
        // The options are checked before the files are hashed: hashing may take minutes.
        engine.check(&config.options)?;
        verify(engine.bundle(), force, host)?;
        let loaded = load(&config.runtime, host)?;
        let skipped = try_providers(engine.bundle(), &config.runtime, host)?;
        let service = Service {
            engine,
            config,
            layers,
            loaded,
            skipped,
            warned: Mutex::default(),
        };
        service.warm_up(host)?;
        Ok(service)
    }
}

/// Opens the bundle in `folder`, if there is one, and merges `layers` onto its defaults, else onto v1's.
///
/// # Errors
/// Those of [`Bundle::open`] and [`Layers::resolve`].
pub fn resolve(layers: &Layers, folder: Option<&Path>) -> Result<(Option<Bundle>, Config)> {
    let bundle = folder.map(Bundle::open).transpose()?;
    let base = bundle
        .as_ref()
        .map_or_else(Options::default, Bundle::options);
    let config = layers.resolve(&base)?;
    Ok((bundle, config))
}

/// A running engine.
pub struct Service {
    /// The engine.
    pub engine: Engine,
    /// The effective configuration, which a request's options override.
    pub config: Config,
    /// ONNX Runtime.
    pub loaded: &'static Loaded,
    /// Optional providers that do not load on this machine.
    pub skipped: Vec<SkippedProvider>,
    layers: Layers,
    /// Prompts already warned about.
    warned: Mutex<BTreeSet<String>>,
}

impl Service {
    /// The configuration of a request: `lay` adds its layers to the service's.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): a value that is not accepted or not supported by the bundle, or a
    /// key of the engine (bundle, runtime), which a request cannot change.
    pub fn configured(&self, lay: impl FnOnce(&mut Layers) -> Result<()>) -> Result<Config> {
        let mut layers = self.layers.clone();
        lay(&mut layers)?;
        let config = layers.resolve(&self.engine.bundle().options())?;
        if config.runtime != self.config.runtime || config.bundle != self.config.bundle {
            return Err(Error::option(
                "bundle and runtime are the engine's: a request cannot change them",
            ));
        }
        self.engine.check(&config.options)?;
        Ok(config)
    }

    /// Warns once of each prompt that is too long for the text encoder.
    ///
    /// # Errors
    /// As [`Engine::check`].
    pub(super) fn warn_of_prompts(&self, options: &Options, host: &dyn Host) -> Result<()> {
        for prompt in self.engine.check(options)?.prompts() {
            let cut = prompt.truncated();
            let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
            if cut > 0 && warned.insert(prompt.text().to_owned()) {
                let message = format!(
                    "the prompt {:?} is too long for the text encoder: its last {cut} tokens are ignored",
                    prompt.text()
                );
                host.note(Level::Warning, &message);
            }
        }
        Ok(())
    }

    fn warm_up(&self, host: &dyn Host) -> Result<()> {
        let Some([width, height]) = self.config.runtime.warm_up else {
            return Ok(());
        };
        host.note(
            Level::Info,
            &format!("warming up on {width}x{height} pixels"),
        );
        self.engine.warm_up((height, width), &self.config.options)
    }
}

/// Verifies the bundle's files; see [`Bundle::verify`].
///
/// # Errors
/// [`Bundle`](crate::error::ErrorKind::Bundle).
pub fn verify(bundle: &Bundle, force: bool, host: &dyn Host) -> Result<()> {
    let cache = library::cache_dir();
    bundle.verify(cache.as_deref(), force, &mut |path: &Path, bytes: u64| {
        if bytes > LARGE_FILE {
            let gigabytes = bytes as f64 / 1e9;
            host.note(
                Level::Info,
                &format!("verifying {} ({gigabytes:.1} GB)", path.display()),
            );
        }
    })
}

/// Loads ONNX Runtime. If none is found or named, the host may install it, unless the configuration forbids it.
///
/// # Errors
/// [`Runtime`](crate::error::ErrorKind::Runtime).
pub fn load(options: &RuntimeOptions, host: &dyn Host) -> Result<&'static Loaded> {
    let named = options.library.path();
    let loaded = match runtime::load(named) {
        Ok(loaded) => loaded,
        Err(error) if named.is_some() || std::env::var_os("ORT_DYLIB_PATH").is_some() => {
            return Err(error);
        }
        Err(error) if options.offline => {
            return Err(Error::runtime(format!(
                "{error}; `runtime.offline=true` forbids to install one"
            )));
        }
        Err(error) => {
            host.note(Level::Info, &error.to_string());
            if !host.install_runtime()? {
                return Err(error);
            }
            runtime::load(None)?
        }
    };
    for note in &loaded.skipped {
        host.note(Level::Warning, note);
    }
    Ok(loaded)
}

/// Tries the providers before any work. Notes to the host: each optional one that does not load, and TensorRT engines
/// that take minutes to build.
///
/// # Errors
/// As [`runtime::check`].
fn try_providers(
    bundle: &Bundle,
    options: &RuntimeOptions,
    host: &dyn Host,
) -> Result<Vec<SkippedProvider>> {
    let graphs = bundle.graph_files();
    let skipped = runtime::check(&graphs, options)?;
    for provider in &skipped {
        host.note(Level::Warning, &provider.to_string());
    }
    if let Some(note) = engine_cache::building_note(&graphs, options)? {
        host.note(Level::Info, &note);
    }
    Ok(skipped)
}
