//! Which files a run over several pictures reads, replaces and leaves.

use crate::program::{Program, Run, picture};

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
