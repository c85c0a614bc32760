//! Plans the inputs and the path of each result, before any work starts.

mod walk;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::config::{Existing, OutputFormat};
use crate::error::{Error, Result};
use crate::imageio::Format;
use crate::service::caption;
use crate::service::ledger::{EXISTS, Known, Planned};

use walk::{Found, Walk};

/// Suffixes of intermediate pictures' file names: one picture per job, and two per sample.
pub const STAGE1: &str = "stage1";
/// The decoded picture.
pub const DECODED: &str = "decoded";
/// The colour-corrected picture.
pub const COLOR_FIXED: &str = "color_fixed";

/// An input and its results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The low-quality picture.
    pub input: PathBuf,
    /// Its folder relative to the named input folder, and its result's relative to the output folder.
    pub folder: PathBuf,
    /// The result file; with several samples, the name without their number.
    pub output: PathBuf,
    /// Its format.
    pub format: Format,
    /// How many samples are written.
    pub samples: usize,
    /// Whether its results exist and are kept.
    pub skip: bool,
}

impl Job {
    /// The file of sample `k`: `NAME.ENDING`, or `NAME_k.ENDING` if there are several.
    pub fn file(&self, k: usize) -> PathBuf {
        if self.samples == 1 {
            return self.output.clone();
        }
        let part = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let (stem, ending) = (part(self.output.file_stem()), part(self.output.extension()));
        self.output.with_file_name(format!("{stem}_{k}.{ending}"))
    }

    /// The files of all samples.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        (0..self.samples).map(|k| self.file(k))
    }

    /// The job's entry for the ledger of the folder `root`; with its caption if `captions`.
    pub fn planned(&self, root: &Path, captions: bool) -> Planned {
        let below = |file: PathBuf| file.strip_prefix(root).map_or(file.clone(), Path::to_owned);
        // An unreadable caption fails with its picture.
        let caption = if captions {
            caption(&self.input).ok()
        } else {
            None
        };
        Planned {
            input: self.input.clone(),
            name: self.folder.join(self.input.file_name().unwrap_or_default()),
            caption: caption.unwrap_or_default(),
            results: self.files().map(below).collect(),
        }
    }

    /// The file of an intermediate picture of sample `k`, below `stages` as the result lies below the output.
    pub fn stage(&self, stages: &Path, what: &str, k: usize) -> PathBuf {
        let file = match what {
            STAGE1 => self.output.clone(),
            _ => self.file(k),
        };
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        stages.join(&self.folder).join(format!("{stem}_{what}.png"))
    }

    /// The files of all intermediate pictures.
    fn stages<'a>(&'a self, stages: &'a Path) -> impl Iterator<Item = PathBuf> + 'a {
        let of_sample = |k| [DECODED, COLOR_FIXED].map(|what| self.stage(stages, what, k));
        let first = self.stage(stages, STAGE1, 0);
        std::iter::once(first).chain((0..self.samples).flat_map(of_sample))
    }
}

/// Paths and names of results.
#[derive(Debug, Clone, Copy)]
pub struct Results<'a> {
    /// A file or a folder.
    pub output: &'a Path,
    /// The folder of intermediate pictures.
    pub stages: Option<&'a Path>,
    /// Results per picture.
    pub samples: usize,
    /// Their format.
    pub format: OutputFormat,
    /// Treatment of existing ones.
    pub existing: Existing,
}

/// The jobs of a run.
#[derive(Debug)]
pub struct Jobs {
    /// In the order of the inputs.
    pub jobs: Vec<Job>,
    /// Whether the output is a folder; else there is one job, and the output is a file.
    pub is_folder: bool,
    /// Notes on files that were found and not restored.
    pub notes: Vec<String>,
}

