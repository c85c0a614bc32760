//! Engines.

use std::mem::ManuallyDrop;
use std::os::raw::c_char;
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::json;

use super::boundary::{
    Outcome, expect_place, give, guard, guard_or, optional_path, optional_text, slice, text,
};
use super::callbacks::{Log, diffbir_log_level};
use super::error::diffbir_error;
use super::growing;
use super::handles;
use super::queue::{Queue, closed};
use super::running::exiting;
use super::strings::give_string;
use super::structs::diffbir_engine_options;
use super::work::RequestObject;
use crate::config::{ConfigLayer, Layers, Origin};
use crate::error::Error;
use crate::files::to_text;
use crate::runtime::{exit, library, telemetry};
use crate::service::{Host, Level, Opened, Service, bundles};

/// Default of `queue_limit`.
const QUEUE_LIMIT: usize = 64;

/// An engine: an opened bundle that restores pictures. Thread-safe. Each set of networks runs one request at a time;
/// further requests wait.
pub struct diffbir_engine {
    _private: [u8; 0],
}

handle!(diffbir_engine => EngineObject);

/// The object behind a `diffbir_engine`.
pub struct EngineObject {
    pub(super) service: ManuallyDrop<Service>,
    pub(super) log: Log,
    pub(super) queue: Arc<Queue>,
    /// Requests to stop when the engine is freed.
    requests: Mutex<Vec<Weak<RequestObject>>>,
    closed: AtomicBool,
}

impl Drop for EngineObject {
    fn drop(&mut self) {
        // While the process exits, ONNX Runtime may be destroyed already: sessions are leaked then.
        if let Some(_entered) = exit::enter(None) {
            // SAFETY: the last reference to the engine is gone, and it is dropped here only.
            unsafe { ManuallyDrop::drop(&mut self.service) };
        }
    }
}

impl Host for Log {
    fn note(&self, level: Level, message: &str) {
        let level = match level {
            Level::Info => diffbir_log_level::Info,
            Level::Warning => diffbir_log_level::Warning,
        };
        self.say(level, message);
    }
}

impl EngineObject {
    fn open(options: &diffbir_engine_options, log: Log) -> Outcome<Self> {
        // SAFETY: diffbir.h asks hosts to export the variable, which leaves nothing to do here, or to make the first
        // engine before other threads use the environment.
        unsafe { telemetry::disable() };
        let service = Opened::open(layers(options)?)?.start(options.verify != 0, &log)?;
        let path = service.loaded.candidate.path.display();
        let message = format!("ONNX Runtime {} from {path}", service.loaded.version);
        log.say(diffbir_log_level::Info, &message);
        Ok(EngineObject::of(service, log, options.queue_limit))
    }

    fn of(service: Service, log: Log, queue_limit: u32) -> Self {
        let limit = match queue_limit {
            0 => QUEUE_LIMIT,
            limit => limit as usize,
        };
        let queue = Queue::new(limit, service.engine.width());
        EngineObject {
            service: ManuallyDrop::new(service),
            log,
            queue,
            requests: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Registers a request, to stop it when the engine is freed.
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
        self.log.close();
    }
}

/// The layers of the host's configuration.
fn layers(options: &diffbir_engine_options) -> Outcome<Layers> {
    let mut layers = Layers::default();
    if let Some(path) = optional_path("config_file", options.config_file)? {
        layers.file(&path)?;
    }
    if let Some(yaml) = optional_text("config_yaml", options.config_yaml)? {
        layers.yaml(&yaml)?;
    }
    bundles::environment(&mut layers);
    layers.set(
        texts("settings", options.settings, options.setting_count)?
            .iter()
            .map(String::as_str),
    )?;
    let mut layer = ConfigLayer {
        bundle: optional_text("bundle", options.bundle)?.map(PathBuf::from),
        ..ConfigLayer::default()
    };
    let library = optional_text("runtime_library", options.runtime_library)?;
    layer.runtime.library = library.map(|path| PathBuf::from(path).into());
    layers.push(Origin::Given, layer);
    Ok(layers)
}

/// `count` strings of the caller.
pub(super) fn texts(what: &str, list: *const *const c_char, count: usize) -> Outcome<Vec<String>> {
    slice(what, list, count)?
        .iter()
        .map(|&string| text(what, string))
        .collect()
}

/// A handle for `service`, for Rust code that starts it by itself: an application that hands its engine to C code, or a
/// test on fake networks. `queue_limit` is that of [`diffbir_engine_options`].
pub fn engine_of(service: Service, queue_limit: u32) -> *mut diffbir_engine {
    let log = Log::new(None, ptr::null_mut(), None);
    handles::insert(EngineObject::of(service, log, queue_limit))
}

/// Creates an engine: reads the configuration, verifies the bundle's files and loads ONNX Runtime. Graphs are loaded
/// when a request first needs them, or now if `runtime.warm_up` is set. Never installs a runtime and never uses the
/// network: the first engine sets `ORT_DISABLE_TELEMETRY=1` in the environment, because ONNX Runtime would otherwise
/// send telemetry. Export that variable, or create the first engine before other threads start.
///
/// On success `*out` is the engine, freed by `diffbir_engine_free`; on failure `*out` is unchanged. NULL for `options`
/// means the defaults: the bundle of `DIFFBIR_BUNDLE`, else that in the user's default folder.
///
/// Errors: `CONFIG` and `OPTION` for the configuration, `BUNDLE`, `RUNTIME`, `RESOURCES`.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_engine_new(
    options: *const diffbir_engine_options,
    out: *mut *mut diffbir_engine,
) -> *mut diffbir_error {
    guard(|| {
        let options = growing::read(options)?;
        let log = Log::new(options.log, options.log_data, options.log_free);
        expect_place("out", out)?;
        let _entered = exit::enter(None).ok_or_else(exiting)?;
        let engine = EngineObject::open(&options, log)?;
        exit::watch();
        give("out", out, handles::insert(engine))
    })
}

