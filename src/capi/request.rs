//! Requests: from new to done, on the caller's thread or on the engine's.

use std::os::raw::{c_char, c_void};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::boundary::{
    Failure, Outcome, caught, expect_place, give, guard, guard_or, optional_text, path, slice,
};
use super::engine::{EngineObject, set_all};
use super::error::diffbir_code;
use super::handles::{
    self, diffbir_cancel, diffbir_engine, diffbir_error, diffbir_image, diffbir_request,
};
use super::pixels::Pixels;
use super::restore::{self, Finished, Progress};
use super::strings::give_string;
use super::structs::{self, diffbir_options, diffbir_pixels, diffbir_progress_fn};
use crate::cancel::Cancel;
use crate::config::Config;
use crate::imageio::Picture;

/// What is behind a `diffbir_request`.
pub struct RequestObject {
    pub(super) engine: Arc<EngineObject>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    phase: Phase,
    /// Stops the present run.
    stop: Cancel,
    work: Work,
}

enum Phase {
    /// Not started.
    Ready,
    /// Waiting in the queue or running.
    Busy,
    /// Ended.
    Done(Outcome<Arc<Finished>>),
}

/// What is to be done.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) input: Option<Input>,
    pub(super) config: Config,
    pub(super) progress: Progress,
    pub(super) cancel: Option<Cancel>,
}

#[derive(Clone)]
pub(super) enum Input {
    File(PathBuf),
    Bytes(Arc<[u8]>),
    Pixels(Arc<Picture>),
}

fn invalid_state(message: &str) -> Failure {
    Failure::new(diffbir_code::InvalidState, message)
}

