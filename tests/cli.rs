//! The program as a user types it, on the tiny bundle and on bundles made for one mistake each.

#![allow(clippy::unwrap_used)] // what fails here fails the test

#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/field.rs"]
mod field;
#[path = "cli/frames.rs"]
mod frames;
#[path = "cli/hostile.rs"]
mod hostile;
#[path = "cli/kept.rs"]
mod kept;
#[path = "cli/names.rs"]
mod names;
#[path = "common/program.rs"]
mod program;
#[path = "cli/results.rs"]
mod results;
#[path = "cli/sizes.rs"]
mod sizes;
#[path = "cli/stage1.rs"]
mod stage1;
#[path = "cli/streams.rs"]
mod streams;
#[path = "cli/video.rs"]
mod video;

use std::path::Path;

use program::{Program, Run, picture};

fn write(dir: &Path, name: &str, bytes: &[u8]) -> String {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_string_lossy().into_owned()
}

/// A PNG header that claims 60,000 x 60,000 pixels, and no pixels behind it.
fn bomb() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 60_000, 60_000);
    encoder.set_color(png::ColorType::Rgb);
    encoder
        .write_header()
        .unwrap()
        .write_chunk(png::chunk::IDAT, &[])
        .unwrap();
    bytes
}

#[test]
fn bad_pictures_are_named_and_the_rest_is_done() {
    let program = Program::new();
    let good = picture(24, 24);
    let inputs = [
        write(program.dir(), "empty.png", b""),
        write(program.dir(), "truncated.png", &good[..good.len() / 2]),
        write(program.dir(), "text.png", b"this is no picture"),
        write(program.dir(), "bomb.png", &bomb()),
        program
            .dir()
            .join("absent.png")
            .to_string_lossy()
            .into_owned(),
        write(program.dir(), "good.png", &good),
    ];
    let mut args = vec!["restore", "-o", "out", "--steps", "2", "--upscale", "2"];
    args.extend(inputs.iter().map(String::as_str));
    let run = program.tiny_bundle(&args);
    run.code(1);
    run.says(&[
        "empty.png: not a picture",
        "truncated.png: damaged",
        "text.png: not a picture",
    ]);
    run.says(&[
        "bomb.png: 60000x60000 is 3600000000 pixels",
        "absent.png: cannot be read",
    ]);
    assert_eq!(program.files("out"), ["good.png"]);
}

#[test]
fn a_picture_that_is_not_finite_fails_alone_and_leaves_no_file() {
    let program = Program::new();
    let inputs = ["a.png", "b.png"].map(|name| write(program.dir(), name, &picture(24, 24)));
    let args = [
        "restore", &inputs[0], &inputs[1], "-o", "out", "--steps", "2",
    ];
    let noisy = ["--sampler", "edm_euler_a", "--s-noise", "1e38"];
    let run = program.tiny_bundle(&[&args[..], &noisy].concat());
    run.code(1);
    for name in ["a.png", "b.png"] {
        run.says(&[&format!(
            "{name}: sampling, sample 0: the latent after step 1 of 2 is not finite"
        )]);
    }
    run.says(&["s_noise"]);
    assert!(program.files("out").is_empty());
}

#[test]
fn a_result_carries_how_it_was_made_and_equal_runs_are_equal() {
    let program = Program::new();
    let input = write(program.dir(), "a.png", &picture(24, 20));
    let args = |out| {
        [
            "restore",
            input.as_str(),
            "-o",
            out,
            "--steps",
            "2",
            "--upscale",
            "2",
            "--seed",
            "7",
        ]
    };
    for out in ["1.png", "2.png"] {
        program.tiny_bundle(&args(out)).code(0);
    }
    let (one, two) = (program.read("1.png"), program.read("2.png"));
    assert_eq!(one, two);
    let reader = png::Decoder::new(std::io::Cursor::new(&one))
        .read_info()
        .unwrap();
    assert_eq!((reader.info().width, reader.info().height), (40, 48));
    let chunk = reader
        .info()
        .utf8_text
        .iter()
        .find(|chunk| chunk.keyword == "diffbir")
        .unwrap();
    let made: serde_json::Value = serde_json::from_str(&chunk.get_text().unwrap()).unwrap();
    assert_eq!(made["sampling"]["seed"], 7);
    assert_eq!(
        made["graphs"]["denoiser"]["provider"],
        "CPUExecutionProvider"
    );
    assert_eq!(made["bundle"].as_str().unwrap().len(), 64);
    let plain = [&args("3.png")[..], &["--no-metadata"]].concat();
    program.tiny_bundle(&plain).code(0);
    assert!(!String::from_utf8_lossy(&program.read("3.png")).contains("diffbir"));
}

