//! `diffbir bench`: how long the stages take, and what runs and graphs take of memory.
//!
//! Times are those of this process once all is loaded. Figures of memory are each measured in a process of its own, since
//! allocators keep what they once had.

mod graphs;
mod picture;
mod sizes;
mod tensors;
mod times;
mod watch;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::bundle::Bundle;
use crate::cancel::Cancel;
use crate::cli::args::{Bench, Size};
use crate::cli::report::Reporter;
use crate::cli::setup::{self, Setup};
use crate::config::Config;
use crate::error::{Error, Result};

/// Runs the command.
///
/// # Errors
/// A bundle or a runtime that cannot be used, a measurement that fails.
pub fn run(args: &Bench, cancel: &Cancel, reporter: &Reporter) -> Result<()> {
    if let Some(one) = &args.measure {
        return measure(args, one);
    }
    let fallback = Some(Path::new("onnx/demo").to_owned());
    let Setup { config, bundle } = setup::prepare(&args.common, fallback)?;
    let mut say = |message: String| reporter.note(&message);
    setup::verify(&bundle, args.common.verify, &mut say)?;
    let loaded = setup::ensure_runtime(&config, &mut say)?;
    match (args.graphs, args.memory) {
        (true, _) => graphs::run(args, &config, &bundle, reporter),
        (_, true) => sizes::run(args, &config, &bundle, reporter),
        _ => times::run(args, &config, bundle, loaded, cancel, reporter),
    }
}

/// Measures `what` in a process of its own.
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
    let config = serde_yaml::to_string(config).map_err(|e| failed(&e))?;
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

/// In a child: measures one thing and prints it.
fn measure(args: &Bench, what: &str) -> Result<()> {
    let wrong = || {
        Error::option(format!(
            "--measure {what}: expected GRAPH=EDGE or restore=WxH"
        ))
    };
    let (what, size) = what.split_once('=').ok_or_else(wrong)?;
    let size: Size = size.parse().map_err(|_| wrong())?;
    let Setup { config, bundle } = setup::prepare(&args.common, None)?;
    setup::ensure_runtime(&config, &mut |_| {})?;
    let value = match what {
        "restore" => serde_json::to_value(sizes::measure(bundle, &config, size)?),
        graph => serde_json::to_value(graphs::measure(&bundle, &config, graph, size.0)?),
    };
    let value = value.map_err(|e| Error::internal("a figure cannot be written").with_source(e))?;
    println!("{value}");
    Ok(())
}
