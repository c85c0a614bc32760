//! Plans of inputs and results.

use super::*;
use crate::config::OutputFormat;
use crate::imageio::Format;

fn config(existing: Existing, samples: usize) -> Config {
    let mut config = Config::default();
    config.output.existing = existing;
    config.options.sampling.samples = samples;
    config
}

fn jobs(inputs: &[PathBuf], recursive: bool, output: &Path, config: &Config) -> Result<Vec<Job>> {
    plan(inputs, recursive, output, config).map(|plan| plan.jobs)
}

fn touch(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, b"").unwrap();
    path
}

#[test]
fn inputs_of_one_result_are_all_named_and_the_others_are_done() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["a.jpg", "a.png", "b.png", "a.webp"];
    let inputs = names.map(|name| touch(dir.path(), name));
    let output = dir.path().join("out");
    let plan = |name: Option<&str>| {
        let mut config = config(Existing::Refuse, 1);
        config.output.name = name.map(|name| name.parse().unwrap());
        plan(&inputs, false, &output, &config).unwrap()
    };
    let planned = plan(None);
    assert_eq!(planned.jobs.len(), 1);
    assert_eq!(planned.refused.len(), 3);
    for (input, error) in &planned.refused {
        let said = error.to_string();
        for part in [
            names[0],
            names[1],
            names[3],
            "would all be written to",
            "out/a.png",
            "--name",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert!(!said.contains("b.png") && inputs.contains(input));
    }
    let named = plan(Some("{name}_{ext}"));
    let outputs = named.jobs.iter().flat_map(|job| job.outputs.clone());
    let expected = ["a_jpg.png", "a_png.png", "b_png.png", "a_webp.png"];
    assert!(outputs.eq(expected.map(|name| output.join(name))));
    assert_eq!(plan(Some("x")).refused.len(), 4);
}

#[test]
fn folders_keep_their_shape() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["in/b.JPG", "in/a.png", "in/sub/a.webp", "in/notes.txt"] {
        touch(dir.path(), name);
    }
    let input = [dir.path().join("in")];
    let outputs = |recursive| -> Vec<PathBuf> {
        let config = config(Existing::Refuse, 1);
        let jobs = jobs(&input, recursive, Path::new("out"), &config).unwrap();
        jobs.into_iter().flat_map(|job| job.outputs).collect()
    };
    assert_eq!(
        outputs(false),
        [Path::new("out/a.png"), Path::new("out/b.png")]
    );
    assert_eq!(
        outputs(true),
        ["out/a.png", "out/b.png", "out/sub/a.png"].map(PathBuf::from)
    );
}

#[test]
fn an_existing_result_is_refused_skipped_or_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let input = [touch(dir.path(), "a.jpg")];
    let output = touch(dir.path(), "r.png");
    let plan = |existing, input| jobs(input, false, &output, &config(existing, 1));
    assert!(plan(Existing::Refuse, &input).is_err());
    assert!(plan(Existing::Resume, &input).is_err());
    assert!(plan(Existing::Skip, &input).unwrap()[0].skip);
    assert!(!plan(Existing::Overwrite, &input).unwrap()[0].skip);
    let own = [output.clone()];
    assert!(plan(Existing::Overwrite, &own).is_err());
}

#[test]
fn several_samples_are_numbered_and_left_out_only_when_all_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let input = [touch(dir.path(), "a.jpg")];
    let output = dir.path().join("out");
    let job = || {
        let config = config(Existing::Skip, 2);
        jobs(&input, false, &output, &config).unwrap().remove(0)
    };
    assert_eq!(
        job().outputs,
        [output.join("a_0.png"), output.join("a_1.png")]
    );
    touch(&output, "a_0.png");
    assert!(!job().skip);
    assert!(jobs(&input, false, &output, &config(Existing::Refuse, 2)).is_err());
    touch(&output, "a_1.png");
    assert!(job().skip);
}

#[test]
fn a_result_is_of_the_kind_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let input = [touch(dir.path(), "a.jpeg")];
    let job = |output: &str, format| {
        let mut config = config(Existing::Refuse, 1);
        config.output.format = format;
        jobs(&input, false, Path::new(output), &config).map(|mut jobs| jobs.remove(0))
    };
    for (output, asked, file, format) in [
        ("out", OutputFormat::Auto, "out/a.png", Format::Png),
        ("out", OutputFormat::Webp, "out/a.webp", Format::Webp),
        ("out", OutputFormat::Input, "out/a.jpeg", Format::Jpeg),
        ("r.tiff", OutputFormat::Auto, "r.tiff", Format::Tiff),
        ("r.jpg", OutputFormat::Input, "r.jpg", Format::Jpeg),
    ] {
        let job = job(output, asked).unwrap();
        assert_eq!(
            (job.outputs, job.format),
            (vec![PathBuf::from(file)], format)
        );
    }
    let error = job("r.png", OutputFormat::Jpeg).unwrap_err().to_string();
    assert!(error.contains("name it .jpg"), "{error}");
}

