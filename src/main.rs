//! The program `diffbir`.

use std::process::ExitCode;

fn main() -> ExitCode {
    diffbir::cli::run()
}
