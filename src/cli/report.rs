//! The reports of a run: progress bars on a terminal, plain lines elsewhere, JSON lines on request.
//!
//! Bars, lines and notes go to standard error. JSON lines, which follow `src/cli/report.schema.json`, go to standard
//! output, or to standard error if a picture goes to standard output.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::args::Reporting;
use crate::cli::inputs::{Job, LeftOut};
use crate::cli::say::Stream;
use crate::cli::tally::Tally;
use crate::cli::{install, say};
use crate::error::{Error, ErrorKind, OneLine, Result, Shown};
use crate::files::to_text;
use crate::imageio::DAMAGED;
use crate::memory;
use crate::pipeline::{Event, Samples, Stage, StepInfo};
use crate::runtime::{self, SkippedProvider};
use crate::service::{Done, Host, Level, Service};

/// The JSON schema of a line of `--json`.
pub const SCHEMA: &str = include_str!("report.schema.json");

/// Values in the library's messages, and the flags that give them.
const FLAGS: [(&str, &str); 5] = [
    ("`output.existing=overwrite`", "--overwrite"),
    ("`output.existing=skip`", "--skip-existing"),
    ("`output.existing=resume`", "--resume"),
    ("`runtime.offline=true`", "--offline"),
    ("`bundle=DIR`", "--bundle DIR"),
];

enum Mode {
    Bars(ProgressBar),
    Lines,
    Json,
    Quiet,
}

/// Reports one run.
pub struct Reporter {
    mode: Mode,
    /// Where results and JSON lines go.
    stream: Stream,
    start: Instant,
    batch: Mutex<Progress>,
    left_out: OnceLock<LeftOut>,
    /// Damaged inputs of which what was there has been restored.
    damaged: Mutex<Vec<PathBuf>>,
}

impl Reporter {
    /// A reporter for the flags and the terminal. `start` is the program's start time.
    pub fn new(flags: Reporting, stream: Stream, start: Instant) -> Self {
        let mode = match (flags.json, flags.quiet) {
            (true, _) => Mode::Json,
            (_, true) => Mode::Quiet,
            _ if std::io::stderr().is_terminal() && has_cursor() => Mode::Bars(bar()),
            _ => Mode::Lines,
        };
        let batch = Mutex::new(Progress::of(0, 0));
        let damaged = Mutex::default();
        Reporter {
            mode,
            stream,
            start,
            batch,
            left_out: OnceLock::new(),
            damaged,
        }
    }

    /// Seconds from the program's start until a graph first ran, if one did.
    pub fn startup_seconds(&self) -> Option<f64> {
        let ran = runtime::first_run()?;
        Some(ran.saturating_duration_since(self.start).as_secs_f64())
    }

    /// What the search for inputs left out, which is reported at the end.
    pub fn left_out(&self, left_out: LeftOut) {
        // Set once, before the work.
        let _ = self.left_out.set(left_out);
    }

    /// A message that concerns no single picture.
    pub fn note(&self, message: &str) {
        let message = with_flags(message);
        match &self.mode {
            Mode::Json => self.json(json!({ "event": "note", "message": message })),
            Mode::Bars(_) | Mode::Lines => self.line(&message),
            Mode::Quiet => {}
        }
    }

    /// Prints a line on standard error, above the bar.
    fn line(&self, line: &str) {
        match &self.mode {
            Mode::Bars(bar) => bar.suspend(|| say::error(line)),
            _ => say::error(line),
        }
    }

    /// Prints what the command was called for, as a text line or JSON record.
    ///
    /// # Errors
    /// [`Input`](ErrorKind::Input): standard output is closed or full.
    pub fn result(&self, record: &Value, line: &str) -> Result<()> {
        match (&self.mode, self.stream) {
            (Mode::Json, Stream::Output) => say::print(&format!("{record}\n"))?,
            (_, Stream::Output) => say::text(line)?,
            (Mode::Json, Stream::Error) => self.line(&record.to_string()),
            (_, Stream::Error) => self.line(line),
        }
        Ok(())
    }

    /// A run of `service` over `inputs` pictures begins.
    pub fn start(&self, service: &Service, inputs: usize) {
        let bundle = service.engine.bundle();
        let loaded = service.loaded;
        self.json(json!({
            "event": "start", "version": env!("CARGO_PKG_VERSION"), "bundle": to_text(bundle.dir()),
            "bundle_sha256": bundle.hash(), "family": bundle.manifest().family, "inputs": inputs,
            "runtime": { "library": to_text(&loaded.candidate.path), "version": loaded.version },
        }));
    }

    /// A batch of pictures begins: total, and those to be restored.
    pub fn batch(&self, pictures: usize, to_make: usize) {
        *self.progress_of_batch() = Progress::of(pictures, to_make);
    }

