//! Which pictures are restored, and where each result goes: decided in full before any work starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::Existing;
use crate::error::{Error, Result};

/// File endings that a folder is searched for; a file that is named is read whatever its ending.
const ENDINGS: &[&str] = &["png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp"];

/// One picture's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The low-quality picture.
    pub input: PathBuf,
    /// The PNG that is written; of several samples the name without their number.
    pub output: PathBuf,
    /// How many samples are written.
    pub samples: usize,
    /// Whether the result exists and is to be left as it is.
    pub skip: bool,
}

impl Job {
    /// The file of sample `k`: `NAME.png`, or `NAME_k.png` where there are several.
    pub fn file(&self, k: usize) -> PathBuf {
        if self.samples == 1 {
            return self.output.clone();
        }
        let stem = self.output.file_stem().unwrap_or_default();
        let mut name = stem.to_os_string();
        name.push(format!("_{k}.png"));
        self.output.with_file_name(name)
    }

    /// The files of all samples.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        (0..self.samples).map(|k| self.file(k))
    }

    /// The caption beside the picture, `NAME.txt`, on one line; `None` where there is none.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input) where it cannot be read.
    pub fn caption(&self) -> Result<Option<String>> {
        let path = self.input.with_extension("txt");
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).map_err(|e| {
            Error::input(format!("cannot read the caption {}", path.display())).with_source(e)
        })?;
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok((!line.is_empty()).then_some(line))
    }
}

/// The jobs of a run, in the order of the inputs, each with `samples` results.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option): nothing to do, two inputs with one result, a result that is an input,
/// or one that exists and may not be replaced.
pub fn plan(
    inputs: &[String],
    output: &Path,
    recursive: bool,
    existing: Existing,
    samples: usize,
) -> Result<Vec<Job>> {
    let found = expand(inputs, recursive)?;
    let mut jobs = match found.as_slice() {
        [] => {
            return Err(Error::option(format!(
                "no pictures found in {}",
                inputs.join(", ")
            )));
        }
        [one] if names_a_file(output)? => {
            vec![Job {
                input: one.path.clone(),
                output: output.to_owned(),
                samples,
                skip: false,
            }]
        }
        many if names_a_file(output)? => {
            return Err(Error::option(format!(
                "{} inputs cannot go into one file {}: name a folder",
                many.len(),
                output.display()
            )));
        }
        many => many
            .iter()
            .map(|found| in_folder(found, output, samples))
            .collect(),
    };
    refuse_collisions(&jobs)?;
    for job in &mut jobs {
        let there: Vec<PathBuf> = job.files().filter(|file| file.exists()).collect();
        match (existing, there.first()) {
            (Existing::Refuse, Some(file)) => {
                return Err(Error::option(format!(
                    "{} exists: choose --overwrite or --skip-existing",
                    file.display()
                )));
            }
            (Existing::Skip, Some(_)) => job.skip = there.len() == samples,
            _ => {}
        }
    }
    Ok(jobs)
}

/// A picture and the folder, relative to the output, that its result goes to.
struct Found {
    path: PathBuf,
    folder: PathBuf,
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
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// Whether `output` is meant as a file: it ends in `.png` and is no folder.
fn names_a_file(output: &Path) -> Result<bool> {
    if output.is_dir() {
        return Ok(false);
    }
    match output
        .extension()
        .map(|ending| ending.to_string_lossy().to_lowercase())
    {
        Some(ending) if ending == "png" => Ok(true),
        Some(ending) if ENDINGS.contains(&ending.as_str()) => Err(Error::option(format!(
            "{}: results are written as PNG; name it .png",
            output.display()
        ))),
        _ => Ok(false),
    }
}

fn in_folder(found: &Found, output: &Path, samples: usize) -> Job {
    let stem = found.path.file_stem().unwrap_or_default();
    let mut name = stem.to_os_string();
    name.push(".png");
    Job {
        input: found.path.clone(),
        output: output.join(&found.folder).join(name),
        samples,
        skip: false,
    }
}

fn refuse_collisions(jobs: &[Job]) -> Result<()> {
    let mut writers: BTreeMap<PathBuf, &Path> = BTreeMap::new();
    for job in jobs {
        for file in job.files() {
            if let (Ok(input), Ok(output)) = (job.input.canonicalize(), file.canonicalize())
                && input == output
            {
                return Err(Error::option(format!(
                    "{} would be replaced by its own result",
                    job.input.display()
                )));
            }
            if let Some(other) = writers.insert(file.clone(), &job.input) {
                return Err(Error::option(format!(
                    "{} and {} would both be written to {}",
                    other.display(),
                    job.input.display(),
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
        let error = plan(&inputs, &dir.path().join("out"), false, Existing::Refuse, 1).unwrap_err();
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
            let jobs = plan(&input, Path::new("out"), recursive, Existing::Refuse, 1).unwrap();
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
        assert!(plan(&input, &output, false, Existing::Refuse, 1).is_err());
        assert!(plan(&input, &output, false, Existing::Skip, 1).unwrap()[0].skip);
        assert!(!plan(&input, &output, false, Existing::Overwrite, 1).unwrap()[0].skip);
        let own = [output.to_string_lossy().into_owned()];
        assert!(plan(&own, &output, false, Existing::Overwrite, 1).is_err());
    }

    #[test]
    fn several_samples_are_numbered_and_left_out_only_when_all_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let input = [touch(dir.path(), "a.jpg")];
        let output = dir.path().join("out");
        let job = || {
            plan(&input, &output, false, Existing::Skip, 2)
                .unwrap()
                .remove(0)
        };
        let names: Vec<PathBuf> = job().files().collect();
        assert_eq!(names, [output.join("a_0.png"), output.join("a_1.png")]);
        touch(&output, "a_0.png");
        assert!(!job().skip);
        assert!(plan(&input, &output, false, Existing::Refuse, 2).is_err());
        touch(&output, "a_1.png");
        assert!(job().skip);
    }

    #[test]
    fn a_caption_stands_beside_its_picture() {
        let dir = tempfile::tempdir().unwrap();
        let input = [touch(dir.path(), "a.jpg")];
        let job = plan(&input, Path::new("out"), false, Existing::Refuse, 1)
            .unwrap()
            .remove(0);
        assert_eq!(job.caption().unwrap(), None);
        std::fs::write(dir.path().join("a.txt"), " a cat\n on a mat \n").unwrap();
        assert_eq!(job.caption().unwrap().as_deref(), Some("a cat on a mat"));
    }
}
