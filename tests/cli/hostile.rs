//! Surroundings that mean harm: planted code, special files, outputs that go away.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::program::{Program, Run, old_runtime, picture, tiny};
use crate::streams::{broken_pipe, full};

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
    std::fs::write(program.dir().join("a.png"), picture(16, 16)).unwrap();
    let args = ["restore", "a.png", "-o", "r.png", "--offline", "--bundle"];
    let run = Run::of(from_a_new_home(&program, &[&args[..], &[&tiny()]].concat()));
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
    old_runtime(&folder);
    let input = program.dir().join("a.png");
    std::fs::write(&input, picture(16, 16)).unwrap();
    let args = ["restore", "a.png", "-o", "r.png", "--offline", "--bundle"];
    let mut command = program.command(&[&args[..], &[&tiny()]].concat());
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
        std::fs::write(program.dir().join(name), picture(16, 16)).unwrap();
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
    command.arg(tiny());
    command
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

/// A run on the damaged bundle `b`.
fn on_bundle(program: &Program) -> Run {
    std::fs::write(program.dir().join("a.png"), picture(16, 16)).unwrap();
    let args = [
        "restore",
        "a.png",
        "-o",
        "r.png",
        "--overwrite",
        "--offline",
    ];
    program.run(
        &[
            &args[..],
            &["--steps", "2", "--upscale", "1", "--bundle", "b"],
        ]
        .concat(),
    )
}

