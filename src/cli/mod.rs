//! The program: parse, call the engine, report.

mod args;
mod bench;
mod demo;
mod doctor;
mod frames;
mod inputs;
mod inspect;
mod install;
mod plan;
mod replay;
mod report;
mod restore;
mod setup;
mod sheet;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::cancel::Cancel;
use crate::error::{ErrorKind, Result};
use args::{Cli, Command, Reporting, RuntimeCommand};
use report::Reporter;
use restore::Tally;

/// The JSON schema of a line of `--json`.
pub const REPORT_SCHEMA: &str = report::SCHEMA;

/// Runs the program on the process's arguments and returns its exit code.
pub fn run() -> ExitCode {
    let start = Instant::now();
    let cli = Cli::parse();
    let cancel = Cancel::default();
    stop_on_signal(&cancel);
    let reporting = match &cli.command {
        Command::Restore(args) => args.reporting.clone(),
        Command::Demo(args) => args.reporting.clone(),
        Command::Bench(args) => Reporting {
            json: args.json,
            quiet: false,
        },
        _ => Reporting {
            json: false,
            quiet: false,
        },
    };
    let reporter = Reporter::new(&reporting, start);
    let outcome = match &cli.command {
        Command::Restore(args) => restore::run(args, &cancel, &reporter),
        Command::Demo(args) => demo::run(args, &cancel, &reporter),
        Command::Inspect(args) => inspect::run(args).map(nothing_failed),
        Command::Doctor(args) => doctor::run(args, &reporter).map(nothing_failed),
        Command::Bench(args) => bench::run(args, &cancel, &reporter).map(nothing_failed),
        Command::Config(args) => inspect::print_config(&args.common).map(nothing_failed),
        Command::Runtime(args) => match args.command {
            RuntimeCommand::Install(args) => install_runtime(args, &reporter).map(nothing_failed),
        },
    };
    finish(outcome, reporting.json)
}

fn nothing_failed(_: ()) -> Tally {
    Tally::default()
}

fn install_runtime(args: args::Install, reporter: &Reporter) -> Result<()> {
    for package in install::packages(args) {
        let folder = install::install(package, &mut |message| reporter.note(&message))?;
        println!("{}", folder.display());
    }
    Ok(())
}

fn finish(outcome: Result<Tally>, json: bool) -> ExitCode {
    match outcome {
        Ok(tally) if tally.done == 0 && tally.failed > 0 && tally.failed == tally.too_large => {
            ExitCode::from(ErrorKind::Resources.exit_code())
        }
        Ok(tally) if tally.failed > 0 => ExitCode::from(ErrorKind::Input.exit_code()),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            let exit_code = error.kind().exit_code();
            if json {
                let error = report::error_value(&error);
                println!(
                    "{}",
                    serde_json::json!({ "event": "error", "error": error, "exit_code": exit_code })
                );
            }
            eprintln!("error: {error}");
            ExitCode::from(exit_code)
        }
    }
}

/// The first Ctrl-C asks the run to stop between steps; the second ends the process at once.
fn stop_on_signal(cancel: &Cancel) {
    let cancel = cancel.clone();
    let handler = move || {
        if cancel.is_cancelled() {
            std::process::exit(i32::from(ErrorKind::Cancelled.exit_code()));
        }
        cancel.cancel();
        eprintln!("stopping after this step; press Ctrl-C again to stop at once");
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        eprintln!("Ctrl-C will stop at once: {error}");
    }
}