#[test]
fn json_lines_fit_the_documented_schema() {
    let program = Program::new();
    let good = write(program.dir(), "good.png", &picture(24, 24));
    let bad = write(program.dir(), "bad.png", b"");
    let args = [
        "restore",
        &good,
        &bad,
        "-o",
        "out",
        "--steps",
        "2",
        "--upscale",
        "1",
        "--json",
    ];
    let run = program.tiny_bundle(&args);
    run.code(1);
    let schema: serde_json::Value = serde_json::from_str(diffbir::cli::REPORT_SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut events = Vec::new();
    for line in run.stdout().lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(
            validator.is_valid(&value),
            "does not fit the schema: {line}"
        );
        events.push(value);
    }
    let of = |event: &str| {
        events
            .iter()
            .filter(|value| value["event"] == event)
            .count()
    };
    assert_eq!(
        (
            of("start"),
            of("step"),
            of("stage"),
            of("picture"),
            of("end")
        ),
        (1, 2, 5, 2, 1)
    );
    let done = events
        .iter()
        .find(|value| value["status"] == "done")
        .unwrap();
    for key in [
        "cleaner",
        "vae_encoder",
        "sampling",
        "vae_decoder",
        "finish",
        "load.sampling",
        "total",
    ] {
        assert!(
            done["seconds"][key].as_f64().is_some_and(|x| x >= 0.0),
            "{key}"
        );
    }
    let end = events.last().unwrap();
    assert!(end["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(end["startup_seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn results_are_not_replaced_unless_told_so() {
    let program = Program::new();
    let input = write(program.dir(), "a.png", &picture(16, 16));
    write(program.dir(), "r.png", b"precious");
    let args = [
        "restore",
        &input,
        "-o",
        "r.png",
        "--steps",
        "2",
        "--upscale",
        "1",
    ];
    let refused = program.tiny_bundle(&args);
    refused.code(2);
    refused.says(&["r.png exists", "--overwrite"]);
    let skipped = program.tiny_bundle(&[&args[..], &["--skip-existing"]].concat());
    skipped.code(0);
    assert_eq!(program.read("r.png"), b"precious");
    program
        .tiny_bundle(&[&args[..], &["--overwrite"]].concat())
        .code(0);
    assert_ne!(program.read("r.png"), b"precious");
}

#[test]
fn two_inputs_for_one_result_are_refused_before_work() {
    let program = Program::new();
    let one = write(program.dir(), "a.png", &picture(16, 16));
    let two = write(program.dir(), "a.bmp", &picture(16, 16));
    let run = program.tiny_bundle(&["restore", &one, &two, "-o", "out"]);
    run.code(2);
    run.says(&[
        "a.png and",
        "a.bmp would all be written to out/a.png",
        "--name",
    ]);
    assert!(program.files("out").is_empty());
}

#[test]
fn bad_options_and_configurations() {
    let program = Program::new();
    let input = write(program.dir(), "a.png", &picture(16, 16));
    let restore = |more: &[&str], code: i32, says: &[&str]| {
        let args = [&["restore", input.as_str(), "-o", "r.png"], more].concat();
        let run = program.tiny_bundle(&args);
        run.code(code);
        run.says(says);
        assert!(!program.dir().join("r.png").exists());
    };
    restore(
        &["--steps", "0"],
        2,
        &["sampling.steps is 0, expected at least 2"],
    );
    restore(&["--steps", "1001"], 2, &["at most 1000"]);
    restore(&["--steps", "many"], 2, &["many"]);
    restore(
        &["--sampler", "spacd"],
        2,
        &["a similar value exists: 'spaced'"],
    );
    restore(&["--cfg-scale", "nan"], 2, &["sampling.cfg_scale"]);
    restore(
        &["--task", "deblur"],
        2,
        &["this bundle serves denoise, face, sr"],
    );
    restore(
        &["--prompt", "a cat"],
        2,
        &["no text encoder", "the prompts it can serve are \"\""],
    );
    restore(
        &["--set", "sampling.stepz=3"],
        2,
        &[
            "unknown key `sampling.stepz`",
            "did you mean `sampling.steps`",
        ],
    );
    restore(
        &["--set", "runtime.providers=[gpu]"],
        2,
        &["unknown provider `gpu`"],
    );
    for (yaml, says) in [
        ("sampling: { stepz: 3 }", "did you mean `sampling.steps`"),
        ("steps: 3", "did you mean `sampling.steps`"),
        ("sampling: { steps: 3, steps: 4 }", "steps"),
        ("sampling: { steps: 0 }", "expected at least 2"),
        (
            "sampling: { steps: many }",
            "sampling.steps: string \"many\", expected a whole number",
        ),
        ("sampling: 3", "expected a mapping"),
        (
            "runtime: { providers: [ cpu: { thread: 2 } ] }",
            "did you mean `threads`",
        ),
        ("]", "not valid YAML"),
    ] {
        let config = write(program.dir(), "c.yaml", yaml.as_bytes());
        restore(&["--config", &config], 3, &["c.yaml", says]);
    }
    restore(&["--config", "absent.yaml"], 3, &["absent.yaml"]);
}

/// Every value is held against what the sampler and the bundle accept before the runtime is even looked for.
#[test]
fn sampling_options_that_cannot_work_are_refused_at_once() {
    let program = Program::new();
    let input = write(program.dir(), "a.png", &picture(16, 16));
    let library = ["--set", "runtime.library=/nowhere/libonnxruntime.so"];
    for (flags, says) in [
        (
            "--sampler edm_euler_a --eta -1",
            "sampling.eta is -1, expected at least 0",
        ),
        (
            "--sampler ddim --eta 1.5",
            "sampling.eta is 1.5, expected 0 to 1",
        ),
        (
            "--eta 1",
            "the sampler spaced ignores it (it uses no parameters)",
        ),
        (
            "--sampler edm_lms --order 5",
            "sampling.order is 5, expected 1 to 4",
        ),
        (
            "--sampler unipc --order 1",
            "sampling.order is 1, expected 2 to 3",
        ),
        (
            "--sampler edm_heun --s_churn -1",
            "sampling.s_churn is -1, expected at least 0",
        ),
        (
            "--sampler edm_heun --order 2",
            "it uses s_churn, s_tmin, s_tmax, s_noise",
        ),
        ("--sampler edm_heun --s-noise nan", "sampling.s_noise"),
        (
            "--sampler dpm++_m3 --steps 2",
            "expected at least 3 for the sampler dpm++_m3",
        ),
        (
            "--sampler edm_dpm_2s",
            "a similar value exists: 'edm_dpm_2'",
        ),
        ("--steps 1001", "at most 1000"),
        ("--cfg-scale nan", "sampling.cfg_scale"),
        (
            "--noise-aug 1000",
            "sampling.noise_aug is 1000, expected at most 999",
        ),
        (
            "--strength 1,2,3",
            "sampling.strength has 3 values, expected 1 or 13",
        ),
        ("--start-point middle", "[possible values: noise, cond]"),
        ("--seed-mode each", "[possible values: per-sample, stream]"),
        ("--rng philox", "expected torch-cpu, torch-cuda"),
        ("--samples 0", "sampling.samples is 0, expected 1 to 1024"),
        (
            "--batch-size 0",
            "sampling.batch_size is 0, expected 1 to 1024",
        ),
        ("--guidance-scale -1", "guidance.scale is -1"),
        (
            "--guidance-scale 1 --guidance-loss w-mse",
            "set guidance.space to rgb",
        ),
        (
            "--guidance-start 10 --guidance-stop 20",
            "start has to be above stop",
        ),
        ("--tile cldm=96:32", "SIZE a multiple of 64"),
        ("--tile cldm=512:600", "at most SIZE"),
        ("--tile cldm=some", "cldm=auto, cldm=none"),
        (
            "--set tiling.cldm=some",
            "tiling.cldm: string \"some\", expected auto, none, SIZE",
        ),
        (
            "--tile cleaner=100",
            "expected a multiple of 64 for this task's cleaner",
        ),
        ("--tile vae_decoder=256:128", "vae_decoder (SIZE alone)"),
        ("--tile vae_encoder=0", "tiling.vae_encoder is 0"),
        ("--tile unet=64", "expected STAGE=SIZE"),
        ("--memory-budget lots", "`lots` is no size"),
        (
            "--negative-prompt dirt --cfg-scale 4",
            "the prompts it can serve are \"\"",
        ),
    ] {
        let mut args = vec!["restore", input.as_str(), "-o", "r.png"];
        args.extend(flags.split(' '));
        args.extend(library);
        let run = program.tiny_bundle(&args);
        run.code(2);
        run.says(&[says]);
        assert_eq!(program.files("."), ["a.png"], "{flags}");
    }
}

#[test]
fn several_samples_are_numbered_files_and_equal_single_runs() {
    let program = Program::new();
    let input = write(program.dir(), "a.png", &picture(24, 20));
    let args = |out, more: &[&'static str]| -> Vec<String> {
        let fixed = [
            "restore",
            &input,
            "-o",
            out,
            "--steps",
            "2",
            "--upscale",
            "1",
            "--no-metadata",
        ];
        fixed
            .iter()
            .chain(more)
            .map(|arg| arg.to_string())
            .collect()
    };
    let run = |args: Vec<String>| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        program.tiny_bundle(&args).code(0);
    };
    run(args(
        "r.png",
        &["--samples", "3", "--batch-size", "2", "--seed", "7"],
    ));
    assert_eq!(
        program.files("."),
        ["a.png", "r_0.png", "r_1.png", "r_2.png"]
    );
    for (k, seed) in ["7", "8", "9"].into_iter().enumerate() {
        run(args("one.png", &["--overwrite", "--seed", seed]));
        let difference = difference(&program, "one.png", &format!("r_{k}.png"));
        assert!(difference <= 1, "sample {k} is {difference} levels off");
    }
    run(args(
        "s.png",
        &[
            "--n_samples",
            "2",
            "--batch_size",
            "2",
            "--seed-mode",
            "stream",
        ],
    ));
    run(args(
        "t.png",
        &[
            "--n_samples",
            "2",
            "--batch_size",
            "1",
            "--seed-mode",
            "stream",
        ],
    ));
    // Sample 0 begins with the same numbers; sample 1 with those after sample 0's, or after x_T of both.
    assert_ne!(program.read("s_1.png"), program.read("t_1.png"));
}

#[test]
fn results_are_of_the_kind_that_is_asked_for_and_keep_alpha() {
    let program = Program::new();
    let rgba = image::RgbaImage::from_fn(20, 16, |x, y| {
        image::Rgba([
            (x * 9) as u8,
            (y * 9) as u8,
            60,
            if x < 10 { 0 } else { 255 },
        ])
    });
    let input = program.dir().join("a.png");
    rgba.save(&input).unwrap();
    let input = input.to_str().unwrap();
    let args = ["restore", input, "--steps", "2", "--upscale", "2"];
    let run = |more: &[&str]| program.tiny_bundle(&[&args[..], more].concat());
    run(&["-o", "r.webp"]).code(0);
    let result = image::open(program.dir().join("r.webp")).unwrap();
    assert_eq!((result.width(), result.height()), (40, 32));
    let result = result.to_rgba8();
    assert_eq!(
        (result.get_pixel(2, 9).0[3], result.get_pixel(37, 9).0[3]),
        (0, 255)
    );

    let jpeg = run(&["-o", "out", "--format", "jpeg", "--quality", "50"]);
    jpeg.code(0);
    jpeg.says(&["not carried over: alpha"]);
    assert_eq!(program.files("out"), ["a.jpg"]);
    run(&["-o", "r.png", "--format", "jpeg"]).code(2);
    run(&["-o", "r.jpg", "--quality", "0"]).code(2);
}

/// The largest difference of two pictures, in levels.
fn difference(program: &Program, a: &str, b: &str) -> i32 {
    let read = |name| {
        let picture = diffbir::imageio::read(
            &program.dir().join(name),
            diffbir::imageio::DecodeOptions::up_to(1 << 20),
        )
        .unwrap();
        picture.pixels.to_u8().mapv(i32::from)
    };
    let difference = (read(a) - read(b)).mapv(i32::abs);
    *difference.iter().max().unwrap()
}

#[test]
fn a_folder_in_another_order_gives_identical_files() {
    let program = Program::new();
    let inputs: Vec<String> = [("a", 16), ("b", 24), ("c", 20)]
        .map(|(name, side)| write(program.dir(), &format!("{name}.png"), &picture(side, 16)))
        .to_vec();
    let run = |out, inputs: Vec<&str>| {
        let args = [
            "restore",
            "-o",
            out,
            "--steps",
            "2",
            "--upscale",
            "1",
            "--sampler",
            "edm_euler_a",
        ];
        program.tiny_bundle(&[&args[..], &inputs].concat()).code(0);
    };
    run("forth", inputs.iter().map(String::as_str).collect());
    run("back", inputs.iter().rev().map(String::as_str).collect());
    for name in ["a.png", "b.png", "c.png"] {
        let read = |folder: &str| program.read(&format!("{folder}/{name}"));
        assert_eq!(read("forth"), read("back"), "{name}");
    }
}

#[test]
fn a_caption_beside_a_picture_is_part_of_its_prompt_where_that_can_be() {
    let program = Program::new();
    let input = write(program.dir(), "a.png", &picture(16, 16));
    write(program.dir(), "a.txt", b"a cat\n");
    let args = [
        "restore",
        input.as_str(),
        "-o",
        "r.png",
        "--steps",
        "2",
        "--upscale",
        "1",
    ];
    // One that the bundle does not serve is said, and never fails its picture.
    let run = program.tiny_bundle(&args);
    run.code(0);
    run.says(&[
        "its caption is ignored",
        "prompt \"a cat\"",
        "no text encoder",
    ]);
    let quiet = program.tiny_bundle(&[&args[..], &["--no-captions", "--overwrite"]].concat());
    quiet.code(0);
    quiet.does_not_say("caption");
    write(program.dir(), "a.txt", b"\xff\xff\xff");
    let run = program.tiny_bundle(&[&args[..], &["--overwrite"]].concat());
    run.code(0);
    run.says(&["its caption is ignored", "UTF-16"]);
    // The prompt is another matter.
    let run = program.tiny_bundle(&[&args[..], &["--overwrite", "--prompt", "a cat"]].concat());
    run.code(2);
    run.says(&["no text encoder"]);
}

#[test]
fn guidance_tells_its_loss() {
    let program = Program::new();
    let input = write(program.dir(), "a.png", &picture(16, 16));
    for space in ["latent", "rgb"] {
        let args = [
            "restore",
            input.as_str(),
            "-o",
            "r.png",
            "--overwrite",
            "--steps",
            "3",
            "--upscale",
            "1",
            "--json",
            "--guidance",
            "--g_scale",
            "20",
            "--g_space",
            space,
            "--g_start",
            "800",
        ];
        let run = program.tiny_bundle(&args);
        run.code(0);
        let losses: Vec<serde_json::Value> = run
            .stdout()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter(|line| line["event"] == "step")
            .map(|line| line["guidance_loss"].clone())
            .collect();
        assert!(losses[0].is_null(), "timestep 999 is not below 800");
        assert!(
            losses[1..].iter().all(|loss| loss.as_f64().unwrap() > 0.0),
            "{losses:?}"
        );
    }
}

#[test]
fn a_provider_that_does_not_load_fails_loudly_unless_optional() {
    let program = Program::new();
    let input = write(program.dir(), "a.png", &picture(16, 16));
    let args = |out, providers| {
        [
            "restore",
            input.as_str(),
            "-o",
            out,
            "--steps",
            "2",
            "--upscale",
            "1",
            "--set",
            providers,
        ]
    };
    let run = program.tiny_bundle(&args("1.png", "runtime.providers=[tensorrt, cpu]"));
    run.code(4);
    run.says(&["`tensorrt` does not load", "libnvinfer.so.10"]);
    let device = [
        &args("1.png", "runtime.memory=auto")[..],
        &["--device", "tensorrt"],
    ]
    .concat();
    program.tiny_bundle(&device).code(4);
    let optional = "runtime.providers=[{tensorrt: {optional: true}}, cpu]";
    program.tiny_bundle(&args("2.png", optional)).code(0);
    assert_eq!(program.files("."), ["2.png", "a.png"]);
}

#[test]
fn broken_bundles_are_refused_before_anything_runs() {
    let program = Program::new();
    let input = write(program.dir(), "a.png", &picture(16, 16));
    let restore = |bundle: &str, says: &[&str]| {
        let run = program.run(&["restore", &input, "-o", "r.png", "--bundle", bundle]);
        run.code(3);
        run.says(says);
        assert!(!program.dir().join("r.png").exists());
    };
    restore("absent", &["no such bundle", "absent"]);
    restore(".", &["no bundle here"]);
    // Away from the checkout there is no demo bundle.
    let elsewhere = program.dir().join("diffbir");
    std::fs::copy(env!("CARGO_BIN_EXE_diffbir"), &elsewhere).unwrap();
    let run = program::Run::of(program.command_of(&elsewhere, &["restore", &input, "-o", "r.png"]));
    run.code(3);
    run.says(&["no bundle: give --bundle"]);

    let copy = program.copy_of_tiny("flipped");
    for file in ["vae_decoder.onnx", "denoiser.onnx.data"] {
        let path = copy.join(file);
        let sound = std::fs::read(&path).unwrap();
        let mut damaged = sound.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        restore("flipped", &[file, "SHA-256", "expected"]);
        std::fs::write(&path, sound).unwrap();
    }
    let change = |name: &str, from: &str, to: &str| {
        let dir = program.copy_of_tiny(name);
        let manifest = std::fs::read_to_string(dir.join("bundle.yaml")).unwrap();
        assert!(manifest.contains(from));
        std::fs::write(dir.join("bundle.yaml"), manifest.replacen(from, to, 1)).unwrap();
    };
    change("newer", "format: 1", "format: 2");
    restore("newer", &["bundle format 2", "reads format 1"]);
    change("extra", "min_short_edge:", "min_shirt_edge:");
    restore("extra", &["bundle.yaml", "min_short_edge"]);
    change("graph", "kind: vae_encoder", "kind: vae_decoder");
    restore("graph", &["no graph of kind VaeEncoder"]);
}

#[test]
fn a_graph_without_the_named_input_is_refused() {
    let program = Program::new();
    let input = write(program.dir(), "a.png", &picture(16, 16));
    let dir = program.copy_of_tiny("swapped");
    // The decoder's file in the cleaner's place: sound by its hash, wrong by its contract.
    let cleaner = dir.join("cleaner_sr.onnx");
    let old = diffbir::bundle::sha256_file(&cleaner).unwrap();
    std::fs::copy(dir.join("vae_decoder.onnx"), &cleaner).unwrap();
    let new = diffbir::bundle::sha256_file(&cleaner).unwrap();
    let manifest = std::fs::read_to_string(dir.join("bundle.yaml")).unwrap();
    std::fs::write(dir.join("bundle.yaml"), manifest.replace(&old, &new)).unwrap();
    let run = program.run(&["restore", &input, "-o", "r.png", "--bundle", "swapped"]);
    run.code(3);
    run.says(&[
        "cleaner_sr.onnx",
        "inputs [\"latent\"], expected [\"image\"]",
    ]);
    assert!(!program.dir().join("r.png").exists());
}

#[test]
fn two_installations_at_once_make_one() {
    let program = Program::new();
    let bin = program.dir().join("bin");
    std::fs::create_dir(&bin).unwrap();
    // A Python whose pip writes the library in two parts, so that a second one in between would show.
    let pip = "#!/bin/sh\n[ \"$4\" = --version ] && exit 0\necho ran >> \"$DIFFBIR_CACHE/ran\"\n\
        while [ \"$1\" != --target ]; do shift; done\nmkdir -p \"$2/onnxruntime/capi\"\n\
        printf half > \"$2/onnxruntime/capi/libonnxruntime.so.1\"\nprintf half >> \"$2/onnxruntime/capi/libonnxruntime.so.1\"\n";
    let python = write(&bin, "python3", pip.as_bytes());
    std::fs::set_permissions(&python, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let cache = program.dir().join("cache");
    std::fs::create_dir(&cache).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let install = || {
        let mut command = program.command(&["runtime", "install"]);
        command.env("DIFFBIR_CACHE", &cache).env("PATH", &path);
        program::Run::of(command)
    };
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(install)).collect();
        for run in runs {
            run.join().unwrap().code(0);
        }
    });
    assert_eq!(
        std::fs::read_to_string(cache.join("ran")).unwrap(),
        "ran\n",
        "one of them installs, the others find it"
    );
    assert_eq!(program.files("cache/runtime"), [".lock"]);
    let installed = install();
    installed.code(0);
    let library = Path::new(installed.stdout().trim()).join("onnxruntime/capi/libonnxruntime.so.1");
    assert_eq!(std::fs::read_to_string(library).unwrap(), "halfhalf");
}

