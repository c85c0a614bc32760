//! The program `diffbir`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // SAFETY: the first statement of the program, so no other thread runs.
    unsafe { diffbir::runtime::telemetry::disable() };
    diffbir::cli::run()
}
