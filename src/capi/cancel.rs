//! Handles to stop requests.

use super::boundary::{expect_place, give, guard, guard_or};
use super::error::diffbir_error;
use super::handles;
use crate::cancel::Cancel;

/// A cancellation handle. Thread-safe.
pub struct diffbir_cancel {
    _private: [u8; 0],
}

handle!(diffbir_cancel => CancelObject);

/// The object behind a `diffbir_cancel`.
pub struct CancelObject(pub(super) Cancel);

/// Creates a cancellation handle. Pass it to any number of requests with `diffbir_request_set_cancel`; free it with
/// `diffbir_cancel_free`, also while they run.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_cancel_new(out: *mut *mut diffbir_cancel) -> *mut diffbir_error {
    guard(|| {
        expect_place("out", out)?;
        give("out", out, handles::insert(CancelObject(Cancel::default())))
    })
}

/// Stops every request with this handle: a running one ends with `DIFFBIR_CODE_CANCELLED` soon, also within a graph
/// that runs on the CPU, one that starts later ends at once. May be called from any thread and from callbacks. Cannot be
/// undone.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_cancel_trigger(cancel: *const diffbir_cancel) -> *mut diffbir_error {
    guard(|| {
        handles::get(cancel)?.0.cancel();
        Ok(())
    })
}

/// Whether `diffbir_cancel_trigger` was called; false for NULL and freed handles.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_cancel_is_triggered(cancel: *const diffbir_cancel) -> bool {
    guard_or(false, || Ok(handles::get(cancel)?.0.is_cancelled()))
}

/// Frees the handle; its requests are not affected. NULL and freed handles are ignored.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_cancel_free(cancel: *mut diffbir_cancel) {
    guard_or((), || {
        drop(handles::remove(cancel));
        Ok(())
    });
}