#[test]
fn an_output_that_cannot_be_written_is_found_out_first() {
    let program = Program::new();
    let input = write(program.dir(), "a.png", &picture(16, 16));
    write(program.dir(), "file", b"");
    let run = program.tiny_bundle(&["restore", &input, "-o", "file/below"]);
    run.code(1);
    run.says(&["cannot write into file/below"]);
    run.does_not_say("step 1");
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let program = Program::new();
    let input = write(program.dir(), "a.png", &picture(64, 64));
    let out = program.dir().join("small");
    std::fs::create_dir(&out).unwrap();
    let Some(disk) = program::SmallDisk::mount(&out) else {
        eprintln!("SKIPPED: this user may not mount a tmpfs");
        return;
    };
    let run = program.tiny_bundle(&[
        "restore",
        &input,
        "-o",
        "small",
        "--steps",
        "2",
        "--upscale",
        "8",
    ]);
    run.code(1);
    run.says(&["a.png: cannot write", "No space left"]);
    assert!(program.files("small").is_empty());
    drop(disk);
}

#[test]
fn a_missing_runtime_is_not_installed_offline() {
    let program = Program::new();
    let input = write(program.dir(), "a.png", &picture(16, 16));
    let mut command = program.command(&[
        "restore",
        &input,
        "-o",
        "r.png",
        "--offline",
        "--bundle",
        &program::tiny(),
    ]);
    command
        .env("DIFFBIR_CACHE", program.dir().join("empty"))
        .env_remove("VIRTUAL_ENV")
        .env_remove("CONDA_PREFIX");
    command.env_remove("ORT_DYLIB_PATH");
    let run = program::Run::of(command);
    run.code(4);
    run.says(&["no ONNX Runtime library found", "--offline forbids"]);
}

