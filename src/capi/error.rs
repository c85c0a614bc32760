//! Error objects and their codes.

use std::ffi::CString;
use std::os::raw::c_char;
use std::ptr;

use super::boundary::{Failure, guard_or};
use super::handles;
use super::strings::c_string;

/// Error codes, by who can fix the error. A code is never reused; a retired one stays here as a comment.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum diffbir_code {
    /// Success: the code of NULL.
    Ok = 0,
    /// A picture that cannot be read, or a result that cannot be written.
    Input = 1,
    /// An option that is not accepted or not served by the bundle.
    Option = 2,
    /// A configuration that is not valid.
    Config = 3,
    /// A bundle that is damaged, incomplete or of another format.
    Bundle = 4,
    /// ONNX Runtime or an execution provider is missing or failed.
    Runtime = 5,
    /// The work does not fit the machine's memory.
    Resources = 6,
    /// The request was cancelled.
    Cancelled = 7,
    /// A defect of the library.
    Internal = 8,
    /// A call that breaks a rule of this header: NULL, a freed handle, a wrong size, an unknown value.
    InvalidArgument = 9,
    /// A call that does not fit the object's state, such as asking a request for a result before it has one.
    InvalidState = 10,
    /// The host was compiled against a newer header than this library's.
    Abi = 11,
    /// The engine's queue is full.
    Busy = 12,
    /// A defect of the library: it panicked. The engine remains usable.
    Panic = 13,
    /// Values became infinite or NaN during restoration: an option far out of range, or a graph that overflows.
    NotFinite = 14,
}

/// An error; NULL means success. Immutable, hence thread-safe.
pub struct diffbir_error {
    _private: [u8; 0],
}

handle!(diffbir_error => ErrorObject);

/// The object behind a `diffbir_error`.
pub struct ErrorObject {
    code: diffbir_code,
    message: CString,
    cause: Option<CString>,
    smallest_budget: u64,
}

impl ErrorObject {
    pub(super) fn new(failure: Failure) -> Self {
        ErrorObject {
            code: failure.code,
            message: c_string(&failure.message),
            cause: failure.cause.as_deref().map(c_string),
            smallest_budget: failure.smallest_budget,
        }
    }
}

/// The error's code; `DIFFBIR_CODE_OK` for NULL, `DIFFBIR_CODE_INVALID_ARGUMENT` for a freed handle.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_error_code(error: *const diffbir_error) -> diffbir_code {
    if error.is_null() {
        return diffbir_code::Ok;
    }
    guard_or(diffbir_code::InvalidArgument, || {
        Ok(handles::get(error)?.code)
    })
}

/// The message, including the cause and the remedy, in UTF-8 on one line. Valid until the error is freed; NULL for NULL
/// and for a freed handle.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_error_message(error: *const diffbir_error) -> *const c_char {
    guard_or(ptr::null(), || Ok(handles::get(error)?.message.as_ptr()))
}

/// The cause alone, such as the operating system's message. Valid until the error is freed; NULL if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_error_cause(error: *const diffbir_error) -> *const c_char {
    guard_or(ptr::null(), || {
        let error = handles::get(error)?;
        Ok(error
            .cause
            .as_ref()
            .map_or(ptr::null(), |cause| cause.as_ptr()))
    })
}

/// For an error with `DIFFBIR_CODE_RESOURCES` because a picture does not fit the memory: the smallest sufficient memory
/// budget (`tiling.memory_budget`) in bytes. 0 for every other error, NULL and freed handles.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_error_smallest_budget(error: *const diffbir_error) -> u64 {
    guard_or(0, || Ok(handles::get(error)?.smallest_budget))
}

/// Frees an error. NULL and freed handles are ignored.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_error_free(error: *mut diffbir_error) {
    guard_or((), || {
        drop(handles::remove(error));
        Ok(())
    });
}