/// The jobs of a run.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option): nothing to do, two inputs with one result, a result that is an input,
/// or one that exists and may not be replaced.
pub fn plan(inputs: &[String], recursive: bool, results: Results<'_>) -> Result<Jobs> {
    let output = results.output;
    let is_folder = !names_a_file(output);
    let known = Known::of(output)?;
    let written: Vec<&Path> = [output].into_iter().chain(results.stages).collect();
    let mut walk = Walk::new(recursive, &written, &known);
    inputs.iter().try_for_each(|input| walk.add(input))?;
    let mut jobs = match walk.found.as_slice() {
        [] => {
            return Err(Error::option(format!(
                "no pictures found in {}",
                inputs.join(", ")
            )));
        }
        [one] if !is_folder => {
            vec![Job {
                input: one.path.clone(),
                folder: PathBuf::new(),
                output: output.to_owned(),
                format: format_of_file(output, one, results.format)?,
                samples: results.samples,
                skip: false,
            }]
        }
        many if !is_folder => {
            return Err(Error::option(format!(
                "{} inputs cannot go into one file {}: name a folder",
                many.len(),
                output.display()
            )));
        }
        many => many.iter().map(|found| in_folder(found, results)).collect(),
    };
    refuse_collisions(&jobs, results.stages)?;
    for job in &mut jobs {
        match results.existing {
            Existing::Refuse => refuse_existing(job, results.stages)?,
            // A single output file has no ledger.
            Existing::Resume if !is_folder => refuse_existing(job, None)?,
            Existing::Skip => {
                refuse_dangling(job)?;
                let all = job.files().all(|file| file.exists());
                job.skip = all;
            }
            Existing::Overwrite | Existing::Resume => {}
        }
    }
    Ok(Jobs {
        jobs,
        is_folder,
        notes: notes(&walk),
    })
}

fn notes(walk: &Walk<'_>) -> Vec<String> {
    let counts = [
        (
            walk.results,
            "results of earlier runs are not read as inputs",
        ),
        (
            walk.special,
            "pipes, sockets or devices are not read as inputs",
        ),
    ];
    let found = counts.iter().filter(|(count, _)| *count > 0);
    found
        .map(|(count, what)| format!("{count} {what}"))
        .collect()
}

/// Whether `output` is a file: it has a picture's extension and is not a folder.
fn names_a_file(output: &Path) -> bool {
    !output.is_dir() && Format::of_name(output).is_some()
}

/// The format of the single result `output`, which must agree with its name.
fn format_of_file(output: &Path, found: &Found, asked: OutputFormat) -> Result<Format> {
    let named = Format::of_name(output).unwrap_or_default();
    let asked = match asked {
        OutputFormat::Input => Format::of_name(&found.path),
        asked => asked.fixed(),
    };
    match asked {
        Some(asked) if asked != named => Err(Error::option(format!(
            "{}: the result is asked for as {asked:?}; name it .{}",
            output.display(),
            asked.endings()[0]
        ))),
        _ => Ok(named),
    }
}

fn in_folder(found: &Found, results: Results<'_>) -> Job {
    let of_input = Format::of_name(&found.path);
    let (format, ending) = match (results.format, of_input, found.path.extension()) {
        (OutputFormat::Input, Some(format), Some(ending)) => {
            (format, ending.to_string_lossy().into_owned())
        }
        (asked, ..) => {
            let format = asked.fixed().unwrap_or_default();
            (format, format.endings()[0].to_owned())
        }
    };
    let stem = found.path.file_stem().unwrap_or_default();
    let mut name = stem.to_os_string();
    name.push(format!(".{ending}"));
    Job {
        input: found.path.clone(),
        folder: found.folder.clone(),
        output: results.output.join(&found.folder).join(name),
        format,
        samples: results.samples,
        skip: false,
    }
}

/// All files that a job writes.
fn files<'a>(job: &'a Job, stages: Option<&'a Path>) -> impl Iterator<Item = PathBuf> + 'a {
    let stages = stages.into_iter().flat_map(|stages| job.stages(stages));
    job.files().chain(stages)
}

fn refuse_existing(job: &Job, stages: Option<&Path>) -> Result<()> {
    // A dangling link counts as existing.
    let there = |file: &PathBuf| file.symlink_metadata().is_ok();
    files(job, stages).find(there).map_or(Ok(()), |file| {
        Err(Error::option(format!("{} {EXISTS}", file.display())))
    })
}

fn refuse_dangling(job: &Job) -> Result<()> {
    let dangling = |file: &PathBuf| file.is_symlink() && !file.exists();
    job.files().find(dangling).map_or(Ok(()), |file| {
        Err(Error::option(format!(
            "{} is a link to nothing: remove it, or choose --overwrite",
            file.display()
        )))
    })
}

