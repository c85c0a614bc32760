//! Handles to stop requests.

use super::boundary::{expect_place, give, guard, guard_or};
use super::error::diffbir_error;
use super::handles;
use crate::cancel::Cancel;

/// A way to stop requests from any thread. Thread-safe.
pub struct diffbir_cancel {
    _private: [u8; 0],
}

handle!(diffbir_cancel => CancelObject);

/// What is behind a `diffbir_cancel`.
pub struct CancelObject(pub(super) Cancel);

/// Makes a handle to stop requests with. Give it to as many requests as you like with `diffbir_request_set_cancel`;
/// free it with `diffbir_cancel_free`, also while they run.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_cancel_new(out: *mut *mut diffbir_cancel) -> *mut diffbir_error {
    guard(|| {
        expect_place("out", out)?;
        give("out", out, handles::insert(CancelObject(Cancel::default())))
    })
}

/// Asks every request that was given `cancel` to stop: one that runs ends with `DIFFBIR_CODE_CANCELLED` after the
/// sampling step or the graph that is running, one that starts later ends at once. From any thread, also from a
/// callback. There is no way back.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_cancel_trigger(cancel: *const diffbir_cancel) -> *mut diffbir_error {
    guard(|| {
        handles::get(cancel)?.0.cancel();
        Ok(())
    })
}

/// Whether somebody asked to stop; false for NULL and freed handles.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_cancel_is_triggered(cancel: *const diffbir_cancel) -> bool {
    guard_or(false, || Ok(handles::get(cancel)?.0.is_cancelled()))
}

/// Frees the handle; requests that were given it stay as they are. NULL and freed handles are ignored.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_cancel_free(cancel: *mut diffbir_cancel) {
    guard_or((), || {
        drop(handles::remove(cancel));
        Ok(())
    });
}