#[test]
fn an_output_of_an_unknown_kind_is_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    let input = [touch(dir.path(), "a.png")];
    std::fs::create_dir(dir.path().join("old.v2")).unwrap();
    let plan = |output: &str| {
        plan(
            &input,
            false,
            &dir.path().join(output),
            &config(Existing::Refuse, 1),
        )
    };
    for (output, said) in [
        (
            "out.pgn",
            "unknown ending .pgn: did you mean .png? results end in .png, .jpg",
        ),
        ("out.v2", "unknown ending .v2: results end in"),
        (
            "out.jxl",
            "unknown ending .jxl: this kind is read and not written. results",
        ),
        ("out.PNGG", "did you mean .png?"),
    ] {
        let error = plan(output).unwrap_err().to_string();
        assert!(
            error.contains(said) && error.contains("To name a folder, end it with /"),
            "{error}"
        );
    }
    for (output, is_folder) in [
        ("out", true),
        ("out.pgn/", true),
        ("out.png/", true),
        ("old.v2", true),
        (".out", true),
        ("out.PNG", false),
        ("out.jfif", false),
    ] {
        assert_eq!(plan(output).unwrap().is_folder, is_folder, "{output}");
    }
    let error = super::plan(
        &input,
        false,
        Path::new("s3://bucket/out"),
        &config(Existing::Refuse, 1),
    );
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("addresses are not fetched")
    );
}

#[test]
fn results_are_named_by_the_pattern() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = ["a.b.jpg", "c.png"].map(|name| touch(dir.path(), name));
    let outputs = |name: &str, samples| {
        let mut config = config(Existing::Refuse, samples);
        config.output.name = Some(name.parse().unwrap());
        let jobs = jobs(&inputs, false, Path::new("out"), &config).unwrap();
        let outputs = jobs.into_iter().flat_map(|job| job.outputs);
        outputs
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(outputs("{name}_x{scale}", 1), ["a.b_x4.png", "c_x4.png"]);
    assert_eq!(outputs("{index:3}-{task}", 1), ["001-sr.png", "002-sr.png"]);
    assert_eq!(outputs("{name}", 2)[..2], ["a.b_0.png", "a.b_1.png"]);
    assert_eq!(outputs("{sample}{name}", 2)[..2], ["0a.b.png", "1a.b.png"]);
    assert_eq!(
        outputs("{name} {seed}", 2)[..2],
        ["a.b 231_0.png", "a.b 232_1.png"]
    );
    // The size is read from the picture, which is none here.
    let mut config = config(Existing::Refuse, 1);
    config.output.name = Some("{size}".parse().unwrap());
    let planned = plan(&inputs, false, Path::new("out"), &config).unwrap();
    assert_eq!((planned.jobs.len(), planned.refused.len()), (0, 2));
    let file = plan(&inputs[..1], false, Path::new("r.png"), &config).unwrap_err();
    assert!(
        file.to_string().contains("names results in a folder"),
        "{file}"
    );
}

#[test]
fn what_a_search_leaves_out_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let names = "a.png b.jfif c.JPE d.heic e.CR2 f.heic g.txt h.json ._a.png .DS_Store .git/x.png";
    for name in names.split(' ') {
        touch(dir.path(), &format!("in/{name}"));
    }
    let real = |name: &str| dir.path().join("in").join(name);
    std::fs::create_dir(real("deep")).unwrap();
    for (link, to) in [
        ("deep/back", ".."),
        ("deep/far", "../.."),
        ("aaa", "deep"),
        ("self", "."),
    ] {
        std::os::unix::fs::symlink(to, real(link)).unwrap();
    }
    touch(dir.path(), "in/deep/z.png");
    touch(dir.path(), "else/y.png");
    let inputs = [real(""), real("a.png"), real("deep/../a.png")];
    let planned = plan(
        &inputs,
        true,
        Path::new("out"),
        &config(Existing::Refuse, 1),
    )
    .unwrap();
    let found: Vec<PathBuf> = planned
        .jobs
        .iter()
        .map(|job| job.folder.join(job.input.file_name().unwrap()))
        .collect();
    assert_eq!(
        found,
        ["a.png", "b.jfif", "c.JPE", "deep/z.png"].map(PathBuf::from)
    );
    let left_out = planned.left_out;
    assert_eq!(
        (
            left_out.hidden,
            left_out.links,
            left_out.repeated,
            left_out.other
        ),
        (3, 4, 2, 1)
    );
    let said = left_out.to_string();
    assert!(said.starts_with("1 .cr2, 2 .heic (not read"), "{said}");
}