/// Refuses two jobs that write the same file, and a result that would replace an input, also through links.
fn refuse_collisions(jobs: &[Job], stages: Option<&Path>) -> Result<()> {
    let mut writers: HashMap<PathBuf, &Path> = HashMap::new();
    let inputs: HashMap<PathBuf, &Path> = jobs
        .iter()
        .filter_map(|job| Some((job.input.canonicalize().ok()?, job.input.as_path())))
        .collect();
    for job in jobs {
        let input = job.input.display();
        for file in files(job, stages) {
            let victim = file.canonicalize().ok().and_then(|file| inputs.get(&file));
            if let Some(victim) = victim {
                return Err(Error::option(format!(
                    "{} is an input, and a result of {input} would replace it: choose another --output",
                    victim.display(),
                )));
            }
            if let Some(other) = writers.insert(file.clone(), &job.input) {
                return Err(Error::option(format!(
                    "{} and {input} would both be written to {}",
                    other.display(),
                    file.display()
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(output: &Path, existing: Existing, samples: usize) -> Results<'_> {
        Results {
            output,
            stages: None,
            samples,
            format: OutputFormat::Auto,
            existing,
        }
    }

    fn jobs(inputs: &[String], recursive: bool, results: Results<'_>) -> Result<Vec<Job>> {
        plan(inputs, recursive, results).map(|plan| plan.jobs)
    }

    fn touch(dir: &Path, name: &str) -> String {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, b"").unwrap();
        path.to_string_lossy().into_owned()
    }

    #[test]
    fn two_inputs_with_one_result_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = [touch(dir.path(), "a.jpg"), touch(dir.path(), "a.png")];
        let output = dir.path().join("out");
        let error = jobs(&inputs, false, results(&output, Existing::Refuse, 1)).unwrap_err();
        assert!(
            error.to_string().contains("would both be written"),
            "{error}"
        );
    }

    #[test]
    fn folders_keep_their_shape() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["in/b.JPG", "in/a.png", "in/sub/a.webp", "in/notes.txt"] {
            touch(dir.path(), name);
        }
        let input = [dir.path().join("in").to_string_lossy().into_owned()];
        let outputs = |recursive| -> Vec<PathBuf> {
            let results = results(Path::new("out"), Existing::Refuse, 1);
            let jobs = jobs(&input, recursive, results).unwrap();
            jobs.into_iter().map(|job| job.output).collect()
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
        let output = PathBuf::from(touch(dir.path(), "r.png"));
        let plan = |existing, input| jobs(input, false, results(&output, existing, 1));
        assert!(plan(Existing::Refuse, &input).is_err());
        assert!(plan(Existing::Resume, &input).is_err());
        assert!(plan(Existing::Skip, &input).unwrap()[0].skip);
        assert!(!plan(Existing::Overwrite, &input).unwrap()[0].skip);
        let own = [output.to_string_lossy().into_owned()];
        assert!(plan(Existing::Overwrite, &own).is_err());
    }

    #[test]
    fn several_samples_are_numbered_and_left_out_only_when_all_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let input = [touch(dir.path(), "a.jpg")];
        let output = dir.path().join("out");
        let job = || {
            let results = results(&output, Existing::Skip, 2);
            jobs(&input, false, results).unwrap().remove(0)
        };
        let names: Vec<PathBuf> = job().files().collect();
        assert_eq!(names, [output.join("a_0.png"), output.join("a_1.png")]);
        touch(&output, "a_0.png");
        assert!(!job().skip);
        assert!(jobs(&input, false, results(&output, Existing::Refuse, 2)).is_err());
        touch(&output, "a_1.png");
        assert!(job().skip);
    }

    #[test]
    fn a_result_is_of_the_kind_that_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let input = [touch(dir.path(), "a.jpeg")];
        let job = |output: &str, format| {
            let results = Results {
                format,
                ..results(Path::new(output), Existing::Refuse, 1)
            };
            jobs(&input, false, results).map(|mut jobs| jobs.remove(0))
        };
        for (output, asked, file, format) in [
            ("out", OutputFormat::Auto, "out/a.png", Format::Png),
            ("out", OutputFormat::Webp, "out/a.webp", Format::Webp),
            ("out", OutputFormat::Input, "out/a.jpeg", Format::Jpeg),
            ("r.tiff", OutputFormat::Auto, "r.tiff", Format::Tiff),
            ("r.jpg", OutputFormat::Input, "r.jpg", Format::Jpeg),
        ] {
            let job = job(output, asked).unwrap();
            assert_eq!((job.file(0), job.format), (PathBuf::from(file), format));
        }
        let error = job("r.png", OutputFormat::Jpeg).unwrap_err().to_string();
        assert!(error.contains("name it .jpg"), "{error}");
    }
}
