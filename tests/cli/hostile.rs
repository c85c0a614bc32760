//! Surroundings that mean harm: planted code, special files, outputs that go away.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::program::{Program, Run};

/// `diffbir runtime install` into an empty cache, without an index.
fn install(program: &Program) -> Command {
    let mut command = program.command(&["runtime", "install"]);
    command
        .env("DIFFBIR_CACHE", program.dir().join("cache"))
        .env("PIP_NO_INDEX", "1");
    command
}

fn script(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

/// Every file below `folder`.
fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path.display().to_string()),
        }
    }
    found
}

/// A command with an empty home, which finds the same ONNX Runtime as others.
fn from_a_new_home(program: &Program, args: &[&str]) -> Command {
    let home = program.dir().join("home");
    std::fs::create_dir_all(&home).unwrap();
    let cache = diffbir::runtime::library::cache_dir().unwrap();
    let mut command = program.command(args);
    command.env("HOME", home).env("DIFFBIR_CACHE", cache);
    command
        .env_remove("XDG_CACHE_HOME")
        .env_remove("ORT_DISABLE_TELEMETRY");
    command
}

#[test]
fn the_runtime_keeps_no_record_for_its_vendor() {
    let program = Program::new();
    let picture = crate::program::picture(16, 16);
    std::fs::write(program.dir().join("a.png"), picture).unwrap();
    let args = ["restore", "a.png", "-o", "r.png", "--offline", "--bundle"];
    let run = Run::of(from_a_new_home(
        &program,
        &[&args[..], &[&crate::program::tiny()]].concat(),
    ));
    run.code(0);
    let found = files_below(&program.dir().join("home"));
    assert!(found.is_empty(), "left in the home folder: {found:?}");
    let off = Run::of(from_a_new_home(&program, &["doctor", "--offline"]));
    off.prints(&["telemetry of ONNX Runtime: off"]);
    let mut on = from_a_new_home(&program, &["doctor", "--offline"]);
    on.env("ORT_DISABLE_TELEMETRY", "0");
    Run::of(on).prints(&["left on by ORT_DISABLE_TELEMETRY=0"]);
}

#[test]
fn python_takes_nothing_from_the_working_folder() {
    let program = Program::new();
    let plant = "open('ran', 'w').close()\n";
    script(&program.dir().join("pip.py"), plant);
    script(&program.dir().join("sitecustomize.py"), plant);
    let mut command = install(&program);
    command.env("PYTHONPATH", program.dir());
    let run = Run::of(command);
    run.code(4);
    run.says(&["onnxruntime"]);
    assert!(!program.dir().join("ran").exists(), "planted code ran");
}

#[test]
fn relative_entries_of_path_lead_nowhere() {
    let program = Program::new();
    for folder in [".", "bin"] {
        script(
            &program.dir().join(folder).join("python3"),
            "#!/bin/sh\ntouch ran\nexit 1\n",
        );
    }
    let mut command = install(&program);
    command.env("PATH", ":.:bin");
    let run = Run::of(command);
    run.code(4);
    run.says(&["no python3 or python in PATH"]);
    assert!(!program.dir().join("ran").exists(), "a planted Python ran");
}

#[test]
fn a_relative_environment_is_not_searched_for_libraries() {
    let program = Program::new();
    let folder = "venv/lib/python3.11/site-packages/onnxruntime/capi";
    let folder = program.dir().join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    crate::program::old_runtime(&folder);
    let input = program.dir().join("a.png");
    std::fs::write(&input, crate::program::picture(16, 16)).unwrap();
    let args = ["restore", "a.png", "-o", "r.png", "--offline", "--bundle"];
    let mut command = program.command(&[&args[..], &[&crate::program::tiny()]].concat());
    command
        .env("VIRTUAL_ENV", "venv")
        .env("DIFFBIR_CACHE", program.dir().join("empty"))
        .env_remove("CONDA_PREFIX")
        .env_remove("ORT_DYLIB_PATH");
    let run = Run::of(command);
    run.code(4);
    run.does_not_say("1.20.0");
}

/// A run over three pictures, one of which is damaged, into `out`.
fn batch(program: &Program) -> Command {
    for name in ["a.png", "b.png"] {
        std::fs::write(program.dir().join(name), crate::program::picture(16, 16)).unwrap();
    }
    std::fs::write(program.dir().join("damaged.png"), b"no picture").unwrap();
    let mut command = program.command(&["restore", "a.png", "damaged.png", "b.png", "-o", "out"]);
    command.args([
        "--sampler",
        "ddim",
        "--steps",
        "1",
        "--upscale",
        "1",
        "--bundle",
    ]);
    command.arg(crate::program::tiny());
    command
}

/// The end of a pipe that nobody reads.
fn broken_pipe() -> std::io::PipeWriter {
    std::io::pipe().unwrap().1
}

fn full() -> std::fs::File {
    std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap()
}

#[test]
fn a_batch_goes_on_where_its_output_cannot() {
    type Redirect = fn(&mut Command) -> &mut Command;
    let redirects: [Redirect; 4] = [
        |command| command.stderr(broken_pipe()),
        |command| command.stderr(full()),
        |command| command.arg("--json").stdout(broken_pipe()),
        |command| command.arg("--json").stdout(full()),
    ];
    for (k, redirect) in redirects.into_iter().enumerate() {
        let program = Program::new();
        let mut command = batch(&program);
        redirect(&mut command);
        // One picture of three is damaged.
        assert_eq!(command.status().unwrap().code(), Some(1), "{k}");
        assert_eq!(program.files("out"), ["a.png", "b.png"], "{k}");
    }
}

#[test]
fn a_command_whose_output_cannot_be_written_does_not_panic() {
    let program = Program::new();
    for args in [&["config"][..], &["doctor", "--offline"]] {
        let mut command = program.command(args);
        let status = command.stdout(broken_pipe()).status().unwrap();
        assert_eq!(status.code(), Some(0), "{args:?}");
        let mut command = program.command(args);
        let status = command.stdout(full()).status().unwrap();
        assert!(matches!(status.code(), Some(0 | 1)), "{args:?}: {status}");
    }
}
