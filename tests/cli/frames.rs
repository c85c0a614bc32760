//! `--frames`: a numbered sequence, restored alike, in order, and resumable.

use std::os::unix::fs::MetadataExt;

use serde_json::Value;

use crate::program::{Program, Run, picture};
use crate::write;

/// A folder `in` with these files, all of the same picture.
fn sequence(names: &[&str]) -> Program {
    let program = Program::new();
    let folder = program.dir().join("in");
    std::fs::create_dir(&folder).unwrap();
    for name in names {
        write(&folder, name, &picture(16, 24));
    }
    program
}

/// Restores `inputs` as frames into `out` with few steps.
fn restore(program: &Program, inputs: &[&str], more: &[&str]) -> Run {
    let flags = [
        "-o",
        "out",
        "--frames",
        "--steps",
        "2",
        "--upscale",
        "1",
        "--json",
    ];
    program.tiny_bundle(&[&["restore"], inputs, &flags, more].concat())
}

/// Lines of a run that fit the schema, as many as there are.
fn lines(run: &Run) -> Vec<Value> {
    let schema: Value = serde_json::from_str(diffbir::cli::REPORT_SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let parse = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        assert!(validator.is_valid(&value), "does not fit: {line}");
        value
    };
    run.stdout().lines().map(parse).collect()
}

/// The inputs in the order of their reports, each with its status.
fn pictures(run: &Run) -> Vec<(String, String)> {
    let lines = lines(run);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pictures = lines.iter().filter(|line| line["event"] == "picture");
    pictures
        .map(|line| (text(&line["input"]), text(&line["status"])))
        .collect()
}

fn notes(run: &Run) -> Vec<String> {
    let lines = lines(run).into_iter();
    let notes = lines.filter(|line| line["event"] == "note");
    notes
        .map(|line| line["message"].as_str().unwrap().to_owned())
        .collect()
}