    fn progress_of_batch(&self) -> MutexGuard<'_, Progress> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event of the work on `input`.
    pub fn progress(&self, input: &Path, event: &Event<'_>) {
        match event {
            Event::Started(stage) => self.stage_started(input, *stage),
            Event::Step(samples, step) => self.step(input, *samples, step),
            Event::Finished(stage, seconds) => {
                if let Mode::Bars(bar) = &self.mode {
                    bar.set_position(bar.length().unwrap_or(1));
                }
                self.json(json!({ "event": "stage", "input": to_text(input), "stage": stage.name(), "seconds": seconds }));
            }
            // A plan is reported if not everything fits the memory at once.
            Event::Planned(plan) if !plan.is_whole() => {
                Reporter::note(self, &format!("{}: {plan}", Shown(input)));
            }
            Event::Planned(_)
            | Event::Loaded(..)
            | Event::Tensor(..)
            | Event::Picture(..)
            | Event::Tile(..)
            | Event::Checkpoint => {}
        }
    }

    fn stage_started(&self, input: &Path, stage: Stage) {
        if let Mode::Bars(bar) = &self.mode {
            bar.set_position(0);
            bar.set_length(1);
            let place = self.progress_of_batch().next();
            let message = format!("{place}{}: {}", file_name(input), stage.name());
            bar.set_message(OneLine(message).to_string());
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
                say::error(&format!("{}: step {step}/{total}", file_name(input)));
            }
            Mode::Lines | Mode::Quiet => {}
            Mode::Json => self.json(json!({
                "event": "step", "input": to_text(input), "first_sample": samples.first, "step": step, "total": total,
                "timestep": info.timestep, "guidance_loss": info.guidance_loss
            })),
        }
    }

    /// A picture is done.
    pub fn done(&self, job: &Job, done: &Done) -> Result<()> {
        let (width, height) = {
            let (height, width) = done.restored.plan.output;
            (width, height)
        };
        let provenance = serde_json::to_value(&done.restored.provenance)
            .map_err(|e| Error::internal("the provenance cannot be written").with_source(e))?;
        let record = json!({
            "event": "picture", "status": "done", "input": to_text(&job.input), "outputs": outputs(job), "width": width,
            "height": height, "dropped": done.dropped, "seconds": done.seconds, "plan": done.restored.plan,
            "provenance": provenance,
        });
        self.picture(record, &summary(job, (width, height), done));
        if done.dropped.contains(&DAMAGED) {
            let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
            damaged.push(job.input.clone());
        }
        Ok(())
    }

    /// A picture was skipped because its result exists.
    pub fn skipped(&self, job: &Job) {
        let record = json!({
            "event": "picture", "status": "skipped", "input": to_text(&job.input), "outputs": outputs(job)
        });
        let line = format!("{} exists, skipped", Shown(&job.outputs[0]));
        self.picture(record, &line);
    }

    /// A picture is done or skipped: a text line or JSON record, with its position in the batch.
    fn picture(&self, mut record: Value, line: &str) {
        // Locked until printed, so that positions appear in order.
        let mut batch = self.progress_of_batch();
        batch.count(record["status"] == "done", &mut record);
        match &self.mode {
            Mode::Bars(_) | Mode::Lines => self.line(&format!("{line}{}", batch.words())),
            Mode::Json => self.json(record),
            Mode::Quiet => {}
        }
    }

    /// A picture failed; reported in every mode.
    pub fn failure(&self, input: &Path, error: &Error) {
        if !matches!(self.mode, Mode::Json) {
            let error = with_flags(&error.to_string());
            self.line(&format!("error: {}: {error}", Shown(input)));
        }
        let mut record = json!({
            "event": "picture", "input": to_text(input), "status": "failed", "error": error_value(error)
        });
        let mut batch = self.progress_of_batch();
        batch.count(false, &mut record);
        self.json(record);
    }

    /// The run is over. `without` are the optional providers that did not load.
    pub fn end(&self, tally: &Tally, without: &[SkippedProvider]) {
        let Tally {
            done,
            skipped,
            failed,
            ..
        } = tally;
        if let Mode::Bars(bar) = &self.mode {
            bar.finish_and_clear();
        }
        if let Some(left_out) = self.left_out.get().filter(|left_out| !left_out.is_empty())
            && !matches!(self.mode, Mode::Json)
        {
            self.note(&format!("left out: {left_out}"));
        }
        let counts = format!("{done} done, {skipped} skipped, {failed} failed");
        let damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if !damaged.is_empty() {
            let names: Vec<_> = damaged
                .iter()
                .map(|path| OneLine(path.display()).to_string())
                .collect();
            Reporter::note(
                self,
                &format!("damaged, restored as far as they go: {}", names.join(", ")),
            );
        }
        match &self.mode {
            Mode::Json => self.json(json!({
                "event": "end", "done": done, "skipped": skipped, "failed": failed,
                "seconds": self.start.elapsed().as_secs_f64(), "startup_seconds": self.startup_seconds(),
                "peak_memory_bytes": memory::peak(),
                "pictures_per_minute": self.progress_of_batch().per_minute(), "passed_over": without,
                "left_out": self.left_out.get(),
            })),
            Mode::Bars(_) | Mode::Lines if *failed > 0 => say::error(&counts),
            _ => {}
        }
    }

    fn json(&self, value: Value) {
        if let Mode::Json = self.mode {
            say::report(self.stream, &value.to_string());
        }
    }
}