#[test]
fn patterns_find_names_that_are_no_utf_8() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let path = |bytes: &[u8]| dir.path().join(std::ffi::OsStr::from_bytes(bytes));
    std::fs::create_dir_all(path(b"f\xff/g")).unwrap();
    for name in [
        &b"f\xff/a\xfe.png"[..],
        b"f\xff/b.png",
        b"f\xff/.c.png",
        b"f\xff/g/d.png",
        b"f\xff/n.md",
    ] {
        std::fs::write(path(name), b"").unwrap();
    }
    let found = |pattern: &[u8]| {
        let planned = plan(
            &[path(pattern)],
            false,
            Path::new("out"),
            &config(Existing::Refuse, 1),
        );
        planned.map(|planned| planned.jobs.len()).unwrap_or(0)
    };
    assert_eq!(found(b"f\xff/*"), 2);
    assert_eq!(found(b"f\xff/*.*"), 2);
    assert_eq!(found(b"f\xff/.*.png"), 1);
    assert_eq!(found(b"f*/?\xfe.png"), 1);
    assert_eq!(found(b"f?/a?.png"), 1);
    assert_eq!(found(b"**/*.png"), 3);
    assert_eq!(found(b"f\xff/*.md"), 1);
    std::fs::rename(path(b"f\xff"), path(b"f[1]")).unwrap();
    assert_eq!(found(b"f[1]/*.png"), 2);
    std::fs::rename(path(b"f[1]"), path(b"f\xff")).unwrap();
    assert_eq!(found(b"f\xfe/*.png"), 0);
    let jobs = jobs(
        &[path(b"f\xff")],
        false,
        Path::new("out"),
        &config(Existing::Refuse, 2),
    )
    .unwrap();
    let out = Path::new("out").join(std::ffi::OsStr::from_bytes(b"a\xfe_1.png"));
    assert_eq!(jobs[0].outputs[1], out);
}

#[test]
fn names_that_are_too_long_are_found_before_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{}.jpg", "n".repeat(251));
    let inputs = [touch(dir.path(), &long), touch(dir.path(), "a.jpg")];
    let output = dir.path().join("new/out");
    let planned =
        |samples| plan(&inputs, false, &output, &config(Existing::Refuse, samples)).unwrap();
    assert_eq!(planned(1).jobs.len(), 2);
    let planned = planned(2);
    assert_eq!((planned.jobs.len(), planned.refused.len()), (1, 1));
    let said = planned.refused[0].1.to_string();
    assert!(
        said.contains("name of 257 bytes") && said.contains("--name"),
        "{said}"
    );
}

/// A tree deeper than the longest path, made step by step as other programs do.
#[cfg(target_os = "linux")]
#[test]
fn what_lies_too_deep_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let script = "for i in $(seq 50); do mkdir $0 && cd -P $0 || exit 1; done; touch a.png";
    let name = "d".repeat(100);
    let made = std::process::Command::new("sh")
        .args(["-c", script, &name])
        .current_dir(dir.path())
        .status();
    assert!(made.unwrap().success());
    let input = [dir.path().to_owned()];
    let planned = plan(&input, true, Path::new("out"), &config(Existing::Refuse, 1)).unwrap();
    assert_eq!((planned.jobs.len(), planned.refused.len()), (0, 1));
    let said = planned.refused[0].1.to_string();
    assert!(said.contains("too long"), "{said}");
}

/// A ledger that is none does not stop the search for ever, and a folder of results alone is searched whole.
#[test]
fn ledgers_in_searched_folders_are_read_with_care() {
    let dir = tempfile::tempdir().unwrap();
    touch(dir.path(), "in/a.png");
    let ledger = dir.path().join("in/.diffbir-ledger.jsonl");
    let made = std::process::Command::new("mkfifo").arg(&ledger).status();
    assert!(made.unwrap().success());
    let planned = || {
        plan(
            &[dir.path().join("in")],
            true,
            Path::new("out"),
            &config(Existing::Refuse, 1),
        )
        .unwrap()
    };
    assert_eq!((planned().jobs.len(), planned().refused.len()), (0, 1));
    std::fs::remove_file(&ledger).unwrap();
    touch(dir.path(), "in/deep/b.png");
    let lines = ["a.png", "deep/b.png"].map(|name| {
        let file = r#"{"size":0,"modified":0,"sha256":""}"#;
        format!(r#"{{"made":{{"result":"{name}","bytes":{file},"input":"x","input_bytes":{file},"settings":""}}}}"#)
    });
    std::fs::write(&ledger, lines.join("\n")).unwrap();
    assert_eq!((planned().jobs.len(), planned().left_out.results), (2, 0));
    touch(dir.path(), "in/deep/c.png");
    assert_eq!((planned().jobs.len(), planned().left_out.results), (1, 2));
}
