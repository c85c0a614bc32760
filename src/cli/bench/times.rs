//! Times of each stage and of the whole, after loading.

use std::collections::BTreeSet;
use std::io::BufRead;

use serde::Serialize;
use serde_json::{Value, json};

use super::watch::{Run, Spread, Watch};
use super::{picture, tensors::Tensors};
use crate::cancel::Cancel;
use crate::cli::args::Bench;
use crate::cli::report::Reporter;
use crate::cli::say;
use crate::engine::{Engine, Request, Restored};
use crate::error::{Error, Result};
use crate::files::to_text;
use crate::memory::{self, Bytes};
use crate::options::PixelSize;
use crate::pipeline::Stage;
use crate::runtime::{Loaded, RuntimeOptions};
use crate::service::Service;

/// Restores a synthetic picture once untimed, to load everything, then several times timed.
pub(super) fn run(
    args: &Bench,
    service: &Service,
    cancel: &Cancel,
    reporter: &Reporter,
) -> Result<()> {
    let engine = &service.engine;
    let edge = engine.bundle().manifest().min_short_edge;
    let size = args.size.unwrap_or(PixelSize(edge, edge));
    let mut request = picture::request(size, &service.config.options);
    request.cancel = cancel.clone();

    let mut tensors = args.tensors.as_ref().map(|_| Tensors::default());
    let (warm_up, restored) = once(engine, &request, tensors.as_mut())?;
    if let (Some(tensors), Some(path)) = (tensors, &args.tensors) {
        tensors.write(&request.lq, path)?;
    }
    let facts = Facts {
        engine,
        request: &request,
        restored: &restored,
        loaded: service.loaded,
        machine: Machine::of(&service.config.runtime),
        warm_up,
        startup: reporter.startup_seconds(),
    };
    let runs = match args.paced {
        true => paced(engine, &request, &facts)?,
        false => (0..args.runs)
            .map(|_| Ok(once(engine, &request, None)?.0))
            .collect::<Result<_>>()?,
    };
    let report = Report::of(&runs, &facts);
    match args.json {
        true => say::print(&format!("{}\n", facts.json(&report, &runs))),
        false => say::text(&facts.text(&report)),
    }
}

/// One timed restoration.
fn once(
    engine: &Engine,
    request: &Request,
    mut tensors: Option<&mut Tensors>,
) -> Result<(Run, Restored)> {
    let mut watch = Watch::start();
    let restored = engine.restore(request, &mut |event| {
        watch.see(&event);
        tensors.as_mut().map_or(Ok(()), |kept| kept.see(&event))
    })?;
    Ok((watch.stop(), restored))
}

/// A run for each line of standard input.
fn paced(engine: &Engine, request: &Request, facts: &Facts<'_>) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    let ready = facts.json(&Report::of(&[], facts), &[]).with_event("ready");
    say::print(&format!("{ready}\n"))?;
    for line in std::io::stdin().lock().lines() {
        line.map_err(|e| Error::input("standard input cannot be read").with_source(e))?;
        let (run, _) = once(engine, request, None)?;
        say::print(&format!("{}\n", json!(run).with_event("run")))?;
        runs.push(run);
    }
    Ok(runs)
}

/// The tag of a JSON line.
trait WithEvent {
    fn with_event(self, event: &str) -> Self;
}

impl WithEvent for Value {
    fn with_event(mut self, event: &str) -> Self {
        self["event"] = json!(event);
        self
    }
}

/// The machine of the measurements.
#[derive(Debug, Clone, Serialize)]
struct Machine {
    /// The processor's name, if the system reports it.
    cpu: Option<String>,
    /// Threads that a graph runs on.
    threads: usize,
    /// Processors that this process may use.
    processors: usize,
}

impl Machine {
    fn of(options: &RuntimeOptions) -> Self {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = text.lines().find(|line| line.starts_with("model name"));
        Machine {
            cpu: name
                .and_then(|line| line.split_once(':'))
                .map(|(_, name)| name.trim().to_owned()),
            threads: options.threads_of(""),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
        }
    }
}

/// The configuration of the measurement.
struct Facts<'a> {
    engine: &'a Engine,
    request: &'a Request,
    restored: &'a Restored,
    loaded: &'a Loaded,
    machine: Machine,
    warm_up: Run,
    startup: Option<f64>,
}

