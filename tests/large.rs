//! Memory as a user meets it: plans, budgets, odd sizes, and 16-bit pictures, on the tiny bundle.

#![allow(clippy::unwrap_used)] // what fails here fails the test

#[path = "common/program.rs"]
#[allow(dead_code)] // what only the program's other tests use
mod program;

use diffbir::imageio::{self, BitDepth, DecodeOptions, EncodeOptions, Kept, Picture, Pixels};
use ndarray::Array3;
use program::{Program, Run, picture};

fn put(program: &Program, name: &str, bytes: &[u8]) -> String {
    let path = program.dir().join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_string_lossy().into_owned()
}

/// The lines of `--json`, each held against the schema.
fn lines(run: &Run) -> Vec<serde_json::Value> {
    let schema: serde_json::Value = serde_json::from_str(diffbir::cli::REPORT_SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let stdout = run.stdout();
    let line = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(
            validator.is_valid(&value),
            "does not fit the schema: {line}"
        );
        value
    };
    stdout.lines().map(line).collect()
}

fn of<'a>(lines: &'a [serde_json::Value], event: &str) -> Vec<&'a serde_json::Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

#[test]
fn a_dry_run_prints_the_plan_and_does_nothing() {
    let program = Program::new();
    let input = put(&program, "a.png", &picture(300, 500));
    let dry = [
        "restore",
        &input,
        "-o",
        "b.png",
        "--dry-run",
        "--memory-budget",
        "700MiB",
    ];
    let run = program.tiny_bundle(&dry);
    run.code(0);
    run.prints(&[
        "2000x1200, at most",
        "of 700MiB",
        "in exact tiles of",
        "in exact bands of",
        "in tiles of 768 pixels",
    ]);
    assert_eq!(program.files("."), ["a.png"]);
    let run = program.tiny_bundle(&[&dry[..], &["--json"]].concat());
    run.code(0);
    let lines = lines(&run);
    let plan = &of(&lines, "plan")[0]["plan"];
    assert_eq!(plan["output"], serde_json::json!([1200, 2000]));
    let most = plan["stages"]
        .as_object()
        .unwrap()
        .values()
        .map(|bytes| bytes.as_u64().unwrap())
        .max();
    assert!(most.unwrap() <= plan["budget"].as_u64().unwrap());
    // A plan does not depend on how much is free, where a budget is given.
    let again = program.tiny_bundle(&[&dry[..], &["--json"]].concat());
    assert_eq!(of(&self::lines(&again), "plan"), of(&lines, "plan"));
}

#[test]
fn what_does_not_fit_is_refused_beforehand_and_named() {
    let program = Program::new();
    let large = put(&program, "large.png", &picture(700, 900));
    let args = [
        "restore",
        &large,
        "-o",
        "out",
        "--steps",
        "2",
        "--memory-budget",
        "300MiB",
    ];
    let run = program.tiny_bundle(&args);
    run.code(5);
    run.says(&[
        "large.png: the picture does not fit into 300MiB (tiling.memory_budget)",
        "smallest budget that would do is",
    ]);
    assert!(program.files("out").is_empty());
    // Beside one that fits it is one failure among others.
    let small = put(&program, "small.png", &picture(8, 8));
    let run = program.tiny_bundle(&[&args[..], &[&small]].concat());
    run.code(1);
    assert_eq!(program.files("out"), ["small.png"]);
}

#[test]
fn odd_sizes_work_within_the_budget() {
    let program = Program::new();
    let budget = 700_u64 << 20;
    for (height, width) in [(1, 1), (1, 4000), (4000, 1), (53, 37), (513, 511)] {
        let input = put(&program, "in.png", &picture(height, width));
        let options = [
            "--steps",
            "2",
            "--upscale",
            "1",
            "--overwrite",
            "--json",
            "--memory-budget",
            "700MiB",
        ];
        let run = program
            .tiny_bundle(&[&["restore", input.as_str(), "-o", "out.png"], &options[..]].concat());
        run.code(0);
        let lines = lines(&run);
        let done = of(&lines, "picture")[0];
        assert_eq!(
            (&done["height"], &done["width"]),
            (&height.into(), &width.into())
        );
        if let Some(peak) = of(&lines, "end")[0]["peak_memory_bytes"].as_u64() {
            eprintln!("{width}x{height}: {} MiB of {}", peak >> 20, budget >> 20);
            assert!(peak <= budget, "{width}x{height}: {peak} of {budget} bytes");
        }
    }
}

