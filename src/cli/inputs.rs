//! Which pictures are restored, and where each result goes: decided in full before any work starts.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::config::{Existing, OutputFormat};
use crate::error::{Error, Result};
use crate::imageio::Format;

/// One picture's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The low-quality picture.
    pub input: PathBuf,
    /// The file that is written; of several samples the name without their number.
    pub output: PathBuf,
    /// Its kind.
    pub format: Format,
    /// How many samples are written.
    pub samples: usize,
    /// Whether the result exists and is to be left as it is.
    pub skip: bool,
}

impl Job {
    /// The file of sample `k`: `NAME.ENDING`, or `NAME_k.ENDING` where there are several.
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
}

/// How results are named.
#[derive(Debug, Clone, Copy)]
pub struct Results {
    /// How many each picture has.
    pub samples: usize,
    /// Their kind.
    pub format: OutputFormat,
    /// What happens to those that exist already.
    pub existing: Existing,
}

/// The jobs of a run, in the order of the inputs.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option): nothing to do, two inputs with one result, a result that is an input,
/// or one that exists and may not be replaced.
pub fn plan(
    inputs: &[String],
    output: &Path,
    recursive: bool,
    results: Results,
) -> Result<Vec<Job>> {
    let found = expand(inputs, recursive)?;
    let mut jobs = match found.as_slice() {
        [] => {
            return Err(Error::option(format!(
                "no pictures found in {}",
                inputs.join(", ")
            )));
        }
        [one] if names_a_file(output) => {
            vec![Job {
                input: one.path.clone(),
                output: output.to_owned(),
                format: format_of_file(output, one, results.format)?,
                samples: results.samples,
                skip: false,
            }]
        }
        many if names_a_file(output) => {
            return Err(Error::option(format!(
                "{} inputs cannot go into one file {}: name a folder",
                many.len(),
                output.display()
            )));
        }
        many => many
            .iter()
            .map(|found| in_folder(found, output, results))
            .collect(),
    };
    refuse_collisions(&jobs)?;
    for job in &mut jobs {
        match results.existing {
            Existing::Refuse => refuse_existing(job)?,
            Existing::Skip => {
                let all = job.files().all(|file| file.exists());
                job.skip = all;
            }
            Existing::Overwrite => {}
        }
    }
    Ok(jobs)
}

/// A picture and the folder, relative to the output, that its result goes to.
struct Found {
    path: PathBuf,
    folder: PathBuf,
}

fn refuse_existing(job: &Job) -> Result<()> {
    job.files()
        .find(|file| file.exists())
        .map_or(Ok(()), |file| {
            Err(Error::option(format!(
                "{} exists: choose --overwrite or --skip-existing",
                file.display()
            )))
        })
}

fn expand(inputs: &[String], recursive: bool) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for input in inputs {
        let path = Path::new(input);
        if path.is_dir() {
            search(path, Path::new(""), recursive, &mut found)?;
        } else if !path.exists() && input.contains(['*', '?', '[']) {
            let paths = glob::glob(input)
                .map_err(|e| Error::option(format!("`{input}` is no pattern")).with_source(e))?;
            let files = paths
                .filter_map(std::result::Result::ok)
                .filter(|path| path.is_file());
            found.extend(files.map(|path| Found {
                path,
                folder: PathBuf::new(),
            }));
        } else {
            // A file that is not there is reported with the others that fail, so that the rest is done.
            found.push(Found {
                path: path.to_owned(),
                folder: PathBuf::new(),
            });
        }
    }
    Ok(found)
}

fn search(dir: &Path, folder: &Path, recursive: bool, found: &mut Vec<Found>) -> Result<()> {
    let unreadable = |e| Error::input(format!("cannot list {}", dir.display())).with_source(e);
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir)
        .map_err(unreadable)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()
        .map_err(unreadable)?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if recursive && let Some(name) = path.file_name() {
                search(&path, &folder.join(name), recursive, found)?;
            }
        } else if is_picture(&path) {
            found.push(Found {
                path,
                folder: folder.to_owned(),
            });
        }
    }
    Ok(())
}

fn is_picture(path: &Path) -> bool {
    Format::of_name(path).is_some()
}

/// Whether `output` is meant as a file: it is named like a picture and is no folder.
fn names_a_file(output: &Path) -> bool {
    !output.is_dir() && is_picture(output)
}

/// The kind of the one result `output`, which its name says too.
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

fn in_folder(found: &Found, output: &Path, results: Results) -> Job {
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
        output: output.join(&found.folder).join(name),
        format,
        samples: results.samples,
        skip: false,
    }
}

/// Refuses two jobs with one result, and a result in the place of any job's input, by whatever name that is reached. Of
/// several samples `NAME_k.ENDING`, two jobs share one only if they share `NAME.ENDING`.
fn refuse_collisions(jobs: &[Job]) -> Result<()> {
    let mut writers: HashMap<&Path, &Path> = HashMap::new();
    let inputs: HashMap<PathBuf, &Path> = jobs
        .iter()
        .filter_map(|job| Some((job.input.canonicalize().ok()?, job.input.as_path())))
        .collect();
    for job in jobs {
        if let Some(other) = writers.insert(&job.output, &job.input) {
            return Err(Error::option(format!(
                "{} and {} would both be written to {}",
                other.display(),
                job.input.display(),
                job.file(0).display()
            )));
        }
        let victim = |file: PathBuf| inputs.get(&file.canonicalize().ok()?);
        if let Some(victim) = job.files().find_map(victim) {
            return Err(Error::option(format!(
                "{} is an input, and a result of {} would replace it: choose another --output",
                victim.display(),
                job.input.display()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(existing: Existing, samples: usize) -> Results {
        Results {
            samples,
            format: OutputFormat::Auto,
            existing,
        }
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
        let error = plan(
            &inputs,
            &dir.path().join("out"),
            false,
            results(Existing::Refuse, 1),
        )
        .unwrap_err();
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
            let jobs = plan(
                &input,
                Path::new("out"),
                recursive,
                results(Existing::Refuse, 1),
            )
            .unwrap();
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
        assert!(plan(&input, &output, false, results(Existing::Refuse, 1)).is_err());
        assert!(plan(&input, &output, false, results(Existing::Skip, 1)).unwrap()[0].skip);
        assert!(!plan(&input, &output, false, results(Existing::Overwrite, 1)).unwrap()[0].skip);
        let own = [output.to_string_lossy().into_owned()];
        assert!(plan(&own, &output, false, results(Existing::Overwrite, 1)).is_err());
    }

    #[test]
    fn several_samples_are_numbered_and_left_out_only_when_all_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let input = [touch(dir.path(), "a.jpg")];
        let output = dir.path().join("out");
        let job = || {
            plan(&input, &output, false, results(Existing::Skip, 2))
                .unwrap()
                .remove(0)
        };
        let names: Vec<PathBuf> = job().files().collect();
        assert_eq!(names, [output.join("a_0.png"), output.join("a_1.png")]);
        touch(&output, "a_0.png");
        assert!(!job().skip);
        assert!(plan(&input, &output, false, results(Existing::Refuse, 2)).is_err());
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
                ..results(Existing::Refuse, 1)
            };
            plan(&input, Path::new(output), false, results).map(|mut jobs| jobs.remove(0))
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
