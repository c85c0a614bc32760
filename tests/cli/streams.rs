//! `-`, streams that are closed or full, and terminals.

use std::io::Write;
use std::process::{Command, Stdio};

use diffbir::imageio::{self, DecodeOptions};

use crate::program::{Program, Run, picture, tiny};

const FAST: &str = "--sampler ddim --steps 1 --upscale 1 --offline";

/// `restore` with `words` and little work on the tiny bundle.
fn restore(program: &Program, words: &str) -> Command {
    let mut command = program.command(&["restore", "--bundle", &tiny()]);
    command.args(words.split(' ')).args(FAST.split(' '));
    command
}

/// Exit code, standard output and standard error of `command`, which gets `input`.
fn piped(mut command: Command, input: &[u8]) -> (Option<i32>, Vec<u8>, String) {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A run that is refused does not read.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), output.stdout, stderr)
}

#[test]
fn a_picture_goes_through_pipes() {
    let program = Program::new();
    let input = picture(24, 40);
    std::fs::write(program.dir().join("a.png"), &input).unwrap();
    // A file of that name is another one.
    std::fs::write(program.dir().join("-"), b"a file").unwrap();
    Run::of(restore(&program, "a.png -o r.png")).code(0);
    let (code, result, stderr) = piped(restore(&program, "- -o - --json --save-stages s"), &input);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(result == program.read("r.png"));
    let events = stderr.lines().map(|line| -> serde_json::Value {
        serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))
    });
    let events: Vec<_> = events.collect();
    let done = events.iter().find(|event| event["event"] == "picture");
    assert_eq!(done.unwrap()["input"], "-");
    assert_eq!(done.unwrap()["outputs"], serde_json::json!(["-"]));
    let stages = ["color_fixed", "decoded", "stage1"].map(|stage| format!("stdin_{stage}.png"));
    assert_eq!(program.files("s"), stages);

    let (code, jpeg, stderr) = piped(restore(&program, "- -o - --format jpeg"), &input);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(jpeg[..3], [0xff, 0xd8, 0xff]);
    let (code, tiff, _) = piped(restore(&program, "a.png -o - --format tiff --quiet"), b"");
    assert_eq!(code, Some(0));
    let decoded = imageio::decode(&tiff, DecodeOptions::up_to(10_000)).unwrap();
    assert_eq!(decoded.pixels.size(), (24, 40));
    let (code, stdout, stderr) = piped(restore(&program, "- -o from-stdin.webp"), &input);
    assert_eq!((code, stdout.as_slice()), (Some(0), &b""[..]), "{stderr}");
    let (code, plan, _) = piped(restore(&program, "- -o p.png --dry-run"), &input);
    assert_eq!(code, Some(0));
    assert!(String::from_utf8(plan).unwrap().starts_with("-: "));
    assert_eq!(
        program.files("."),
        ["-", "a.png", "from-stdin.webp", "r.png"]
    );
    assert_eq!(program.read("-"), b"a file");
}

