//! Runs targets: peaks of memory and processor time are taken of each run, and what breaks a bound is kept.

use std::cell::Cell;
use std::io::{Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::memory::peak;
use crate::mutate::{Mutator, Shape};

/// What a run may take of a processor.
const SECONDS: f64 = 5.0;

/// Mutations of the short form.
const SHORT: u64 = 2_000;

/// A target.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// The most bytes that a run may allocate.
    pub memory: usize,
    pub seeds: fn() -> Vec<Vec<u8>>,
    pub shape: Shape,
}

/// What a run took, or what it broke.
struct Took {
    bytes: usize,
    seconds: f64,
}

fn one(target: &Target, bytes: &[u8]) -> Result<Took, String> {
    let before = processor_seconds();
    let (ended, most) = peak(|| catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))));
    let seconds = processor_seconds() - before;
    if let Err(panic) = ended {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied());
        return Err(format!("panics: {}", text.unwrap_or_default()));
    }
    if most > target.memory {
        return Err(format!(
            "takes {most} bytes, at most {} are right",
            target.memory
        ));
    }
    if seconds > SECONDS {
        return Err(format!("takes {seconds:.1} s"));
    }
    let bytes = most;
    Ok(Took { bytes, seconds })
}

/// Of this thread. 0 where it cannot be had: then nothing hangs.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text
        .split(' ')
        .next()
        .and_then(|text| text.parse::<f64>().ok());
    nanoseconds.unwrap_or_default() * 1e-9
}

/// The seeds, and the inputs that were found once: `fuzz/found/TARGET`.
pub fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let mut seeds = (target.seeds)();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/found");
    let files = std::fs::read_dir(folder.join(target.name))
        .into_iter()
        .flatten();
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    seeds.extend(paths.iter().map(|path| std::fs::read(path).unwrap()));
    seeds
}

/// The seeds and some mutations of them, the same in every run.
pub fn short(target: &Target) {
    let seeds = seeds(target);
    for (number, seed) in seeds.iter().enumerate() {
        if let Err(why) = one(target, seed) {
            panic!("{}: seed {number} {why}", target.name);
        }
    }
    let mut mutator = Mutator::new(1, &seeds, target.shape);
    let mut most = Took {
        bytes: 0,
        seconds: 0.0,
    };
    for number in 0..SHORT {
        let input = mutator.next();
        match one(target, &input) {
            Ok(took) => {
                most.bytes = most.bytes.max(took.bytes);
                most.seconds = most.seconds.max(took.seconds);
            }
            Err(why) => panic!(
                "{}: mutation {number} {why}\n{}",
                target.name,
                keep(target, &input)
            ),
        }
    }
    println!(
        "{}: {} seeds and {SHORT} mutations, at most {} KiB and {:.2} s",
        target.name,
        seeds.len(),
        most.bytes >> 10,
        most.seconds
    );
}

fn number_of(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// `DIFFBIR_FUZZ_RUNS` runs from `DIFFBIR_FUZZ_SEED` on. Failures are kept, and counted at the end.
pub fn long(target: &Target) {
    let (runs, seed) = (
        number_of("DIFFBIR_FUZZ_RUNS", 100_000),
        number_of("DIFFBIR_FUZZ_SEED", 1),
    );
    let seeds = seeds(target);
    let mut mutator = Mutator::new(seed, &seeds, target.shape);
    let mut now = CurrentInput::new(target);
    let (mut failures, mut most) = (
        0,
        Took {
            bytes: 0,
            seconds: 0.0,
        },
    );
    let start = Instant::now();
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // The panics of this thread are reported with their input; those of tests' hooks are no news.
        if !QUIET.get() && !panic.to_string().contains("asked for by a test") {
            default(panic);
        }
    }));
    QUIET.set(true);
    let figures = |run: u64, failures: u64, most: &Took| {
        println!(
            "{}: {run} runs, {failures} failures, at most {} KiB and {:.2} s, {:.0} s in all",
            target.name,
            most.bytes >> 10,
            most.seconds,
            start.elapsed().as_secs_f64()
        );
    };
    for run in 1..=runs {
        let input = mutator.next();
        now.write(&input);
        match one(target, &input) {
            Ok(took) => {
                most.bytes = most.bytes.max(took.bytes);
                most.seconds = most.seconds.max(took.seconds);
            }
            Err(why) => {
                failures += 1;
                println!("run {run} {why}\n{}", keep(target, &input));
            }
        }
        if run % (runs / 10).max(1) == 0 {
            figures(run, failures, &most);
        }
    }
    figures(runs, failures, &most);
    now.remove();
    assert_eq!(failures, 0, "{} inputs fail", failures);
}

/// Writes an input to `target/fuzz`, and says where.
fn keep(target: &Target, input: &[u8]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/fuzz")
        .join(target.name);
    std::fs::create_dir_all(&folder).unwrap();
    let hash = diffbir::bundle::sha256_bytes(input);
    let path = folder.join(&hash[..16]);
    std::fs::write(&path, input).unwrap();
    format!("its {} bytes: {}", input.len(), path.display())
}

/// The input of the run at work lies in `target/fuzz/TARGET-now-PID`: it stays where the process ends by it. A thread ends
/// the process where a run does not end.
struct CurrentInput {
    file: std::fs::File,
    path: PathBuf,
    begun: std::sync::Arc<std::sync::Mutex<Instant>>,
}

/// Far above [`SECONDS`], since the machine may be busy.
const HANGS: Duration = Duration::from_secs(300);

impl CurrentInput {
    fn new(target: &Target) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{}-now-{}", target.name, std::process::id()));
        let begun = std::sync::Arc::new(std::sync::Mutex::new(Instant::now()));
        let watched = begun.clone();
        std::thread::spawn(move || {
            while watched.lock().unwrap().elapsed() < HANGS {
                std::thread::park_timeout(Duration::from_secs(5));
            }
            eprintln!("a run hangs: its input is the one at work");
            std::process::abort();
        });
        CurrentInput {
            file: std::fs::File::create(&path).unwrap(),
            path,
            begun,
        }
    }

    fn write(&mut self, input: &[u8]) {
        *self.begun.lock().unwrap() = Instant::now();
        self.file.seek(SeekFrom::Start(0)).unwrap();
        self.file.write_all(input).unwrap();
        self.file.set_len(input.len() as u64).unwrap();
    }

    fn remove(&self) {
        std::fs::remove_file(&self.path).unwrap();
    }
}
