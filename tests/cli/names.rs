//! Names of files as users have them: no UTF-8, one result for several inputs, kinds that are not read, addresses.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::program::{Program, Run, picture, tiny};

fn put(program: &Program, name: &[u8], bytes: &[u8]) {
    let path = program.dir().join(OsStr::from_bytes(name));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// `diffbir restore` with few steps; `more` may be no UTF-8.
fn restore(program: &Program, args: &str, more: &[&[u8]]) -> Run {
    let fixed = "restore --steps 2 --upscale 1 --offline --bundle";
    let args: Vec<&str> = fixed
        .split(' ')
        .chain([tiny().leak() as &str])
        .chain(args.split_whitespace())
        .collect();
    let mut command = program.command(&args);
    command.args(more.iter().map(|bytes| OsStr::from_bytes(bytes)));
    Run::of(command)
}

fn events(run: &Run, kind: &str) -> Vec<Value> {
    let lines = run.stdout();
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == kind).collect()
}

/// The path of a text of `--json` or of a ledger, as docs/cli.md describes.
fn path_of(text: &str) -> OsString {
    let Some(encoded) = text.strip_prefix("bytes:") else {
        return text.into();
    };
    let mut bytes = Vec::new();
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    OsString::from_vec(bytes)
}

#[test]
fn names_that_are_no_utf_8_keep_their_bytes() {
    let program = Program::new();
    put(&program, b"in/f\xff/a\xe9 %.png", &picture(16, 16));
    put(&program, b"in/f\xff/b\xe9.png", b"no picture");
    let run = restore(&program, "-o out --recursive --json", &[b"in"]);
    run.code(1);
    let pictures = events(&run, "picture");
    let done = pictures
        .iter()
        .find(|event| event["status"] == "done")
        .unwrap();
    let bytes = |value: &Value| path_of(value.as_str().unwrap()).into_vec();
    assert_eq!(bytes(&done["input"]), b"in/f\xff/a\xe9 %.png");
    assert_eq!(bytes(&done["outputs"][0]), b"out/f\xff/a\xe9 %.png");
    let result = program
        .dir()
        .join(OsStr::from_bytes(b"out/f\xff/a\xe9 %.png"));
    assert!(result.exists());
    let failed = pictures
        .iter()
        .find(|event| event["status"] == "failed")
        .unwrap();
    assert_eq!(bytes(&failed["input"]), b"in/f\xff/b\xe9.png");
    // The ledger knows it again, in messages the bytes are seen, and patterns find it.
    let run = restore(&program, "-o out --recursive --resume", &[b"in"]);
    run.code(1);
    run.says(&[
        r"out/f\xFF/a\xE9 %.png exists, skipped",
        r"in/f\xFF/b\xE9.png: not a picture",
    ]);
    let ledger = String::from_utf8(program.read("out/.diffbir-ledger.jsonl")).unwrap();
    assert!(ledger.contains("bytes:f%FF/a%E9%20%25.png"), "{ledger}");
    restore(&program, "-o again --dry-run", &[b"in/f\xff/a*"]).code(0);
    put(&program, b"in/f\xff/a\xe9 %.txt", b"a cat");
    let run = restore(&program, "-o again --dry-run", &[b"in/f\xff/a\xe9 %.png"]);
    run.code(0);
    run.says(&[r"in/f\xFF/a\xE9 %.png: its caption is ignored"]);
}

#[test]
fn inputs_of_one_result_are_named_and_the_rest_is_done() {
    let program = Program::new();
    for name in ["in/a.png", "in/a.jfif", "in/b.png"] {
        put(&program, name.as_bytes(), &picture(16, 16));
    }
    let run = restore(&program, "in -o out --json", &[]);
    run.code(1);
    assert_eq!(program.files("out"), ["b.png"]);
    let end = &events(&run, "end")[0];
    assert_eq!((&end["done"], &end["failed"]), (&1.into(), &2.into()));
    let pictures = events(&run, "picture");
    let said = pictures[0]["error"]["message"].as_str().unwrap();
    assert!(
        said.contains("in/a.jfif and in/a.png would all be written to out/a.png"),
        "{said}"
    );
    let named = restore(
        &program,
        "in -o out --resume --name {name}_{ext}_{size}",
        &[],
    );
    named.code(0);
    assert_eq!(
        program.files("out"),
        [
            "a_jfif_16x16.png",
            "a_png_16x16.png",
            "b.png",
            "b_png_16x16.png"
        ]
    );
    let run = restore(&program, "in -o out --name {nmae}", &[]);
    run.code(2);
    run.says(&["unknown field {nmae}: did you mean {name}?", "{index}"]);
}

#[test]
fn what_is_left_out_is_counted_and_named() {
    let program = Program::new();
    let names = "in/a.png in/b.cr2 in/c.CR2 in/._a.png in/.DS_Store in/a.txt in/notes.md";
    for name in names.split(' ') {
        put(&program, name.as_bytes(), b"no picture");
    }
    put(&program, b"in/a.png", &picture(16, 16));
    put(&program, b"in/a.txt", b" ");
    let said = "left out: 2 .cr2 (not read: convert them to PNG, JPEG or TIFF), 2 hidden files, 1 other file";
    let run = restore(&program, "in -o out", &[]);
    run.code(0);
    run.says(&[said]);
    let run = restore(&program, "in -o out --overwrite --json", &[]);
    assert_eq!(events(&run, "end")[0]["left_out"]["unread"]["cr2"], 2);
    std::fs::remove_file(program.dir().join("in/a.png")).unwrap();
    let run = restore(&program, "in -o out", &[]);
    run.code(2);
    run.says(&["no pictures found in in", said]);
}

