//! Runs that cancellation ends while ONNX Runtime is in the graph.

use std::sync::Arc;

use ort::session::RunOptions;

use crate::cancel::Cancel;

/// Runs with `options`; `cancel` ends the run, which then returns an error.
pub(super) fn stoppable<T>(
    (options, cancel): (&Arc<RunOptions>, &Cancel),
    run: impl FnOnce(&RunOptions) -> ort::Result<T>,
) -> ort::Result<T> {
    // An earlier run may have been ended.
    options.unterminate()?;
    let running = options.clone();
    // If ONNX Runtime refuses, the run ends when it is done.
    let _hook = cancel.on_cancel(move || drop(running.terminate()));
    run(options)
}