#[test]
fn pipes_that_cannot_serve_are_refused() {
    let program = Program::new();
    for name in ["a.png", "b.png"] {
        std::fs::write(program.dir().join(name), picture(16, 16)).unwrap();
    }
    let input = picture(16, 16);
    for (words, code, message) in [
        ("- a.png -o out", 2, "the only input"),
        ("- -o out", 2, "no name for its result in a folder"),
        ("- -o - --frames", 2, "a sequence is read from files"),
        ("a.png -o - --samples 2", 2, "takes one picture"),
        ("a.png b.png -o -", 2, "2 inputs cannot go into one file"),
        ("- -o - --format input", 2, "--format"),
        ("- -o r.png --max-pixels 100", 1, "256 pixels"),
        ("missing.png -o -", 1, "missing.png"),
    ] {
        let (found, stdout, stderr) = piped(restore(&program, words), &input);
        assert_eq!(found, Some(code), "{words}: {stderr}");
        assert!(stderr.contains(message), "{words}: {stderr}");
        assert!(stdout.is_empty(), "{words}");
    }
    for (input, message) in [(&b""[..], "is empty"), (b"words", "not a picture")] {
        let (code, stdout, stderr) = piped(restore(&program, "- -o -"), input);
        assert_eq!((code, stdout.len()), (Some(1), 0), "{stderr}");
        assert!(stderr.contains(message), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

/// The end of a pipe that nobody reads.
pub fn broken_pipe() -> std::io::PipeWriter {
    std::io::pipe().unwrap().1
}

pub fn full() -> std::fs::File {
    let mut options = std::fs::File::options();
    options.write(true).open("/dev/full").unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_printed_is_an_error() {
    let program = Program::new();
    std::fs::write(program.dir().join("a.png"), picture(16, 16)).unwrap();
    let tiny = tiny();
    let dry_run = "restore a.png -o r.png --dry-run --json --bundle";
    for words in [
        "config",
        "doctor --offline --json --bundle",
        "inspect",
        "inspect --json",
        "completions bash",
        "--version",
        "restore --help",
        "restore a.png -o - --offline --steps 2 --upscale 1 --bundle",
        "bench --runs 1 --size 64 --steps 2 --json --bundle",
        dry_run,
        dry_run.trim_end_matches(" --json --bundle"),
    ] {
        let mut args: Vec<&str> = words.split(' ').collect();
        if words.ends_with("--bundle") || words.starts_with("inspect") {
            args.push(&tiny);
        }
        for stdout in [Stdio::from(broken_pipe()), Stdio::from(full())] {
            let mut command = program.command(&args);
            let output = command.stdout(stdout).output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{words}: {stderr}");
            assert!(stderr.contains("standard output cannot"), "{words}");
            assert!(!stderr.contains("panicked"), "{words}: {stderr}");
        }
    }
}

/// What a terminal shows of a run over a picture and a damaged one.
#[cfg(target_os = "linux")]
fn on_terminal(program: &Program, term: Option<&str>, plain: bool) -> Option<String> {
    let bin = env!("CARGO_BIN_EXE_diffbir");
    let run = format!(
        "{bin} restore damaged.png a.png -o r --overwrite --bundle {} {FAST}",
        tiny()
    );
    let mut script = Command::new("script");
    script.args(["-qec", &run, "/dev/null"]);
    script.current_dir(program.dir()).stdin(Stdio::null());
    script.env_remove("TERM").env_remove("NO_COLOR");
    script.envs(term.map(|term| ("TERM", term)));
    script.envs(plain.then_some(("NO_COLOR", "1")));
    let Ok(output) = script.output() else {
        eprintln!("SKIPPED: no `script`, which gives a terminal");
        return None;
    };
    assert_eq!(output.status.code(), Some(1));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_shows_every_error() {
    let program = Program::new();
    std::fs::write(program.dir().join("a.png"), picture(16, 16)).unwrap();
    std::fs::write(program.dir().join("damaged.png"), b"no picture").unwrap();
    for (term, plain, moves) in [
        (Some("xterm-256color"), false, true),
        (Some("xterm-256color"), true, true),
        (Some("dumb"), false, false),
        (Some(""), false, false),
        (None, false, false),
    ] {
        let Some(shown) = on_terminal(&program, term, plain) else {
            return;
        };
        assert!(shown.contains("error: damaged.png: "), "{term:?}: {shown}");
        assert!(shown.contains("1 done, 0 skipped, 1 failed"), "{term:?}");
        assert_eq!(shown.contains('\u{1b}'), moves, "{term:?}: {shown:?}");
        if plain {
            // Sequences that set colours end in `m`.
            let sequences = shown.split('\u{1b}').skip(1);
            let mut ends = sequences.filter_map(|text| {
                text.find(|c: char| c.is_ascii_alphabetic())
                    .map(|at| &text[at..=at])
            });
            assert!(ends.all(|end| end != "m"), "{shown:?}");
        }
    }
}
