//! Running a request.

use std::os::raw::c_char;
use std::sync::Arc;

use serde_json::Value;

use super::boundary::{Outcome, guard, path};
use super::callbacks::diffbir_log_level;
use super::engine::{EngineObject, diffbir_engine};
use super::error::diffbir_error;
use super::growing::{self, Growing};
use super::handles;
use super::image::{self, ImageObject};
use super::running::Running;
use super::structs::{diffbir_encode_options, diffbir_options};
use super::work::{RequestObject, Work, configured};
use crate::cancel::Cancel;
use crate::config::{Existing, OutputOptions};
use crate::engine::Noise;
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::Event;
use crate::service::{Done, Job, Source};

/// A result.
pub(super) struct Finished {
    pub(super) samples: Vec<Arc<ImageObject>>,
    pub(super) provenance: Value,
}

/// Reads and restores a picture, and keeps what its encoding needs.
pub(super) fn run(engine: &EngineObject, work: &Work, stop: &Cancel) -> Outcome<Finished> {
    let _running = Running::begin(stop)?;
    // The host's handle serves several requests, `stop` this run alone.
    let _hook = work.cancel.as_ref().map(|cancel| {
        let stop = stop.clone();
        cancel.on_cancel(move || stop.cancel())
    });
    stop.check()?;
    let source = work.input.as_ref();
    let job = Job {
        source: source.ok_or_else(|| Error::internal("a request without input runs"))?,
        config: &work.config,
        format: None,
        noise: Noise::Seed,
        cancel: stop.clone(),
    };
    let mut observe = |event: Event<'_>| work.progress.event(&event);
    let done = engine.service.run(job, &engine.log, &mut observe);
    let done = done.map_err(|error| match source {
        Some(Source::File(path)) if error.kind() == ErrorKind::Input => error.at(path.display()),
        _ => error,
    })?;
    for property in &done.dropped {
        let message = format!("the result does not keep the input's {property}");
        engine.log.say(diffbir_log_level::Warning, &message);
    }
    finished(done, &work.config.output)
}

fn finished(done: Done, output: &OutputOptions) -> Outcome<Finished> {
    let provenance = serde_json::to_value(&done.restored.provenance)
        .map_err(|e| Error::internal("the provenance cannot be written").with_source(e))?;
    let text = |k| done.restored.provenance.text(k);
    let texts: Vec<_> = (0..done.restored.samples.len())
        .map(text)
        .collect::<Result<_>>()?;
    let samples = done.restored.samples.into_iter().zip(texts);
    let image =
        |(pixels, text)| Arc::new(ImageObject::new(pixels, done.kept.clone(), text, output));
    Ok(Finished {
        samples: samples.map(image).collect(),
        provenance,
    })
}

/// Restores the picture in the file `input` and writes the first sample to `output`, in the format of its extension.
/// `options` may be NULL. An existing file is refused before any work, unless `output.existing` is `overwrite`. For
/// progress, cancelling or several samples, use a request.
///
/// Errors: as `diffbir_request_set_options` and `diffbir_request_run`; `INPUT` where the result cannot be written.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_restore_file(
    engine: *const diffbir_engine,
    input: *const c_char,
    output: *const c_char,
    options: *const diffbir_options,
) -> *mut diffbir_error {
    guard(|| {
        let engine = handles::get(engine)?;
        let output = path("output", output)?;
        let config = configured(&engine, &growing::read(options)?)?;
        let overwrite = config.output.existing == Existing::Overwrite;
        image::refuse_existing(&output, overwrite)?;
        let input = Source::File(path("input", input)?);
        let request = RequestObject::new(engine, Work::new(Some(input), config));
        request.run()?;
        let image = request.sample(0)?;
        image.write(&output, &diffbir_encode_options::defaults(), overwrite)
    })
}
