//! The host's callbacks and their user data.

use std::os::raw::{c_char, c_int, c_void};
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::strings::c_string;
use crate::error::{Error, Result};
use crate::pipeline::{Event, Stage};
use crate::runtime::exit;

/// Frees `user_data`. The library calls it exactly once, when `user_data` is not needed any more: when its callback is
/// replaced or its object freed, or at once if the callback is NULL or the call that passes it fails. May run on any
/// thread, but never while the callback runs. May free handles; must not throw or `longjmp`. NULL: the host frees
/// `user_data`.
pub type diffbir_free_fn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// Receives log messages; `level` is a `diffbir_log_level`. `message` is valid during the call. May run on any thread,
/// also on several at once. Must not call this library.
pub type diffbir_log_fn =
    Option<unsafe extern "C" fn(level: u32, message: *const c_char, user_data: *mut c_void)>;

/// Receives a request's progress, on the thread that runs it. Returns 0 to stop the request, another value to continue.
/// `progress` is valid during the call. Must not throw or `longjmp`. May call the library, but not run a request or
/// wait for one: that is refused with `INVALID_STATE`.
pub type diffbir_progress_fn = Option<
    unsafe extern "C" fn(progress: *const diffbir_progress, user_data: *mut c_void) -> c_int,
>;

/// Level of a log message.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum diffbir_log_level {
    /// Progress.
    Info = 1,
    /// A result or a run differs from what may be expected.
    Warning = 2,
}

/// Kind of a progress event.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum diffbir_event {
    /// A stage begins: its graph is loaded if necessary, then run.
    StageStarted = 1,
    /// A sampling step is done: `step` of `total`.
    Step = 2,
    /// A tile begins: number `tile` of `tiles`.
    Tile = 3,
    /// A stage is done, after `seconds`.
    StageFinished = 4,
}

/// Progress of a request. A newer library may append fields: check `struct_size` before reading a field that is not in
/// version 1 of the ABI.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct diffbir_progress {
    /// The size of this structure in the library.
    pub struct_size: usize,
    /// A `diffbir_event`; ignore unknown ones.
    pub event: u32,
    /// The finished sampling step, from 1; 0 for other events.
    pub step: u32,
    /// Number of sampling steps; 0 for other events.
    pub total: u32,
    /// The tile that begins, from 1; 0 for other events.
    pub tile: u32,
    /// Number of tiles; 0 for other events.
    pub tiles: u32,
    /// First sample of the current batch, from 0.
    pub first_sample: u32,
    /// Number of samples in the batch; 0 for events other than steps.
    pub sample_count: u32,
    /// `text_encoder`, `cleaner`, `vae_encoder`, `sampling`, `vae_decoder` or `finish`. Valid during the call.
    pub stage: *const c_char,
    /// Seconds since the stage began, for a finished stage; else 0.
    pub seconds: f64,
}

/// The host's user data and its destructor.
struct UserData {
    data: *mut c_void,
    free: diffbir_free_fn,
}

// SAFETY: by the header the functions that get the data may be called from any thread.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

impl Drop for UserData {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            // SAFETY: the host's function with the host's data, called once: every user of the data holds a reference
            // to this.
            unsafe { free(self.data) };
        }
    }
}

/// The host's log function. Calls may overlap; each keeps the data alive.
pub(super) struct Log {
    call: diffbir_log_fn,
    data: Mutex<Option<Arc<UserData>>>,
}

impl Log {
    pub(super) fn new(call: diffbir_log_fn, data: *mut c_void, free: diffbir_free_fn) -> Self {
        let data = Arc::new(UserData { data, free });
        Log {
            call,
            data: Mutex::new(call.is_some().then_some(data)),
        }
    }

    fn data(&self) -> MutexGuard<'_, Option<Arc<UserData>>> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn say(&self, level: diffbir_log_level, message: &str) {
        let user = self.data().clone();
        let (Some(call), Some(user)) = (self.call, user) else {
            return;
        };
        let message = c_string(message);
        // SAFETY: the host's function with the host's data; the message lives until the call returns.
        exit::outside(|| unsafe { call(level as u32, message.as_ptr(), user.data) });
    }

    /// Starts no further call.
    pub(super) fn close(&self) {
        // Freed without the lock: the host's function may call back into this.
        let user = self.data().take();
        drop(user);
    }
}