impl RequestObject {
    fn new(engine: Arc<EngineObject>) -> Self {
        let work = Work {
            input: None,
            config: engine.config.clone(),
            progress: Progress::default(),
            cancel: None,
        };
        RequestObject {
            engine,
            state: Mutex::new(State {
                phase: Phase::Ready,
                stop: Cancel::default(),
                work,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops what it is at.
    pub(super) fn stop(&self) {
        self.lock().stop.cancel();
    }

    /// Changes what is to be done; a result that was there is dropped.
    fn change(&self, change: impl FnOnce(&mut Work)) -> Outcome<()> {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Busy) {
            return Err(invalid_state(
                "the request is at work and cannot be changed",
            ));
        }
        state.phase = Phase::Ready;
        change(&mut state.work);
        Ok(())
    }

    /// From ready or done to busy.
    fn begin(&self) -> Outcome<()> {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Busy) {
            return Err(invalid_state("the request is at work already"));
        }
        if state.work.input.is_none() {
            return Err(invalid_state("the request has no input"));
        }
        // Asked under the lock that `stop` takes: an engine that is freed meanwhile either is seen here or stops this run.
        self.engine.expect_open()?;
        state.stop = Cancel::default();
        state.phase = Phase::Busy;
        Ok(())
    }

    fn end(&self, phase: Phase) {
        self.lock().phase = phase;
        self.changed.notify_all();
    }

    /// Does the work of a busy request.
    pub(super) fn execute(&self) {
        let state = self.lock();
        let (work, stop) = (state.work.clone(), state.stop.clone());
        drop(state);
        let outcome = caught(|| restore::run(&self.engine, &work, &stop));
        self.end(Phase::Done(outcome.map(Arc::new)));
    }

    /// Waits until it is done or `timeout` is over; whether it is done. Its own failure is this one's.
    fn wait(&self, timeout: Option<Duration>) -> Outcome<bool> {
        let end = timeout.map(|timeout| Instant::now() + timeout);
        let mut state = self.lock();
        loop {
            match &state.phase {
                Phase::Ready => return Err(invalid_state("the request was not submitted")),
                Phase::Done(outcome) => {
                    return outcome.as_ref().map(|_| true).map_err(Failure::clone);
                }
                Phase::Busy => {}
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => return Ok(false),
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn finished(&self) -> Outcome<Arc<Finished>> {
        match &self.lock().phase {
            Phase::Done(outcome) => outcome.clone(),
            Phase::Ready => Err(invalid_state("the request was not run")),
            Phase::Busy => Err(invalid_state("the request is at work")),
        }
    }

    fn sample(&self, k: usize) -> Outcome<Arc<super::image::ImageObject>> {
        let finished = self.finished()?;
        let count = finished.samples.len();
        finished
            .samples
            .get(k)
            .cloned()
            .ok_or_else(|| Failure::argument(format!("sample is {k}, expected less than {count}")))
    }
}

/// The configuration of a request whose options are `options`.
pub(super) fn configured(engine: &EngineObject, options: &diffbir_options) -> Outcome<Config> {
    let mut builder = engine.builder.clone();
    let texts = [
        ("restore.task", options.task),
        ("sampling.sampler", options.sampler),
        ("sampling.prompt", options.prompt),
        ("sampling.negative_prompt", options.negative_prompt),
    ];
    for (key, field) in texts {
        if let Some(value) = optional_text(key, field)? {
            builder.put(key, json!(value))?;
        }
    }
    let numbers = [
        ("restore.upscale", options.upscale),
        ("sampling.cfg_scale", options.cfg_scale),
        ("sampling.strength", options.strength),
        ("guidance.scale", options.guidance_scale),
    ];
    for (key, value) in numbers.into_iter().filter(|(_, value)| !value.is_nan()) {
        if value.is_infinite() {
            return Err(Failure::new(
                diffbir_code::Option,
                format!("{key} is {value}"),
            ));
        }
        builder.put(key, json!(value))?;
    }
    let counts = [
        ("sampling.steps", i64::from(options.steps), 0),
        ("sampling.samples", i64::from(options.samples), 0),
        ("sampling.seed", options.seed, -1),
    ];
    for (key, value, _) in counts
        .into_iter()
        .filter(|(_, value, unset)| value != unset)
    {
        builder.put(key, json!(value))?;
    }
    set_all(&mut builder, options.settings, options.setting_count)?;
    let config = builder.build()?;
    if config.runtime != engine.config.runtime || config.bundle != engine.config.bundle {
        return Err(Failure::new(
            diffbir_code::Option,
            "bundle and runtime are the engine's: a request cannot change them",
        ));
    }
    engine.engine.check(&config.options())?;
    Ok(config)
}

/// Makes a request for `engine`. Free it with `diffbir_request_free`.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_new(
    engine: *const diffbir_engine,
    out: *mut *mut diffbir_request,
) -> *mut diffbir_error {
    guard(|| {
        expect_place("out", out)?;
        let engine = handles::get(engine)?;
        let request = Arc::new(RequestObject::new(engine.clone()));
        engine.enlist(&request);
        give("out", out, handles::insert_shared(request))
    })
}

/// Frees a request; one that is at work is stopped and ends by itself. Images that were taken from it stay. NULL and
/// freed handles are passed over.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_free(request: *mut diffbir_request) {
    guard_or((), || {
        if let Some(request) = handles::remove(request) {
            request.stop();
        }
        Ok(())
    });
}

/// Takes the picture from a file, which is read when the request runs: PNG, JPEG, WebP, TIFF or BMP, as its contents
/// say. A file `NAME.txt` beside it is its caption, unless `input.captions` is false. `path` is copied.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_set_file(
    request: *mut diffbir_request,
    path: *const c_char,
) -> *mut diffbir_error {
    guard(|| {
        let input = Input::File(self::path("path", path)?);
        handles::get(request)?.change(|work| work.input = Some(input))
    })
}

/// Takes the picture from the bytes of a file. They are copied.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_set_bytes(
    request: *mut diffbir_request,
    data: *const u8,
    size: usize,
) -> *mut diffbir_error {
    guard(|| {
        let request = handles::get(request)?;
        let bytes = slice("data", data, size)?;
        if bytes.is_empty() {
            return Err(Failure::argument("size is 0"));
        }
        request.change(|work| work.input = Some(Input::Bytes(bytes.into())))
    })
}

/// Takes the picture from pixels. They are copied, and alpha is set aside: the networks see colours alone, and the
/// result has the alpha again, enlarged. Colours where nothing is seen are filled in from their neighbours before.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_set_pixels(
    request: *mut diffbir_request,
    pixels: *const diffbir_pixels,
) -> *mut diffbir_error {
    guard(|| {
        let request = handles::get(request)?;
        let (rgb, alpha) = Pixels::of("pixels", pixels)?.read();
        let picture = Arc::new(Picture::of_pixels(rgb, alpha));
        request.change(|work| work.input = Some(Input::Pixels(picture)))
    })
}

/// Says how to restore. NULL: as the engine's configuration says, which is also what a new request does. What is not
/// accepted is refused here, before any work.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_set_options(
    request: *mut diffbir_request,
    options: *const diffbir_options,
) -> *mut diffbir_error {
    guard(|| {
        let request = handles::get(request)?;
        let config = configured(&request.engine, &structs::read(options)?)?;
        request.change(|work| work.config = config)
    })
}

