use super::*;

use serde_json::json;

/// A folder of inputs and one of results.
struct Folders(tempfile::TempDir);

impl Folders {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::fs::create_dir(dir.path().join("out")).unwrap();
        Folders(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn out(&self) -> PathBuf {
        self.path("out")
    }

    /// The picture `in/NAME.png`, whose result has the same name.
    fn picture(&self, name: &str) -> Planned {
        let file = PathBuf::from(format!("{name}.png"));
        let input = self.path("in").join(&file);
        if !input.exists() {
            std::fs::write(&input, name).unwrap();
        }
        Planned {
            input,
            name: file.clone(),
            caption: String::new(),
            results: vec![file],
        }
    }

    fn open(&self, seed: u64, planned: &[Planned], existing: Existing) -> Result<Ledger> {
        Ledger::open(&self.out(), &json!({ "seed": seed }), planned, existing)
    }

    /// What `--resume` would do about the first picture's result.
    fn resumed(&self, seed: u64, picture: &Planned) -> Result<Standing> {
        let ledger = self.open(seed, std::slice::from_ref(picture), Existing::Resume)?;
        Ok(ledger.standings()[&picture.results[0]])
    }

    /// A whole run with seed 1 over one picture.
    fn make(&self, picture: &Planned) {
        let planned = std::slice::from_ref(picture);
        let ledger = self.open(1, planned, Existing::Refuse).unwrap();
        finish(&ledger, self, picture);
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.path("out/.diffbir-ledger.jsonl")).unwrap()
    }
}

fn prepared(path: &Path) -> Prepared<'_> {
    let rgb = imageio::Rgb::zeros((1, 1, 3));
    let (kept, options) = Default::default();
    imageio::prepare(path, &rgb.into(), &kept, options, &Default::default()).unwrap()
}

/// The state after a run is killed between writing the line and renaming the result.
fn record(ledger: &Ledger, folders: &Folders, picture: &Planned) {
    let begun = ledger.begin(picture.clone()).unwrap();
    let result = &picture.results[0];
    let file = folders.out().join(result);
    let file = prepared(&file);
    ledger.record(&begun, result, file.temporary()).unwrap();
}

fn finish(ledger: &Ledger, folders: &Folders, picture: &Planned) {
    let begun = ledger.begin(picture.clone()).unwrap();
    let file = folders.out().join(&picture.results[0]);
    ledger.finish(&begun, 0, prepared(&file)).unwrap();
}

#[test]
fn a_result_is_finished_once_it_has_its_name() {
    let folders = Folders::new();
    let (a, b) = (folders.picture("a"), folders.picture("b"));
    let ledger = folders
        .open(1, &[a.clone(), b.clone()], Existing::Refuse)
        .unwrap();
    finish(&ledger, &folders, &a);
    record(&ledger, &folders, &b);
    drop(ledger);
    assert_eq!(folders.resumed(1, &a).unwrap(), Standing::Finished);
    assert_eq!(folders.resumed(1, &b).unwrap(), Standing::Missing);
    // The file in its place is foreign to this run.
    std::fs::write(folders.path("out/b.png"), "precious").unwrap();
    let error = folders.resumed(1, &b).err().unwrap().to_string();
    assert!(
        error.contains("b.png was changed after it was made"),
        "{error}"
    );
}

#[test]
fn a_line_that_was_not_ended_is_skipped_and_hides_nothing_behind_it() {
    let folders = Folders::new();
    let (a, b) = (folders.picture("a"), folders.picture("b"));
    let ledger = folders
        .open(1, &[a.clone(), b.clone()], Existing::Refuse)
        .unwrap();
    finish(&ledger, &folders, &a);
    drop(ledger);
    let whole = folders.text();
    let path = folders.path("out/.diffbir-ledger.jsonl");
    for end in (0..whole.len()).step_by(7) {
        std::fs::write(&path, &whole[..end]).unwrap();
        let _ = std::fs::remove_file(folders.path("out/a.png"));
        let ledger = folders
            .open(1, &[a.clone(), b.clone()], Existing::Resume)
            .unwrap();
        finish(&ledger, &folders, &b);
        drop(ledger);
        assert_eq!(folders.resumed(1, &b).unwrap(), Standing::Finished, "{end}");
        std::fs::remove_file(folders.path("out/b.png")).unwrap();
    }
}

#[test]
fn other_settings_and_other_pictures_are_refused() {
    let folders = Folders::new();
    let a = folders.picture("a");
    folders.make(&a);
    let refused =
        |seed, picture: &Planned| folders.resumed(seed, picture).err().unwrap().to_string();
    assert!(refused(2, &a).contains("seed was 1 and is 2"));
    let captioned = Planned {
        caption: "a cat".to_owned(),
        ..a.clone()
    };
    assert!(refused(1, &captioned).contains("another picture or caption"));
    std::fs::write(&a.input, "b").unwrap();
    assert!(refused(1, &a).contains("another picture"));
    std::fs::remove_file(folders.path("out/a.png")).unwrap();
    assert_eq!(folders.resumed(1, &a).unwrap(), Standing::Missing);
    std::fs::write(folders.path("out/a.png"), "precious").unwrap();
    std::fs::remove_file(folders.path("out/.diffbir-ledger.jsonl")).unwrap();
    assert!(refused(1, &a).contains("the ledger does not say how it was made"));
}