#[test]
fn a_named_runtime_that_is_too_old_is_refused_and_a_found_one_skipped() {
    let program = Program::new();
    let input = write(program.dir(), "a.png", &picture(16, 16));
    let old = program::old_runtime(program.dir());
    let args = [
        "restore",
        &input,
        "-o",
        "r.png",
        "--steps",
        "2",
        "--upscale",
        "1",
        "--bundle",
        &program::tiny(),
    ];
    let mut command = program.command(&args);
    command.env("ORT_DYLIB_PATH", &old);
    let run = program::Run::of(command);
    run.code(4);
    run.says(&[
        "ORT_DYLIB_PATH",
        "is ONNX Runtime 1.20.0, wanted: 1.31 or newer",
    ]);
    let named = format!("runtime.library={}", old.display());
    let run = program.run(&[&args[..], &["--set", &named]].concat());
    run.code(4);
    run.says(&["runtime.library", "1.20.0"]);

    // Beside the executable it is only found: the one in the cache is taken instead, with a note.
    let beside = program.dir().join("diffbir");
    std::fs::copy(env!("CARGO_BIN_EXE_diffbir"), &beside).unwrap();
    let mut command = program.command_of(&beside, &args);
    command.env_remove("ORT_DYLIB_PATH");
    let run = program::Run::of(command);
    run.code(0);
    run.says(&["skipped (beside the executable)", "1.20.0"]);
}