#[test]
fn files_of_a_bundle_that_are_none_are_refused() {
    let program = Program::new();
    let bundle = program.copy_of_tiny("b");
    for file in [
        "bundle.yaml",
        "memory.yaml",
        "contexts.safetensors",
        "cleaner_sr.onnx",
    ] {
        let path = bundle.join(file);
        let kept = std::fs::read(&path).ok();
        let _ = std::fs::remove_file(&path);
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        for _ in 0..2 {
            let run = on_bundle(&program);
            run.code(3);
            run.says(&[file, "not a regular file"]);
            std::fs::remove_file(&path).unwrap();
            symlink("/dev/zero", &path).unwrap();
        }
        std::fs::remove_file(&path).unwrap();
        if let Some(bytes) = kept {
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

#[test]
fn descriptions_that_are_not_what_they_seem_are_refused() {
    let program = Program::new();
    let bundle = program.copy_of_tiny("b");
    let path = bundle.join("bundle.yaml");
    let sound = std::fs::read_to_string(&path).unwrap();
    let twice = format!("{sound}\nmin_short_edge: 1\n");
    let deep = format!("{sound}\nx: {}", "{a: ".repeat(100_000));
    let long = format!("{sound}\n{}", "#".repeat(1 << 20));
    for (text, message) in [
        (twice, "duplicate entry with key \"min_short_edge\""),
        (deep, "opening brackets"),
        (long, "more than 1048576 bytes"),
    ] {
        std::fs::write(&path, text).unwrap();
        let run = on_bundle(&program);
        run.code(3);
        run.says(&["bundle.yaml", message]);
    }
    std::fs::write(&path, sound).unwrap();
    std::fs::write(program.dir().join("secret"), "password123").unwrap();
    std::fs::remove_file(bundle.join("memory.yaml")).unwrap();
    symlink(program.dir().join("secret"), bundle.join("memory.yaml")).unwrap();
    let run = on_bundle(&program);
    run.code(3);
    run.says(&["memory.yaml", "bench --graphs --write --bundle b"]);
    run.does_not_say("password123");
}

#[test]
fn weights_that_are_not_listed_are_refused() {
    let program = Program::new();
    let bundle = program.copy_of_tiny("b");
    // A graph with one tensor that lies in another file, in the bytes of onnx.proto.
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
    let entry = [field(1, b"location"), field(2, b"evil.bin")].concat();
    let model = field(7, &field(5, &field(13, &entry)));
    let path = bundle.join("cleaner_sr.onnx");
    let old = diffbir::bundle::sha256_file(&path).unwrap();
    std::fs::write(&path, model).unwrap();
    let new = diffbir::bundle::sha256_file(&path).unwrap();
    let manifest = std::fs::read_to_string(bundle.join("bundle.yaml")).unwrap();
    std::fs::write(bundle.join("bundle.yaml"), manifest.replace(&old, &new)).unwrap();
    let run = on_bundle(&program);
    run.code(3);
    run.says(&["cleaner_sr.onnx", "evil.bin", "does not list"]);
}

#[test]
fn a_library_that_others_may_write_is_not_loaded() {
    let program = Program::new();
    std::fs::set_permissions(program.dir(), Permissions::from_mode(0o700)).unwrap();
    let library = old_runtime(program.dir());
    let doctor = |mode| {
        std::fs::set_permissions(&library, Permissions::from_mode(mode)).unwrap();
        let mut command = program.command(&["doctor", "--offline"]);
        command.env("ORT_DYLIB_PATH", &library);
        let run = Run::of(command);
        run.code(4);
        run
    };
    doctor(0o755).prints(&["1.20.0"]);
    doctor(0o777).prints(&["others may write to it", "chmod go-w"]);
    // ONNX Runtime takes its providers from its own folder.
    let provider = program.dir().join("libonnxruntime_providers_shared.so");
    std::fs::write(&provider, b"").unwrap();
    std::fs::set_permissions(&provider, Permissions::from_mode(0o666)).unwrap();
    doctor(0o755).prints(&["providers_shared.so: others may write to it"]);
}

#[test]
fn a_cache_of_others_is_not_installed_into() {
    let program = Program::new();
    let runtime = program.dir().join("cache/runtime");
    std::fs::create_dir_all(&runtime).unwrap();
    let precious = program.dir().join("precious");
    std::fs::write(&precious, b"precious").unwrap();
    symlink(&precious, runtime.join(".lock")).unwrap();
    let run = Run::of(install(&program));
    run.code(4);
    run.says(&["cannot write to"]);
    assert_eq!(std::fs::read(&precious).unwrap(), b"precious");
    std::fs::remove_file(runtime.join(".lock")).unwrap();
    std::fs::set_permissions(&runtime, Permissions::from_mode(0o777)).unwrap();
    let run = Run::of(install(&program));
    run.code(4);
    run.says(&["runtime", "chmod go-w"]);
}

#[test]
fn killed_installations_are_cleared_away() {
    let program = Program::new();
    let stale = program.dir().join("cache/runtime/.staging-abc");
    std::fs::create_dir_all(stale.join("onnxruntime")).unwrap();
    // Without an index nothing is installed.
    Run::of(install(&program)).code(4);
    assert!(!stale.exists());
}

#[test]
fn texts_of_bundles_and_arguments_are_shown_without_escape_codes() {
    let program = Program::new();
    let bundle = program.copy_of_tiny("b\x1b[31m");
    let run = program.run(&["inspect", "b\x1b[31m"]);
    run.code(0);
    run.prints(&[r"b\u{1b}[31m: bundle format"]);
    assert!(!run.stdout().contains('\x1b'));
    let manifest = std::fs::read_to_string(bundle.join("bundle.yaml")).unwrap();
    let source = manifest
        .lines()
        .find(|line| line.trim().starts_with("source:"));
    let hostile = manifest.replace(source.unwrap(), "  source: \"a\\e[2Jb\"");
    std::fs::write(bundle.join("bundle.yaml"), hostile).unwrap();
    let run = program.run(&["inspect", "b\x1b[31m"]);
    run.code(3);
    run.does_not_say("\x1b");
    let run = program.run(&["restore", "--x\x1b[31m\u{9b}2J"]);
    run.code(2);
    run.says(&["unexpected argument"]);
    run.does_not_say("\x1b");
    run.does_not_say("\u{9b}");
}

#[test]
fn names_are_shown_as_one_line() {
    let program = Program::new();
    let name = "a\x1b[31m\nb.png";
    std::fs::write(program.dir().join(name), b"no picture").unwrap();
    let args = [
        "restore",
        name,
        "-o",
        "r.png",
        "--offline",
        "--bundle",
        &tiny(),
    ];
    let run = program.run(&args);
    run.code(1);
    run.says(&[r"a\u{1b}[31m\nb.png: not a picture"]);
    run.does_not_say("\x1b");
}