/// The figures of several runs.
struct Report {
    /// Each stage that ran: its seconds, and the first run's seconds of loading its graph.
    stages: Vec<(Stage, Spread, f64)>,
    step: Option<Spread>,
    whole: Option<Spread>,
    peak: Option<u64>,
}

impl Report {
    fn of(runs: &[Run], facts: &Facts<'_>) -> Self {
        let stage = |stage: Stage| {
            let spread = Spread::of(
                runs.iter()
                    .filter_map(|run| run.stages.get(&stage).copied()),
            );
            let loading = facts.warm_up.loads.get(&stage).copied();
            spread.map(|spread| (stage, spread, loading.unwrap_or(0.0)))
        };
        let stages: BTreeSet<Stage> = runs
            .iter()
            .flat_map(|run| run.stages.keys().copied())
            .collect();
        Report {
            stages: stages.into_iter().filter_map(stage).collect(),
            step: Spread::of(runs.iter().flat_map(|run| run.steps.iter().copied())),
            whole: Spread::of(runs.iter().map(|run| run.whole)),
            peak: memory::peak(),
        }
    }
}

impl Facts<'_> {
    fn json(&self, report: &Report, runs: &[Run]) -> Value {
        let stages: serde_json::Map<String, Value> = report
            .stages
            .iter()
            .map(|(stage, seconds, loading)| {
                let entry =
                    json!({ "median": seconds.median, "min": seconds.min, "first_load": loading });
                (stage.name().to_owned(), entry)
            })
            .collect();
        let (height, width) = self.restored.plan.output;
        let provenance = &self.restored.provenance;
        json!({
            "event": "bench", "width": width, "height": height, "stages": stages, "step": report.step,
            "whole": report.whole, "startup_seconds": self.startup, "warm_up": self.warm_up, "runs": runs,
            "peak_memory_bytes": report.peak, "plan": self.restored.plan, "machine": self.machine,
            "graphs": provenance.graphs, "options": self.request.options,
            "bundle": to_text(self.engine.bundle().dir()), "bundle_sha256": provenance.bundle, "family": provenance.family,
            "versions": {
                "diffbir": provenance.engine, "onnxruntime": self.loaded.version,
                "library": self.loaded.candidate.path,
            },
        })
    }

    fn text(&self, report: &Report) -> String {
        let mut text = self.head();
        let mut row = |name: &str, seconds: Spread, loading: Option<f64>| {
            let loading = loading.map_or(String::new(), |x| format!("{x:9.3}"));
            text.push_str(&format!(
                "{name:14}{:9.3}{:9.3}{loading}\n",
                seconds.median, seconds.min
            ));
        };
        for (stage, seconds, loading) in &report.stages {
            row(stage.name(), *seconds, Some(*loading));
            if let (Stage::Sampling, Some(step)) = (stage, report.step) {
                row("  a step", step, None);
            }
        }
        if let Some(whole) = report.whole {
            row("whole", whole, None);
        }
        if let Some(startup) = self.startup {
            text.push_str(&format!(
                "start-up      {startup:9.3}   until the first graph ran\n"
            ));
        }
        if let Some(peak) = report.peak {
            text.push_str(&format!(
                "memory        {:>9}   at most\n",
                Bytes(peak).to_string()
            ));
        }
        text
    }

    fn head(&self) -> String {
        let (height, width) = self.restored.plan.output;
        let sampling = &self.request.options.sampling;
        let mut text = format!(
            "{width}x{height}, {} steps of {}, cfg {}; {}\n",
            sampling.steps,
            sampling.sampler,
            sampling.cfg_scale,
            self.engine.bundle().dir().display()
        );
        text.push_str(&format!(
            "diffbir {}, ONNX Runtime {}, {} threads on {}\n",
            self.restored.provenance.engine,
            self.loaded.version,
            self.machine.threads,
            self.machine
                .cpu
                .as_deref()
                .unwrap_or("an unnamed processor")
        ));
        for (graph, ran) in &self.restored.provenance.graphs {
            text.push_str(&format!("{graph:14} {} {}\n", ran.provider, ran.precision));
        }
        text.push_str("seconds          median      min  loading\n");
        text
    }
}
