//! ONNX Runtime's telemetry: the published builds from 1.32 on report to their vendor, unless the environment says not to
//! before the library is loaded. Switching it off through the API comes too late: a report is stored by then.

/// The environment variable that ONNX Runtime reads while it is loaded.
pub const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

/// Whether the user left it on, by `ORT_DISABLE_TELEMETRY=0`. No other value does.
pub fn is_enabled() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|value| value == "0")
}

/// Switches it off for this process, unless the user left it on. To be called before the library is loaded; where the
/// variable is set to 1 already, the environment is not touched.
///
/// # Safety
/// No other thread may read or write the environment meanwhile except through [`mod@std::env`]. That is so at the start of
/// `main`; a library relies on its host.
pub unsafe fn disable() {
    let is_settled = std::env::var_os(VARIABLE).is_some_and(|value| value == "0" || value == "1");
    if !is_settled {
        // SAFETY: the caller's promise is what `set_var` asks for.
        unsafe { std::env::set_var(VARIABLE, "1") };
    }
}
