//! ONNX Runtime's session builder with the options of a graph.

use ort::session::builder::SessionBuilder;

use crate::error::{Error, Result};
use crate::runtime::engine_cache::EngineCache;
use crate::runtime::{GraphFile, RuntimeOptions, assignment, library, registration};

/// A session builder for `graph`, and TensorRT's engine cache.
pub(super) fn builder(
    graph: &GraphFile,
    options: &RuntimeOptions,
) -> Result<(SessionBuilder, Option<EngineCache>)> {
    let environment = library::environment(options.library.path())?;
    let threads = options.threads_of(&graph.name);
    let failed =
        |e: ort::Error| Error::runtime("ONNX Runtime refuses the session's options").with_source(e);
    let mut builder = ort::session::Session::builder(environment)
        .and_then(|b| Ok(b.with_intra_threads(threads)?.with_inter_threads(1)?))
        // Shapes vary from picture to picture. With the arena on, a memory pattern saves no time and doubles the
        // memory.
        .and_then(|b| Ok(b.with_memory_pattern(false)?))
        .and_then(|b| Ok(b.with_config_entry(assignment::RECORD_KEY, "1")?))
        .map_err(failed)?;
    for (key, value) in &options.options {
        builder = builder
            .with_config_entry(key, value.to_string())
            .map_err(|e| {
                Error::config(format!(
                    "runtime.options.{key}: ONNX Runtime refuses `{value}`: {e}"
                ))
            })?;
    }
    let providers = options.providers_of(&graph.name);
    let engines = EngineCache::of(graph, providers, options)?;
    let builder = registration::append_all(providers, engines.as_ref(), options, builder)?;
    Ok((builder, engines))
}

/// Runs `work`, which may build TensorRT engines.
pub(super) fn while_building<T>(
    engines: Option<&EngineCache>,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    match engines {
        Some(engines) => engines.building(work)?,
        None => work(),
    }
}
