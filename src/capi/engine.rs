//! Engines.

use std::ffi::CString;
use std::os::raw::{c_char, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::json;

use super::boundary::{
    Failure, Outcome, expect_place, give, guard, guard_or, optional_path, optional_text, slice,
    text,
};
use super::growing;
use super::handles::{self, diffbir_engine, diffbir_error};
use super::queue::{Queue, closed};
use super::strings::{c_string, give_string};
use super::structs::{diffbir_engine_options, diffbir_log_fn, diffbir_log_level};
use super::work::RequestObject;
use crate::bundle::Bundle;
use crate::config::{Builder, Config};
use crate::engine::Engine;
use crate::error::Error;
use crate::runtime::{self, Loaded, PassedOver, engine_cache, library};

/// How many submitted requests may wait unless the host says otherwise.
const QUEUE_LIMIT: usize = 64;

/// What is behind a `diffbir_engine`.
pub struct EngineObject {
    pub(super) engine: Engine,
    /// The configuration that a request's options are laid over.
    pub(super) builder: Builder,
    pub(super) config: Config,
    pub(super) log: Log,
    pub(super) queue: Arc<Queue>,
    loaded: &'static Loaded,
    /// Optional providers that do not load here.
    passed_over: Vec<PassedOver>,
    /// Those that have to be stopped when the engine is freed.
    requests: Mutex<Vec<Weak<RequestObject>>>,
    closed: AtomicBool,
}

/// The host's log function.
pub(super) struct Log {
    call: diffbir_log_fn,
    data: *mut c_void,
}

// SAFETY: by the header the function may be called from any thread, with data that bears it.
unsafe impl Send for Log {}
// SAFETY: as above.
unsafe impl Sync for Log {}

impl Log {
    pub(super) fn say(&self, level: diffbir_log_level, message: &str) {
        let Some(call) = self.call else { return };
        let message: CString = c_string(message);
        // SAFETY: the host's function with the host's data; the message lives until the call returns.
        unsafe { call(level as u32, message.as_ptr(), self.data) };
    }
}

impl EngineObject {
    fn open(options: &diffbir_engine_options) -> Outcome<Self> {
        let log = Log {
            call: options.log,
            data: options.log_data,
        };
        let bundle = Bundle::open(&bundle_of(options)?)?;
        let mut builder = Builder::new()?;
        builder.bundle_defaults(&bundle.manifest().defaults);
        lay(options, &mut builder)?;
        let config = builder.build()?;
        let runtime_options = config.runtime.options()?;
        let engine = Engine::open(bundle, runtime_options.clone());
        engine.check(&config.options())?;
        let cache = library::cache_dir();
        let force = options.verify != 0;
        let mut reading = |path: &Path, bytes: u64| {
            let message = format!("verifying {} ({bytes} bytes)", path.display());
            log.say(diffbir_log_level::Info, &message);
        };
        engine
            .bundle()
            .verify(cache.as_deref(), force, &mut reading)?;
        let loaded = runtime::load(config.runtime.library_path().as_deref())?;
        for note in &loaded.skipped {
            log.say(diffbir_log_level::Warning, note);
        }
        let path = loaded.candidate.path.display();
        let message = format!("ONNX Runtime {} from {path}", loaded.version);
        log.say(diffbir_log_level::Info, &message);
        let graphs = engine.bundle().graph_files();
        let passed_over = runtime::check(&graphs, &runtime_options)?;
        for provider in &passed_over {
            log.say(diffbir_log_level::Warning, &provider.to_string());
        }
        if let Some(note) = engine_cache::building_note(&graphs, &runtime_options)? {
            log.say(diffbir_log_level::Info, &note);
        }
        if let Some([width, height]) = config.runtime.warm_up {
            log.say(
                diffbir_log_level::Info,
                &format!("warming up on {width}x{height} pixels"),
            );
            engine.warm_up((height, width), &config.options())?;
        }
        let limit = match options.queue_limit {
            0 => QUEUE_LIMIT,
            limit => limit as usize,
        };
        let queue = Queue::new(limit, engine.width());
        Ok(EngineObject {
            engine,
            builder,
            config,
            log,
            queue,
            loaded,
            passed_over,
            requests: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// Remembers a request, to stop it when the engine is freed.
    pub(super) fn enlist(&self, request: &Arc<RequestObject>) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.retain(|request| request.strong_count() > 0);
        requests.push(Arc::downgrade(request));
    }

    /// Refuses to begin work once the engine is freed.
    pub(super) fn expect_open(&self) -> Outcome<()> {
        match self.closed.load(Ordering::SeqCst) {
            true => Err(closed()),
            false => Ok(()),
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for request in requests.iter().filter_map(Weak::upgrade) {
            request.stop();
        }
        drop(requests);
        self.queue.close();
    }
}

/// Lays the host's configuration over what is there.
fn lay(options: &diffbir_engine_options, builder: &mut Builder) -> Outcome<()> {
    if let Some(path) = optional_path("config_file", options.config_file)? {
        builder.file(&path)?;
    }
    if let Some(yaml) = optional_text("config_yaml", options.config_yaml)? {
        let invalid = |e: Error| Error::config(format!("config_yaml: {e}"));
        builder.yaml(&yaml, Path::new("")).map_err(invalid)?;
    }
    set_all(builder, options.settings, options.setting_count)?;
    for (key, field) in [
        ("bundle", options.bundle),
        ("runtime.library", options.runtime_library),
    ] {
        if let Some(value) = optional_text(key, field)? {
            builder.put(key, json!(value))?;
        }
    }
    Ok(())
}

/// Lays `count` strings `key=value` over what is there.
pub(super) fn set_all(
    builder: &mut Builder,
    settings: *const *const c_char,
    count: usize,
) -> Outcome<()> {
    for &setting in slice("settings", settings, count)? {
        builder.set(&text("settings", setting)?)?;
    }
    Ok(())
}

fn bundle_of(options: &diffbir_engine_options) -> Outcome<std::path::PathBuf> {
    let mut builder = Builder::new()?;
    lay(options, &mut builder)?;
    let named = builder.build()?.bundle;
    named.ok_or_else(|| {
        Failure::from(Error::bundle(
            "no bundle: set `bundle`, there or in the configuration",
        ))
    })
}

/// Makes an engine: reads the configuration, checks the bundle's files and loads ONNX Runtime. Graphs are loaded when
/// a request first needs them, unless `runtime.warm_up` asks for a first picture now. Never installs a runtime and never
/// uses the network.
///
/// On success `*out` is the engine, freed by `diffbir_engine_free`; on failure `*out` stays as it was. NULL for
/// `options` means the defaults, which name no bundle and so fail.
///
/// Errors: `CONFIG` and `OPTION` for the configuration, `BUNDLE`, `RUNTIME`, `RESOURCES`.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_engine_new(
    options: *const diffbir_engine_options,
    out: *mut *mut diffbir_engine,
) -> *mut diffbir_error {
    guard(|| {
        expect_place("out", out)?;
        let options = growing::read(options)?;
        give("out", out, handles::insert(EngineObject::open(&options)?))
    })
}

/// Frees an engine: its requests are stopped, as with `diffbir_cancel_trigger`, and the call returns when none of its
/// submitted requests runs any more (in a callback: at once). Requests and images stay and are freed on their own.
/// NULL and freed handles are passed over.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_engine_free(engine: *mut diffbir_engine) {
    guard_or((), || {
        if let Some(engine) = handles::remove(engine) {
            engine.close();
        }
        Ok(())
    });
}

/// What the bundle is: a JSON object with `dir`, `sha256`, `family`, `weights`, `tasks`, `defaults` and `graphs`. The
/// caller frees `*json` with `diffbir_string_free`.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_engine_bundle(
    engine: *const diffbir_engine,
    json: *mut *mut c_char,
) -> *mut diffbir_error {
    guard(|| {
        let engine = handles::get(engine)?;
        let (bundle, manifest) = (engine.engine.bundle(), engine.engine.bundle().manifest());
        let facts = json!({
            "dir": bundle.dir(), "sha256": bundle.hash(), "family": manifest.family, "weights": manifest.weights.source,
            "tasks": manifest.tasks.keys().collect::<Vec<_>>(), "defaults": manifest.defaults,
            "graphs": manifest.graphs.keys().collect::<Vec<_>>(),
        });
        give_string("json", json, &facts.to_string())
    })
}

/// What pictures run on: a JSON object with ONNX Runtime's `library`, its `origin` and `version`, the configured
/// `providers` in order, the optional ones among them that are `passed_over` because they do not load (`provider`,
/// `reason`, `remedy`), and the `devices` that ONNX Runtime offers. The caller frees `*json` with `diffbir_string_free`.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_engine_runtime(
    engine: *const diffbir_engine,
    json: *mut *mut c_char,
) -> *mut diffbir_error {
    guard(|| {
        let engine = handles::get(engine)?;
        let candidate = &engine.loaded.candidate;
        let facts = json!({
            "library": candidate.path, "origin": candidate.origin.to_string(), "version": engine.loaded.version,
            "providers": engine.config.runtime.providers, "passed_over": engine.passed_over,
            "devices": library::devices(None)?,
        });
        give_string("json", json, &facts.to_string())
    })
}

/// The effective configuration, as JSON with the keys of the YAML files: what a request gets whose options are all
/// unset. The caller frees `*json` with `diffbir_string_free`.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_engine_configuration(
    engine: *const diffbir_engine,
    json: *mut *mut c_char,
) -> *mut diffbir_error {
    guard(|| {
        let engine = handles::get(engine)?;
        let config = serde_json::to_string(&engine.config)
            .map_err(|e| Error::internal("the configuration cannot be written").with_source(e))?;
        give_string("json", json, &config)
    })
}