/// Asks to be told of progress; NULL: not to be told. `user_data` is given to `progress` and has to live until the
/// request is done or freed and not at work.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_set_progress(
    request: *mut diffbir_request,
    progress: diffbir_progress_fn,
    user_data: *mut c_void,
) -> *mut diffbir_error {
    guard(|| {
        let progress = Progress::new(progress, user_data);
        handles::get(request)?.change(|work| work.progress = progress)
    })
}

/// Lets `cancel` stop the request; NULL: nothing does. The handle may be freed before the request.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_set_cancel(
    request: *mut diffbir_request,
    cancel: *const diffbir_cancel,
) -> *mut diffbir_error {
    guard(|| {
        let cancel = match cancel.is_null() {
            true => None,
            false => Some(handles::get(cancel)?.0.clone()),
        };
        handles::get(request)?.change(|work| work.cancel = cancel)
    })
}

/// Restores the picture on this thread and returns when it is done. NULL: the result can be taken. A request may be
/// run again, with another input or other options too.
///
/// Errors: `INPUT` for the picture, `RUNTIME`, `RESOURCES`, `CANCELLED`; `INVALID_STATE` for a request that is at
/// work or has no input.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_run(request: *mut diffbir_request) -> *mut diffbir_error {
    guard(|| {
        let request = handles::get(request)?;
        request.begin()?;
        request.execute();
        request.finished().map(drop)
    })
}

/// Puts the request into the engine's queue and returns at once. The engine's thread runs it when its turn comes; one
/// that is stopped while it waits ends when its turn comes.
///
/// Errors: `BUSY` where the queue is full; `INVALID_STATE`.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_submit(request: *mut diffbir_request) -> *mut diffbir_error {
    guard(|| {
        let request = handles::get(request)?;
        request.begin()?;
        let queued = request.engine.queue.submit(request.clone());
        if queued.is_err() {
            request.end(Phase::Ready);
        }
        queued
    })
}

/// Asks a request that is at work to stop, as `diffbir_cancel_trigger` does; wait for it to know that it has. One
/// that is not at work stays as it is. From any thread.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_stop(request: *const diffbir_request) -> *mut diffbir_error {
    guard(|| {
        handles::get(request)?.stop();
        Ok(())
    })
}

/// Whether a submitted request is done: `*done` becomes 1 or 0. Returns the request's own error once it has failed,
/// with `*done` 1. From any thread.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_poll(
    request: *const diffbir_request,
    done: *mut bool,
) -> *mut diffbir_error {
    diffbir_request_wait(request, 0, done)
}

/// Waits until a submitted request is done, `timeout_ms` milliseconds at most, `DIFFBIR_FOREVER` for as long as it
/// takes. `*done` becomes 1 or 0; `done` may be NULL. Returns the request's own error once it has failed, with
/// `*done` 1. From any thread.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_wait(
    request: *const diffbir_request,
    timeout_ms: u32,
    done: *mut bool,
) -> *mut diffbir_error {
    guard(|| {
        let request = handles::get(request)?;
        let timeout = match timeout_ms {
            u32::MAX => None,
            ms => Some(Duration::from_millis(u64::from(ms))),
        };
        let outcome = request.wait(timeout);
        let failed_itself = matches!(&request.lock().phase, Phase::Done(Err(_)));
        if !done.is_null() {
            give("done", done, failed_itself || matches!(outcome, Ok(true)))?;
        }
        outcome.map(drop)
    })
}

/// How many samples the result has; 0 where there is no result.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_sample_count(request: *const diffbir_request) -> usize {
    guard_or(0, || Ok(handles::get(request)?.finished()?.samples.len()))
}

/// Takes sample `sample`, from 0, of the result. Free it with `diffbir_image_free`; it may outlive request and engine.
/// Asked twice, it gives two handles of the same picture, which is not copied.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_image(
    request: *const diffbir_request,
    sample: usize,
    out: *mut *mut diffbir_image,
) -> *mut diffbir_error {
    guard(|| {
        expect_place("out", out)?;
        let image = handles::get(request)?.sample(sample)?;
        give("out", out, handles::insert_shared(image))
    })
}

/// How the result was made, as JSON: engine, bundle, provider and precision of each graph, every option. The caller
/// frees `*json` with `diffbir_string_free`.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_provenance(
    request: *const diffbir_request,
    json: *mut *mut c_char,
) -> *mut diffbir_error {
    guard(|| {
        let finished = handles::get(request)?.finished()?;
        give_string("json", json, &finished.provenance.to_string())
    })
}
