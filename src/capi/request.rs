//! Requests, as the host sees them: from new to done, on the caller's thread or on the engine's.

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

/// Makes a request for `engine`. Free it with `diffbir_request_free`.
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

/// Frees a request; one that is at work is stopped and ends by itself. When the call returns, the progress function does
/// not run and is not called any more, and its `free_fn` has been called: a call of it on another thread is waited for,
/// so hold no lock that it takes. In that function itself, `free_fn` is called when it returns. Images that were taken
/// from the request stay. NULL and freed handles are ignored.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_free(request: *mut diffbir_request) {
    guard_or((), || {
        if let Some(request) = handles::remove(request) {
            request.free();
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
        let input = Source::File(self::path("path", path)?);
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
        request.change(|work| work.input = Some(Source::Bytes(bytes.into())))
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
        let (colors, alpha) = Pixels::of("pixels", pixels)?.read();
        let picture = Arc::new(Picture::of_pixels(colors, alpha));
        request.change(|work| work.input = Some(Source::Picture(picture)))
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
        let config = configured(&request.engine, &growing::read(options)?)?;
        request.change(|work| work.config = config)
    })
}

/// Sets the function that receives progress; NULL: none. `user_data` is passed to `progress` and freed by `free_fn`, which
/// may be NULL; see `diffbir_free_fn`.
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
    guard(|| handles::get(request)?.run())
}

/// Puts the request into the engine's queue and returns at once. The engine's thread runs it when its turn comes; one
/// that is stopped while it waits ends when its turn comes.
///
/// Errors: `BUSY` where the queue is full; `INVALID_STATE`.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_submit(request: *mut diffbir_request) -> *mut diffbir_error {
    guard(|| handles::get(request)?.submit())
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

/// Whether a submitted request is done: `*done` becomes 1 or 0; `done` may be NULL. Returns the request's own error
/// once it has failed, with `*done` 1. From any thread.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_request_poll(
    request: *const diffbir_request,
    done: *mut bool,
) -> *mut diffbir_error {
    diffbir_request_wait(request, 0, done)
}

/// Waits until a submitted request is done, `timeout_ms` milliseconds at most, `DIFFBIR_FOREVER` for as long as it
/// takes. `*done` becomes 1 or 0; `done` may be NULL. Returns the request's own error once it has failed, with
/// `*done` 1. From any thread; `INVALID_STATE` in a progress function, unless the request is done or the timeout 0.
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
