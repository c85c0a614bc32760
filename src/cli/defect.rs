//! Panics, which are defects of the program: each becomes one line and exit code 70.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};

use super::say;
use crate::error::{Error, Result};

thread_local! {
    /// Message and location of this thread's last panic.
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Stores panics for [`caught`] instead of printing them; prints backtraces if `RUST_BACKTRACE` is set.
pub(super) fn listen() {
    set_hook(Box::new(|panic| {
        LAST.set(Some(describe(panic)));
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            trace.to_string().lines().for_each(say::error);
        }
    }));
}

/// `MESSAGE (FILE:LINE)` on one line.
fn describe(panic: &PanicHookInfo<'_>) -> String {
    let message = panic.payload_as_str().unwrap_or("no message");
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match panic.location() {
        Some(place) => format!("{message} ({}:{})", place.file(), place.line()),
        None => message,
    }
}

/// Runs `work`; turns a panic into an error.
///
/// # Errors
/// Those of `work`; [`Internal`](crate::error::ErrorKind::Internal) if it panics.
pub(super) fn caught<T, E: From<Error>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let last = LAST.take();
        let last = last.as_deref().unwrap_or("a panic in another thread");
        let message = format!(
            "a defect of the program: {last}; please report it with the command that you gave"
        );
        Err(Error::internal(message).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_panic_is_an_error_of_one_line() {
        listen();
        let error = caught::<(), Error>(|| panic!("index\nis {}", 7)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        let text = error.to_string();
        for part in [
            "a defect of the program: index is 7 (",
            "defect.rs:",
            "please report",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(text.lines().count(), 1);
        assert_eq!(caught::<_, Error>(|| Ok(3)).unwrap(), 3);
    }
}
