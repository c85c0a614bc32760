//! ONNX Runtime's telemetry: published builds from 1.32 on report to their vendor, unless an environment variable
//! disables it before the library is loaded. Disabling it through the API is too late: a report has been stored by
//! then.

/// The environment variable that ONNX Runtime reads while it is loaded.
pub const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

/// Whether the user enabled it by `ORT_DISABLE_TELEMETRY=0`, the only value that does.
pub fn is_enabled() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|value| value == "0")
}

/// Disables telemetry for this process, unless the user enabled it. Call this before the library is loaded. If the
/// variable is already 1, the environment is not modified.
///
/// # Safety
/// No other thread may read or write the environment meanwhile except through `std::env`. This holds at the start of
/// `main`; a library has to rely on its host.
pub unsafe fn disable() {
    let is_settled = std::env::var_os(VARIABLE).is_some_and(|value| value == "0" || value == "1");
    if !is_settled {
        // SAFETY: the caller guarantees what `set_var` requires.
        unsafe { std::env::set_var(VARIABLE, "1") };
    }
}
