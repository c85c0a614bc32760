//! Memory and time of restorations of several sizes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{child, picture};
use crate::bundle::Bundle;
use crate::cli::args::Bench;
use crate::cli::report::Reporter;
use crate::config::Config;
use crate::engine::Engine;
use crate::error::Result;
use crate::memory::{self, Bytes};
use crate::options::PixelSize;
use crate::pipeline::Event;

/// Measures whole restorations of several sizes.
pub(super) fn run(
    args: &Bench,
    config: &Config,
    bundle: &Bundle,
    reporter: &Reporter,
) -> Result<()> {
    for &PixelSize(height, width) in &args.sizes {
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
        reporter.result(&record, &text)?;
    }
    Ok(())
}

/// One measurement of a restoration: each stage by its name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RunPoint {
    stages: BTreeMap<String, StagePoint>,
}

/// A stage: peak bytes of the process, planned bytes, and seconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StagePoint {
    peak: u64,
    planned: u64,
    seconds: f64,
}

/// In a child process: restores a picture to `size`.
pub(super) fn measure(bundle: Bundle, config: &Config, size: PixelSize) -> Result<RunPoint> {
    let engine = Engine::open(bundle, config.runtime.clone());
    let request = picture::request(size, &config.options);
    let mut measured = Vec::new();
    let restored = engine.restore(&request, &mut |event| {
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
