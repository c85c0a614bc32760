//! What a run tells: progress bars on a terminal, plain lines elsewhere, JSON lines on request.
//!
//! Bars, lines and notes go to standard error; JSON lines go to standard output and keep to
//! `src/cli/report.schema.json`.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::args::Reporting;
use crate::error::Error;
use crate::memory;
use crate::pipeline::{Event, Samples, Stage};
use crate::runtime::{self, PassedOver};
use crate::samplers::StepInfo;

/// The schema of `--json`: every line is one object that fits it.
pub const SCHEMA: &str = include_str!("report.schema.json");

enum Mode {
    Bars(ProgressBar),
    Lines,
    Json,
    Quiet,
}

/// Reports one run.
pub struct Reporter {
    mode: Mode,
    start: Instant,
}

impl Reporter {
    /// A reporter as the flags and the terminal ask for. `start` is when the program began.
    pub fn new(flags: &Reporting, start: Instant) -> Self {
        let mode = match (flags.json, flags.quiet) {
            (true, _) => Mode::Json,
            (_, true) => Mode::Quiet,
            _ if std::io::stderr().is_terminal() => Mode::Bars(bar()),
            _ => Mode::Lines,
        };
        Reporter { mode, start }
    }

    /// Seconds from the program's start until a graph first ran, if one did.
    pub fn startup_seconds(&self) -> Option<f64> {
        let ran = runtime::first_run()?;
        Some(ran.saturating_duration_since(self.start).as_secs_f64())
    }

    /// A line for the reader that belongs to no picture.
    pub fn note(&self, message: &str) {
        match &self.mode {
            Mode::Bars(bar) => bar.println(message),
            Mode::Lines => eprintln!("{message}"),
            Mode::Json => self.json(json!({ "event": "note", "message": message })),
            Mode::Quiet => {}
        }
    }

    /// The run begins.
    pub fn start(&self, mut facts: Value) {
        facts["event"] = json!("start");
        self.json(facts);
    }

    /// Work on `input` goes on.
    pub fn progress(&self, input: &Path, event: &Event<'_>) {
        match event {
            Event::Started(stage) => self.stage_started(input, *stage),
            Event::Step(samples, step) => self.step(input, *samples, step),
            Event::Finished(stage, seconds) => {
                if let Mode::Bars(bar) = &self.mode {
                    bar.set_position(bar.length().unwrap_or(1));
                }
                self.json(json!({ "event": "stage", "input": input, "stage": stage.name(), "seconds": seconds }));
            }
            Event::Planned(_)
            | Event::Loaded(..)
            | Event::Tensor(..)
            | Event::Picture(..)
            | Event::Tile(..) => {}
        }
    }

    fn stage_started(&self, input: &Path, stage: Stage) {
        if let Mode::Bars(bar) = &self.mode {
            bar.set_position(0);
            bar.set_length(1);
            bar.set_message(format!("{}: {}", file_name(input), stage.name()));
        }
    }

    fn step(&self, input: &Path, samples: Samples, info: &StepInfo<'_>) {
        let (step, total) = (info.index + 1, info.total);
        match &self.mode {
            Mode::Bars(bar) => {
                bar.set_length(total as u64);
                bar.set_position(step as u64);
            }
            Mode::Lines if step == 1 || step == total || step.is_multiple_of(10) => {
                eprintln!("{}: step {step}/{total}", file_name(input));
            }
            Mode::Lines | Mode::Quiet => {}
            Mode::Json => self.json(json!({
                "event": "step", "input": input, "first_sample": samples.first, "step": step, "total": total,
                "timestep": info.timestep, "guidance_loss": info.guidance_loss
            })),
        }
    }

    /// A picture is done, was left out, or failed.
    pub fn picture(&self, record: &Value, line: &str) {
        match &self.mode {
            Mode::Bars(bar) => bar.println(line),
            Mode::Lines => eprintln!("{line}"),
            Mode::Json => self.json(record.clone()),
            Mode::Quiet => {}
        }
    }

    /// A picture failed; said in every mode.
    pub fn failure(&self, input: &Path, error: &Error) {
        let line = format!("error: {}: {error}", input.display());
        match &self.mode {
            Mode::Bars(bar) => bar.println(line),
            Mode::Lines | Mode::Quiet => eprintln!("{line}"),
            Mode::Json => self.json(json!({
                "event": "picture", "input": input, "status": "failed", "error": error_value(error)
            })),
        }
    }

    /// The run is over: how many pictures were done, left out and failed, and which optional providers it went without.
    pub fn end(&self, (done, skipped, failed): (usize, usize, usize), passed_over: &[PassedOver]) {
        if let Mode::Bars(bar) = &self.mode {
            bar.finish_and_clear();
        }
        let counts = format!("{done} done, {skipped} left out, {failed} failed");
        match &self.mode {
            Mode::Json => self.json(json!({
                "event": "end", "done": done, "skipped": skipped, "failed": failed,
                "seconds": self.start.elapsed().as_secs_f64(), "startup_seconds": self.startup_seconds(),
                "peak_memory_bytes": memory::peak(),
                "passed_over": passed_over,
            })),
            Mode::Bars(_) | Mode::Lines if failed > 0 => eprintln!("{counts}"),
            _ => {}
        }
    }

    fn json(&self, value: Value) {
        if let Mode::Json = self.mode {
            // A reader that went away is no reason to lose the pictures.
            let _ = writeln!(std::io::stdout().lock(), "{value}");
        }
    }
}

/// An error as it stands in `--json`.
pub fn error_value(error: &Error) -> Value {
    json!({ "kind": error.kind().name(), "message": error.to_string() })
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {elapsed} (left {eta})");
    let bar =
        ProgressBar::new(1).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}
