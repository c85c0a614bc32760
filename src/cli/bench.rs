//! `diffbir bench`: times of stages, and memory of runs and graphs.
//!
//! Times are measured in this process after loading. Memory is measured in a child process each, since allocators do
//! not return all memory.

mod graphs;
mod picture;
mod sizes;
mod tensors;
mod times;
mod watch;

use std::io::Write;
use std::process::Command;

use crate::bundle::Bundle;
use crate::cancel::Cancel;
use crate::cli::args::Bench;
use crate::cli::report::Reporter;
use crate::cli::say;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::options::PixelSize;
use crate::service::{Opened, Silent, startup};

/// Runs the command.
///
/// # Errors
/// A bundle or a runtime that cannot be used, a measurement that fails.
pub fn run(args: &Bench, cancel: &Cancel, reporter: &Reporter) -> anyhow::Result<()> {
    let opened = Opened::open_or_demo(args.layers()?, reporter)?;
    if let Some(one) = &args.measure {
        return Ok(measure(opened, one)?);
    }
    match (args.graphs, args.memory) {
        (true, _) => {
            startup::verify(&opened.bundle, args.engine.bundle.verify, reporter)?;
            graphs::run(args, &opened.config, &opened.bundle, reporter)?;
        }
        (_, true) => {
            startup::verify(&opened.bundle, args.engine.bundle.verify, reporter)?;
            sizes::run(args, &opened.config, &opened.bundle, reporter)?;
        }
        _ => {
            let service = opened.start(args.engine.bundle.verify, reporter)?;
            times::run(args, &service, cancel, reporter)?;
        }
    }
    Ok(())
}

/// Measures `what` in a child process.
fn child<T: serde::de::DeserializeOwned>(
    config: &Config,
    bundle: &Bundle,
    what: &str,
) -> Result<T> {
    let failed = |e: &dyn std::fmt::Display| Error::runtime(format!("measuring {what}: {e}"));
    let program = std::env::current_exe().map_err(|e| failed(&e))?;
    let mut command = Command::new(program);
    command
        .arg("bench")
        .arg("--bundle")
        .arg(bundle.dir())
        .args(["--measure", what]);
    let config = config.to_yaml()?;
    let mut file = tempfile::NamedTempFile::with_suffix(".yaml").map_err(|e| failed(&e))?;
    file.write_all(config.as_bytes()).map_err(|e| failed(&e))?;
    command.arg("--config").arg(file.path());
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|e| failed(&e))?;
    if !output.status.success() {
        return Err(failed(&output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| failed(&e))
}

/// In a child process: does one measurement and prints it.
fn measure(opened: Opened, what: &str) -> Result<()> {
    let wrong = || {
        Error::option(format!(
            "--measure {what}: expected GRAPH=EDGE or restore=WxH"
        ))
    };
    let (what, size) = what.split_once('=').ok_or_else(wrong)?;
    let size: PixelSize = size.parse().map_err(|_| wrong())?;
    let Opened { bundle, config, .. } = opened;
    startup::load(&config.runtime, &Silent)?;
    let value = match what {
        "restore" => serde_json::to_value(sizes::measure(bundle, &config, size)?),
        graph => serde_json::to_value(graphs::measure(&bundle, &config, graph, size.0)?),
    };
    let value = value.map_err(|e| Error::internal("a figure cannot be written").with_source(e))?;
    say::print(&format!("{value}\n"))
}
