//! The functions of requests.

use std::os::raw::{c_char, c_void};
use std::sync::Arc;
use std::time::Duration;

use super::boundary::{Failure, expect_place, give, guard, guard_or, path, slice};
use super::callbacks::{Progress, diffbir_free_fn, diffbir_progress_fn};
use super::cancel::diffbir_cancel;
use super::engine::diffbir_engine;
use super::error::diffbir_error;
use super::growing;
use super::handles;
use super::image::diffbir_image;
use super::pixels::Pixels;
use super::strings::give_string;
use super::structs::{diffbir_options, diffbir_pixels};
use super::work::{RequestObject, Work, configured, diffbir_request};
use crate::imageio::Picture;
use crate::service::Source;

/// Creates a request for `engine`. Free it with `diffbir_request_free`.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_new(
    engine: *const diffbir_engine,
    out: *mut *mut diffbir_request,
) -> *mut diffbir_error {
    guard(|| {
        expect_place("out", out)?;
        let engine = handles::get(engine)?;
        let work = Work::new(None, engine.service.config.clone());
        give(
            "out",
            out,
            handles::insert_shared(RequestObject::new(engine, work)),
        )
    })
}

/// Frees a request; a running one is stopped. Waits for a progress callback on another thread, so hold no lock that it
/// takes: when this returns, the callback does not run any more and its `free_fn` has been called. Within the callback
/// itself, `free_fn` is called when the callback returns. Images taken from the request stay valid. NULL and freed
/// handles are ignored.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_free(request: *mut diffbir_request) {
    guard_or((), || {
        if let Some(request) = handles::remove(request) {
            request.free();
        }
        Ok(())
    });
}

/// Sets a file as the input, read when the request runs; the format is detected from its contents. A file `NAME.txt` in
/// the same folder is its caption, unless `input.captions` is false. `path` is copied.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_set_file(
    request: *mut diffbir_request,
    path: *const c_char,
) -> *mut diffbir_error {
    guard(|| {
        let input = Source::File(self::path("path", path)?);
        handles::get(request)?.change(|work| work.input = Some(input))
    })
}

/// Sets the bytes of a picture file as the input. They are copied.
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
        request.change(|work| work.input = Some(Source::Bytes(bytes.into())))
    })
}

/// Sets pixels as the input. They are copied. The networks receive the colours only; the result has the input's alpha,
/// resized. Colours of fully transparent pixels are first filled in from their neighbours.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_set_pixels(
    request: *mut diffbir_request,
    pixels: *const diffbir_pixels,
) -> *mut diffbir_error {
    guard(|| {
        let request = handles::get(request)?;
        let (colors, alpha) = Pixels::of("pixels", pixels)?.read();
        let picture = Arc::new(Picture::of_pixels(colors, alpha));
        request.change(|work| work.input = Some(Source::Picture(picture)))
    })
}

/// Sets the options. NULL, as for a new request: the engine's configuration. Invalid options are refused here, before
/// any work.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_set_options(
    request: *mut diffbir_request,
    options: *const diffbir_options,
) -> *mut diffbir_error {
    guard(|| {
        let request = handles::get(request)?;
        let config = configured(&request.engine, &growing::read(options)?)?;
        request.change(|work| work.config = config)
    })
}

/// Sets the progress callback; NULL: none. `user_data` is passed to `progress` and freed by `free_fn`, which may be
/// NULL; see `diffbir_free_fn`.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_set_progress(
    request: *mut diffbir_request,
    progress: diffbir_progress_fn,
    user_data: *mut c_void,
    free_fn: diffbir_free_fn,
) -> *mut diffbir_error {
    guard(|| {
        let progress = Progress::new(progress, user_data, free_fn);
        let request = handles::get(request)?;
        let before = request.change(|work| std::mem::replace(&mut work.progress, progress))?;
        before.close();
        Ok(())
    })
}

/// Sets the cancellation handle; NULL: none. The handle may be freed before the request.
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

/// Restores the picture on the calling thread and returns when it is done. On success (NULL) the result can be taken. A
/// request may be run again, also with another input or other options.
///
/// Errors: `INPUT` for the picture, `RUNTIME`, `RESOURCES`, `CANCELLED`; `INVALID_STATE` for a request that is running
/// or has no input.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_run(request: *mut diffbir_request) -> *mut diffbir_error {
    guard(|| handles::get(request)?.run())
}

/// Appends the request to the engine's queue and returns at once. Requests run in order on the engine's threads; one
/// that is stopped while waiting ends when its turn comes.
///
/// Errors: `BUSY` if the queue is full; `INVALID_STATE` as for `diffbir_request_run`.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_submit(request: *mut diffbir_request) -> *mut diffbir_error {
    guard(|| handles::get(request)?.submit())
}

/// Stops a running or waiting request, as `diffbir_cancel_trigger` does, without waiting for its end
/// (`diffbir_request_wait`). No effect on others. May be called from any thread.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_stop(request: *const diffbir_request) -> *mut diffbir_error {
    guard(|| {
        handles::get(request)?.stop();
        Ok(())
    })
}

/// Sets `*done` to 1 if a submitted request has ended, else to 0; `done` may be NULL. Returns the request's error if it
/// has failed, with `*done` 1. May be called from any thread.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_poll(
    request: *const diffbir_request,
    done: *mut bool,
) -> *mut diffbir_error {
    diffbir_request_wait(request, 0, done)
}

/// Waits until a submitted request has ended, at most `timeout_ms` milliseconds (`DIFFBIR_FOREVER`: without limit).
/// Sets `*done` to 1 if it has ended, else to 0; `done` may be NULL. Returns the request's error if it has failed, with
/// `*done` 1. May be called from any thread; in a progress callback it returns `INVALID_STATE`, unless the request has
/// ended or the timeout is 0.
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
        let ended = request.wait(timeout)?;
        if !done.is_null() {
            give("done", done, ended.is_some())?;
        }
        ended.unwrap_or(Ok(()))
    })
}

/// Number of samples of the result; 0 without a result.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_sample_count(request: *const diffbir_request) -> usize {
    guard_or(0, || Ok(handles::get(request)?.finished()?.samples.len()))
}

/// Returns sample `sample`, from 0, of the result. Free it with `diffbir_image_free`; it may outlive request and
/// engine. A second call returns another handle of the same picture, without copying.
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

/// Provenance of the result as JSON: engine, bundle, provider and precision of each graph, every option. The caller
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
