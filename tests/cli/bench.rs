//! `diffbir bench`: what it tells, never how long that took.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use super::program::{Program, Run, tiny};

fn lines(run: &Run) -> Vec<Value> {
    let lines = run.stdout();
    let parsed = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    parsed.collect()
}

fn is_time(value: &Value) -> bool {
    value.as_f64().is_some_and(|seconds| seconds >= 0.0)
}

#[test]
fn every_stage_is_timed() {
    let program = Program::new();
    let args = ["bench", "--steps", "2", "--runs", "2", "--size", "320x256"];
    let json = ["--json", "--tensors", "tensors.safetensors"];
    let run = program.tiny_bundle(&[&args[..], &json[..]].concat());
    run.code(0);
    let told = lines(&run);
    assert_eq!(told.len(), 1, "one object");
    let told = &told[0];
    assert_eq!(
        (&told["width"], &told["height"]),
        (&320.into(), &256.into())
    );
    for stage in [
        "cleaner",
        "vae_encoder",
        "sampling",
        "vae_decoder",
        "finish",
    ] {
        for figure in ["median", "min", "first_load"] {
            assert!(
                is_time(&told["stages"][stage][figure]) || stage == "finish",
                "{stage} {figure}"
            );
        }
    }
    assert!(is_time(&told["step"]["median"]) && is_time(&told["whole"]["min"]));
    assert!(told["startup_seconds"].as_f64().unwrap() > 0.0);
    let runs = told["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    assert!(
        runs.iter()
            .all(|run| run["steps"].as_array().unwrap().len() == 2)
    );
    assert!(told["machine"]["threads"].as_u64().unwrap() >= 1);
    assert!(told["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
    assert_eq!(
        told["graphs"]["denoiser"]["provider"],
        "CPUExecutionProvider"
    );
    assert_eq!(told["versions"]["diffbir"], env!("CARGO_PKG_VERSION"));
    assert!(told["versions"]["onnxruntime"].is_string());

    let tensors = program.read("tensors.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&tensors).unwrap();
    let shape = |name: &str| tensors.tensor(name).unwrap().shape().to_vec();
    assert_eq!(shape("lq"), [64, 80, 3]);
    assert_eq!(shape("stage1"), [1, 3, 256, 320]);
    assert_eq!(shape("x_t"), [1, 4, 32, 40]);
    assert_eq!(shape("c_img"), shape("z"));
    assert_eq!(shape("decoded"), shape("stage1"));

    let run = program.tiny_bundle(&args);
    run.code(0);
    run.prints(&["320x256, 2 steps of spaced", "cleaner", "  a step", "whole"]);
    run.prints(&["start-up", "until the first graph ran", "denoiser"]);
}

#[test]
fn a_paced_run_waits_for_its_line() {
    let program = Program::new();
    let bundle = tiny();
    let args = ["bench", "--paced", "--json", "--steps", "2", "--bundle"];
    let mut command = program.command(&[&args[..], &[&bundle]].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"go\ngo\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .collect();
    let names: Vec<&str> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["ready", "run", "run", "bench"]);
    assert!(events[0]["versions"]["onnxruntime"].is_string());
    assert!(is_time(&events[1]["stages"]["cleaner"]));
    assert_eq!(events[3]["runs"].as_array().unwrap().len(), 2);
}

#[test]
fn modes_do_not_mix() {
    let program = Program::new();
    for flags in [
        &["--paced"][..],
        &["--sizes", "256"],
        &["--memory", "--size", "256"],
        &["--graphs", "--runs", "2"],
        &["--runs", "0"],
        &["--size", "0x3"],
    ] {
        let run = program.tiny_bundle(&[&["bench"][..], flags].concat());
        run.code(2);
        run.does_not_say("panicked");
    }
}