#[test]
fn ctrl_c_stops_between_steps_and_leaves_nothing() {
    let program = Program::new();
    let input = write(program.dir(), "a.png", &picture(16, 16));
    let args = [
        "restore",
        &input,
        "-o",
        "out",
        "--steps",
        "1000",
        "--upscale",
        "1",
        "--json",
    ];
    let run = program.interrupt_at(&args, "\"event\":\"step\"");
    run.code(130);
    run.says(&["stopped on request"]);
    assert!(program.files("out").is_empty());
}

#[test]
fn stages_are_kept_on_request() {
    let program = Program::new();
    let input = write(program.dir(), "a.png", &picture(16, 24));
    let args = [
        "restore",
        &input,
        "-o",
        "r.png",
        "--steps",
        "2",
        "--upscale",
        "1",
        "--save-stages",
        "stages",
    ];
    program.tiny_bundle(&args).code(0);
    assert_eq!(
        program.files("stages"),
        ["r_color_fixed.png", "r_decoded.png", "r_stage1.png"]
    );
}

#[test]
fn inspect_doctor_and_config_tell_the_truth() {
    let program = Program::new();
    let run = program.run(&["inspect", &program::tiny()]);
    run.code(0);
    run.prints(&["family v1", "denoiser", "all files verified"]);
    let run = program.run(&["doctor", "--bundle", &program::tiny(), "--json"]);
    run.code(0);
    let facts: serde_json::Value = serde_json::from_str(&run.stdout()).unwrap();
    assert_eq!(facts["devices"][0]["provider"], "CPUExecutionProvider");
    for graph in facts["graphs"].as_array().unwrap() {
        let nodes = graph["nodes"]["CPUExecutionProvider"].as_u64().unwrap();
        assert!(nodes > 10, "{graph}");
    }
    assert_eq!(facts["verdict"]["state"], "works");
    let mut command = program.command(&["doctor", "--offline"]);
    command.env("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so");
    let run = Run::of(command);
    run.code(4);
    let verdict = run.stdout().lines().last().unwrap_or_default().to_owned();
    assert!(
        verdict.starts_with("verdict: will not run; first: "),
        "{verdict}"
    );
    assert!(
        verdict.contains("unset it and run `diffbir runtime install`"),
        "{verdict}"
    );
    let mut command = program.command(&["config"]);
    command
        .env_remove("DIFFBIR_BUNDLE")
        .env("XDG_DATA_HOME", program.dir());
    Run::of(command).prints(&["# No bundle is named: the defaults are those of DiffBIR v1"]);
    let run = program.run(&["config", "--steps", "many"]);
    run.code(2);
    run.says(&["--steps", "expected a whole number"]);
    run.does_not_say("invalid digit");
    let run = program.run(&[
        "config",
        "--bundle",
        &program::tiny(),
        "--set",
        "sampling.seed=9",
    ]);
    run.code(0);
    let config: serde_json::Value = serde_yaml::from_str(&run.stdout()).unwrap();
    assert_eq!(config["sampling"]["seed"], 9);
    assert_eq!(config["sampling"]["steps"], 50);
}

