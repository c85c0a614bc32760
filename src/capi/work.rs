//! The work of a request and its state: ready, busy, done.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::boundary::{Failure, Outcome, caught, optional_text};
use super::callbacks::Progress;
use super::engine::{EngineObject, texts};
use super::error::diffbir_code;
use super::image::ImageObject;
use super::restore::{self, Finished};
use super::running::is_running_here;
use super::structs::diffbir_options;
use crate::cancel::Cancel;
use crate::config::{Config, ConfigLayer, Origin};
use crate::options::Strength;
use crate::service::Source;

/// A request to an engine: an input, options and, when done, a result. Not thread-safe, except that any thread may
/// stop, poll, wait for and free it.
pub struct diffbir_request {
    _private: [u8; 0],
}

handle!(diffbir_request => RequestObject);

/// The object behind a `diffbir_request`.
pub struct RequestObject {
    pub(super) engine: Arc<EngineObject>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    phase: Phase,
    /// Stops the current run.
    stop: Cancel,
    freed: bool,
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

/// The input and the options.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) input: Option<Source>,
    pub(super) config: Config,
    pub(super) progress: Progress,
    pub(super) cancel: Option<Cancel>,
}

impl Work {
    /// `input` with the engine's configuration.
    pub(super) fn new(input: Option<Source>, config: Config) -> Self {
        Work {
            input,
            config,
            progress: Progress::default(),
            cancel: None,
        }
    }
}

fn invalid_state(message: &str) -> Failure {
    Failure::new(diffbir_code::InvalidState, message)
}

impl RequestObject {
    /// A request for `engine`; freeing the engine stops it.
    pub(super) fn new(engine: Arc<EngineObject>, work: Work) -> Arc<Self> {
        let request = Arc::new(RequestObject {
            engine,
            state: Mutex::new(State {
                phase: Phase::Ready,
                stop: Cancel::default(),
                freed: false,
                work,
            }),
            changed: Condvar::new(),
        });
        request.engine.enlist(&request);
        request
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops a run in progress.
    pub(super) fn stop(&self) {
        self.lock().stop.cancel();
    }

    /// Changes the work; drops an existing result.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Work) -> T) -> Outcome<T> {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Busy) {
            return Err(invalid_state(
                "the request is at work and cannot be changed",
            ));
        }
        state.phase = Phase::Ready;
        Ok(change(&mut state.work))
    }

    /// Changes the state from ready or done to busy; returns the previous one.
    fn begin(&self) -> Outcome<Phase> {
        let mut state = self.lock();
        if state.freed {
            return Err(Failure::argument("the request was freed"));
        }
        if matches!(state.phase, Phase::Busy) {
            return Err(invalid_state("the request is at work already"));
        }
        if state.work.input.is_none() {
            return Err(invalid_state("the request has no input"));
        }
        // Under the lock that `stop` takes: if the engine is freed concurrently, either it is seen here or this run is
        // stopped.
        self.engine.expect_open()?;
        state.stop = Cancel::default();
        Ok(std::mem::replace(&mut state.phase, Phase::Busy))
    }

    /// Runs it on this thread.
    pub(super) fn run(&self) -> Outcome<()> {
        self.begin()?;
        self.execute();
        self.finished().map(drop)
    }

    /// Appends it to the engine's queue; if that is full, its state does not change.
    pub(super) fn submit(self: &Arc<Self>) -> Outcome<()> {
        let before = self.begin()?;
        let queued = self.engine.queue.submit(self.clone());
        if queued.is_err() {
            self.end(before);
        }
        queued
    }

    /// Stops a run in progress, refuses further runs and closes the progress callback.
    pub(super) fn free(&self) {
        let mut state = self.lock();
        state.freed = true;
        state.stop.cancel();
        let progress = state.work.progress.clone();
        drop(state);
        progress.close();
    }

    fn end(&self, phase: Phase) {
        self.lock().phase = phase;
        self.changed.notify_all();
    }

    /// Runs a busy request.
    pub(super) fn execute(&self) {
        let state = self.lock();
        let (work, stop) = (state.work.clone(), state.stop.clone());
        drop(state);
        let outcome = caught(|| restore::run(&self.engine, &work, &stop));
        self.end(Phase::Done(outcome.map(Arc::new)));
    }

    /// Waits until it has ended, at most `timeout`; returns its outcome, `None` if it has not ended.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> Outcome<Option<Outcome<()>>> {
        let end = timeout.map(|timeout| Instant::now() + timeout);
        let mut state = self.lock();
        loop {
            match &state.phase {
                Phase::Ready => return Err(invalid_state("the request was not submitted")),
                Phase::Done(outcome) => return Ok(Some(outcome.clone().map(drop))),
                Phase::Busy if is_running_here() && timeout != Some(Duration::ZERO) => {
                    return Err(invalid_state(
                        "a progress callback cannot wait for a request: poll it, or wait on another thread",
                    ));
                }
                Phase::Busy => {}
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => return Ok(None),
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

    /// The result.
    pub(super) fn finished(&self) -> Outcome<Arc<Finished>> {
        match &self.lock().phase {
            Phase::Done(outcome) => outcome.clone(),
            Phase::Ready => Err(invalid_state("the request was not run")),
            Phase::Busy => Err(invalid_state("the request is at work")),
        }
    }

    /// Sample `k` of the result.
    pub(super) fn sample(&self, k: usize) -> Outcome<Arc<ImageObject>> {
        let finished = self.finished()?;
        let count = finished.samples.len();
        finished
            .samples
            .get(k)
            .cloned()
            .ok_or_else(|| Failure::argument(format!("sample is {k}, expected less than {count}")))
    }
}

/// The configuration of a request with `options`.
pub(super) fn configured(engine: &EngineObject, options: &diffbir_options) -> Outcome<Config> {
    let layer = layer(options)?;
    let settings = texts("settings", options.settings, options.setting_count)?;
    Ok(engine.service.configured(|layers| {
        layers.push(Origin::Given, layer);
        layers.set(settings.iter().map(String::as_str))
    })?)
}

/// The fields set by the host, as a configuration layer.
fn layer(options: &diffbir_options) -> Outcome<ConfigLayer> {
    let number = |value: f64| (!value.is_nan()).then_some(value);
    let count = |value: u32| (value != 0).then_some(value as usize);
    let mut layer = ConfigLayer::default();
    layer.restore.task = optional_text("task", options.task)?;
    layer.restore.upscale = number(options.upscale).map(Some);
    layer.sampling.sampler = optional_text("sampler", options.sampler)?;
    layer.sampling.prompt = optional_text("prompt", options.prompt)?;
    layer.sampling.negative_prompt = optional_text("negative_prompt", options.negative_prompt)?;
    layer.sampling.cfg_scale = number(options.cfg_scale);
    layer.sampling.strength = number(options.strength).map(Strength::All);
    layer.sampling.steps = count(options.steps);
    layer.sampling.samples = count(options.samples);
    layer.sampling.seed = match options.seed {
        -1 => None,
        seed => Some(u64::try_from(seed).map_err(|_| {
            Failure::new(
                diffbir_code::Option,
                format!("seed is {seed}, expected -1 (unset) or a number from 0"),
            )
        })?),
    };
    layer.guidance.scale = number(options.guidance_scale);
    Ok(layer)
}
