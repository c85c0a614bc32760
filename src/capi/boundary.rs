//! The boundary to C: panics and errors become `diffbir_error`, and the caller's arguments are checked.

use std::any::Any;
use std::ffi::CStr;
use std::os::raw::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::ptr;

use super::error::{ErrorObject, diffbir_code, diffbir_error};
use super::handles;
use crate::error::{Error, ErrorKind};

/// An error before it becomes a `diffbir_error`.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) code: diffbir_code,
    pub(super) message: String,
    pub(super) cause: Option<String>,
    pub(super) smallest_budget: u64,
}

pub(super) type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub(super) fn new(code: diffbir_code, message: impl Into<String>) -> Self {
        Failure {
            code,
            message: message.into(),
            cause: None,
            smallest_budget: 0,
        }
    }

    /// A violation of the header's rules by the caller.
    pub(super) fn argument(message: impl Into<String>) -> Self {
        Failure::new(diffbir_code::InvalidArgument, message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::Input => diffbir_code::Input,
            ErrorKind::Option => diffbir_code::Option,
            ErrorKind::Config => diffbir_code::Config,
            ErrorKind::Bundle => diffbir_code::Bundle,
            ErrorKind::Runtime => diffbir_code::Runtime,
            ErrorKind::Resources => diffbir_code::Resources,
            ErrorKind::NotFinite => diffbir_code::NotFinite,
            ErrorKind::Cancelled => diffbir_code::Cancelled,
            ErrorKind::Internal => diffbir_code::Internal,
        };
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        Failure {
            code,
            message: error.to_string(),
            cause,
            smallest_budget: error.smallest_budget().unwrap_or(0),
        }
    }
}

/// Runs `body`; returns NULL on success, else an error that the caller owns.
pub(super) fn guard(body: impl FnOnce() -> Outcome<()>) -> *mut diffbir_error {
    match caught(body) {
        Ok(()) => ptr::null_mut(),
        Err(failure) => handles::insert(ErrorObject::new(failure)),
    }
}

/// Runs `body` for an entry point that cannot return an error; returns `fallback` on failure.
pub(super) fn guard_or<T>(fallback: T, body: impl FnOnce() -> Outcome<T>) -> T {
    caught(body).unwrap_or(fallback)
}

/// Runs `body`; turns a panic into a failure.
pub(super) fn caught<T>(body: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    // The body owns the data it changes, or changes it behind a lock whose poisoning is ignored: no broken state is
    // observed after a panic.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let said = message_of(panic.as_ref());
        Err(Failure::new(
            diffbir_code::Panic,
            format!("a defect of the library: it panicked: {said}"),
        ))
    })
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// A string of the caller; NULL is refused.
pub(super) fn text(what: &str, string: *const c_char) -> Outcome<String> {
    optional_text(what, string)?.ok_or_else(|| Failure::argument(format!("{what} is NULL")))
}

/// A string of the caller; `None` for NULL.
pub(super) fn optional_text(what: &str, string: *const c_char) -> Outcome<Option<String>> {
    if string.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, so by the header a string that ends in NUL and stays as it is during the call.
    let string = unsafe { CStr::from_ptr(string) };
    let text = string
        .to_str()
        .map_err(|_| Failure::argument(format!("{what} is not valid UTF-8")))?;
    Ok(Some(text.to_owned()))
}

/// A path of the caller: any bytes on Unix.
pub(super) fn path(what: &str, string: *const c_char) -> Outcome<PathBuf> {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        if string.is_null() {
            return Err(Failure::argument(format!("{what} is NULL")));
        }
        // SAFETY: not NULL, so by the header a string that ends in NUL and stays as it is during the call.
        let bytes = unsafe { CStr::from_ptr(string) }.to_bytes();
        Ok(PathBuf::from(std::ffi::OsStr::from_bytes(bytes)))
    }
    #[cfg(not(unix))]
    text(what, string).map(PathBuf::from)
}

/// As [`path`]; `None` for NULL.
pub(super) fn optional_path(what: &str, string: *const c_char) -> Outcome<Option<PathBuf>> {
    match string.is_null() {
        true => Ok(None),
        false => path(what, string).map(Some),
    }
}

/// Refuses a NULL output pointer.
pub(super) fn expect_place<T>(what: &str, place: *mut T) -> Outcome<()> {
    match place.is_null() {
        true => Err(Failure::argument(format!("{what} is NULL"))),
        false => Ok(()),
    }
}

/// Writes a result through the caller's output pointer.
pub(super) fn give<T>(what: &str, place: *mut T, value: T) -> Outcome<()> {
    expect_place(what, place)?;
    // SAFETY: not NULL, so by the header it points to memory for one T, not accessed by others during the call.
    unsafe { place.write(value) };
    Ok(())
}

/// `count` values of the caller; empty for NULL with a count of 0.
pub(super) fn slice<'a, T>(what: &str, values: *const T, count: usize) -> Outcome<&'a [T]> {
    match (values.is_null(), count) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Failure::argument(format!(
            "{what} is NULL with a count of {count}"
        ))),
        // No object is larger.
        (false, _) if count > isize::MAX as usize / size_of::<T>().max(1) => Err(
            Failure::argument(format!("{what}: a count of {count} is too large")),
        ),
        // SAFETY: not NULL, so by the header `count` values that stay as they are during the call.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(values, count) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failure_with_its_message() {
        let failure = caught::<()>(|| panic!("number {}", 7)).unwrap_err();
        assert_eq!(failure.code, diffbir_code::Panic);
        assert!(failure.message.contains("number 7"), "{}", failure.message);
        assert!(guard_or(true, || panic!("plain")));
    }

    #[test]
    fn every_kind_has_a_code_of_its_own() {
        let kinds = [
            ErrorKind::Input,
            ErrorKind::Option,
            ErrorKind::Config,
            ErrorKind::Bundle,
            ErrorKind::Runtime,
            ErrorKind::Resources,
            ErrorKind::Cancelled,
            ErrorKind::Internal,
        ];
        let codes = kinds.map(|kind| Failure::from(Error::new(kind, "x")).code as u32);
        let mut unique = codes.to_vec();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), kinds.len());
    }
}