/// A PNG of 16 bits.
fn deep(value: impl Fn(usize, usize, usize) -> u16) -> Vec<u8> {
    let pixels = Array3::from_shape_fn((40, 48, 3), |(y, x, c)| value(y, x, c));
    let kept = Kept {
        depth: BitDepth::Sixteen,
        ..Kept::default()
    };
    imageio::encode(
        &pixels.into(),
        &kept,
        EncodeOptions::default(),
        &Default::default(),
    )
    .unwrap()
}

fn read(program: &Program, name: &str) -> Picture {
    imageio::decode(&program.read(name), DecodeOptions::up_to(1 << 24)).unwrap()
}

#[test]
fn sixteen_bits_go_in_and_come_out() {
    let program = Program::new();
    let value = |y: usize, x: usize, c: usize| (y * 5 + x * 3 + c * 20) as u16;
    let input = put(&program, "deep.png", &deep(|y, x, c| value(y, x, c) * 257));
    let options = ["--steps", "2", "--upscale", "1", "--json"];
    let restore = |more: &[&str]| {
        let run = program.tiny_bundle(&[&["restore", input.as_str()], more, &options[..]].concat());
        run.code(0);
        let lines = lines(&run);
        of(&lines, "picture")[0]["dropped"].clone()
    };
    assert_eq!(restore(&["-o", "deep_out.png"]), serde_json::json!([]));
    let made = read(&program, "deep_out.png");
    let Pixels::U16(deep_made) = made.pixels else {
        panic!("8 bits");
    };
    let levels: std::collections::BTreeSet<u16> = deep_made.iter().copied().collect();
    assert!(
        levels.len() > 256,
        "{} levels: 8 bits widened",
        levels.len()
    );
    // The 8-bit result of the same picture is the same but for its rounding.
    restore(&["-o", "eight.png", "--depth", "8"]);
    let eight = read(&program, "eight.png");
    let Pixels::U8(eight) = eight.pixels else {
        panic!("16 bits");
    };
    for (deep, eight) in deep_made.iter().zip(&eight) {
        assert!((i32::from(*deep) - i32::from(*eight) * 257).abs() <= 257);
    }
    assert_eq!(
        restore(&["-o", "eight.jpg"]),
        serde_json::json!(["16-bit depth"])
    );
    // A picture of 8 bits is restored to 16 where that is asked for.
    let shallow = put(&program, "shallow.png", &picture(40, 48));
    program
        .tiny_bundle(&[
            "restore",
            &shallow,
            "-o",
            "up.png",
            "--depth",
            "16",
            "--steps",
            "2",
            "--upscale",
            "1",
        ])
        .code(0);
    let Pixels::U16(up) = read(&program, "up.png").pixels else {
        panic!("8 bits");
    };
    let levels: std::collections::BTreeSet<u16> = up.iter().copied().collect();
    assert!(levels.len() > 256);
}

#[test]
fn what_lies_between_8_bit_steps_reaches_the_networks() {
    let program = Program::new();
    let inputs = [0, 100].map(|more| {
        let name = format!("in{more}.png");
        put(
            &program,
            &name,
            &deep(|y, x, c| (y * 5 + x * 3 + c * 20) as u16 * 256 + more),
        )
    });
    let results = inputs.map(|input| {
        let args = [
            "restore",
            &input,
            "-o",
            "out.png",
            "--cleaner",
            "none",
            "--overwrite",
        ];
        program
            .tiny_bundle(
                &[
                    &args[..],
                    &["--steps", "2", "--upscale", "1", "--color-fix", "adain"],
                ]
                .concat(),
            )
            .code(0);
        read(&program, "out.png").pixels
    });
    assert_ne!(results[0], results[1]);
}
