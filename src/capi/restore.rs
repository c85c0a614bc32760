//! The work of a request.

use std::cell::Cell;
use std::os::raw::{c_char, c_void};
use std::ptr;
use std::sync::Arc;

use serde_json::Value;

use super::boundary::{Failure, Outcome, guard, path};
use super::engine::EngineObject;
use super::error::diffbir_code;
use super::growing::{self, Growing};
use super::handles::{self, diffbir_engine, diffbir_error};
use super::image::{self, ImageObject};
use super::strings::c_string;
use super::structs::{
    diffbir_encode_options, diffbir_event, diffbir_log_level, diffbir_options, diffbir_progress,
    diffbir_progress_fn,
};
use super::work::{RequestObject, Work, configured};
use crate::cancel::Cancel;
use crate::config::{Existing, OutputOptions};
use crate::engine::Noise;
use crate::error::{Error, Result};
use crate::pipeline::{Event, Stage};
use crate::service::{Done, Job, Source};

/// A result.
pub(super) struct Finished {
    pub(super) samples: Vec<Arc<ImageObject>>,
    pub(super) provenance: Value,
}

/// The host's progress function.
#[derive(Clone, Copy)]
pub(super) struct Progress {
    call: diffbir_progress_fn,
    data: *mut c_void,
}

// SAFETY: by the header the function is called on the thread that runs the request, with data that bears it.
unsafe impl Send for Progress {}
// SAFETY: as above.
unsafe impl Sync for Progress {}

impl Default for Progress {
    fn default() -> Self {
        Progress::new(None, ptr::null_mut())
    }
}

impl Progress {
    pub(super) fn new(call: diffbir_progress_fn, data: *mut c_void) -> Self {
        Progress { call, data }
    }

    /// Tells the host; it may ask to stop.
    fn tell(&self, stage: Stage, mut progress: diffbir_progress) -> Result<()> {
        let Some(call) = self.call else { return Ok(()) };
        let stage = c_string(stage.name());
        progress.stage = stage.as_ptr();
        // SAFETY: the host's function with the host's data; what it is shown lives until the call returns.
        match unsafe { call(&raw const progress, self.data) } {
            0 => Err(Error::cancelled()),
            _ => Ok(()),
        }
    }

    fn event(&self, event: &Event<'_>) -> Result<()> {
        let number = |x: usize| u32::try_from(x).unwrap_or(u32::MAX);
        let mut told = nothing();
        let stage = match *event {
            Event::Started(stage) => {
                told.event = diffbir_event::StageStarted as u32;
                stage
            }
            Event::Step(samples, step) => {
                told.event = diffbir_event::Step as u32;
                (told.step, told.total) = (number(step.index + 1), number(step.total));
                (told.first_sample, told.sample_count) =
                    (number(samples.first), number(samples.count));
                Stage::Sampling
            }
            Event::Tile(stage, tile, tiles) => {
                told.event = diffbir_event::Tile as u32;
                (told.tile, told.tiles) = (number(tile + 1), number(tiles));
                stage
            }
            Event::Finished(stage, seconds) => {
                told.event = diffbir_event::StageFinished as u32;
                told.seconds = seconds;
                stage
            }
            Event::Planned(_)
            | Event::Loaded(..)
            | Event::Tensor(..)
            | Event::Picture(..)
            | Event::Checkpoint => return Ok(()),
        };
        self.tell(stage, told)
    }
}

fn nothing() -> diffbir_progress {
    diffbir_progress {
        struct_size: size_of::<diffbir_progress>(),
        event: 0,
        step: 0,
        total: 0,
        tile: 0,
        tiles: 0,
        first_sample: 0,
        sample_count: 0,
        stage: ptr::null(),
        seconds: 0.0,
    }
}

thread_local! {
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// Whether a request runs on this thread, so that this is a callback of its.
pub(super) fn is_running_here() -> bool {
    RUNNING.get()
}

/// Says so as long as it lives.
struct Running;

impl Running {
    /// The networks are taken by the request whose callback this is: another one would wait for them for ever.
    fn begin() -> Outcome<Self> {
        match RUNNING.replace(true) {
            true => Err(Failure::new(
                diffbir_code::InvalidState,
                "a callback cannot run a request: submit it",
            )),
            false => Ok(Running),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(false);
    }
}

/// Reads, restores and keeps what is needed to write.
pub(super) fn run(engine: &EngineObject, work: &Work, stop: &Cancel) -> Outcome<Finished> {
    let _running = Running::begin()?;
    let check = || {
        let asked = work.cancel.as_ref().is_some_and(Cancel::is_cancelled);
        if asked {
            Err(Error::cancelled())
        } else {
            stop.check()
        }
    };
    check()?;
    let source = work.input.as_ref();
    let job = Job {
        source: source.ok_or_else(|| Error::internal("a request without input runs"))?,
        config: &work.config,
        format: None,
        noise: Noise::Seed,
        cancel: stop.clone(),
    };
    let mut observe = |event: Event<'_>| {
        check()?;
        work.progress.event(&event)
    };
    let done = engine.service.run(job, &engine.log, &mut observe)?;
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
    let mut deep = done.restored.deep.into_iter();
    let samples = done.restored.samples.into_iter().zip(texts);
    let image = |(rgb, text)| {
        Arc::new(ImageObject::new(
            rgb,
            deep.next(),
            done.kept.clone(),
            text,
            output,
        ))
    };
    Ok(Finished {
        samples: samples.map(image).collect(),
        provenance,
    })
}

/// Restores the picture in the file `input` and writes the result's first sample to `output`, whose name says what kind
/// of file it is. `options` may be NULL. An existing file is refused before any work, unless `output.existing` is
/// `overwrite`. For progress, cancelling or several samples, use a request.
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
