//! Running the program in a folder of its own.

#![allow(clippy::unwrap_used)] // what fails here fails the test

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

/// The program and a temporary working folder.
pub struct Program {
    dir: tempfile::TempDir,
}

/// How a run ended.
pub struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// The folder of the smallest bundle: random weights, quick to run.
pub fn tiny() -> String {
    format!("{}/tests/fixtures/bundle", env!("CARGO_MANIFEST_DIR"))
}

impl Program {
    /// Makes sure, once, that there is an ONNX Runtime to be found.
    pub fn new() -> Self {
        static RUNTIME: Once = Once::new();
        RUNTIME.call_once(|| {
            let doctor = Command::new(env!("CARGO_BIN_EXE_diffbir"))
                .arg("doctor")
                .output()
                .unwrap();
            assert!(
                doctor.status.success(),
                "{}",
                String::from_utf8_lossy(&doctor.stderr)
            );
        });
        Program {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_diffbir")), args)
    }

    pub fn command_of(&self, executable: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(executable);
        command
            .args(args)
            .current_dir(self.dir())
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Run {
        Run::of(self.command(args))
    }

    /// Runs with the tiny bundle.
    pub fn tiny_bundle(&self, args: &[&str]) -> Run {
        self.run(&[args, &["--bundle", &tiny()]].concat())
    }

    /// The names of the files in `folder` without its ledger, sorted; none where there is no such folder.
    pub fn files(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir().join(folder))
            .into_iter()
            .flatten();
        let files = entries
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().unwrap().is_file());
        let mut names: Vec<String> = files
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name != ".diffbir-ledger.jsonl")
            .collect();
        names.sort();
        names
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.dir().join(name)).unwrap()
    }

    /// A copy of the tiny bundle that a test may damage.
    pub fn copy_of_tiny(&self, name: &str) -> PathBuf {
        let target = self.dir().join(name);
        std::fs::create_dir(&target).unwrap();
        for entry in std::fs::read_dir(tiny()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
            }
        }
        target
    }

    /// Sends SIGINT once the program prints a line that contains `sign`.
    pub fn interrupt_at(&self, args: &[&str], sign: &str) -> Run {
        self.when(args, sign, |id| kill(id, "INT"))
    }

    /// Calls `act` with the process's id once the program, run with the tiny bundle, prints a line that contains `sign`.
    pub fn when(&self, args: &[&str], sign: &str, act: impl FnOnce(u32)) -> Run {
        let mut command = self.command(&[args, &["--bundle", &tiny()]].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut stdout = String::new();
        let mut act = Some(act);
        for line in lines.map_while(Result::ok) {
            if line.contains(sign)
                && let Some(act) = act.take()
            {
                act(child.id());
            }
            stdout.push_str(&line);
            stdout.push('\n');
        }
        assert!(act.is_none(), "the program never printed {sign}: {stdout}");
        let mut stderr = String::new();
        let mut pipe = child.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        Run {
            code: child.wait().unwrap().code(),
            stdout,
            stderr,
        }
    }
}

/// Sends a signal.
pub fn kill(id: u32, signal: &str) {
    let kill = format!("kill -{signal} {id}");
    let kill = Command::new("sh").args(["-c", &kill]).status();
    assert!(kill.unwrap().success());
}

impl Run {
    pub fn of(mut command: Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Run {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    pub fn stdout(&self) -> String {
        self.stdout.clone()
    }

    pub fn stderr(&self) -> String {
        self.stderr.clone()
    }

    #[track_caller]
    pub fn code(&self, expected: i32) {
        assert_eq!(
            self.code,
            Some(expected),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
    }

    /// A signal ended it.
    #[track_caller]
    pub fn killed(&self) {
        assert_eq!(self.code, None, "stdout:\n{}", self.stdout);
    }

    /// Standard error holds each of `parts`, and no panic.
    #[track_caller]
    pub fn says(&self, parts: &[&str]) {
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "`{part}` is not in:\n{}",
                self.stderr
            );
        }
        self.does_not_say("panicked");
    }

    #[track_caller]
    pub fn does_not_say(&self, part: &str) {
        assert!(
            !self.stderr.contains(part),
            "`{part}` is in:\n{}",
            self.stderr
        );
    }

    /// Standard output holds each of `parts`.
    #[track_caller]
    pub fn prints(&self, parts: &[&str]) {
        for part in parts {
            assert!(
                self.stdout.contains(part),
                "`{part}` is not in:\n{}",
                self.stdout
            );
        }
    }
}

/// A library that calls itself ONNX Runtime 1.20.0, made with the C compiler that links this test too.
pub fn old_runtime(dir: &Path) -> PathBuf {
    let source = dir.join("old.c");
    let library = dir.join("libonnxruntime.so.1.20.0");
    let code = r#"
        static const void *get_api(unsigned version) { (void)version; return 0; }
        static const char *get_version(void) { return "1.20.0"; }
        static const struct { const void *(*get)(unsigned); const char *(*version)(void); } base = { get_api, get_version };
        const void *OrtGetApiBase(void) { return &base; }
    "#;
    std::fs::write(&source, code).unwrap();
    let cc = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .status()
        .unwrap();
    assert!(cc.success());
    library
}

/// A tmpfs of 16 KiB, unmounted when dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this user may not mount.
    pub fn mount(at: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=16k", "diffbir-test"])
            .arg(at)
            .stderr(Stdio::null());
        mount
            .status()
            .is_ok_and(|status| status.success())
            .then(|| SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// A PNG of `height` x `width` pixels with something in it.
pub fn picture(height: usize, width: usize) -> Vec<u8> {
    let rgb = ndarray::Array3::from_shape_fn((height, width, 3), |(y, x, c)| {
        ((y * 7 + x * 11) % 180 + c * 30) as u8
    });
    diffbir::imageio::encode_png(&rgb.into(), &std::collections::BTreeMap::new()).unwrap()
}
