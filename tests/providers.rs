//! Execution providers as a user configures them.

#![allow(clippy::unwrap_used)] // what fails here fails the test

#[path = "common/program.rs"]
#[allow(dead_code)] // providers need little of it
mod program;

use std::path::{Path, PathBuf};
use std::process::Command;

use diffbir::imageio::{self, DecodeOptions};
use program::{Program, Run, picture};
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn config(name: &str) -> String {
    format!("{}/configs/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn write(program: &Program, name: &str, bytes: &[u8]) -> String {
    let path = program.dir().join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_string_lossy().into_owned()
}

/// The facts that `doctor` prints, whatever it ends with.
fn doctor(program: &Program) -> Value {
    serde_json::from_str(&program.run(&["doctor", "--json"]).stdout()).unwrap()
}

/// Whether CUDA is here, so that a test of its absence has nothing to test.
fn has_cuda(program: &Program) -> bool {
    let facts = doctor(program);
    let mut providers = facts["providers"].as_array().unwrap().iter();
    let cuda = providers.find(|entry| entry["provider"] == "cuda").unwrap();
    if cuda["loads"] == true {
        eprintln!("SKIPPED: CUDA is here");
    }
    cuda["loads"] == true
}

const ARGS: [&str; 4] = ["--steps", "2", "--upscale", "1"];

#[test]
fn cuda_where_there_is_none_fails_and_names_what_is_missing() {
    let program = Program::new();
    if has_cuda(&program) {
        return;
    }
    let input = write(&program, "a.png", &picture(16, 16));
    let args = [
        "restore",
        &input,
        "-o",
        "r.png",
        "--config",
        &config("cuda.yaml"),
    ];
    let run = program.tiny_bundle(&[&args[..], &ARGS].concat());
    run.code(4);
    run.says(&[
        "the provider `cuda` does not load: missing lib",
        "`diffbir runtime install --gpu`",
        "`optional: true`",
    ]);
    assert!(!program.dir().join("r.png").exists());
    let run = program.tiny_bundle(&["doctor", "--config", &config("cuda.yaml")]);
    run.code(4);
    run.prints(&[
        "* cuda          does not load: missing",
        "graphs: not loaded",
    ]);
}

#[test]
fn an_optional_provider_is_passed_over_and_this_is_said() {
    let program = Program::new();
    if has_cuda(&program) {
        return;
    }
    let input = write(&program, "a.png", &picture(16, 16));
    let yaml = "runtime: { providers: [ cuda: { optional: true }, cpu ] }";
    let config = write(&program, "c.yaml", yaml.as_bytes());
    let restore = |out, more: &[&str]| {
        let args = ["restore", &input, "-o", out, "--config", &config];
        let run = program.tiny_bundle(&[&args[..], &ARGS, more].concat());
        run.code(0);
        run
    };
    let said = restore("1.png", &[]);
    said.says(&["going on without the optional provider `cuda`: missing "]);
    let lines = restore("2.png", &["--json"]).stdout();
    let events: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let notes = events.iter().filter(|event| event["event"] == "note");
    assert_eq!(notes.count(), 1);
    let end = events.last().unwrap();
    assert_eq!(end["passed_over"][0]["provider"], "cuda");
    let done = events
        .iter()
        .find(|event| event["status"] == "done")
        .unwrap();
    let graphs = done["provenance"]["graphs"].as_object().unwrap();
    assert!(
        graphs
            .values()
            .all(|ran| ran["provider"] == "CPUExecutionProvider")
    );
    assert_eq!(program.read("1.png"), program.read("2.png"));
}

#[test]
fn an_override_is_for_a_graph_that_is_there() {
    let program = Program::new();
    let input = write(&program, "a.png", &picture(16, 16));
    let set = "runtime.graphs={ vae_decodr: { providers: [cpu] } }";
    let args = ["restore", &input, "-o", "r.png", "--set", set];
    let run = program.tiny_bundle(&[&args[..], &ARGS].concat());
    run.code(3);
    run.says(&["runtime.graphs.vae_decodr", "did you mean `vae_decoder`"]);
}

#[test]
fn an_option_that_would_give_wrong_pictures_is_refused() {
    let program = Program::new();
    let input = write(&program, "a.png", &picture(16, 16));
    let set = "runtime.providers=[{ cuda: { cuda_graph: true, optional: true } }, cpu]";
    let never = "runtime.io_binding=never";
    let args = [
        "restore", &input, "-o", "r.png", "--set", set, "--set", never,
    ];
    let run = program.tiny_bundle(&[&args[..], &ARGS].concat());
    run.code(3);
    run.says(&["cuda.cuda_graph", "runtime.io_binding"]);
}

#[test]
fn a_plugin_that_is_named_must_be_there() {
    let program = Program::new();
    let input = write(&program, "a.png", &picture(16, 16));
    let set = "runtime.providers=[{ openvino: { library: /nowhere/plugin.so } }, cpu]";
    let args = ["restore", &input, "-o", "r.png", "--set", set];
    let run = program.tiny_bundle(&[&args[..], &ARGS].concat());
    run.code(4);
    run.says(&[
        "`openvino` does not load: /nowhere/plugin.so: no such file",
        "--openvino",
    ]);
}

/// A Python environment that has OpenVINO's plugin: the active one, else that of `tests/run.sh`.
fn environment_with_openvino() -> Option<PathBuf> {
    let active = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let places = active.into_iter().chain([root().join("target/venv")]);
    let has_plugin = |prefix: &PathBuf| {
        let versions = std::fs::read_dir(prefix.join("lib"))
            .into_iter()
            .flatten()
            .flatten();
        let package = "site-packages/onnxruntime_ep_openvino";
        versions
            .into_iter()
            .any(|entry| entry.path().join(package).is_dir())
    };
    places.into_iter().find(has_plugin)
}

/// What is preloaded so that OpenVINO's plugin offers its CPU device here too; `None` on Intel's processors.
fn pretence(program: &Program) -> Option<PathBuf> {
    if doctor(program)["devices"][0]["vendor"] == "Intel" {
        return None;
    }
    let library = program.dir().join("intel.so");
    let source = root().join("tests/common/intel.c");
    let cc = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    assert!(cc.unwrap().success());
    eprintln!("not an Intel processor: OpenVINO's plugin is told that it is one");
    Some(library)
}

/// Mean and largest difference of two pictures, in levels.
fn difference(a: &Path, b: &Path) -> (f64, i32) {
    let read = |path| {
        let picture = imageio::read(path, DecodeOptions::up_to(1 << 20)).unwrap();
        picture.pixels.to_u8().mapv(i32::from)
    };
    let difference = (read(a) - read(b)).mapv(i32::abs);
    let largest = difference.iter().copied().max().unwrap();
    (
        f64::from(difference.sum()) / difference.len() as f64,
        largest,
    )
}

#[test]
fn openvino_gives_the_cpus_picture() {
    let Some(environment) = environment_with_openvino().filter(|_| cfg!(target_os = "linux"))
    else {
        eprintln!("SKIPPED: no onnxruntime-ep-openvino in target/venv, tests/run.sh installs it");
        return;
    };
    let program = Program::new();
    let pretence = pretence(&program);
    let bundle = root().join("onnx/demo").to_string_lossy().into_owned();
    let run = |args: &[&str]| {
        let mut command = program.command(&[args, &["--bundle", &bundle]].concat());
        command.env("VIRTUAL_ENV", &environment);
        if let Some(library) = &pretence {
            command.env("LD_PRELOAD", library);
        }
        let run = Run::of(command);
        run.code(0);
        run.stdout()
    };
    let input = format!("{bundle}/pictures/chelsea.png");
    for name in ["cpu", "openvino"] {
        let (out, config) = (format!("{name}.png"), config(&format!("{name}.yaml")));
        let args = [
            "restore", &input, "-o", &out, "--config", &config, "--json", "--steps", "10",
        ];
        let lines = run(&args);
        let ran = match name {
            "cpu" => "CPUExecutionProvider",
            _ => "OpenVINOExecutionProvider",
        };
        assert_eq!(
            lines.matches(&format!("\"provider\":\"{ran}\"")).count(),
            4,
            "{lines}"
        );
    }
    let place = |name| program.dir().join(name);
    let (mean, largest) = difference(&place("cpu.png"), &place("openvino.png"));
    eprintln!("openvino against cpu: mean {mean:.6} levels, largest {largest}");
    assert!(
        mean <= 0.05 && largest <= 2,
        "mean {mean}, largest {largest}"
    );

    let facts = run(&["doctor", "--json", "--config", &config("openvino.yaml")]);
    let facts: Value = serde_json::from_str(&facts).unwrap();
    for graph in facts["graphs"].as_array().unwrap() {
        assert_eq!(graph["provider"], "OpenVINOExecutionProvider", "{graph}");
        let nodes = graph["nodes"]["OpenVINOExecutionProvider"]
            .as_u64()
            .unwrap();
        assert!(nodes > 100, "{graph}");
        assert_eq!(graph["copies"], 0);
    }
}
