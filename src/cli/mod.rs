//! The program: parses arguments, calls the service, reports.

mod args;
mod bench;
mod defect;
mod demo;
mod doctor;
mod frames;
mod inputs;
mod inspect;
mod install;
mod plan;
mod report;
mod restore;
mod say;
mod sheet;
mod standard;
mod tally;
mod video;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;

use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind};
use crate::{imageio, runtime, sandbox};
use args::{Command, Reporting, RuntimeCommand};
pub use args::{flags, option_table};
use report::Reporter;
use say::Stream;
use tally::Tally;

/// The JSON schema of a line of `--json`.
pub const REPORT_SCHEMA: &str = report::SCHEMA;

/// Runs the program on the process's arguments and returns its exit code.
pub fn run() -> ExitCode {
    let start = Instant::now();
    defect::listen();
    match defect::caught(|| sandbox::child(std::env::args_os(), imageio::decode)) {
        Ok(None) => sandbox::enable(),
        Ok(Some(exit_code)) => return exit_code,
        Err(error) => return ExitCode::from(finish(Err(error.into()), None)),
    }
    let cli = match args::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(exit_code) => return ExitCode::from(exit_code),
    };
    runtime::own_process();
    let (mut reporting, mut stream) = (Reporting::default(), Stream::Output);
    match &cli.command {
        Command::Restore(args) => {
            reporting = args.reporting;
            if standard::is(&args.output) {
                stream = Stream::Error;
            }
        }
        Command::Demo(args) => reporting = args.reporting,
        Command::Bench(args) => reporting.json = args.json,
        _ => {}
    }
    let outcome = defect::caught(|| {
        let cancel = Cancel::default();
        stop_on_signal(&cancel);
        command(
            &cli.command,
            &cancel,
            &Reporter::new(reporting, stream, start),
        )
    });
    ExitCode::from(finish(outcome, reporting.json.then_some(stream)))
}

fn command(command: &Command, cancel: &Cancel, reporter: &Reporter) -> anyhow::Result<Tally> {
    match command {
        Command::Restore(args) if video::is_asked(args) => {
            return video::run(args, cancel, reporter);
        }
        Command::Restore(args) => return restore::run(args, cancel, reporter),
        Command::Demo(args) => return demo::run(args, cancel, reporter),
        Command::Inspect(args) => inspect::run(args, reporter)?,
        Command::Doctor(args) => doctor::run(args, reporter)?,
        Command::Bench(args) => bench::run(args, cancel, reporter)?,
        Command::Config(args) => inspect::print_config(args)?,
        Command::Runtime(args) => match args.command {
            RuntimeCommand::Install(args) => install_runtime(args, reporter)?,
        },
        Command::Man { dir } => write_man_pages(dir)?,
        Command::Completions { shell } => print_completions(*shell)?,
    }
    Ok(Tally::default())
}

fn install_runtime(args: args::Install, reporter: &Reporter) -> anyhow::Result<()> {
    for package in install::packages(args) {
        let folder = install::install(package, &mut |message| reporter.note(&message))?;
        say::text(&folder.display().to_string())?;
    }
    Ok(())
}

fn write_man_pages(dir: &Path) -> anyhow::Result<()> {
    let unwritable = |e: std::io::Error| Error::input("cannot be written").with_source(e);
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(args::command(), dir))
        .map_err(unwritable)
        .with_context(|| dir.display().to_string())
}

fn print_completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "diffbir", &mut script);
    Ok(say::print(&String::from_utf8_lossy(&script))?)
}

/// The exit code of an outcome; reports its error. Commands add context to errors; the library's error inside
/// determines the kind. `json` is where the lines of `--json` go.
fn finish(outcome: anyhow::Result<Tally>, json: Option<Stream>) -> u8 {
    let error = match outcome {
        Ok(tally) => return tally.exit_code(),
        Err(error) => error,
    };
    let kind = error
        .downcast_ref()
        .map_or(ErrorKind::Internal, Error::kind);
    if let Some(stream) = json {
        let line = report::error_line(&error, kind);
        say::report(stream, &line.to_string());
    }
    // Standard error holds JSON alone, where it holds any.
    if json != Some(Stream::Error) {
        say::error(&format!("error: {}", report::in_words(&error)));
    }
    kind.exit_code()
}

/// The first Ctrl-C asks the run to stop, the second ends the process at once.
fn stop_on_signal(cancel: &Cancel) {
    let cancel = cancel.clone();
    let handler = move || {
        if cancel.is_cancelled() {
            std::process::exit(i32::from(ErrorKind::Cancelled.exit_code()));
        }
        cancel.cancel();
        say::error("stopping; press Ctrl-C again to stop at once");
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        say::error(&format!("Ctrl-C will stop at once: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_with_70() {
        let outcome = defect::caught::<_, anyhow::Error>(|| panic!("an end"));
        assert_eq!(finish(outcome, None), 70);
        let one_of_two = Tally {
            done: 1,
            failed: 1,
            defects: 1,
            ..Tally::default()
        };
        assert_eq!(finish(Ok(one_of_two), None), 70);
    }
}