#[test]
#[cfg(target_os = "linux")]
fn doctor_and_config_find_the_bundle_that_a_run_would() {
    let program = Program::new();
    let data = program.dir().join("data");
    std::fs::create_dir_all(data.join("diffbir")).unwrap();
    let bundle = program.copy_of_tiny("data/diffbir/bundle");
    let manifest = bundle.join("bundle.yaml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("sampler: spaced", "sampler: ddim")).unwrap();
    // The engine's own default, spaced, would refuse it.
    std::fs::write(program.dir().join("c.yaml"), "sampling: { eta: 0.5 }").unwrap();
    for (command, sign) in [
        ("config", "sampler: ddim"),
        ("doctor", "data/diffbir/bundle"),
    ] {
        let mut command = program.command(&[command, "--config", "c.yaml"]);
        command
            .env("XDG_DATA_HOME", &data)
            .env_remove("DIFFBIR_BUNDLE");
        let run = Run::of(command);
        run.code(0);
        assert!(run.stdout().contains(sign), "{}", run.stdout());
    }
}

#[test]
fn the_denoisers_tiles_have_a_spelling_for_each_plan() {
    let program = Program::new();
    let config = |flags: &[&str]| {
        let run = program.run(&[&["config"], flags].concat());
        run.code(0);
        let config: serde_json::Value = serde_yaml::from_str(&run.stdout()).unwrap();
        config["tiling"]["cldm"].clone()
    };
    let reference = serde_json::json!({ "size": 512, "stride": 256 });
    assert_eq!(config(&[]), "auto");
    assert_eq!(config(&["--tile", "cldm=auto"]), "auto");
    assert_eq!(config(&["--tile", "cldm=none"]), "none");
    for flags in [
        &["--cldm_tiled"][..],
        &["--tile", "cldm=512"],
        &["--tile", "cldm=512:256"],
        &["--set", "tiling.cldm=512:256"],
        &[
            "--set",
            "tiling.cldm={ size: 640, overlap: 128 }",
            "--tile",
            "cldm=512",
        ],
    ] {
        assert_eq!(config(flags), reference, "{flags:?}");
    }
    let even = config(&["--set", "tiling.cldm={ size: 640, overlap: 128 }"]);
    assert_eq!(even, serde_json::json!({ "size": 640, "overlap": 128 }));
}

#[test]
fn the_configurations_that_ship_are_sound() {
    let program = Program::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path().to_string_lossy().into_owned();
        program.run(&["config", "--config", &path]).code(0);
    }
}

/// Runs the demo with few steps.
fn demo(program: &Program, flags: &[&str]) -> program::Run {
    let mut command = program.command(&[&["demo", "--steps", "2"], flags].concat());
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .arg("-o")
        .arg(program.dir().join("out"));
    program::Run::of(command)
}

#[test]
fn the_demo_writes_a_sheet() {
    let program = Program::new();
    let run = demo(&program, &[]);
    run.code(0);
    run.says(&["side by side"]);
    run.does_not_say("random weights");
    let sheet = diffbir::imageio::read(
        &program.dir().join("out/sheet.png"),
        diffbir::imageio::DecodeOptions::up_to(1 << 24),
    )
    .unwrap();
    assert!(
        sheet.pixels.size().1 > 3 * 384,
        "three pictures side by side"
    );
    assert_eq!(
        program.files("out"),
        ["astronaut.png", "chelsea.png", "coffee.png", "sheet.png"]
    );
}

#[test]
fn the_demo_says_what_random_weights_do() {
    let program = Program::new();
    let run = demo(&program, &["--bundle", &program::tiny()]);
    run.code(0);
    run.says(&["random weights"]);
}