/// A folder of inputs that holds results, of a run into it and of one into a folder below it.
#[test]
fn results_among_inputs_are_left_out_unless_they_are_alone() {
    let program = Program::new();
    put(&program, b"in/a.png", &picture(16, 16));
    restore(&program, "in -o in --name {name}_x{scale}", &[]).code(0);
    restore(&program, "in -o in/below", &[]).code(0);
    let run = restore(&program, "in -o out --recursive --json", &[]);
    run.code(0);
    assert_eq!(program.files("out"), ["a.png"]);
    assert_eq!(events(&run, "end")[0]["left_out"]["results"], 2);
    restore(&program, "out -o twice", &[]).code(0);
    assert_eq!(program.files("twice"), ["a.png"]);
}

#[test]
fn what_is_no_file_of_this_machine_is_said() {
    let program = Program::new();
    let run = restore(&program, "https://example.org/a.png -o out", &[]);
    run.code(1);
    run.says(&["https://example.org/a.png: addresses are not fetched"]);
    put(&program, b"a.png", &picture(16, 16));
    let run = restore(&program, "a.png -o out.pgn", &[]);
    run.code(2);
    run.says(&[
        "unknown ending .pgn: did you mean .png?",
        "To name a folder, end it with /",
    ]);
    assert!(!program.dir().join("out.pgn").exists());
}

/// A folder that may not be listed, which root may.
#[test]
fn a_folder_without_permission_fails_alone() {
    let program = Program::new();
    put(&program, b"in/a.png", &picture(16, 16));
    put(&program, b"in/closed/b.png", &picture(16, 16));
    let closed = program.dir().join("in/closed");
    let allow = |mode| std::fs::set_permissions(&closed, PermissionsExt::from_mode(mode)).unwrap();
    allow(0);
    if std::fs::read_dir(&closed).is_err() {
        let run = restore(&program, "in -o out --recursive", &[]);
        run.code(1);
        run.says(&["in/closed: cannot list in/closed"]);
        assert_eq!(program.files("out"), ["a.png"]);
    }
    allow(0o755);
}

/// Each ends with a message and a documented code, before any work.
#[test]
fn odd_arguments_end_with_a_message() {
    let program = Program::new();
    put(&program, b"a.png", &picture(16, 16));
    put(&program, b"-a.png", &picture(16, 16));
    std::fs::create_dir(program.dir().join("empty")).unwrap();
    std::os::unix::fs::symlink("loop", program.dir().join("loop")).unwrap();
    let long = ["n"; 300].concat();
    let deep = ["n/"; 2100].concat();
    for (args, code, said) in [
        ("empty -o out", 2, "no pictures found in empty"),
        ("a.png -o /dev/null", 2, "a file and no folder"),
        ("a.png -o a.png/x", 1, "cannot write into a.png/x"),
        ("a.png/ -o out", 1, "a.png/: cannot be read"),
        ("loop -o out", 1, "loop: cannot be read"),
        ("-a.png -o out", 2, "'-- -a'"),
        ("a.png -o out --name {x}", 2, "unknown field {x}"),
        ("a[.png -o out", 2, "is no pattern"),
        ("x*.png -o out", 2, "no pictures found"),
        ("a.png --recursive -o a.png", 2, "is an input"),
        (&format!("a.png -o {long}"), 1, "name too long"),
        (&format!("a.png -o {deep}"), 1, "name too long"),
        (&format!("{deep}.png -o out"), 1, "name too long"),
    ] {
        let run = restore(&program, args, &[]);
        run.code(code);
        assert!(
            run.stderr().to_lowercase().contains(&said.to_lowercase()),
            "{args}: {}",
            run.stderr()
        );
        run.does_not_say("panicked");
    }
    restore(&program, "--dry-run -o out", &[b"--", b"-a.png"]).code(0);
    assert!(program.files("out").is_empty());
}

/// Bundles and configurations too, in every command that names their paths.
#[test]
fn folders_of_bundles_need_not_be_utf_8() {
    let program = Program::new();
    let copy = program.copy_of_tiny("copy");
    let odd = program.dir().join(OsStr::from_bytes(b"b\xff"));
    std::fs::rename(copy, &odd).unwrap();
    put(&program, b"a.png", &picture(16, 16));
    let run = |args: &str| {
        let mut command = program.command(&args.split(' ').collect::<Vec<_>>());
        Run::of({
            command.arg("--bundle").arg(&odd);
            command
        })
    };
    for (args, code) in [
        ("restore a.png -o r.png --steps 2 --upscale 1 --json", 0),
        ("doctor --json", 0),
        ("bench --json --runs 1 --size 64 --steps 2", 0),
        ("config", 2),
    ] {
        let run = run(args);
        run.code(code);
        run.does_not_say("panicked");
        match code {
            0 => run.prints(&["bytes:", "b%FF\""]),
            _ => run.says(&["rename files and folders whose names are not UTF-8"]),
        }
    }
}