/// What a file is now: another one has another inode or time.
fn stamp(program: &Program, name: &str) -> (u64, i64, i64) {
    let metadata = std::fs::metadata(program.dir().join(name)).unwrap();
    (metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
}

/// Their results, without the file that says how they were made.
fn results(program: &Program) -> Vec<String> {
    let mut files = program.files("out");
    files.retain(|name| !name.starts_with('.'));
    files
}

#[test]
fn frames_go_by_their_numbers_and_get_the_noise_of_single_pictures() {
    let names = ["img10.png", "img9.png", "img100.png"];
    for more in [&[][..], &["--seed-mode", "stream"]] {
        let program = sequence(&names);
        let sampler = ["--sampler", "edm_euler_a"];
        let run = restore(&program, &["in"], &[&sampler[..], more].concat());
        run.code(0);
        let order: Vec<String> = pictures(&run).into_iter().map(|(name, _)| name).collect();
        assert_eq!(order, ["in/img9.png", "in/img10.png", "in/img100.png"]);
        assert!(notes(&run)[0].contains("from 9 to 100 has gaps: 11 to 99 (89 missing)"));
        assert_eq!(results(&program), ["img10.png", "img100.png", "img9.png"]);
        let single = [
            "restore",
            "in/img10.png",
            "-o",
            "one.png",
            "--steps",
            "2",
            "--upscale",
            "1",
        ];
        program
            .tiny_bundle(&[&single[..], &sampler, more].concat())
            .code(0);
        for name in names {
            let frame = program.read(&format!("out/{name}"));
            assert_eq!(frame, program.read("one.png"), "{name}");
        }
    }
}

#[test]
fn a_stopped_run_goes_on() {
    let program = sequence(&["f_0001.png", "f_0002.png", "f_0003.png"]);
    let args = [
        "restore",
        "in/f_*.png",
        "-o",
        "out",
        "--frames",
        "--steps",
        "150",
        "--upscale",
        "1",
    ];
    let stopped = program.interrupt_at(&[&args[..], &["--json"]].concat(), "\"status\":\"done\"");
    stopped.code(130);
    let first = stamp(&program, "out/f_0001.png");
    let made = results(&program).len();
    assert!(made < 3, "the run was over before it was stopped");
    let run = program.tiny_bundle(&args);
    run.code(0);
    run.says(&["f_0001.png exists, skipped"]);
    assert_eq!(
        results(&program),
        ["f_0001.png", "f_0002.png", "f_0003.png"]
    );
    assert_eq!(stamp(&program, "out/f_0001.png"), first);
    assert_eq!(
        program.read("out/f_0003.png"),
        program.read("out/f_0001.png")
    );
}

#[test]
fn a_removed_result_alone_is_made_anew_in_every_kind_of_file() {
    for more in [
        &[][..],
        &["--format", "jpeg", "--no-metadata"],
        &["--samples", "2"],
    ] {
        let program = sequence(&["f_1.png", "f_2.png", "f_3.png"]);
        restore(&program, &["in"], more).code(0);
        let before = results(&program);
        let removed = before.iter().find(|name| name.starts_with("f_2")).unwrap();
        let contents = program.read(&format!("out/{removed}"));
        std::fs::remove_file(program.dir().join("out").join(removed)).unwrap();
        let stamps = || {
            ["f_1", "f_3"].map(|frame| {
                let of_frame = before.iter().filter(|name| name.starts_with(frame));
                let stamps = of_frame.map(|name| stamp(&program, &format!("out/{name}")));
                stamps.collect::<Vec<_>>()
            })
        };
        let kept = stamps();
        let run = restore(&program, &["in"], more);
        run.code(0);
        let status: Vec<String> = pictures(&run)
            .into_iter()
            .map(|(_, status)| status)
            .collect();
        assert_eq!(status, ["skipped", "done", "skipped"]);
        assert_eq!(stamps(), kept);
        assert_eq!(results(&program), before);
        assert_eq!(program.read(&format!("out/{removed}")), contents);
    }
}

#[test]
fn results_of_other_settings_are_refused_or_replaced_as_a_whole() {
    let program = sequence(&["f_1.png", "f_2.png"]);
    restore(&program, &["in"], &[]).code(0);
    let old = stamp(&program, "out/f_2.png");
    for (flags, says) in [
        (["--seed", "8"], "sampling.seed was 231 and is 8"),
        (
            ["--set", "output.metadata=false"],
            "output.metadata was true and is false",
        ),
    ] {
        let run = restore(&program, &["in"], &flags);
        run.code(2);
        run.says(&[
            "out/f_1.png was made with other settings",
            says,
            "--overwrite",
        ]);
    }
    // Memory decides nothing about a result.
    restore(&program, &["in"], &["--memory-budget", "2GiB"]).code(0);
    assert_eq!(stamp(&program, "out/f_2.png"), old);
    restore(&program, &["in"], &["--seed", "8", "--dry-run"]).code(2);
    // One frame of the two: the other's result is still known to be one of the old settings.
    let part = ["--seed", "8", "--overwrite"];
    restore(&program, &["in/f_1.png"], &part).code(0);
    for (seed, frame) in [("8", "f_2"), ("231", "f_1")] {
        let run = restore(&program, &["in"], &["--seed", seed]);
        run.code(2);
        run.says(&[&format!("out/{frame}.png was made with other settings")]);
    }
    assert_eq!(stamp(&program, "out/f_2.png"), old);
    restore(&program, &["in"], &part).code(0);
    assert_ne!(stamp(&program, "out/f_2.png"), old);
    let run = restore(&program, &["in"], &["--seed", "8"]);
    run.code(0);
    assert!(pictures(&run).iter().all(|(_, status)| status == "skipped"));
}

#[test]
fn another_sequence_of_the_same_names_and_unknown_results_are_refused() {
    let program = sequence(&["f_1.png", "f_2.png"]);
    restore(&program, &["in"], &[]).code(0);
    std::fs::create_dir(program.dir().join("other")).unwrap();
    write(&program.dir().join("other"), "f_1.png", &picture(16, 20));
    let run = restore(&program, &["other"], &[]);
    run.code(2);
    run.says(&["out/f_1.png was made of another picture or caption than other/f_1.png is now"]);
    std::fs::remove_file(program.dir().join("out/.diffbir-ledger.jsonl")).unwrap();
    let run = restore(&program, &["in"], &[]);
    run.code(2);
    run.says(&["out/f_1.png exists, and the ledger does not say how it was made"]);
}

#[test]
fn what_is_not_one_sequence_is_refused_before_work() {
    let refused = |program: &Program, code: i32, says: &[&str]| {
        let run = restore(program, &["in"], &[]);
        run.code(code);
        run.says(says);
        assert!(program.files("out").is_empty());
    };
    refused(
        &sequence(&["cover.png", "f_1.png"]),
        2,
        &["in/cover.png and in/f_1.png are not frames of one sequence"],
    );
    refused(&sequence(&["a.png"]), 2, &["no number"]);
    refused(
        &sequence(&["f_01.png", "f_1.png"]),
        2,
        &["are both frame 1"],
    );
    let program = sequence(&["f_1.png", "f_2.png"]);
    write(&program.dir().join("in"), "f_3.png", &picture(16, 20));
    let sizes = [
        "in/f_1.png is 24x16 pixels as png",
        "in/f_3.png is 20x16 pixels",
    ];
    refused(&program, 2, &sizes);
    write(&program.dir().join("in"), "f_3.png", b"no picture");
    refused(&program, 1, &["in/f_3.png: not a picture"]);
    let program = sequence(&["f_1.png", "f_2.png"]);
    write(&program.dir().join("in"), "f_2.txt", b"a cat");
    refused(&program, 2, &["have different captions", "--no-captions"]);
    restore(&program, &["in"], &["--no-captions"]).code(0);
}

#[test]
fn a_dry_run_plans_every_frame_and_writes_nothing() {
    let program = sequence(&["f_1.png", "f_2.png"]);
    let run = restore(&program, &["in"], &["--dry-run"]);
    run.code(0);
    let plans = lines(&run)
        .into_iter()
        .filter(|line| line["event"] == "plan");
    assert_eq!(plans.count(), 2);
    assert!(!program.dir().join("out").exists());
}
