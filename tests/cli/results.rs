//! Which files a run over several pictures reads, replaces and leaves.

use serde_json::Value;

use crate::program::{Program, Run, kill, picture};

/// Files of one picture each, below the program's folder.
fn pictures(names: &[&str]) -> Program {
    let program = Program::new();
    for (i, name) in names.iter().enumerate() {
        put(&program, name, &picture(16, 16 + 4 * i));
    }
    program
}

fn put(program: &Program, name: &str, bytes: &[u8]) {
    let path = program.dir().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// `diffbir restore` with these arguments and few steps.
fn restore(program: &Program, args: &str) -> Run {
    let fixed = "restore --steps 2 --upscale 1 --offline";
    let args: Vec<&str> = fixed.split(' ').chain(args.split(' ')).collect();
    program.tiny_bundle(&args)
}

#[test]
fn no_result_takes_the_place_of_any_input() {
    let program = pictures(&["in/a.png", "in/a_0.png", "in/b.png"]);
    let before = program.read("in/a_0.png");
    for more in ["", " --skip-existing", " --overwrite"] {
        let samples = format!("in/a.png in/a_0.png -o in --samples 2{more}");
        let run = restore(&program, &samples);
        run.code(2);
        run.says(&["in/a_0.png is an input, and a result of in/a.png would replace it"]);
    }
    // The input may be named by another way.
    std::os::unix::fs::symlink("b.png", program.dir().join("in/c.png")).unwrap();
    let run = restore(&program, "in/b.png -o in/c.png --overwrite");
    run.code(2);
    run.says(&["in/b.png is an input"]);
    assert_eq!(program.files("in"), ["a.png", "a_0.png", "b.png"]);
    assert!(program.read("in/a_0.png") == before);
}

#[test]
fn of_samples_that_exist_in_part_the_missing_ones_are_made() {
    let program = pictures(&["a.png"]);
    put(&program, "out/a_0.png", b"precious");
    restore(&program, "a.png -o out --samples 2").code(2);
    restore(&program, "a.png -o out --samples 2 --skip-existing").code(0);
    assert!(program.read("out/a_0.png") == b"precious");
    restore(&program, "a.png -o new --samples 2").code(0);
    assert!(program.read("out/a_1.png") == program.read("new/a_1.png"));
}

#[test]
fn a_picture_that_is_put_there_meanwhile_is_not_replaced() {
    let program = pictures(&["a.png", "b.png"]);
    let args = "restore a.png b.png -o out --steps 50 --upscale 1 --offline --skip-existing --json";
    let args: Vec<&str> = args.split(' ').collect();
    let run = program.when(&args, "\"event\":\"step\"", |_| {
        put(&program, "out/a.png", b"precious");
    });
    run.code(0);
    assert!(program.read("out/a.png") == b"precious");
}

/// The pictures of a run with `--json`, by their inputs: their status.
fn statuses(run: &Run) -> Vec<(String, String)> {
    let lines = run.stdout();
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pictures = lines.filter(|line| line["event"] == "picture");
    pictures
        .map(|line| (text(&line["input"]), text(&line["status"])))
        .collect()
}

#[test]
fn a_run_over_several_pictures_is_resumed_also_where_its_folders_were_moved() {
    let program = pictures(&["in/a.png", "in/b.png", "in/deep/a.png"]);
    let all = "--recursive --json";
    restore(&program, &format!("in -o whole {all}")).code(0);
    let args = format!("in -o out {all} --resume");
    // Without a ledger it is an ordinary run, and what is there is not its own.
    put(&program, "out/b.png", b"precious");
    let refused = restore(&program, &args);
    refused.code(2);
    refused.says(&["out/b.png exists, and the ledger does not say how it was made"]);
    assert!(program.read("out/b.png") == b"precious");
    std::fs::remove_dir_all(program.dir().join("out")).unwrap();
    restore(&program, &format!("in/a.png -o out {all}")).code(0);
    std::fs::create_dir(program.dir().join("there")).unwrap();
    for (from, to) in [("in", "there/lq"), ("out", "there/results")] {
        std::fs::rename(program.dir().join(from), program.dir().join(to)).unwrap();
    }
    let moved = format!("there/lq -o there/results {all} --resume");
    let run = restore(&program, &moved);
    run.code(0);
    let done = |name: &str, status: &str| (format!("there/lq/{name}"), status.to_owned());
    let mut pictures = statuses(&run);
    pictures.sort();
    assert_eq!(
        pictures,
        [
            done("a.png", "skipped"),
            done("b.png", "done"),
            done("deep/a.png", "done")
        ]
    );
    for name in ["a.png", "b.png", "deep/a.png"] {
        let result = program.read(&format!("there/results/{name}"));
        assert!(result == program.read(&format!("whole/{name}")), "{name}");
    }
    let other = restore(&program, &format!("{moved} --seed 8"));
    other.code(2);
    other.says(&["was made with other settings: sampling.seed was 231 and is 8"]);
    for two in ["--skip-existing", "--overwrite"] {
        restore(&program, &format!("{moved} {two}")).code(2);
    }
}

#[test]
fn a_result_that_was_changed_is_neither_trusted_nor_replaced() {
    let program = pictures(&["in/a.png", "in/b.png"]);
    restore(&program, "in -o out").code(0);
    put(&program, "out/a.png", b"precious");
    let run = restore(&program, "in -o out --resume");
    run.code(2);
    run.says(&["out/a.png was changed after it was made", "remove it"]);
    assert!(program.read("out/a.png") == b"precious");
    std::fs::remove_file(program.dir().join("out/a.png")).unwrap();
    put(&program, "in/b.png", &picture(16, 40));
    let run = restore(&program, "in -o out --resume");
    run.code(2);
    run.says(&["out/b.png was made of another picture"]);
    std::fs::remove_file(program.dir().join("out/b.png")).unwrap();
    restore(&program, "in -o out --resume").code(0);
}

#[test]
fn two_runs_at_once_do_not_make_the_same_results() {
    let program = pictures(&["in/f_1.png", "more/f_2.png"]);
    let args = "restore in -o out --frames --steps 300 --upscale 1 --offline --json";
    let args: Vec<&str> = args.split(' ').collect();
    let run = program.when(&args, "\"event\":\"step\"", |_| {
        for more in ["--frames --seed 5", "--overwrite", "--resume"] {
            let other = restore(&program, &format!("in -o out {more}"));
            other.code(2);
            other.says(&["another run is under way that makes out/f_1.png"]);
        }
        restore(&program, "more -o out --seed 5").code(0);
    });
    run.code(0);
    assert_eq!(program.files("out"), ["f_1.png", "f_2.png"]);
}

#[test]
fn temporary_files_of_killed_runs_are_removed_at_the_next_start() {
    let program = pictures(&["in/a.png", "in/b.png"]);
    let args = "restore in -o out --steps 300 --upscale 1 --offline --json";
    let args: Vec<&str> = args.split(' ').collect();
    let killed = program.when(&args, "\"event\":\"step\"", |id| kill(id, "KILL"));
    killed.killed();
    // What was written halfway; its lock went with its process, as that of the claim did.
    put(&program, "out/.diffbir-aB3xYz", b"half");
    put(&program, "out/.diffbir-notours", b"precious");
    assert!(program.files("out").len() > 2, "no claim was left");
    restore(&program, "in -o out --resume").code(0);
    assert_eq!(program.files("out"), [".diffbir-notours", "a.png", "b.png"]);
}

#[test]
fn a_folder_of_results_that_is_removed_meanwhile_is_an_error() {
    let program = Program::new();
    for name in ["in/f_1.png", "in/f_2.png", "in/f_3.png"] {
        put(&program, name, &picture(16, 16));
    }
    for more in ["--frames", "--recursive"] {
        let args = format!("restore in -o out --steps 50 --upscale 1 --offline --json {more}");
        let args: Vec<&str> = args.split(' ').collect();
        let run = program.when(&args, "\"status\":\"done\"", |_| {
            std::fs::remove_dir_all(program.dir().join("out")).unwrap();
        });
        run.code(1);
        run.says(&["out was removed or replaced during the run"]);
        let _ = std::fs::remove_dir_all(program.dir().join("out"));
    }
}

#[test]
fn stages_keep_the_shape_of_the_folders() {
    let program = pictures(&["in/x/p.png", "in/y/p.png"]);
    let args = "in -o out --recursive --save-stages stages";
    restore(&program, args).code(0);
    for folder in ["stages/x", "stages/y"] {
        let files = program.files(folder);
        assert_eq!(
            files,
            ["p_color_fixed.png", "p_decoded.png", "p_stage1.png"]
        );
    }
    assert!(program.read("stages/x/p_stage1.png") != program.read("stages/y/p_stage1.png"));
    let again = restore(&program, "in -o again --recursive --save-stages stages");
    again.code(2);
    again.says(&["stages/x/p_stage1.png exists"]);
    // Results of two kinds, and one name for their stages.
    put(&program, "both/a.png", &picture(16, 16));
    put(&program, "both/a.bmp", &picture(16, 16));
    let twins = restore(&program, "both -o twins --format input --save-stages s");
    twins.code(2);
    twins.says(&["would all be written to s/a_stage1.png"]);
    // A stage may not take the place of an input either.
    put(&program, "both/a_stage1.png", &picture(16, 16));
    let over = restore(
        &program,
        "both/a.png both/a_stage1.png -o new --save-stages both --overwrite",
    );
    over.code(2);
    over.says(&["both/a_stage1.png is an input"]);
}

#[test]
fn folders_give_their_pictures_once_and_nothing_else() {
    let program = pictures(&[
        "in/a.png",
        "in/deep/b.png",
        "in/._a.png",
        "in/.hidden/c.png",
    ]);
    let fifo = std::process::Command::new("mkfifo")
        .arg(program.dir().join("in/pipe.png"))
        .status();
    assert!(fifo.unwrap().success());
    std::os::unix::fs::symlink("..", program.dir().join("in/deep/loop")).unwrap();
    let args = "in -o in/out --recursive --json";
    let run = restore(&program, args);
    run.code(0);
    run.prints(&["\"hidden\":2,\"links\":1,", "\"special\":1,"]);
    let mut names: Vec<String> = statuses(&run).into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(names, ["in/a.png", "in/deep/b.png"]);
    let run = restore(&program, &format!("{args} --resume"));
    run.code(0);
    assert_eq!(statuses(&run).len(), 2);
    // Results among the inputs.
    restore(&program, "in -o in --format webp").code(0);
    let run = restore(&program, "in/*.* -o in --format webp --resume --json");
    run.code(0);
    run.prints(&["\"results\":1,"]);
    assert_eq!(statuses(&run).len(), 1);
}

#[test]
fn an_output_that_is_a_link_to_nothing_is_found_before_the_work() {
    let program = pictures(&["a.png"]);
    std::os::unix::fs::symlink("nowhere", program.dir().join("r.png")).unwrap();
    std::os::unix::fs::symlink("nowhere", program.dir().join("out")).unwrap();
    for more in ["", " --skip-existing", " --resume"] {
        restore(
            &program,
            &format!("a.png -o r.png{more} --set runtime.library=/none"),
        )
        .code(2);
    }
    let run = restore(&program, "a.png -o out");
    run.code(1);
    run.says(&["cannot write into out"]);
    run.does_not_say("step");
}

#[test]
fn a_batch_says_how_far_it_is_and_its_seconds_add_up() {
    let program = pictures(&["in/a.png", "in/b.png", "in/c.png"]);
    restore(&program, "in/b.png -o out").code(0);
    let run = restore(&program, "in -o out --resume --json");
    run.code(0);
    let lines = run.stdout();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let pictures: Vec<&Value> = lines
        .iter()
        .filter(|line| line["event"] == "picture")
        .collect();
    let numbers: Vec<&Value> = pictures.iter().map(|line| &line["number"]).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert!(pictures.iter().all(|line| line["of"] == 3));
    assert_eq!(pictures[2]["seconds_left"], 0.0);
    for picture in pictures.iter().filter(|line| line["status"] == "done") {
        let seconds = picture["seconds"].as_object().unwrap();
        let of = |part: &str| seconds[part].as_f64().unwrap();
        let parts = seconds.iter().filter(|(part, _)| *part != "total");
        let sum: f64 = parts.map(|(_, seconds)| seconds.as_f64().unwrap()).sum();
        assert!((sum - of("total")).abs() < 1e-6, "{seconds:?}");
        assert!(of("read") > 0.0 && of("write") > 0.0 && of("sampling") > 0.0);
    }
    assert!(
        lines.last().unwrap()["pictures_per_minute"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    restore(&program, "in -o lines").says(&["[3 of 3, ", "a minute, 0s left]"]);
}

/// The short form of `tests/campaigns/kill.py`.
#[test]
fn a_killed_run_is_finished_by_resume_with_the_same_bytes() {
    let names: Vec<String> = (0..12).map(|i| format!("in/f_{i:02}.png")).collect();
    let program = Program::new();
    for (i, name) in names.iter().enumerate() {
        put(&program, name, &picture(16 + i, 16));
    }
    restore(&program, "in -o whole").code(0);
    let args = "restore in -o out --steps 2 --upscale 1 --offline --json --resume";
    let args: Vec<&str> = args.split(' ').collect();
    for sign in [
        "\"step\":2",
        "\"stage\":\"finish\"",
        "\"number\":1,",
        "\"number\":4,",
        "\"number\":8,",
    ] {
        program.when(&args, sign, |id| kill(id, "KILL")).killed();
        let results = || {
            program
                .files("out")
                .into_iter()
                .filter(|name| !name.starts_with('.'))
        };
        let there: Vec<String> = results().map(|name| format!("in/{name}")).collect();
        let run = program.tiny_bundle(&args);
        run.code(0);
        let mut skipped = statuses(&run);
        skipped.retain(|(_, status)| status == "skipped");
        let mut skipped: Vec<String> = skipped.into_iter().map(|(name, _)| name).collect();
        skipped.sort();
        assert_eq!(skipped, there, "{sign}");
        assert_eq!(program.files("out"), program.files("whole"), "{sign}");
        for name in program.files("whole") {
            let read = |folder: &str| program.read(&format!("{folder}/{name}"));
            assert!(read("out") == read("whole"), "{sign}: {name}");
        }
        std::fs::remove_dir_all(program.dir().join("out")).unwrap();
    }
}