#[test]
fn folders_may_be_moved_and_copied() {
    let folders = Folders::new();
    let a = folders.picture("a");
    folders.make(&a);
    let moved = Folders::new();
    // A copy has a new modification time.
    for name in ["in/a.png", "out/a.png", "out/.diffbir-ledger.jsonl"] {
        std::fs::write(moved.path(name), std::fs::read(folders.path(name)).unwrap()).unwrap();
    }
    assert_eq!(
        moved.resumed(1, &moved.picture("a")).unwrap(),
        Standing::Finished
    );
}

#[test]
fn what_was_to_be_replaced_is_replaced_by_the_run_that_goes_on() {
    let folders = Folders::new();
    let (a, b) = (folders.picture("a"), folders.picture("b"));
    let both = [a.clone(), b.clone()];
    let ledger = folders.open(1, &both, Existing::Refuse).unwrap();
    finish(&ledger, &folders, &a);
    finish(&ledger, &folders, &b);
    drop(ledger);
    let ledger = folders.open(2, &both, Existing::Overwrite).unwrap();
    finish(&ledger, &folders, &a);
    drop(ledger);
    assert_eq!(folders.resumed(2, &a).unwrap(), Standing::Finished);
    assert_eq!(folders.resumed(2, &b).unwrap(), Standing::Replaced);
    let error = folders.resumed(1, &b).err().unwrap().to_string();
    assert!(error.contains("seed was 2 and is 1"), "{error}");
}

#[test]
fn a_file_that_was_not_replaced_yet_is_replaced_by_the_run_that_goes_on() {
    let folders = Folders::new();
    let a = folders.picture("a");
    let result = folders.path("out/a.png");
    std::fs::write(&result, "an earlier result").unwrap();
    let planned = std::slice::from_ref(&a);
    let ledger = folders.open(1, planned, Existing::Overwrite).unwrap();
    record(&ledger, &folders, &a);
    drop(ledger);
    assert_eq!(folders.resumed(1, &a).unwrap(), Standing::Replaced);
    let ledger = folders.open(1, planned, Existing::Overwrite).unwrap();
    record(&ledger, &folders, &a);
    drop(ledger);
    std::fs::write(&result, "a file of the user").unwrap();
    let error = folders.resumed(1, &a).err().unwrap().to_string();
    assert!(error.contains("was changed after it was made"), "{error}");
}

#[test]
fn a_run_that_lives_keeps_its_names_to_itself() {
    let folders = Folders::new();
    let (a, b) = (folders.picture("a"), folders.picture("b"));
    let first = folders
        .open(1, std::slice::from_ref(&a), Existing::Refuse)
        .unwrap();
    let second = folders
        .open(2, std::slice::from_ref(&b), Existing::Refuse)
        .unwrap();
    for existing in [
        Existing::Refuse,
        Existing::Resume,
        Existing::Overwrite,
        Existing::Skip,
    ] {
        let error = folders
            .open(2, &[b.clone(), a.clone()], existing)
            .err()
            .unwrap();
        assert!(
            error.to_string().contains("another run is under way"),
            "{error}"
        );
    }
    finish(&first, &folders, &a);
    finish(&second, &folders, &b);
    for ledger in [first, second] {
        ledger.close().unwrap();
    }
    assert_eq!(folders.resumed(1, &a).unwrap(), Standing::Finished);
    assert_eq!(folders.resumed(2, &b).unwrap(), Standing::Finished);
    assert_eq!(
        std::fs::read_dir(folders.out()).unwrap().count(),
        3,
        "claims are left"
    );
}

#[test]
fn a_folder_that_is_gone_is_an_error() {
    let folders = Folders::new();
    let a = folders.picture("a");
    let ledger = folders
        .open(1, std::slice::from_ref(&a), Existing::Refuse)
        .unwrap();
    finish(&ledger, &folders, &a);
    std::fs::remove_file(folders.path("out/a.png")).unwrap();
    assert!(
        ledger
            .close()
            .unwrap_err()
            .to_string()
            .contains("a.png was made by this run and is gone")
    );
    drop(ledger);
    let ledger = folders
        .open(1, std::slice::from_ref(&a), Existing::Refuse)
        .unwrap();
    std::fs::remove_dir_all(folders.out()).unwrap();
    std::fs::create_dir(folders.out()).unwrap();
    assert!(ledger.check().is_err());
    assert!(ledger.close().is_err());
}

#[test]
fn a_ledger_of_another_format_is_refused() {
    let folders = Folders::new();
    let a = folders.picture("a");
    let line = r#"{"settings":{"format":2,"digest":"x","values":{}}}"#;
    std::fs::write(folders.path("out/.diffbir-ledger.jsonl"), line).unwrap();
    assert!(folders.open(1, &[a], Existing::Resume).is_err());
}

#[cfg(unix)]
#[test]
fn a_ledger_that_is_a_link_or_a_pipe_is_refused() {
    let folders = Folders::new();
    let picture = folders.picture("a");
    let (ledger, precious) = (
        folders.path("out/.diffbir-ledger.jsonl"),
        folders.path("precious"),
    );
    std::fs::write(&precious, "precious").unwrap();
    std::os::unix::fs::symlink(&precious, &ledger).unwrap();
    let planned = std::slice::from_ref(&picture);
    assert!(folders.open(1, planned, Existing::Resume).is_err());
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
    std::fs::remove_file(&ledger).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&ledger).status();
    assert!(made.unwrap().success());
    assert!(folders.open(1, planned, Existing::Resume).is_err());
}