/// The host's progress function; clones share it.
#[derive(Clone, Default)]
pub(super) struct Progress(Option<Arc<Listener>>);

struct Listener {
    call: unsafe extern "C" fn(*const diffbir_progress, *mut c_void) -> c_int,
    state: Mutex<State>,
    returned: Condvar,
}

struct State {
    /// `None` while the function runs, and after closing.
    user: Option<UserData>,
    /// The thread on which the function runs.
    running: Option<u64>,
    closed: bool,
}

impl Progress {
    pub(super) fn new(call: diffbir_progress_fn, data: *mut c_void, free: diffbir_free_fn) -> Self {
        let user = UserData { data, free };
        let Some(call) = call else {
            return Progress(None);
        };
        Progress(Some(Arc::new(Listener {
            call,
            state: Mutex::new(State {
                user: Some(user),
                running: None,
                closed: false,
            }),
            returned: Condvar::new(),
        })))
    }

    /// Closes it: afterwards the function is not called any more and its data is freed. Waits for a call on another
    /// thread; within the call itself, the data is freed when it returns.
    pub(super) fn close(&self) {
        if let Some(listener) = &self.0 {
            listener.close();
        }
    }

    /// Reports an event to the host; an error if the host stops the request.
    fn report(&self, stage: Stage, mut progress: diffbir_progress) -> Result<()> {
        let Some(listener) = &self.0 else {
            return Ok(());
        };
        let stage = c_string(stage.name());
        progress.stage = stage.as_ptr();
        if listener.report(&progress) {
            Ok(())
        } else {
            Err(Error::cancelled())
        }
    }

    pub(super) fn event(&self, event: &Event<'_>) -> Result<()> {
        let number = |x: usize| u32::try_from(x).unwrap_or(u32::MAX);
        let mut progress = nothing();
        let stage = match *event {
            Event::Started(stage) => {
                progress.event = diffbir_event::StageStarted as u32;
                stage
            }
            Event::Step(samples, step) => {
                progress.event = diffbir_event::Step as u32;
                (progress.step, progress.total) = (number(step.index + 1), number(step.total));
                (progress.first_sample, progress.sample_count) =
                    (number(samples.first), number(samples.count));
                Stage::Sampling
            }
            Event::Tile(stage, tile, tiles) => {
                progress.event = diffbir_event::Tile as u32;
                (progress.tile, progress.tiles) = (number(tile + 1), number(tiles));
                stage
            }
            Event::Finished(stage, seconds) => {
                progress.event = diffbir_event::StageFinished as u32;
                progress.seconds = seconds;
                stage
            }
            Event::Planned(_)
            | Event::Loaded(..)
            | Event::Tensor(..)
            | Event::Picture(..)
            | Event::Checkpoint => {
                return Ok(());
            }
        };
        self.report(stage, progress)
    }
}

impl Listener {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let user = state.user.take();
        let here = exit::thread();
        while state.running.is_some_and(|thread| thread != here) {
            state = self
                .returned
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        // Freed without the lock: the host's function may call back into this.
        drop(state);
        drop(user);
    }

    /// Calls the function; returns whether to continue.
    fn report(&self, progress: &diffbir_progress) -> bool {
        let mut state = self.lock();
        let Some(user) = state.user.take() else {
            return false;
        };
        state.running = Some(exit::thread());
        drop(state);
        // SAFETY: the host's function with the host's data; the progress lives until the call returns.
        let goes_on = exit::outside(|| unsafe { (self.call)(progress, user.data) }) != 0;
        let mut state = self.lock();
        if state.closed {
            drop(state);
            drop(user);
            state = self.lock();
        } else {
            state.user = Some(user);
        }
        state.running = None;
        drop(state);
        self.returned.notify_all();
        goes_on
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
