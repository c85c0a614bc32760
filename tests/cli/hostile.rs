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