/// Frees an engine. Stops its requests, as `diffbir_cancel_trigger` does, and returns when all submitted requests have
/// ended (in a callback: at once). Requests and images stay valid and are freed separately. NULL and freed handles are
/// ignored.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_engine_free(engine: *mut diffbir_engine) {
    guard_or((), || {
        if let Some(engine) = handles::remove(engine) {
            engine.close();
        }
        Ok(())
    });
}

/// Describes the bundle: a JSON object with `dir`, `sha256`, `family`, `weights`, `tasks`, `defaults` and `graphs`. The
/// caller frees `*json` with `diffbir_string_free`.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_engine_bundle(
    engine: *const diffbir_engine,
    json: *mut *mut c_char,
) -> *mut diffbir_error {
    guard(|| {
        let engine = handles::get(engine)?;
        let (bundle, manifest) = (
            engine.service.engine.bundle(),
            engine.service.engine.bundle().manifest(),
        );
        let facts = json!({
            "dir": bundle.dir(), "sha256": bundle.hash(), "family": manifest.family, "weights": manifest.weights.source,
            "tasks": manifest.tasks.keys().collect::<Vec<_>>(), "defaults": manifest.defaults,
            "graphs": manifest.graphs.keys().collect::<Vec<_>>(),
        });
        give_string("json", json, &facts.to_string())
    })
}

/// Describes the runtime: a JSON object with ONNX Runtime's `library`, its `origin` and `version`, the configured
/// `providers` in order, the optional ones that do not load (`passed_over`, each with `provider`, `reason`, `remedy`),
/// and the `devices` that ONNX Runtime offers. The caller frees `*json` with `diffbir_string_free`.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_engine_runtime(
    engine: *const diffbir_engine,
    json: *mut *mut c_char,
) -> *mut diffbir_error {
    guard(|| {
        let engine = handles::get(engine)?;
        let candidate = &engine.service.loaded.candidate;
        let facts = json!({
            "library": to_text(&candidate.path), "origin": candidate.origin.to_string(), "version": engine.service.loaded.version,
            "providers": engine.service.config.runtime.providers, "passed_over": engine.service.skipped,
            "devices": library::devices(None)?,
        });
        give_string("json", json, &facts.to_string())
    })
}

/// The effective configuration as JSON, with the keys of the YAML files; a request without options runs with it. The
/// caller frees `*json` with `diffbir_string_free`.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_engine_configuration(
    engine: *const diffbir_engine,
    json: *mut *mut c_char,
) -> *mut diffbir_error {
    guard(|| {
        let engine = handles::get(engine)?;
        let config = serde_json::to_string(&engine.service.config)
            .map_err(|e| Error::internal("the configuration cannot be written").with_source(e))?;
        give_string("json", json, &config)
    })
}