impl Host for Reporter {
    fn note(&self, _: Level, message: &str) {
        Reporter::note(self, message);
    }

    fn install_runtime(&self) -> Result<bool> {
        let mut say = |message: String| Reporter::note(self, &message);
        install::install(install::Package::Cpu, &mut say).map(|_| true)
    }
}

/// The last line of a run that failed as a whole.
pub fn error_line(error: &anyhow::Error, kind: ErrorKind) -> Value {
    let message = in_words(error);
    json!({
        "event": "error", "error": { "kind": kind.name(), "message": message }, "exit_code": kind.exit_code()
    })
}

/// An error with the context added by commands. The library's error prints its causes itself.
pub fn in_words(error: &anyhow::Error) -> String {
    let mut parts = Vec::new();
    for part in error.chain() {
        parts.push(part.to_string());
        if part.is::<Error>() {
            break;
        }
    }
    with_flags(&parts.join(": "))
}

/// `message` with flags for the values that it names.
fn with_flags(message: &str) -> String {
    let flag = |message: String, (value, flag): &(&str, &str)| message.replace(value, flag);
    FLAGS.iter().fold(message.to_owned(), flag)
}

fn summary(job: &Job, (width, height): (usize, usize), done: &Done) -> String {
    let seconds = done.seconds.get("total").copied().unwrap_or(0.0);
    let mut line = format!(
        "{} -> {} ({width}x{height}, {seconds:.1} s)",
        Shown(&job.input),
        match job.outputs.as_slice() {
            [first, .., last] => format!("{} … {}", Shown(first), Shown(last)),
            outputs => outputs
                .iter()
                .map(|output| Shown(output).to_string())
                .collect(),
        },
    );
    if !done.dropped.is_empty() {
        line.push_str(&format!("; not carried over: {}", done.dropped.join(", ")));
    }
    line
}

/// Progress of a batch.
struct Progress {
    start: Instant,
    pictures: usize,
    to_make: usize,
    /// Done, skipped or failed.
    over: usize,
    made: usize,
    failed: usize,
}

impl Progress {
    fn of(pictures: usize, to_make: usize) -> Self {
        Progress {
            start: Instant::now(),
            pictures,
            to_make,
            over: 0,
            made: 0,
            failed: 0,
        }
    }

    /// Counts another picture as finished; adds its position in the batch to `record`.
    fn count(&mut self, made: bool, record: &mut Value) {
        self.over += 1;
        self.made += usize::from(made);
        self.failed += usize::from(record["status"] == "failed");
        record["number"] = json!(self.over);
        record["of"] = json!(self.pictures);
        record["seconds_left"] = json!(self.left());
    }

    /// The estimated remaining time, from that of the pictures restored so far.
    fn left(&self) -> Option<f64> {
        let others = self.to_make.saturating_sub(self.made + self.failed);
        let each = self.start.elapsed().as_secs_f64() / self.made as f64;
        (self.made > 0).then_some(each * others as f64)
    }

    fn per_minute(&self) -> f64 {
        60.0 * self.made as f64 / self.start.elapsed().as_secs_f64()
    }

    /// The position of the finished picture, if there are several.
    fn words(&self) -> String {
        let left = self.left().map(|left| {
            let left = HumanDuration(Duration::from_secs_f64(left));
            format!(", {:.1} a minute, {left:#} left", self.per_minute())
        });
        match self.pictures {
            0 | 1 => String::new(),
            of => format!(" [{} of {of}{}]", self.over, left.unwrap_or_default()),
        }
    }

    /// The position of the current picture, if there are several.
    fn next(&self) -> String {
        match self.pictures {
            0 | 1 => String::new(),
            of => format!("{} of {of}: ", (self.over + 1).min(of)),
        }
    }
}

/// An error as JSON.
pub fn error_value(error: &Error) -> Value {
    let mut value = json!({ "kind": error.kind().name(), "message": error.to_string() });
    if let Some(bytes) = error.smallest_budget() {
        value["smallest_budget_bytes"] = json!(bytes);
    }
    value
}

/// Whether the terminal can draw a line anew.
fn has_cursor() -> bool {
    cfg!(windows) || std::env::var_os("TERM").is_some_and(|name| !name.is_empty() && name != "dumb")
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {elapsed} (left {eta})");
    let bar =
        ProgressBar::new(1).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

fn file_name(path: &Path) -> String {
    Shown(Path::new(path.file_name().unwrap_or(path.as_os_str()))).to_string()
}

fn outputs(job: &Job) -> Vec<String> {
    job.outputs.iter().map(|output| to_text(output)).collect()
}
