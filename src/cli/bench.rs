//! `diffbir bench`: what graphs and whole runs take of memory and time.
//!
//! Every figure is measured in a process of its own, since allocators keep what they once had.

mod graphs;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::bundle::Bundle;
use crate::cli::args::{Bench, Size};
use crate::cli::report::Reporter;
use crate::cli::setup::{self, Setup};
use crate::config::Config;
use crate::engine::{Engine, Request};
use crate::error::{Error, Result};
use crate::imageio::Rgb;
use crate::memory::{self, Bytes};
use crate::pipeline::Event;

/// Runs the command.
///
/// # Errors
/// A bundle or a runtime that cannot be used, a measurement that fails.
pub fn run(args: &Bench, reporter: &Reporter) -> Result<()> {
    if let Some(one) = &args.measure {
        return measure(args, one);
    }
    let fallback = Some(Path::new("onnx/demo").to_owned());
    let Setup { config, bundle } = setup::prepare(&args.common, fallback)?;
    setup::verify(&bundle, false, &mut |message| reporter.note(&message))?;
    setup::ensure_runtime(&config, &mut |message| reporter.note(&message))?;
    if args.graphs {
        return graphs::run(args, &config, &bundle, reporter);
    }
    sizes(args, &config, &bundle, reporter)
}

/// Measures whole restorations of several sizes.
fn sizes(args: &Bench, config: &Config, bundle: &Bundle, reporter: &Reporter) -> Result<()> {
    for &Size(height, width) in &args.sizes {
        let point = child::<RunPoint>(config, bundle, &format!("restore={width}x{height}"))?;
        let all =
            |of: fn(&StagePoint) -> u64| Bytes(point.stages.values().map(of).max().unwrap_or(0));
        let seconds = point
            .stages
            .values()
            .map(|stage| stage.seconds)
            .sum::<f64>();
        let mut text = format!(
            "{width}x{height}: at most {}, planned {}; {seconds:.1} s",
            all(|stage| stage.peak),
            all(|stage| stage.planned)
        );
        for (name, stage) in &point.stages {
            text.push_str(&format!(
                "\n  {name:12} {:>9} of {:>9} {:8.1} s",
                Bytes(stage.peak).to_string(),
                Bytes(stage.planned).to_string(),
                stage.seconds
            ));
        }
        let record = json!({ "event": "run", "width": width, "height": height, "run": point });
        reporter.picture(&record, &text);
    }
    Ok(())
}

/// One measurement of a restoration: each stage by its name.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct RunPoint {
    stages: BTreeMap<String, StagePoint>,
}

/// A stage of it: bytes that the process held at most meanwhile, those that were planned, and seconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StagePoint {
    peak: u64,
    planned: u64,
    seconds: f64,
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
        "restore" => serde_json::to_value(restoration(bundle, &config, size)?),
        graph => serde_json::to_value(graphs::measure(&bundle, &config, graph, size.0)?),
    };
    let value = value.map_err(|e| Error::internal("a figure cannot be written").with_source(e))?;
    println!("{value}");
    Ok(())
}

/// Restores a picture to `size`.
fn restoration(bundle: Bundle, config: &Config, Size(height, width): Size) -> Result<RunPoint> {
    let options = config.options();
    let engine = Engine::open(bundle, setup::runtime_options(config)?);
    // Waves of several lengths: a picture with structure, from nothing.
    let wave = |x: usize, length: f32| (x as f32 / length).sin();
    let input = |length: usize| ((length as f64 / options.restore.upscale) as usize).max(1);
    let lq = Rgb::from_shape_fn((input(height), input(width), 3), |(y, x, c)| {
        let value = wave(x, 9.0 + c as f32) + wave(y, 23.0) + wave(x + y, 140.0);
        (127.0 + 40.0 * value) as u8
    });
    let mut measured = Vec::new();
    let restored = engine.restore(&Request::new(lq, options), &mut |event| {
        match event {
            Event::Started(_) => memory::forget_peak(),
            Event::Finished(stage, seconds) => {
                measured.push((stage, seconds, memory::peak().unwrap_or(0)));
            }
            _ => {}
        }
        Ok(())
    })?;
    let planned = &restored.plan.stages;
    let stages = measured.into_iter().map(|(stage, seconds, peak)| {
        let planned = planned.get(&stage).map_or(0, |bytes| bytes.0);
        let point = StagePoint {
            peak,
            planned,
            seconds,
        };
        (stage.name().to_owned(), point)
    });
    Ok(RunPoint {
        stages: stages.collect(),
    })
}
